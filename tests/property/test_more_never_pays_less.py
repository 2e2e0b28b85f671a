"""More sales never pay less, before rounding, in any plan in which lint finds no falling rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

from services.commissions.domain.credit import Credit, CreditEvent
from services.commissions.domain.credits import credits_for
from services.commissions.domain.exchange import RateBook
from services.commissions.domain.given import SheetInput
from services.commissions.domain.lint import LintContext, lint
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.periods import parse_period
from services.commissions.domain.plan import Assignment, CreditOn, DayRange, Plan
from services.commissions.domain.sheet import rate_sheet
from tests.oracle.plans.generated import BEGIN, cents, instants, percents, rates

EXAMPLES = 400
YEAR = parse_period("2025")
FALLS = {"negative_rate", "falling_rate", "falling_border"}
BORDERS = ["2025-02-15", "2025-04-01", "2025-05-09"]

Document = dict[str, Any]
Sale = tuple[datetime, str]
"""When a deal is won, and its amount."""


@st.composite
def plans(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[Document]:
    """A plan of one component, perhaps in two versions; often its rates only rise."""
    period = draw(st.sampled_from(["month", "quarter"]))
    part: Document = {
        "id": "new",
        "kind": "commission",
        "credit": {"on": "deal.won", "to": "owner"},
        **draw(rates(period)),
    }
    if draw(st.booleans()):
        part["rates"] = _rising(part["rates"])
    plan: Document = {
        "id": "plan",
        "name": "Plan",
        "currency": "USD",
        "time_zone": "UTC",
        "effective": {"from": "2025-01-01"},
        "period": period,
        "components": [part],
    }
    if not draw(st.booleans()):
        return [plan]
    again = {**part, "rates": _other(draw, part["rates"])}
    begins = {"from": draw(st.sampled_from(BORDERS))}
    return [plan, {**plan, "effective": begins, "components": [again]}]


def _rising(table: Document) -> Document:
    if "tiers" not in table:
        return table
    known = sorted((tier["rate"] for tier in table["tiers"]), key=_number)
    tiers = [{**tier, "rate": rate} for tier, rate in zip(table["tiers"], known, strict=True)]
    return {**table, "tiers": tiers}


def _other(draw: Callable[[st.SearchStrategy[Any]], Any], table: Document) -> Document:
    """Other rates, or the same raised by as much everywhere."""
    if table["method"] == "flat":
        return {**table, "rate": draw(percents)}
    if "tiers" not in table or not table["tiers"][0]["rate"].endswith("%"):
        return table
    if draw(st.booleans()):
        more = _number(draw(percents))
        tiers = [{**t, "rate": f"{_number(t['rate']) + more}%"} for t in table["tiers"]]
    else:
        tiers = [{**tier, "rate": draw(percents)} for tier in table["tiers"]]
    return {**table, "tiers": tiers}


def _number(rate: str) -> Decimal:
    return Decimal(rate.rstrip("%x"))


def pay(documents: Sequence[Document], sales: Sequence[Sale]) -> Decimal:
    """What all lines earn, before rounding."""
    plan = Plan("plan", tuple(parse_plan(document) for document in documents))
    assigned = [
        Assignment(
            payee="ana",
            plan_id="plan",
            days=DayRange(YEAR.start, YEAR.last_day),
            quota=(("bookings", Decimal(80_000)),),
            target_pay=Decimal(9_000),
        )
    ]
    found: list[Credit] = []
    for number, (at, amount) in enumerate(sales):
        event = CreditEvent(
            key=f"deal:{number}",
            on=CreditOn.DEAL_WON,
            deal_id=f"{number}",
            instant=at,
            amount=Decimal(amount),
            currency="USD",
            owner="ana",
            fields={"deal": {"amount": Decimal(amount)}},
        )
        found.extend(credits_for(event, plan, assigned, RateBook()).credits)
    given_ = SheetInput(
        payee="ana", plan=plan, year=YEAR, credits=found, assignments=assigned, quotas={}
    )
    sheet = rate_sheet(given_)
    return sum((line.exact for s in sheet.statements for line in s.lines), Decimal(0))


def falls(documents: Sequence[Document]) -> set[str]:
    """Whether, and how, lint says that rates fall."""
    found: set[str] = set()
    previous = None
    for document in documents:
        version = parse_plan(document)
        findings = lint(version, LintContext(previous=previous))
        found |= {finding.code for finding in findings} & FALLS
        previous = version
    return found


def more_than(sales: Sequence[Sale], extra: Sale, place: int) -> list[Sale]:
    """One deal more; or one of those there are, larger."""
    if place >= len(sales):
        return [*sales, extra]
    at, amount = sales[place]
    raised = str(Decimal(amount) + Decimal(extra[1]))
    return [*sales[:place], (at, raised), *sales[place + 1 :]]


BY_COUNT: Document = {
    "id": "plan",
    "currency": "USD",
    "time_zone": "UTC",
    "effective": {"from": "2025-01-01"},
    "period": "month",
    "components": [
        {
            "id": "new",
            "credit": {"on": "deal.won", "to": "owner"},
            "rates": {
                "method": "marginal",
                "over": "count",
                "tiers": [{"from": 0, "rate": "10%"}, {"from": 1, "rate": "5%"}],
            },
        }
    ],
}


def test_a_small_deal_may_take_the_better_place_and_lint_says_so() -> None:
    large = (BEGIN + timedelta(days=2), "100000")
    small = (BEGIN + timedelta(days=1), "100")
    assert pay([BY_COUNT], [large]) == 10_000
    assert pay([BY_COUNT], [large, small]) == 5_010
    assert falls([BY_COUNT]) == {"negative_rate"}


def test_more_sales_never_pay_less_or_lint_says_so() -> None:
    seen: Counter[str] = Counter()
    sale = st.tuples(instants, cents)

    @seed(28)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(plans(), st.lists(sale, max_size=6), sale, st.integers(0, 6))
    @example([BY_COUNT], [(BEGIN + timedelta(days=2), "100000")], (BEGIN, "100"), 6)
    def compare(documents: list[Document], sales: list[Sale], extra: Sale, place: int) -> None:
        before = pay(documents, sales)
        after = pay(documents, more_than(sales, extra, place))
        flagged = falls(documents)
        assert after >= before or flagged, (before, after)
        seen["clean"] += not flagged
        seen["clean in two versions"] += not flagged and len(documents) > 1
        seen["less"] += after < before

    compare()
    assert seen["clean"] >= EXAMPLES / 5, seen
    assert seen["clean in two versions"] >= EXAMPLES / 40, seen
    assert seen["less"] >= 1, seen
