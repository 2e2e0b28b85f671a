"""Adjustments and overrides, with the worked examples of docs/domain/corrections.md."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from services.commissions.domain.agreed import Adjustment, Agreement, Override
from services.commissions.domain.closes import FixedStatement
from services.commissions.domain.explain import explain_statement
from services.commissions.domain.ledger import Account, wanted_balances
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.plan import DayRange, Plan
from services.commissions.domain.sheet import Sheet, SheetInput, rate_sheet
from services.commissions.domain.spiff import spend_budget
from services.commissions.domain.statement import fixed_by
from tests.unit.commissions.test_order_of_operations import (
    ASSIGNED,
    YEAR,
    amounts,
    at,
    credited,
    lines,
    paid,
    plan,
    sheet,
    won,
)

MARGINAL = {
    "method": "marginal",
    "over": "amount",
    "tiers": [{"from": "0", "rate": "10%"}, {"from": "1000", "rate": "20%"}],
}


def agreement(identity: str, dispute: str | None = None) -> Agreement:
    return Agreement(identity, f"event-{identity}", "agreed by phone", "mia", "fin", dispute)


def adjustment(identity: str, day: str, amount: str, dispute: str | None = None) -> Adjustment:
    when = date.fromisoformat(day)
    return Adjustment(agreement(identity, dispute), when, Decimal(amount))


def override(identity: str, first: str, last: str, **terms: Any) -> Override:  # noqa: ANN401 - fields
    days = DayRange(date.fromisoformat(first), date.fromisoformat(last))
    numbers: dict[str, Any] = {n: Decimal(terms.pop(n)) for n in ("amount", "rate") if n in terms}
    return Override(agreement(identity), terms.pop("component_id", "c"), days, **terms, **numbers)


def year(identity: str = "o", **terms: Any) -> list[Override]:  # noqa: ANN401 - fields
    return [override(identity, "2025-01-01", "2025-12-31", **terms)]


# ---- adjustments --------------------------------------------------------------------------------


def test_an_adjustment_is_a_line_of_its_statement() -> None:
    more = [adjustment("1", "2025-01-01", "250"), adjustment("2", "2025-01-01", "-40.5", "7")]
    found = sheet(plan({}), won("A", "2025-01-10", "800"), adjustments=more)
    assert lines(found, "2025-01") == amounts(
        ("credit", "80"), ("adjustment", "250"), ("adjustment", "-40.5")
    )
    statement = found.statements[0]
    assert statement.payable == Decimal("289.5")
    balances = wanted_balances(statement)
    assert {
        place.account: amount for place, amount in balances.items() if place.key == "adjustment:2"
    } == {Account.EARNED: Decimal("-40.5"), Account.COMPANY: Decimal("40.5")}
    tree: Any = explain_statement(statement, found.rater)["lines"]
    said = tree[2]
    assert said["adjustment"]["dispute"] == "7"
    assert said["adjustment"]["event"] == "event-2"
    assert said["sentence"] == (
        "40.5 USD taken, asked by mia, approved by fin, answers dispute 7: agreed by phone."
    )


def test_a_period_with_nothing_else_has_a_statement_for_its_adjustment() -> None:
    found = sheet(plan({}), adjustments=[adjustment("1", "2025-03-01", "100")])
    assert [s.period.label for s in found.statements] == ["2025-03"]
    assert found.statements[0].payable == 100


def test_agreed_money_is_neither_capped_nor_gated_nor_held() -> None:
    gate = {"kpi": "csat", "at_least": "4", "otherwise": "hold"}
    of = plan({"gate": gate}, cap={"amount": "50", "per": "statement"})
    more = [adjustment("1", "2025-01-01", "1000")]
    found = sheet(of, won("A", "2025-01-10", "800"), adjustments=more)
    assert lines(found, "2025-01") == amounts(
        ("credit", "80"), ("gate", "-80"), ("adjustment", "1000")
    )
    capped = plan({}, cap={"amount": "50", "per": "statement"})
    found = sheet(capped, won("A", "2025-01-10", "800"), adjustments=more)
    assert found.statements[0].payable == 1050


def test_under_a_draw_an_adjustment_is_earned() -> None:
    """Draw 100: 80 earned and 50 agreed leave nothing to advance."""
    for recoverable in (True, False):
        draw = {"amount": "100", "recoverable": recoverable}
        more = [adjustment("1", "2025-01-01", "50")]
        january = sheet(
            plan({}, draw=draw), won("A", "2025-01-10", "800"), adjustments=more
        ).statements[0]
        assert january.payable == 130
        assert (january.draw.balance_out if january.draw else 0) == 0
        alone = sheet(plan({}, draw=draw), won("A", "2025-01-10", "800")).statements[0]
        assert alone.payable == 100


def test_a_statement_rounded_once_takes_the_adjustment_as_it_is() -> None:
    of = plan({}, rounding={"mode": "half_up", "at": "statement"})
    more = [adjustment("1", "2025-01-01", "0.01")]
    found = sheet(of, won("A", "2025-01-10", "0.33"), adjustments=more)
    assert found.statements[0].own == Decimal("0.04")


def test_after_the_close_an_adjustment_makes_no_difference() -> None:
    of, won_a = plan({}), won("A", "2025-01-10", "800")
    more = [adjustment("1", "2025-01-01", "250")]
    january = sheet(of, won_a, adjustments=more).statements[0]
    later = sheet(
        of,
        won_a,
        won("B", "2025-02-10", "100"),
        adjustments=more,
        fixed=[fixed_by(january)],
        closed_before=date(2025, 2, 1),
    )
    assert [s.difference for s in later.statements] == [0, 0]
    assert later.statements[1].payable == 10
    without: FixedStatement = fixed_by(sheet(of, won_a).statements[0])
    carried = sheet(of, won_a, adjustments=more, fixed=[without], closed_before=date(2025, 2, 1))
    assert carried.statements[1].difference == 250, "what a close has not fixed is not lost"


# ---- overrides ----------------------------------------------------------------------------------


def test_a_rate_in_place_of_the_plans() -> None:
    """5 % of 800 in place of 10 %: 40 instead of 80."""
    found = sheet(plan({}), won("A", "2025-01-10", "800"), overrides=year(rate="0.05"))
    assert lines(found, "2025-01") == amounts(("credit", "80"), ("override", "-40"))
    whole: Any = explain_statement(found.statements[0], found.rater)
    tree = whole["lines"][1]
    assert (tree["agreed"], tree["computed"], tree["override"]["event"]) == ("40", "80", "event-o")
    assert tree["sentence"].startswith("40 USD (5 % of 800 USD) is agreed in place of 80 USD")


def test_it_holds_from_its_first_to_its_last_day_and_then_expires() -> None:
    terms = [override("o", "2025-01-10", "2025-02-10", rate="0")]
    days = ("2025-01-09", "2025-01-10", "2025-02-10", "2025-02-11")
    deals = [won(f"D{n}", day, "100") for n, day in enumerate(days)]
    found = sheet(plan({}), *deals, overrides=terms)
    assert [s.own for s in found.statements] == [10, 10]


def test_the_measure_goes_on_counting_what_is_overridden() -> None:
    """A takes the measure to 1 500: B is still rated in the second tier."""
    of = plan({"rates": MARGINAL})
    a, b = won("A", "2025-01-10", "1500"), won("B", "2025-01-11", "100")
    found = sheet(of, a, b, overrides=year(deal_id="A", amount="77.77"))
    assert lines(found, "2025-01") == amounts(
        ("credit", "200"), ("override", "-122.23"), ("credit", "20")
    )


def test_an_amount_is_paid_once_for_a_deal_of_several_lines() -> None:
    a, more = won("A", "2025-01-10", "800"), won("A", "2025-02-10", "500")
    again = plan({})
    later = credited(again, more)
    key = later[0].key
    given = SheetInput(
        "ana",
        again,
        YEAR,
        [*credited(again, a), *[replace(c, key=f"{key}~2") for c in later]],
        ASSIGNED,
        overrides=year(deal_id="A", amount="300"),
    )
    found = rate_sheet(given)
    assert [s.own for s in found.statements] == [300, 0]


def test_one_of_a_deal_goes_before_one_of_the_component() -> None:
    terms = [*year("whole", rate="0.05"), *year("z-deal", deal_id="A", amount="1")]
    found = sheet(
        plan({}), won("A", "2025-01-10", "800"), won("B", "2025-01-11", "800"), overrides=terms
    )
    assert found.statements[0].own == 41


def test_caps_floors_and_gates_act_on_what_is_agreed() -> None:
    of = plan({"cap": {"amount": "100", "per": "deal"}, "floor": {"amount": "150"}})
    found = sheet(of, won("A", "2025-01-10", "800"), overrides=year(rate="0.5"))
    assert lines(found, "2025-01") == amounts(
        ("credit", "80"), ("override", "320"), ("deal_cap", "-300"), ("floor", "50")
    )
    gate = {"kpi": "csat", "at_least": "4", "otherwise": "zero"}
    gated = sheet(
        plan({"gate": gate}),
        won("A", "2025-01-10", "800"),
        overrides=year(rate="0.5"),
        gates={},
    )
    assert gated.statements[0].own == 0


def test_a_cap_by_attainment_is_of_the_rates() -> None:
    """Above 100 % nothing is earned by the rates; what was agreed for B is paid all the same."""
    assigned = {"quota": {"measure": "m", "period": "month"}}
    of = plan({**assigned, "cap": {"attainment": "100%"}})
    a, b = won("A", "2025-01-10", "1000"), won("B", "2025-01-11", "600")
    quotas = {("m", of.versions[0].period, date(2025, 1, 1)): Decimal(1000)}
    plain = sheet(of, a, b, quotas=quotas)
    assert plain.statements[0].own == 100
    found = sheet(of, a, b, quotas=quotas, overrides=year(deal_id="B", amount="50"))
    assert found.statements[0].own == 150


def test_what_is_agreed_is_released_and_clawed_back() -> None:
    half = [{"at": "booking", "share": "50%"}, {"at": "payment", "share": "50%"}]
    cash = (paid("P", "2025-02-10", "800"),)
    found = sheet(
        plan({"release": half}),
        won("A", "2025-01-10", "800", cash=cash),
        overrides=year(deal_id="A", amount="200"),
    )
    assert lines(found, "2025-01") == amounts(
        ("credit", "80"), ("override", "120"), ("hold", "-100")
    )
    assert lines(found, "2025-02") == amounts(("release", "100"))
    clawback = {"window_days": 100, "method": "linear", "basis": "recompute"}
    back = sheet(
        plan({"clawback": clawback, "rates": MARGINAL}),
        won("A", "2025-01-10", "1500", cancelled_at=at("2025-01-10")),
        overrides=year(deal_id="A", amount="90"),
    )
    assert back.statements[0].own == 0, "all of what was paid is taken back, not what was computed"


def test_a_statement_rounded_once_sums_what_is_agreed_exactly() -> None:
    of = plan({}, rounding={"mode": "half_up", "at": "statement"})
    deals = [won(f"D{n}", "2025-01-10", "3.33") for n in range(3)]
    found = sheet(of, *deals, overrides=year(rate="0.005"))
    assert found.statements[0].own == Decimal("0.05"), "3 * 0.01665 = 0.04995"


def test_in_place_of_what_a_budget_left() -> None:
    pays = {"rates": None, "pays": {"each": "500", "budget": "600"}, "kind": "spiff"}
    of = _without_rates(plan_document=pays)
    events = [won(name, "2025-01-10", "1") for name in ("A", "B")]
    grants = spend_budget(of, "c", credited(of, *events))
    found = sheet(of, *events, grants=grants, overrides=year(deal_id="B", amount="70"))
    assert lines(found, "2025-01") == amounts(
        ("credit", "500"), ("credit", "500"), ("budget_cap", "-400"), ("override", "-30")
    )


def _without_rates(plan_document: dict[str, Any]) -> Plan:
    component = {"id": "c", "credit": {"on": "deal.won"}, **plan_document}
    del component["rates"]
    document = {
        "id": "p",
        "currency": "USD",
        "time_zone": "UTC",
        "effective": {"from": "2025-01-01"},
        "period": "month",
        "components": [component],
    }
    return Plan("p", (parse_plan(document),))


def test_of_two_readings_of_one_sheet_the_order_does_not_matter() -> None:
    terms = [*year("a", rate="0.05"), *year("b", deal_id="A", amount="1")]
    more = [adjustment("1", "2025-01-01", "5"), adjustment("2", "2025-02-01", "6")]
    a, b = won("A", "2025-01-10", "800"), won("B", "2025-01-11", "800")

    def hashes(found: Sheet) -> list[str]:
        return [s.hash for s in found.statements]

    one = sheet(plan({}), a, b, overrides=terms, adjustments=more)
    other = sheet(plan({}), b, a, overrides=terms[::-1], adjustments=more[::-1])
    assert hashes(one) == hashes(other)
