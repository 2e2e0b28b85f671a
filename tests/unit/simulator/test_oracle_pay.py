"""The second opinion on pay, against worked examples that were computed by hand."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest

from tests.oracle import recompute
from tests.oracle.commissions import NotSupported, Statement, allocated
from tests.oracle.dates import MissingRate
from tests.simulator.history import Change, RateRow
from tests.unit.simulator.tiny import (
    component,
    deal,
    history,
    marginal,
    ms,
    plan,
    tiered,
)

FLAT_6 = {"method": "flat", "rate": "6%"}
A = deal("a", "2025-01-10", "60000")
B = deal("b", "2025-01-15", "80000")
C = deal("c", "2025-01-20", "130000")


def statement(found: Any, who: str = "ana", month: str = "2025-01") -> Statement:  # noqa: ANN401
    """One statement of a tiny history."""
    result = recompute(found).statements[who, month]
    assert isinstance(result, Statement)
    return result


def amounts(made: Statement) -> list[Fraction]:
    """Its lines."""
    return [line.amount for line in made.lines]


def test_marginal_tiers_rate_each_slice() -> None:
    assert statement(history(deal("d", "2025-01-10", "270000"))).earned == Decimal("21000.00")


@pytest.mark.parametrize(
    ("amount", "pays"),
    [("270000", "40500.00"), ("249999.99", "30000.00"), ("250000.00", "37500.00")],
)
def test_retroactive_tiers_rate_everything(amount: str, pays: str) -> None:
    found = history(deal("d", "2025-01-10", amount), plan=plan(component(tiered("retroactive"))))
    assert statement(found).earned == Decimal(pays)


def test_a_deal_that_crosses_a_tier() -> None:
    prior, crossing = deal("p", "2025-01-05", "90000"), deal("q", "2025-01-06", "30000")
    assert amounts(statement(history(prior, crossing)))[1] == 2000
    found = history(prior, crossing, plan=plan(component(tiered("retroactive"))))
    assert amounts(statement(found))[1] == 6000


def test_lines_are_made_in_order_of_credit() -> None:
    for order in permutations((A, B, C)):
        made = statement(history(*order))
        assert amounts(made) == [2400, 4800, 13800]
        assert made.earned == Decimal("21000.00")


def test_a_late_deal_takes_its_place() -> None:
    made = statement(history(A, B, C, deal("z", "2025-01-12", "20000")))
    assert amounts(made) == [2400, 800, 5600, 15200]


def test_a_cancelled_deal_is_recomputed() -> None:
    cancelled = deal("b", "2025-01-15", "80000")
    cancelled.changes.append(Change(ms("2025-01-25"), "stage", "closedlost"))
    assert statement(history(A, cancelled, C)).earned == Decimal("11200.00")


@pytest.mark.parametrize(
    ("amount", "first_dollar", "excess_only"),
    [("59999", "0.00", "0.00"), ("60000", "4800.00", "0.00"), ("70000", "5600.00", "800.00")],
)
def test_thresholds(amount: str, first_dollar: str, excess_only: str) -> None:
    for pays, expected in (("first_dollar", first_dollar), ("excess_only", excess_only)):
        threshold = {"attainment": "60%", "pays": pays}
        rates = {"method": "flat", "rate": "8%"}
        found = history(
            deal("d", "2025-01-10", amount),
            plan=plan(component(rates, threshold=threshold)),
            quota="100000",
        )
        assert statement(found).earned == Decimal(expected)


def test_caps() -> None:
    cap = {"amount": 30000, "per": "measure", "excess": "lost"}
    found = history(
        deal("d", "2025-01-10", "270000"), plan=plan(component(tiered("retroactive"), cap=cap))
    )
    assert amounts(statement(found)) == [40500, -10500]
    cap = {"amount": 5000, "per": "deal", "excess": "lost"}
    found = history(
        deal("d", "2025-01-10", "80000"),
        plan=plan(component({"method": "flat", "rate": "8%"}, cap=cap)),
    )
    assert statement(found).earned == Decimal("5000.00")
    found = history(A, C, plan=plan(component(FLAT_6), cap={"amount": 5000, "per": "statement"}))
    assert amounts(statement(found)) == [3600, 7800, -6400]


def test_two_currencies_by_dated_rates() -> None:
    fx = {
        "credit": {"table": "plan", "date": "credit"},
        "payout": {"table": "spot", "date": "period_end"},
    }
    found = history(
        deal("d", "2025-01-10", "50000", currency="EUR"), plan=plan(component(FLAT_6), fx=fx)
    )
    with pytest.raises(MissingRate):
        recompute(found)
    found.rates += [
        RateRow("plan", "EUR", "USD", "2025-01-01", "1.0800"),
        RateRow("plan", "EUR", "USD", "2025-01-11", "1.0925"),
        RateRow("spot", "USD", "GBP", "2024-12-31", "0.5"),
        RateRow("spot", "USD", "GBP", "2025-01-31", "0.7842"),
    ]
    found.assignments = [
        type(row)(row.id, row.payee, row.plan, row.start, row.to, "GBP")
        for row in found.assignments
    ]
    made = statement(found)
    assert (made.earned, made.payable) == (Decimal("3240.00"), Decimal("2540.81"))


@pytest.mark.parametrize(
    ("mode", "at", "pays"),
    [
        ("half_up", "line", "37.05"),
        ("half_even", "line", "37.02"),
        ("half_up", "statement", "37.04"),
    ],
)
def test_rounding(mode: str, at: str, pays: str) -> None:
    deals = [deal(name, "2025-01-10", "205.75") for name in "abc"]
    rates = {"method": "flat", "rate": "6%"}
    found = history(*deals, plan=plan(component(rates), rounding={"mode": mode, "at": at}))
    assert statement(found).earned == Decimal(pays)


def test_splits_conserve_to_the_cent() -> None:
    third = Fraction(1, 3)
    parts = allocated(Fraction(1000), {"a": third, "b": third, "c": third})
    cents = [Fraction(value) for value in ("333.34", "333.33", "333.33")]
    assert [parts[who] for who in "abc"] == cents
    with pytest.raises(NotSupported):
        allocated(Fraction(1000), dict.fromkeys("abc", Fraction("0.3333")))


def test_overlays_are_credited_on_top() -> None:
    sold = deal("d", "2025-01-10", "120000", splits={"ana": "100%"}, overlays={"ben": "25%"})
    split = plan(component(FLAT_6, to="splits"))
    split["components"].append(component(FLAT_6, to="overlays"))
    found = history(sold, plan=split)
    assert statement(found).earned == Decimal("7200.00")
    assert statement(found, "ben").earned == Decimal("1800.00")
    assert recompute(found).closed["team", "2025-Q1"].bookings == 120000


def test_the_plans_zone_decides_the_month() -> None:
    late = deal("d", "2025-02-01T04:30", "10000")
    assert statement(history(late, plan=plan(component(FLAT_6)))).earned == Decimal("600.00")


def test_a_book_handed_over_moves_nothing() -> None:
    sold = deal("d", "2025-01-10", "50000")
    sold.changes.append(Change(ms("2025-02-10"), "owner", "crm:1:ben"))
    result = recompute(history(sold, plan=plan(component(FLAT_6)))).statements
    assert [key for key, made in result.items() if made.earned] == [("ana", "2025-01")]


def test_nothing_is_paid_outside_an_assignment() -> None:
    found = history(A, plan=marginal())
    found.assignments = [
        type(row)(row.id, row.payee, row.plan, row.start, "2025-01-09", "USD")
        for row in found.assignments
    ]
    assert recompute(found).statements == {}
