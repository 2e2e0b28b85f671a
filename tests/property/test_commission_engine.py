"""Properties of the commission engine over small random companies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.commissions.domain.closes import FixedStatement
from services.commissions.domain.credits import Credit, CreditEvent, credits_for
from services.commissions.domain.exchange import RateBook
from services.commissions.domain.ledger import (
    Cause,
    Place,
    difference,
    reversal,
    transaction,
    wanted_balances,
)
from services.commissions.domain.lint import LintContext, lint
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.periods import PeriodKind, parse_period, period_of
from services.commissions.domain.plan import Assignment, CreditOn, DayRange, Plan
from services.commissions.domain.rating import Line, LineKind
from services.commissions.domain.sheet import Sheet, SheetInput, rate_sheet
from services.commissions.domain.statement import fixed_by
from shared.errors import MoneyDisagrees
from shared.money import allocate, exact_sum

SMALL = settings(max_examples=60, deadline=None)
YEAR = parse_period("2025")
START = datetime(2025, 1, 1, 12, tzinfo=UTC)
QUOTA = Decimal(1000)
CAUSE = Cause(("event",), "hash", "engine")

AMOUNTS = st.integers(0, 150_000).map(lambda cents: Decimal(cents).scaleb(-2))
SIGNED = st.integers(-50_000, 150_000).map(lambda cents: Decimal(cents).scaleb(-2))
DAYS = st.integers(0, 300)


@st.composite
def tables(draw: st.DrawFn, *, rising: bool = False) -> list[tuple[Decimal, Decimal]]:
    """(from, rate) in percent, the first at 0."""
    bounds = sorted(draw(st.sets(st.integers(1, 300), max_size=3)))
    rates = [draw(st.integers(0, 300)) for _ in range(len(bounds) + 1)]
    rates = sorted(rates) if rising else rates
    return [
        (Decimal(lower), Decimal(rate).scaleb(-1))
        for lower, rate in zip([0, *bounds], rates, strict=True)
    ]


@st.composite
def histories(
    draw: st.DrawFn, amounts: st.SearchStrategy[Decimal]
) -> list[tuple[str, int, Decimal]]:
    """(deal#number, day, amount), with equal instants and several credits of one deal."""
    count = draw(st.integers(1, 8))
    return [(f"d{n % 3}#{n}", draw(DAYS) // 7 * 7, draw(amounts)) for n in range(count)]


def plan_of(
    table: Sequence[tuple[Decimal, Decimal]], method: str = "marginal", **more: object
) -> Plan:
    """A plan of one component over a quarter's quota; `more` goes into plan or component."""
    component: dict[str, object] = {
        "id": "c",
        "credit": {"on": "deal.won"},
        "quota": {"measure": "m", "period": "quarter"},
        "rates": {
            "method": method,
            "over": "attainment",
            "tiers": [{"from": f"{lower}%", "rate": f"{rate}%"} for lower, rate in table],
        },
    }
    component |= {key: more.pop(key) for key in ("threshold",) if key in more}
    if "component_cap" in more:
        component["cap"] = more.pop("component_cap")
    document = {
        "id": "p",
        "currency": "USD",
        "time_zone": "UTC",
        "effective": {"from": "2025-01-01"},
        "period": "month",
        "components": [component],
        **more,
    }
    return Plan("p", (parse_plan(document),))


def credits_of(plan: Plan, history: Sequence[tuple[str, int, Decimal]]) -> list[Credit]:
    """The credits of one payee."""
    found: list[Credit] = []
    for deal, day, amount in history:
        event = CreditEvent(
            key=deal,
            on=CreditOn.DEAL_WON,
            deal_id=deal.split("#")[0],
            instant=START + timedelta(days=day),
            amount=amount,
            currency="USD",
            owner="ana",
        )
        found.extend(credits_for(event, plan, ASSIGNED, RateBook()).credits)
    return found


ASSIGNED = [Assignment("ana", "p", DayRange(date(2025, 1, 1)))]
QUOTAS = {
    ("m", PeriodKind.QUARTER, parse_period(f"2025-Q{number}").start): QUOTA
    for number in range(1, 5)
}


def sheet_of(
    plan: Plan,
    history: Sequence[tuple[str, int, Decimal]],
    fixed: Sequence[FixedStatement] = (),
    closed_before: date | None = None,
) -> Sheet:
    """Everything rated."""
    return rate_sheet(
        SheetInput(
            "ana",
            plan,
            YEAR,
            credits_of(plan, history),
            ASSIGNED,
            QUOTAS,
            fixed=fixed,
            closed_before=closed_before,
        )
    )


def lines_of(sheet: Sheet) -> list[Line]:
    """All lines of all statements."""
    return [line for statement in sheet.statements for line in statement.lines]


def priced(total: Decimal, table: Sequence[tuple[Decimal, Decimal]], method: str) -> Fraction:
    """A table on a total, by another algorithm: walk the tiers, take what lies in each."""
    left, earned = Fraction(total), Fraction(0)
    tops = [Fraction(upper) * 10 for upper, _ in table[1:]]
    if method == "retroactive":
        reached = sum(1 for top in tops if left >= top)
        return left * Fraction(table[reached][1]) / 100
    bottom = Fraction(0)
    for top, (_, rate) in zip([*tops, None], table, strict=True):
        width = left if top is None or left <= top - bottom else top - bottom
        earned += width * Fraction(rate) / 100
        left -= width
        bottom = top or bottom
        if left == 0:
            break
    return earned


@SMALL
@given(tables(), histories(AMOUNTS), st.sampled_from(["marginal", "retroactive"]))
def test_lines_sum_to_the_price_of_the_total(
    table: list[tuple[Decimal, Decimal]], history: list[tuple[str, int, Decimal]], method: str
) -> None:
    """Earned deal by deal, or priced on each quarter's total: the same, before rounding."""
    sums: dict[str, Decimal] = {}
    earned: dict[str, Fraction] = {}
    for line in lines_of(sheet_of(plan_of(table, method), history)):
        assert line.measure is not None
        earned[line.measure.label] = earned.get(line.measure.label, 0) + Fraction(line.exact)
    for _, day, amount in history:
        label = period_of((START + timedelta(days=day)).date(), PeriodKind.QUARTER).label
        sums[label] = sums.get(label, Decimal(0)) + amount
    assert earned == {label: priced(total, table, method) for label, total in sums.items()}


@SMALL
@given(
    tables(),
    histories(SIGNED),
    st.sampled_from(["marginal", "retroactive"]),
    st.randoms(use_true_random=False),
)
def test_order_of_arrival_changes_nothing(
    table: list[tuple[Decimal, Decimal]],
    history: list[tuple[str, int, Decimal]],
    method: str,
    random: Random,
) -> None:
    """Lines, amounts and hashes are those of the history, however it arrived."""
    plan = plan_of(table, method, component_cap={"amount": "90", "per": "measure"})
    shuffled = list(history)
    random.shuffle(shuffled)
    left, right = sheet_of(plan, history), sheet_of(plan, shuffled)
    assert [s.hash for s in left.statements] == [s.hash for s in right.statements]
    assert [(x.key, x.amount, x.before) for x in lines_of(left)] == [
        (x.key, x.amount, x.before) for x in lines_of(right)
    ]
    for line, later in pairwise([x for x in lines_of(left) if x.kind is LineKind.CREDIT]):
        if line.measure == later.measure:
            assert line.after == later.before, "each line begins where the one before it ended"


@SMALL
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.integers(-10_000_000, 10_000_000),
    st.sampled_from(["USD", "JPY", "KWD"]),
)
def test_splits_conserve(weights: list[int], thousandths: int, currency: str) -> None:
    """Parts sum to the whole exactly, each within one minor unit of its exact share."""
    amount = Decimal(thousandths).scaleb(-3)
    shares = {f"m{n}": Fraction(weight, sum(weights)) for n, weight in enumerate(weights)}
    parts = allocate(amount, shares, currency)
    assert exact_sum(parts.values()) == amount
    unit = Fraction(1, {"USD": 100, "JPY": 1, "KWD": 1000}[currency])
    for member, part in parts.items():
        assert abs(Fraction(part) - Fraction(amount) * shares[member]) < 2 * unit


@SMALL
@given(
    tables(rising=True),
    histories(AMOUNTS),
    DAYS,
    AMOUNTS,
    st.sampled_from(["marginal", "retroactive"]),
)
def test_more_sales_never_pay_less_where_rates_rise(
    table: list[tuple[Decimal, Decimal]],
    history: list[tuple[str, int, Decimal]],
    day: int,
    amount: Decimal,
    method: str,
) -> None:
    """Before rounding, a further deal anywhere takes nothing away."""
    plan = plan_of(table, method, threshold={"attainment": "30%", "pays": "first_dollar"})
    without = exact_sum(line.exact for line in lines_of(sheet_of(plan, history)))
    more = [*history, ("extra", day, amount)]
    assert exact_sum(line.exact for line in lines_of(sheet_of(plan, more))) >= without


LESS = {"negative_rate", "falling_rate", "falling_border"}


@SMALL
@given(tables(), histories(AMOUNTS), DAYS, AMOUNTS, st.sampled_from(["marginal", "retroactive"]))
def test_more_sales_never_pay_less_where_lint_has_nothing_against_it(
    table: list[tuple[Decimal, Decimal]],
    history: list[tuple[str, int, Decimal]],
    day: int,
    amount: Decimal,
    method: str,
) -> None:
    """Any table: either lint tells of a falling rate, or a further deal takes nothing away."""
    plan = plan_of(table, method)
    lint_clean = not LESS.intersection(f.code for f in lint(plan.versions[0], LintContext()))
    assert lint_clean == all(low[1] <= high[1] for low, high in pairwise(table))
    without = exact_sum(line.exact for line in lines_of(sheet_of(plan, history)))
    more = exact_sum(
        line.exact for line in lines_of(sheet_of(plan, [*history, ("x", day, amount)]))
    )
    assert more >= without or not lint_clean


@SMALL
@given(tables(), histories(AMOUNTS), st.integers(0, 4_000), st.integers(0, 9_000))
def test_what_draws_pay_is_what_was_earned_and_the_balance(
    table: list[tuple[Decimal, Decimal]],
    history: list[tuple[str, int, Decimal]],
    draw_cents: int,
    cap_cents: int,
) -> None:
    """Sum of payables = sum of earnings + the draw's balance; nothing carried by a cap is lost."""
    draw = {"amount": str(Decimal(draw_cents).scaleb(-2)), "recoverable": True}
    cap = {"amount": str(Decimal(cap_cents).scaleb(-2)), "per": "statement", "excess": "carry"}
    plain = sheet_of(plan_of(table), history)
    earned = exact_sum(statement.own for statement in plain.statements)
    drawn = sheet_of(plan_of(table, draw=draw), history, closed_before=YEAR.start)
    paid = exact_sum(statement.payable for statement in drawn.statements)
    assert paid == earned + drawn.to_bring_forward.draw_balance
    assert all(s.payable >= 0 for s in drawn.statements)
    capped = sheet_of(plan_of(table, cap=cap), history)
    kept = exact_sum(e.amount for e in capped.to_bring_forward.excess)
    assert exact_sum(s.own for s in capped.statements) + kept == earned


@SMALL
@given(
    tables(),
    histories(SIGNED),
    st.sampled_from(["deal", "statement", "measure"]),
    st.sampled_from(["statement", "measure", "year"]),
    st.integers(0, 5_000),
    st.integers(0, 8_000),
)
def test_a_cap_is_never_exceeded(  # noqa: PLR0913, PLR0917 - what Hypothesis draws
    table: list[tuple[Decimal, Decimal]],
    history: list[tuple[str, int, Decimal]],
    component_per: str,
    plan_per: str,
    component_cents: int,
    plan_cents: int,
) -> None:
    """The sum over any scope stays within its cap, and a cap only ever bites where it must."""
    component_limit = Decimal(component_cents).scaleb(-2)
    plan_limit = Decimal(plan_cents).scaleb(-2)
    component_cap = {"amount": str(component_limit), "per": component_per}
    plan_cap = {"amount": str(plan_limit), "per": plan_per}
    sheet = sheet_of(plan_of(table, component_cap=component_cap, cap=plan_cap), history)
    own: dict[object, Decimal] = {}
    whole: dict[object, Decimal] = {}
    for line in lines_of(sheet):
        if line.kind in {LineKind.CREDIT, LineKind.DEAL_CAP, LineKind.COMPONENT_CAP}:
            place = {"deal": line.deal_id, "statement": line.statement, "measure": line.measure}
            key = place[component_per]
            own[key] = own.get(key, Decimal(0)) + line.amount
        quarter = period_of(line.statement.start, PeriodKind.QUARTER)
        places = {"statement": line.statement, "measure": quarter, "year": YEAR}
        whole[places[plan_per]] = whole.get(places[plan_per], Decimal(0)) + line.amount
    assert all(total <= component_limit for total in own.values())
    assert all(total <= plan_limit for total in whole.values())


@SMALL
@given(tables(), histories(AMOUNTS), st.sampled_from(["marginal", "retroactive"]))
def test_what_is_wholly_credited_back_earns_nothing(
    table: list[tuple[Decimal, Decimal]], history: list[tuple[str, int, Decimal]], method: str
) -> None:
    """Every deal with its negative in the same measure: nothing is left, before rounding."""
    both = [*history, *((f"{deal}-back", day, -amount) for deal, day, amount in history)]
    assert exact_sum(line.exact for line in lines_of(sheet_of(plan_of(table, method), both))) == 0


CHANGES = st.lists(
    st.tuples(st.sampled_from(["amount", "late", "close"]), st.integers(0, 7), SIGNED), max_size=8
)


@SMALL
@given(tables(), histories(SIGNED), CHANGES, st.sampled_from(["0%", "50%", "100%"]))
def test_every_recalculation_balances_and_closes_lose_nothing(
    table: list[tuple[Decimal, Decimal]],
    history: list[tuple[str, int, Decimal]],
    changes: list[tuple[str, int, Decimal]],
    recovery: str,
) -> None:
    """Whatever changes, arrives late and closes in between: postings balance, nothing is lost.

    What all closes and open statements pay, and what is left to recover, is what is earned.
    """
    plan = plan_of(table, max_recovery_pct=recovery)
    now = list(history)
    fixed: list[FixedStatement] = []
    closed_before = YEAR.start
    posted: dict[Place, Decimal] = {}
    for what, place, amount in [*changes, ("amount", 0, history[0][2])]:
        if what == "amount":
            deal, day, _ = now[place % len(now)]
            now[place % len(now)] = (deal, day, amount)
        elif what == "late":
            now.append((f"late#{len(now)}", place * 11, amount))
        sheet = sheet_of(plan, now, fixed=fixed, closed_before=closed_before)
        if what == "close" and closed_before < date(2025, 12, 1):
            period = period_of(closed_before, PeriodKind.MONTH)
            statement = sheet.statement(period.label)
            closed_before = period.end
            if statement is not None:
                fixed = [*fixed, fixed_by(statement)]
            sheet = sheet_of(plan, now, fixed=fixed, closed_before=closed_before)
        _post(posted, sheet)
        _nothing_lost(sheet, fixed)


def _post(posted: dict[Place, Decimal], sheet: Sheet) -> None:
    """Post the difference for the open periods, as a transaction, and its mirror in thought."""
    closed = {s.period.label for s in sheet.statements if s.closed}
    wanted: dict[Place, Decimal] = {}
    for statement in sheet.statements:
        if not statement.closed:
            wanted |= wanted_balances(statement)
    held = {place: amount for place, amount in posted.items() if place.period not in closed}
    made = transaction(CAUSE, difference(held, wanted))
    mirrored = reversal(made, CAUSE)
    net: dict[Place, Decimal] = {}
    for posting in (*made.postings, *mirrored.postings):
        net[posting.place] = net.get(posting.place, Decimal(0)) + posting.amount
    assert not any(net.values())
    for posting in made.postings:
        posted[posting.place] = posted.get(posting.place, Decimal(0)) + posting.amount
    now = {p: amount for p, amount in posted.items() if amount and p.period not in closed}
    assert now == {place: amount for place, amount in wanted.items() if amount}


def _nothing_lost(sheet: Sheet, fixed: Sequence[FixedStatement]) -> None:
    earned = exact_sum(statement.own for statement in sheet.statements)
    paid = exact_sum(entry.payable for entry in fixed)
    still_open = [statement for statement in sheet.statements if not statement.closed]
    paid += exact_sum(statement.payable for statement in still_open)
    carry = still_open[-1].carry_out if still_open else sheet.to_bring_forward.carry
    assert paid + carry == earned
    assert all(statement.payable >= 0 and statement.carry_out <= 0 for statement in still_open)


def test_a_posting_that_does_not_sum_to_zero_is_refused() -> None:
    history = [("d1", 3, Decimal(100))]
    statement = sheet_of(plan_of([(Decimal(0), Decimal(8))]), history).statements[0]
    short: Mapping[Place, Decimal] = dict(list(wanted_balances(statement).items())[1:])
    with pytest.raises(MoneyDisagrees):
        transaction(CAUSE, difference({}, short))


def test_a_statement_that_does_not_come_out_even_is_refused() -> None:
    history = [("d1", 3, Decimal(100))]
    statement = sheet_of(plan_of([(Decimal(0), Decimal(8))]), history).statements[0]
    uneven = replace(statement, payable=statement.payable + 1)
    with pytest.raises(MoneyDisagrees):
        wanted_balances(uneven)
