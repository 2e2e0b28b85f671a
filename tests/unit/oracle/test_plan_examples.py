"""The second reading of the plan language gives the published figures of its examples."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from tests.oracle.plans.case import Assigned, Case, Cash, Deal, KpiFact, Score
from tests.oracle.plans.statements import Result, statements

Part = dict[str, Any]
TIERS = [
    {"from": "0%", "rate": "4%"},
    {"from": "50%", "rate": "8%"},
    {"from": "100%", "rate": "12%"},
    {"from": "125%", "rate": "15%"},
]
MARGINAL = {"method": "marginal", "over": "attainment", "tiers": TIERS}
MONTHLY = {"quota": {"measure": "bookings", "period": "month"}}
FLAT_8 = {"rates": {"method": "flat", "rate": "8%"}}


def plan(*components: Part, **changes: Any) -> Part:  # noqa: ANN401 - parts of a document
    return {
        "id": "plan",
        "currency": "USD",
        "time_zone": "UTC",
        "effective": {"from": "2025-01-01"},
        "period": "month",
        "components": list(components),
        **changes,
    }


def component(**parts: Any) -> Part:  # noqa: ANN401 - parts of a document
    return {
        "id": "a",
        "kind": "commission",
        "credit": {"on": "deal.won", "to": "owner"},
        **parts,
    }


def at(day: str) -> datetime:
    return datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC)


def won(day: str, amount: str, deal_id: str = "d", **changes: Any) -> Deal:  # noqa: ANN401
    return Deal(deal_id + day, at(day), amount, changes.pop("owner", "ana"), **changes)


def read(
    document: Part | list[Part],
    *deals: Deal,
    quota: str | None = None,
    target_pay: str | None = None,
    until: date = date(2025, 2, 1),
    **changes: Any,  # noqa: ANN401 - parts of a case
) -> dict[tuple[str, str], Result]:
    payees = changes.pop("payees", ("ana",))
    stated = {} if quota is None else {"bookings": quota}
    assigned = [Assigned(p, date(2025, 1, 1), None, stated, target_pay) for p in payees]
    plans = document if isinstance(document, list) else [document]
    return statements(Case(plans, assigned, until, deals, **changes))


def total(*arguments: Any, **named: Any) -> Fraction:  # noqa: ANN401
    return sum((result.own for result in read(*arguments, **named).values()), Fraction(0))


@pytest.mark.parametrize(
    ("amount", "method", "paid"),
    [
        ("270000", "marginal", "21000"),
        ("270000", "retroactive", "40500"),
        ("249999.99", "retroactive", "30000.00"),
        ("250000", "retroactive", "37500"),
    ],
)
def test_tiers(amount: str, method: str, paid: str) -> None:
    table = {**MARGINAL, "method": method}
    document = plan(component(rates=table, **MONTHLY))
    assert total(document, won("2025-01-05", amount), quota="200000") == Fraction(paid)


CURVE = [("49.99", 0), ("50", 3_000), ("92", 10_080), ("112", 15_600), ("160", 24_000)]


@pytest.mark.parametrize(("attainment", "paid"), CURVE)
def test_a_curve(attainment: str, paid: int) -> None:
    points = {"50%": "25%", "80%": "60%", "100%": "100%", "120%": "150%", "140%": "200%"}
    laid = [{"at": place, "pays": pays} for place, pays in points.items()]
    document = plan(component(rates={"method": "curve", "points": laid}, **MONTHLY))
    found = total(document, won("2025-01-05", attainment), quota="100", target_pay="12000")
    assert found == paid


def test_multiples_of_target_pay_over_quota() -> None:
    tiers = [{"from": "0%", "rate": "1x"}, {"from": "100%", "rate": "1.5x"}]
    rates = {"method": "marginal", "over": "attainment", "tiers": tiers}
    deal = won("2025-01-05", "520000")
    named = {"quota": "400000", "target_pay": "24000"}
    assert total(plan(component(rates=rates, **MONTHLY)), deal, **named) == 34_800
    capped = component(rates=rates, cap={"attainment": "120%"}, **MONTHLY)
    assert total(plan(capped), deal, **named) == 31_200


def test_a_threshold_a_floor_and_a_cap() -> None:
    for pays, paid in (("first_dollar", 5_600), ("excess_only", 800)):
        terms = {"threshold": {"attainment": "60%", "pays": pays}}
        document = plan(component(**FLAT_8, **MONTHLY, **terms))
        assert total(document, won("2025-01-05", "70000"), quota="100000") == paid
    floor = plan(component(**FLAT_8, floor={"amount": 3_000, "per": "statement"}))
    assert total(floor, won("2025-01-05", "26756.25")) == 3_000
    cap = {"amount": 5_000, "per": "deal", "excess": "lost"}
    assert total(plan(component(**FLAT_8, cap=cap)), won("2025-01-05", "80000")) == 5_000


@pytest.mark.parametrize(
    ("recoverable", "paid", "balances"),
    [
        (True, [4_000, 4_000, 4_600, 5_500], [1_500, 2_300, 0, 0]),
        (False, [4_000, 4_000, 6_900, 5_500], [0, 0, 0, 0]),
    ],
)
def test_draws(recoverable: bool, paid: list[int], balances: list[int]) -> None:  # noqa: FBT001
    draw = {"amount": 4_000, "recoverable": recoverable, "from": "2025-01", "periods": 6}
    rates = {"rates": {"method": "flat", "rate": "100%"}}
    months = zip(range(1, 5), ("2500", "3200", "6900", "5500"), strict=True)
    deals = [won(f"2025-{month:02}-05", amount) for month, amount in months]
    found = read(plan(component(**rates), draw=draw), *deals, until=date(2025, 5, 1))
    results = [found["ana", f"2025-{month:02}"] for month in range(1, 5)]
    assert [result.payable for result in results] == paid
    assert [result.balance for result in results] == balances


@pytest.mark.parametrize(("kept", "taken"), [(45, 3_000), (0, 4_800), (120, 0)])
def test_a_clawback_by_line(kept: int, taken: int) -> None:
    terms = {"clawback": {"window_days": 120, "method": "linear", "basis": "line"}}
    rates = {"rates": {"method": "flat", "rate": "100%"}}
    cancelled = at("2025-01-05") + timedelta(days=kept, hours=6)
    deal = won("2025-01-05", "4800", cancelled_at=cancelled)
    found = total(plan(component(**rates, **terms)), deal, until=date(2025, 12, 1))
    assert found == 4_800 - taken


def test_objectives_spiffs_and_the_roll_up() -> None:
    weights = {"o1": "50%", "o2": "30%", "o3": "20%"}
    objectives = [{"id": name, "weight": weight} for name, weight in weights.items()]
    mbo = component(kind="objective", credit={"on": "objective.scored"}, objectives=objectives)
    pairs = zip(weights, ("1", "0.8", "0"), strict=True)
    scored = [Score("ana", name, value, at("2025-01-20")) for name, value in pairs]
    assert total(plan(mbo), target_pay="6000", scores=scored) == 4_440
    spiff = component(kind="spiff", pays={"each": 500, "first": 3})
    four = [won(f"2025-01-0{day}", "10") for day in range(1, 5)]
    assert total(plan(spiff), *four) == 1_500
    override = component(
        kind="override",
        credit={"on": "deal.won", "to": "manager"},
        rates={"method": "flat", "rate": "1.5%"},
    )
    deal = won("2025-01-05", "80000", overlays={"ben": "100%"})
    managers = {"ana": "mia", "ben": "mia"}
    assert total(plan(override), deal, managers=managers, payees=("mia",)) == 1_200


def test_money_follows_cash() -> None:
    release = [{"at": "booking", "share": "40%"}, {"at": "payment", "share": "60%"}]
    cash = (Cash("1", at("2025-02-05"), "30000"), Cash("2", at("2025-03-05"), "50000"))
    document = plan(component(**FLAT_8, release=release))
    found = read(document, won("2025-01-05", "80000", cash=cash), until=date(2025, 4, 1))
    assert [found["ana", f"2025-0{month}"].own for month in (1, 2, 3)] == [2_560, 1_440, 2_400]


def test_a_gate_and_a_cap_that_carries() -> None:
    gate = {"kpi": "csat", "at_least": 4.2, "otherwise": "hold"}
    rates = {"rates": {"method": "flat", "rate": "10%"}}
    document, deal = plan(component(**rates, gate=gate)), won("2025-01-05", "15000")
    for value, paid in (("4.1", 0), ("4.3", 1_500)):
        fact = KpiFact("ana", "csat", date(2025, 1, 20), value)
        assert total(document, deal, kpis=[fact]) == paid
    cap = {"amount": 10_000, "per": "statement", "excess": "carry"}
    whole = {"rates": {"method": "flat", "rate": "100%"}}
    months = zip(range(1, 4), ("13000", "6000", "9000"), strict=True)
    deals = [won(f"2025-0{month}-05", amount) for month, amount in months]
    for carried in (plan(component(**whole, cap=cap)), plan(component(**whole), cap=cap)):
        found = read(carried, *deals, until=date(2025, 4, 1))
        assert [found["ana", f"2025-0{m}"].own for m in (1, 2, 3)] == [10_000, 9_000, 9_000]


def test_a_version_border_inside_a_measure() -> None:
    def version(day: str, low: str, high: str) -> Part:
        tiers = [{"from": "0", "rate": low}, {"from": "100000", "rate": high}]
        rates = {"method": "marginal", "over": "amount", "tiers": tiers}
        return plan(component(rates=rates), effective={"from": day}, period="quarter")

    plans = [version("2025-01-01", "8%", "12%"), version("2025-02-15", "10%", "15%")]
    deals = [won("2025-02-10", "90000"), won("2025-02-20", "30000")]
    assert total(plans, *deals, until=date(2025, 4, 1)) == 11_200


def test_the_first_deal_by_count_earns_more() -> None:
    tiers = [{"from": 0, "rate": "10%"}, {"from": 1, "rate": "5%"}]
    document = plan(component(rates={"method": "marginal", "over": "count", "tiers": tiers}))
    large = won("2025-01-06", "100000")
    assert total(document, large) == 10_000
    assert total(document, won("2025-01-05", "100"), large) == 5_010
