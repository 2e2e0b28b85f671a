from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.commissions.domain.closes import BroughtForward, FixedStatement, settle
from services.commissions.domain.credits import Credit, CreditEvent, credits_for
from services.commissions.domain.exchange import RateBook
from services.commissions.domain.explain import explain_statement
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.periods import PeriodKind, following, parse_period, period_of
from services.commissions.domain.plan import (
    Assignment,
    CreditOn,
    DayRange,
    Method,
    Over,
    Plan,
    RateTable,
    Tier,
)
from services.commissions.domain.rates import Pricing
from services.commissions.domain.sheet import QuotaKey, Sheet, SheetInput, rate_sheet
from services.commissions.domain.statement import fixed_by
from shared.errors import InvalidValue
from tests.unit.commissions.checker import check_statement

YEAR = parse_period("2025")
NO_QUOTAS: Mapping[QuotaKey, Decimal] = {}
ASSIGNED = [Assignment("ana", "p", DayRange(date(2025, 1, 1)))]


def plan(rates: dict[str, Any], part: dict[str, Any] | None = None, **changes: object) -> Plan:
    component = {"id": "c", "credit": {"on": "deal.won"}, "rates": rates} | (part or {})
    document = {
        "id": "p",
        "currency": "USD",
        "time_zone": "UTC",
        "effective": {"from": "2025-01-01"},
        "period": "month",
        "components": [component],
    }
    return Plan("p", (parse_plan(document | changes),))


def sheet(  # noqa: PLR0913 - what there is of an account
    of: Plan,
    *deals: tuple[str, str, str],
    assigned: Sequence[Assignment] = ASSIGNED,
    quotas: Mapping[QuotaKey, Decimal] = NO_QUOTAS,
    fixed: Sequence[FixedStatement] = (),
    closed_before: date | None = None,
    currency: str = "USD",
) -> Sheet:
    found: list[Credit] = []
    for deal, day, amount in deals:
        event = CreditEvent(
            key=deal,
            on=CreditOn.DEAL_WON,
            deal_id=deal,
            instant=datetime.fromisoformat(day).replace(tzinfo=UTC),
            amount=Decimal(amount),
            currency=currency,
            owner="ana",
        )
        found.extend(credits_for(event, of, ASSIGNED, RateBook()).credits)
    return rate_sheet(
        SheetInput(
            "ana", of, YEAR, found, assigned, quotas, fixed=fixed, closed_before=closed_before
        )
    )


COUNT = {
    "method": "marginal",
    "over": "count",
    "tiers": [{"from": 0, "rate": "10%"}, {"from": 1, "rate": "5%"}],
}


def test_over_count_each_deal_has_the_rate_of_its_place() -> None:
    of = plan(COUNT)
    alone = sheet(of, ("B", "2025-01-02", "100000"))
    assert [s.own for s in alone.statements] == [Decimal(10000)]
    behind = sheet(of, ("A", "2025-01-01", "100"), ("B", "2025-01-02", "100000"))
    assert [s.own for s in behind.statements] == [Decimal(5010)]


def test_over_count_retroactive_rates_all_deals_once_the_number_is_reached() -> None:
    of = plan(COUNT | {"method": "retroactive", "tiers": [
        {"from": 0, "rate": "5%"}, {"from": 2, "rate": "10%"}
    ]})  # fmt: skip
    found = sheet(of, ("A", "2025-01-01", "100"), ("B", "2025-01-02", "200"))
    assert [line.amount for line in found.statements[0].lines] == [Decimal(5), Decimal(25)]


def test_a_missing_or_zero_quota_holds_the_credit_and_is_never_zero_pay() -> None:
    table = {"method": "marginal", "over": "attainment", "tiers": [{"from": "0%", "rate": "5%"}]}
    of = plan(table, {"quota": {"measure": "m", "period": "quarter"}})
    key = ("m", PeriodKind.QUARTER, date(2025, 1, 1))
    for quotas in ({}, {key: Decimal(0)}):
        found = sheet(of, ("A", "2025-01-01", "100"), quotas=quotas)
        statement = found.statements[0]
        assert [c.deal_id for c in statement.held] == ["A"]
        assert [(str(e.kind), e.payee) for e in statement.exceptions] == [("quota", "ana")]
        assert statement.lines == ()
    paid = sheet(of, ("A", "2025-01-01", "100"), quotas={key: Decimal(50)})
    assert paid.statements[0].own == Decimal(5)


def test_a_line_belongs_to_its_own_month_while_the_measure_runs_a_quarter() -> None:
    table = {
        "method": "retroactive",
        "over": "amount",
        "tiers": [{"from": 0, "rate": "5%"}, {"from": 100, "rate": "10%"}],
    }
    cap = {"amount": "12", "per": "measure"}
    of = plan(table, {"quota": {"measure": "m", "period": "quarter"}, "cap": cap})
    quotas = {("m", PeriodKind.QUARTER, date(2025, 1, 1)): Decimal(1)}
    found = sheet(
        of, ("A", "2025-01-15", "60"), ("B", "2025-02-15", "60"), ("C", "2025-04-01", "60"),
        quotas=quotas | {("m", PeriodKind.QUARTER, date(2025, 4, 1)): Decimal(1)},
    )  # fmt: skip
    own = {s.period.label: [(str(x.kind), x.amount) for x in s.lines] for s in found.statements}
    assert own == {
        "2025-01": [("credit", Decimal(3))],
        "2025-02": [("credit", Decimal(9))],
        "2025-04": [("credit", Decimal(3))],
    }
    more = sheet(
        of, ("A", "2025-01-15", "60"), ("B", "2025-02-15", "90"), quotas=quotas
    ).statements[1]  # fmt: skip
    assert [x.amount for x in more.lines] == [Decimal(12), Decimal(-3)]


def test_a_deal_cap_is_given_back_when_the_deal_is_credited_back() -> None:
    of = plan({"method": "flat", "rate": "8%"}, {"cap": {"amount": "5000", "per": "deal"}})
    event = CreditEvent(
        key="1", on=CreditOn.DEAL_WON, deal_id="A", instant=datetime(2025, 1, 1, tzinfo=UTC),
        amount=Decimal(80000), currency="USD", owner="ana",
    )  # fmt: skip
    back = replace(event, key="2", amount=Decimal(-80000))
    found = [c for e in (event, back) for c in credits_for(e, of, ASSIGNED, RateBook()).credits]
    statement = rate_sheet(SheetInput("ana", of, YEAR, found, ASSIGNED)).statements[0]
    assert [x.amount for x in statement.lines] == [
        Decimal(6400), Decimal(-1400), Decimal(-6400), Decimal(1400),
    ]  # fmt: skip
    assert statement.own == 0


def test_a_plan_cap_per_year_counts_over_statements_and_explains_itself() -> None:
    of = plan({"method": "flat", "rate": "10%"}, cap={"amount": "25", "per": "year"})
    found = sheet(
        of, ("A", "2025-01-15", "150"), ("B", "2025-02-15", "150"), ("C", "2025-03-15", "150")
    )
    assert [s.own for s in found.statements] == [Decimal(15), Decimal(10), Decimal(0)]
    for statement in found.statements:
        check_statement(json.loads(json.dumps(explain_statement(statement, found.rater))))


def test_an_assignments_own_quota_goes_before_the_published_one() -> None:
    table = {
        "method": "retroactive",
        "over": "attainment",
        "tiers": [{"from": "0%", "rate": "5%"}, {"from": "100%", "rate": "10%"}],
    }
    of = plan(table, {"quota": {"measure": "m", "period": "month"}})
    quotas = {("m", PeriodKind.MONTH, date(2025, 1, 1)): Decimal(1000)}
    own = [replace(ASSIGNED[0], quota=(("m", Decimal(100)),))]
    assert sheet(of, ("A", "2025-01-15", "100"), quotas=quotas).statements[0].own == 5
    assert (
        sheet(of, ("A", "2025-01-15", "100"), quotas=quotas, assigned=own).statements[0].own == 10
    )


def test_a_credit_is_counted_once() -> None:
    of = plan({"method": "flat", "rate": "10%"})
    with pytest.raises(InvalidValue, match="twice"):
        sheet(of, ("A", "2025-01-15", "150"), ("A", "2025-01-15", "150"))
    with pytest.raises(InvalidValue, match="another sheet"):
        sheet(of, ("A", "2026-01-15", "150"))


def test_a_closed_year_hands_its_difference_and_carry_to_the_next() -> None:
    of = plan({"method": "flat", "rate": "10%"})
    december = sheet(of, ("A", "2025-12-15", "1000"), closed_before=date(2025, 12, 1))
    fixed = [fixed_by(december.statements[0])]
    after = sheet(of, ("A", "2025-12-15", "600"), fixed=fixed, closed_before=date(2026, 1, 1))
    rest = after.to_bring_forward
    assert rest.difference == Decimal(-40)
    following_year = rate_sheet(
        SheetInput(
            "ana", of, parse_period("2026"), [], ASSIGNED,
            closed_before=date(2026, 1, 1), brought_forward=rest,
        )
    )  # fmt: skip
    statement = following_year.statements[0]
    assert statement.period.label == "2026-01"
    assert statement.difference == -40
    assert (statement.payable, statement.carry_out) == (Decimal(0), Decimal(-40))
    assert [c.line_key for c in statement.corrections] == ["A/p/c/ana"]
    check_statement(json.loads(json.dumps(explain_statement(statement, following_year.rater))))


def test_a_payee_without_a_statement_when_a_period_closed_gets_late_pay_as_a_difference() -> None:
    of = plan({"method": "flat", "rate": "10%"})
    found = sheet(of, ("A", "2025-01-15", "100"), closed_before=date(2025, 3, 1))
    first, landed = found.statements
    assert (first.period.label, first.closed) == ("2025-01", True)
    assert first.payable == 0
    assert landed.period.label == "2025-03"
    assert landed.difference == landed.payable == 10


def test_nothing_is_left_for_a_later_year_while_this_one_is_open() -> None:
    of = plan({"method": "flat", "rate": "10%"})
    found = sheet(of, ("A", "2025-01-15", "100"))
    assert found.to_bring_forward == BroughtForward()


@pytest.mark.parametrize(
    ("own", "difference", "carry", "limit", "payable", "left"),
    [
        ("5000", "-4200", "0", "1", "800", "0"),
        ("5000", "-4200", "0", "0.5", "2500", "-1700"),
        ("6000", "0", "-1700", "0.5", "4300", "0"),
        ("0", "-4200", "0", "1", "0", "-4200"),
        ("-300", "0", "0", "1", "0", "-300"),
        ("-300", "500", "0", "1", "200", "0"),
        ("100", "50", "0", "0", "150", "0"),
        ("100", "-50", "0", "0", "100", "-50"),
        ("100", "70", "-50", "0", "120", "0"),
    ],
)
def test_settling(  # noqa: PLR0913, PLR0917 - a row of the table
    own: str, difference: str, carry: str, limit: str, payable: str, left: str
) -> None:
    found = settle(Decimal(own), Decimal(difference), Decimal(carry), Decimal(limit), "USD")
    assert (found.payable, found.carry_out) == (Decimal(payable), Decimal(left))


def test_earned_to_date_below_zero_mirrors_the_first_tier() -> None:
    table = RateTable(
        Method.MARGINAL,
        Over.AMOUNT,
        (Tier(Decimal(0), Decimal("0.1")), Tier(Decimal(10), Decimal("0.2"))),
    )
    assert Pricing(table, None).earned(Decimal(-5)) == Decimal("-0.5")
    assert Pricing(table, None).earned(Decimal(15)) == Decimal(2)


@pytest.mark.parametrize(
    ("day", "kind", "start", "label", "first"),
    [
        (date(2025, 2, 28), PeriodKind.MONTH, 1, "2025-02", date(2025, 2, 1)),
        (date(2025, 12, 31), PeriodKind.QUARTER, 1, "2025-Q4", date(2025, 10, 1)),
        (date(2025, 1, 31), PeriodKind.QUARTER, 2, "2025-Q4", date(2024, 11, 1)),
        (date(2025, 2, 1), PeriodKind.QUARTER, 2, "2026-Q1", date(2025, 2, 1)),
        (date(2025, 2, 1), PeriodKind.HALF, 7, "2025-H2", date(2025, 1, 1)),
        (date(2025, 6, 30), PeriodKind.YEAR, 7, "2025", date(2024, 7, 1)),
        (date(2025, 7, 1), PeriodKind.YEAR, 7, "2026", date(2025, 7, 1)),
    ],
)
def test_periods(day: date, kind: PeriodKind, start: int, label: str, first: date) -> None:
    period = period_of(day, kind, start)
    assert (period.label, period.start) == (label, first)
    assert day in period
    assert parse_period(label, start) == period
    assert following(period, start).start == period.end


@pytest.mark.parametrize("label", ["2025-13", "2025-Q5", "25-01", "2025-W01", "", "2025-01\n"])
def test_no_period(label: str) -> None:
    with pytest.raises(InvalidValue, match="no period"):
        parse_period(label)
