"""The engine against a second, plain reading of the plan language, over generated plans.

A difference of one cent in any statement fails, and is shrunk to a small plan and history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction

from hypothesis import HealthCheck, given, seed, settings

from services.commissions.domain.agreed import Adjustment, Agreement, Override
from services.commissions.domain.credit import Cash, Credit, CreditEvent
from services.commissions.domain.credits import credits_for
from services.commissions.domain.exchange import RateBook, RateRow
from services.commissions.domain.given import Grant, KpiFact, SheetInput
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.periods import parse_period
from services.commissions.domain.plan import Assignment, CreditOn, DayRange, Plan
from services.commissions.domain.sheet import Sheet, rate_sheet
from services.commissions.domain.spiff import spend_budget
from tests.oracle.plans.case import Adjusted, Agreed, Assigned, Case, Deal, Score
from tests.oracle.plans.generated import cases
from tests.oracle.plans.statements import Key, statements

EXAMPLES = 400
YEAR = parse_period("2025")
Figures = tuple[Fraction, Fraction, Fraction | None, Fraction]
"""Own pay, payable, payout, draw balance."""

NOTHING: Figures = (Fraction(0), Fraction(0), Fraction(0), Fraction(0))


def wanted(case: Case) -> dict[Key, Figures]:
    """What the second reading says."""
    return {
        key: (result.own, result.payable, result.payout, result.balance)
        for key, result in statements(case).items()
    }


def found(case: Case) -> dict[Key, Figures]:
    """What the engine says."""
    plan = Plan("plan", tuple(parse_plan(dict(document)) for document in case.plans))
    assignments = [_assignment(entry) for entry in case.assigned]
    book = RateBook(
        RateRow(f"{r.table}:{r.day}", r.table, r.source, r.target, r.day, Decimal(r.rate))
        for r in case.rates
    )
    credits_: list[Credit] = []
    for event in _events(case):
        credits_.extend(credits_for(event, plan, assignments, book).credits)
    grants = _grants(plan, credits_)
    figures: dict[Key, Figures] = {}
    for entry in case.assigned:
        gates: dict[str, list[KpiFact]] = {}
        for fact in case.kpis:
            if fact.payee == entry.payee:
                gates.setdefault(fact.kpi, []).append(KpiFact(fact.day, Decimal(fact.value)))
        given_ = SheetInput(
            payee=entry.payee,
            plan=plan,
            year=YEAR,
            credits=[credit for credit in credits_ if credit.payee == entry.payee],
            assignments=assignments,
            rates=book,
            gates=gates,
            grants=grants,
            until=case.until,
            adjustments=[
                _adjustment(place, adjusted)
                for place, adjusted in enumerate(case.adjusted)
                if adjusted.payee == entry.payee
            ],
            overrides=[
                _override(place, agreed)
                for place, agreed in enumerate(case.agreed)
                if agreed.payee == entry.payee
            ],
        )
        figures |= dict(_figures(rate_sheet(given_)))
    return figures


def _agreement(name: str) -> Agreement:
    return Agreement(name, f"event-{name}", "as agreed", "one", "another")


def _adjustment(place: int, adjusted: Adjusted) -> Adjustment:
    return Adjustment(_agreement(str(place)), adjusted.day, Decimal(adjusted.amount))


def _override(place: int, agreed: Agreed) -> Override:
    return Override(
        _agreement(str(place)),
        agreed.component,
        DayRange(agreed.first, agreed.last),
        agreed.deal,
        None if agreed.amount is None else Decimal(agreed.amount),
        None if agreed.rate is None else Decimal(agreed.rate.removesuffix("%")).scaleb(-2),
    )


def _figures(sheet: Sheet) -> Iterator[tuple[Key, Figures]]:
    for statement in sheet.statements:
        payout = statement.payout.amount
        yield (
            (sheet.payee, statement.period.label),
            (
                Fraction(statement.own),
                Fraction(statement.payable),
                None if payout is None else Fraction(payout),
                Fraction(statement.draw.balance_out if statement.draw else 0),
            ),
        )


def _grants(plan: Plan, credits_: Iterable[Credit]) -> Mapping[str, Grant]:
    granted: dict[str, Grant] = {}
    ids = {c.id for v in plan.versions for c in v.components if c.pays and c.pays.budget}
    for component_id in sorted(ids):
        spent = [credit for credit in credits_ if credit.component_id == component_id]
        granted |= spend_budget(plan, component_id, spent)
    return granted


def _assignment(entry: Assigned) -> Assignment:
    return Assignment(
        payee=entry.payee,
        plan_id="plan",
        days=DayRange(entry.first, entry.last),
        quota=tuple((name, Decimal(amount)) for name, amount in entry.quota.items()),
        payout_currency=entry.payout_currency,
        target_pay=None if entry.target_pay is None else Decimal(entry.target_pay),
    )


def _events(case: Case) -> Iterator[CreditEvent]:
    for deal in case.deals:
        yield _won(case, deal)
    for score in case.scores:
        yield _scored(score)


def _won(case: Case, deal: Deal) -> CreditEvent:
    return CreditEvent(
        key=f"deal:{deal.id}",
        on=CreditOn.DEAL_WON,
        deal_id=deal.id,
        instant=deal.won_at,
        amount=Decimal(deal.amount),
        currency=deal.currency,
        owner=deal.owner,
        splits=tuple(deal.splits.items()),
        overlays=tuple(deal.overlays.items()),
        fields={"deal": {"type": deal.type, "amount": Decimal(deal.amount)}},
        cancelled_at=deal.cancelled_at,
        cash=tuple(Cash(c.id, c.at, Decimal(c.amount), deal.currency) for c in deal.cash),
        managers=tuple(case.managers.items()),
    )


def _scored(score: Score) -> CreditEvent:
    value = Decimal(score.score)
    return CreditEvent(
        key=f"objective:{score.objective}:{score.payee}:{score.at:%Y}",
        on=CreditOn.OBJECTIVE_SCORED,
        deal_id="",
        instant=score.at,
        amount=value,
        currency=None,
        owner=score.payee,
        fields={"objective": {"id": score.objective, "score": value}},
    )


def features(case: Case) -> Iterator[str]:
    """What a case is about, so that it can be asserted that all of it was compared."""
    for plan in case.plans:
        yield from (name for name in ("cap", "draw") if name in plan)
        for part in plan["components"]:
            yield part["kind"]
            yield part["credit"].get("to", "scored")
            yield part.get("rates", {}).get("method", part["kind"])
            yield from part.keys() & {"threshold", "floor", "gate", "release", "clawback", "cap"}
    if len(case.plans) > 1:
        yield "versions"
    if any(deal.cancelled_at for deal in case.deals):
        yield "cancelled"
    if case.adjusted:
        yield "adjusted"
    for agreed in case.agreed:
        yield "agreed rate" if agreed.amount is None else "agreed amount"


WANTED_FEATURES = {
    *("commission", "spiff", "objective", "override"),
    *("owner", "splits", "overlays", "manager", "scored"),
    *("flat", "marginal", "retroactive", "curve"),
    *("cap", "draw", "threshold", "floor", "gate", "release", "clawback", "versions", "cancelled"),
    *("adjusted", "agreed rate", "agreed amount"),
}


def test_two_readings_of_generated_plans_agree_to_the_cent() -> None:
    compared: Counter[str] = Counter()

    @seed(1)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(cases())
    def compare(case: Case) -> None:
        mine, theirs = found(case), wanted(case)
        for key in sorted({*mine, *theirs}):
            assert mine.get(key, NOTHING) == theirs.get(key, NOTHING), key
        compared.update({"cases", *features(case)})

    compare()
    assert compared["cases"] >= EXAMPLES * 3 / 4
    assert {name for name in WANTED_FEATURES if compared[name] < EXAMPLES / 100} == set()
