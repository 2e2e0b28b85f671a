"""How the parts of the plan language act on one another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.commissions.domain.chain import ChainInput, rate_chain
from services.commissions.domain.closes import BroughtForward
from services.commissions.domain.credits import (
    Cash,
    Credit,
    CreditEvent,
    credit_as_row,
    credit_from_row,
    credits_for,
)
from services.commissions.domain.exchange import RateBook
from services.commissions.domain.explain import explain_statement
from services.commissions.domain.ledger import Account, wanted_balances
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.periods import Period, parse_period
from services.commissions.domain.plan import Assignment, CreditOn, DayRange, Plan
from services.commissions.domain.sheet import KpiFact, Sheet, SheetInput, rate_sheet
from tests.unit.commissions.checker import check_statement

YEAR = parse_period("2025")
ASSIGNED = [Assignment("ana", "p", DayRange(date(2025, 1, 1)), target_pay=Decimal(1200))]
FLAT = {"method": "flat", "rate": "10%"}
HALF_NOW = [{"at": "booking", "share": "50%"}, {"at": "payment", "share": "50%"}]


def plan(*components: dict[str, Any], **changes: object) -> Plan:
    document = {
        "id": "p",
        "currency": "USD",
        "time_zone": "UTC",
        "effective": {"from": "2025-01-01"},
        "period": "month",
        "components": [
            {"id": "c", "credit": {"on": "deal.won"}, "rates": FLAT} | part for part in components
        ],
    }
    return Plan("p", (parse_plan(document | changes),))


def won(deal: str, day: str, amount: str, **more: Any) -> CreditEvent:  # noqa: ANN401 - fields
    return CreditEvent(
        key=f"deal:{deal}",
        on=CreditOn.DEAL_WON,
        deal_id=deal,
        instant=at(day),
        amount=Decimal(amount),
        currency="USD",
        owner="ana",
        **more,
    )


def at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)


def paid(identity: str, day: str, amount: str) -> Cash:
    return Cash(identity, at(day), Decimal(amount), "USD")


def credited(of: Plan, *events: CreditEvent) -> list[Credit]:
    return [c for e in events for c in credits_for(e, of, ASSIGNED, RateBook()).credits]


def sheet(of: Plan, *events: CreditEvent, year: Period = YEAR, **more: Any) -> Sheet:  # noqa: ANN401 - fields
    mine = [
        credit_from_row(json.loads(json.dumps(credit_as_row(c))))
        for c in credited(of, *events)
        if c.day in year
    ]
    found = rate_sheet(SheetInput("ana", of, year, mine, ASSIGNED, **more))
    for statement in found.statements:
        if not statement.closed:
            check_statement(json.loads(json.dumps(explain_statement(statement, found.rater))))
            wanted_balances(statement)
    return found


def lines(of: Sheet, label: str) -> list[tuple[str, Decimal]]:
    statement = of.statement(label)
    assert statement is not None
    return [(str(line.kind), line.amount) for line in statement.lines]


def amounts(*pairs: tuple[str, str]) -> list[tuple[str, Decimal]]:
    return [(kind, Decimal(amount)) for kind, amount in pairs]


def test_what_a_cap_takes_is_not_released() -> None:
    of = plan({"release": HALF_NOW, "cap": {"amount": "100", "per": "statement"}})
    a = won("A", "2025-01-10", "800", cash=(paid("P", "2025-02-10", "800"),))
    b = won("B", "2025-01-11", "800", cash=(paid("Q", "2025-02-10", "800"),))
    found = sheet(of, a, b)
    assert lines(found, "2025-01") == amounts(
        ("credit", "80"), ("hold", "-40"), ("credit", "80"), ("hold", "-10"),
        ("component_cap", "-60"),
    )  # fmt: skip
    assert lines(found, "2025-02") == amounts(("release", "40"), ("release", "10"))


def test_a_plan_cap_goes_before_release_too() -> None:
    of = plan({"release": HALF_NOW}, cap={"amount": "100", "per": "year"})
    found = sheet(of, won("A", "2025-01-10", "800"), won("B", "2025-02-11", "800"))
    assert lines(found, "2025-02") == amounts(
        ("credit", "80"), ("hold", "-10"), ("plan_cap", "-60")
    )
    assert found.statements[1].payable == 10


def test_a_closed_gate_holds_what_would_be_released() -> None:
    gate = {"kpi": "csat", "at_least": 4, "otherwise": "hold"}
    of = plan({"release": HALF_NOW, "gate": gate})
    low = [KpiFact(date(2025, 1, 31), Decimal(3))]
    deal = won("A", "2025-01-10", "800", cash=(paid("P", "2025-02-10", "800"),))
    found = sheet(of, deal, gates={"csat": low})
    assert lines(found, "2025-01") == amounts(("credit", "80"), ("gate", "-80"))
    assert found.statement("2025-02") is None
    held = wanted_balances(found.statements[0])
    assert [a for place, a in held.items() if place.account is Account.HELD] == [80]


def test_the_floor_is_reached_by_lines_after_caps_and_gated_with_them() -> None:
    gate = {"kpi": "csat", "at_least": 4, "otherwise": "zero"}
    of = plan(
        {"floor": {"amount": "50"}, "cap": {"amount": "20", "per": "statement"}, "gate": gate}
    )
    low = {"csat": [KpiFact(date(2025, 1, 31), Decimal(3))]}
    found = sheet(of, won("A", "2025-01-10", "800"), gates=low)
    assert lines(found, "2025-01") == amounts(
        ("credit", "80"), ("component_cap", "-60"), ("floor", "30"), ("gate", "-50")
    )


def test_only_what_was_released_is_clawed_back_and_the_rest_is_forfeited() -> None:
    claw = {"window_days": 100, "basis": "line"}
    of = plan({"release": HALF_NOW, "clawback": claw})
    cash = (paid("P", "2025-01-20", "400"), paid("Q", "2025-03-30", "400"))
    gone = won("A", "2025-01-10", "800", cash=cash, cancelled_at=at("2025-03-01"))
    found = sheet(of, gone)
    assert lines(found, "2025-01") == amounts(("credit", "80"), ("hold", "-40"), ("release", "20"))
    assert lines(found, "2025-03") == amounts(("clawback", "-30"))
    held = [
        amount
        for statement in found.statements
        for place, amount in wanted_balances(statement).items()
        if place.account is Account.HELD
    ]
    assert sum(held) == 0


def test_a_capped_measure_loses_by_recomputation_only_what_it_paid() -> None:
    claw = {"window_days": 100, "basis": "recompute"}
    quota = {"measure": "m", "period": "quarter"}
    of = plan({"clawback": claw, "quota": quota, "cap": {"amount": "100", "per": "measure"}})
    quarter = parse_period("2025-Q1")
    quotas = {("m", quarter.kind, quarter.start): Decimal(1000)}
    first = won("A", "2025-01-10", "800", cancelled_at=at("2025-01-20"))
    found = sheet(
        of, first, won("B", "2025-01-15", "800"), won("C", "2025-01-25", "500"), quotas=quotas
    )
    assert lines(found, "2025-01") == amounts(
        ("credit", "80"), ("clawback", "-18"), ("credit", "80"), ("credit", "50"),
        ("component_cap", "-60"), ("component_cap", "-30"),
    )  # fmt: skip
    assert found.statements[0].own == 102


def test_releases_and_clawbacks_of_a_later_year_are_handed_on() -> None:
    of = plan({"release": HALF_NOW, "clawback": {"window_days": 100, "basis": "line"}})
    cash = (paid("P", "2026-01-15", "400"),)
    events = [
        won("A", "2025-12-10", "800", cash=cash),
        won("B", "2025-12-10", "800", cancelled_at=at("2026-01-29")),
    ]
    given: list[BroughtForward] = []

    def rate(year: Period, left: BroughtForward) -> Sheet:
        given.append(left)
        return sheet(of, *events, year=year, brought_forward=left)

    chain = ChainInput([YEAR], [YEAR], {}, date(2025, 1, 1), 1)
    rated = rate_chain(chain, rate)
    later = parse_period("2026")
    assert sorted(rated.sheets) == [YEAR, later]
    found = rated.sheets[later]
    assert sorted(lines(found, "2026-01")) == amounts(("clawback", "-20"), ("release", "20"))
    stored = {YEAR: rated.left["2025"], later: rated.left["2026"]}
    again = rate_chain(ChainInput([YEAR], [later], stored, date(2025, 1, 1), 1), rate)
    assert [s.hash for s in again.sheets[later].statements] == [s.hash for s in found.statements]


def test_a_draw_balance_and_carried_excess_go_on_into_the_next_year() -> None:
    of = plan({}, draw={"amount": "100", "recoverable": True, "from": "2025-12", "periods": 2})
    first = sheet(of, won("A", "2025-12-10", "300"), until=date(2026, 1, 1))
    assert first.to_bring_forward.draw_balance == 70
    later = sheet(
        of, won("B", "2026-01-10", "1500"), year=parse_period("2026"),
        brought_forward=first.to_bring_forward, until=date(2026, 3, 1),
    )  # fmt: skip
    january = later.statements[0]
    assert january.draw is not None
    assert january.payable == 100
    assert january.draw.balance_out == 20
    capped = plan({"cap": {"amount": "10", "per": "statement", "excess": "carry"}})
    december = sheet(capped, won("A", "2025-12-10", "250"))
    assert [e.amount for e in december.to_bring_forward.excess] == [15]
    paid_out = sheet(
        capped, year=parse_period("2026"), brought_forward=december.to_bring_forward,
        until=date(2026, 3, 1),
    )  # fmt: skip
    assert [s.payable for s in paid_out.statements] == [10, 5]


def test_a_draw_recovers_after_its_periods_and_pays_no_less_than_nothing() -> None:
    of = plan({}, draw={"amount": "100", "recoverable": True, "from": "2025-01", "periods": 1})
    found = sheet(of, won("A", "2025-02-10", "600"), until=date(2025, 3, 1))
    assert [s.payable for s in found.statements] == [100, 0]
    assert [s.draw and s.draw.balance_out for s in found.statements] == [100, 40]


QUOTA = {"measure": "m", "period": "month"}
QUOTAS = {("m", p.kind, p.start): Decimal(1000) for p in [parse_period("2025-01")]}


def test_a_condition_on_another_component_sees_it_up_to_and_with_the_deal() -> None:
    kicker = {
        "id": "kicker",
        "kind": "bonus",
        "credit": {
            "on": "deal.won",
            "when": 'component.new_one.attainment >= 1 and deal.type == "new"',
        },
        "rates": None,
        "pays": {"each": 50},
    }  # fmt: skip
    of = plan({"id": "new-one", "quota": QUOTA}, kicker)
    new = {"fields": {"deal": {"type": "new"}}}
    found = sheet(
        of,
        won("A", "2025-01-10", "999.99", **new),
        won("B", "2025-01-11", "0.01", **new),
        won("C", "2025-01-12", "10", fields={"deal": {"type": "renewal"}}),
        won("D", "2025-01-13", "10", **new),
        quotas=QUOTAS,
    )
    statement = found.statements[0]
    assert [x.deal_id for x in statement.lines if x.component_id == "kicker"] == ["B", "D"]


def test_components_do_not_read_one_another_in_a_circle() -> None:
    def part(name: str, read: str) -> dict[str, Any]:
        when = f"component.{read}.credited > 0"
        return {"id": name, "credit": {"on": "deal.won", "when": when}}

    with pytest.raises(Exception, match="circle"):
        plan(part("a", "b"), part("b", "a"))
    with pytest.raises(Exception, match="unknown name component"):
        plan(part("a", "a"))


def test_conditions_on_the_payee_credit_only_those_they_hold_for() -> None:
    of = plan({"credit": {"on": "deal.won", "to": "splits", "when": '(payee.role ?? "") == "AE"'}})
    event = won(
        "A", "2025-01-10", "100", splits=(("ana", "1/2"), ("bob", "1/2")),
        people={"ana": {"role": "SE"}, "bob": {"role": "AE"}},
    )  # fmt: skip
    both = [*ASSIGNED, Assignment("bob", "p", DayRange())]
    assert [c.payee for c in credits_for(event, of, both, RateBook()).credits] == ["bob"]


def test_activities_and_payments_are_credited() -> None:
    of = plan(
        {
            "id": "calls",
            "kind": "bonus",
            "credit": {"on": "activity.completed", "when": '(activity.kind ?? "") == "meeting"'},
            "rates": {"method": "marginal", "over": "count",
                      "tiers": [{"from": 0, "rate": "500%"}, {"from": 1, "rate": "700%"}]},
        },
        {"id": "cash", "credit": {"on": "payment.received"}},
    )  # fmt: skip
    meeting = CreditEvent(
        "activity:1", CreditOn.ACTIVITY_COMPLETED, "", at("2025-01-05"), None, None, "ana",
        fields={"activity": {"kind": "meeting"}},
    )  # fmt: skip
    note = replace(meeting, key="activity:2", fields={"activity": {"kind": "note"}})
    more = replace(meeting, key="activity:3", instant=meeting.instant + timedelta(days=1))
    payment = replace(won("A", "2025-01-07", "300"), key="payment:1", on=CreditOn.PAYMENT_RECEIVED)
    found = sheet(of, meeting, note, more, payment)
    assert lines(found, "2025-01") == amounts(("credit", "5"), ("credit", "7"), ("credit", "30"))


def test_a_manager_is_credited_with_a_credit_note_at_most_as_far_as_it_goes() -> None:
    of = plan({"kind": "override", "credit": {"on": "deal.won", "to": "manager"}})
    event = won(
        "A", "2025-01-10", "-80", overlays=(("sam", "100%"),),
        managers=(("ana", "max"), ("sam", "max")),
    )  # fmt: skip
    assigned = [Assignment("max", "p", DayRange())]
    found = credits_for(event, of, assigned, RateBook())
    assert [(c.payee, c.original) for c in found.credits] == [("max", Decimal(-80))]
    nobody = credits_for(replace(event, managers=()), of, assigned, RateBook())
    assert (nobody.credits, nobody.exceptions, nobody.unassigned) == ((), (), ())


def test_an_ended_stay_counts_only_where_a_clawback_asks_for_it() -> None:
    gone = won("A", "2025-01-10", "800", cancelled_at=at("2025-03-01"))
    assert credited(plan({}), gone) == []
    assert len(credited(plan({"clawback": {"window_days": 9, "basis": "line"}}), gone)) == 1


def test_more_is_capped_by_attainment_after_several_deals() -> None:
    of = plan({"quota": QUOTA, "cap": {"attainment": "50%"},
               "rates": {"method": "flat", "rate": "1x"}})  # fmt: skip
    found = sheet(
        of, won("A", "2025-01-10", "333.33"), won("B", "2025-01-11", "333.33"),
        won("C", "2025-01-12", "100"), won("D", "2025-01-13", "-500"), quotas=QUOTAS,
    )  # fmt: skip
    assert lines(found, "2025-01") == amounts(
        ("credit", "400.00"), ("credit", "400.00"), ("attainment_cap", "-200.00"),
        ("credit", "120.00"), ("attainment_cap", "-120.00"),
        ("credit", "-600.00"), ("attainment_cap", "320.00"),
    )  # fmt: skip
    assert found.statements[0].own == 320


def all_orders(of: Plan, events: Sequence[CreditEvent]) -> set[str]:
    turned = [list(events), list(reversed(events)), [*events[1:], events[0]]]
    return {sheet(of, *order).statements[0].hash for order in turned}


def test_the_order_of_arrival_changes_nothing_with_everything_in_one_plan() -> None:
    of = plan(
        {
            "release": HALF_NOW,
            "clawback": {"window_days": 100, "basis": "recompute"},
            "cap": {"amount": "90", "per": "measure"},
            "floor": {"amount": "20"},
        },
        cap={"amount": "80", "per": "statement", "excess": "carry"},
        draw={"amount": "60", "recoverable": True},
    )
    events = [
        won("A", "2025-01-10", "500", cancelled_at=at("2025-01-12")),
        won("B", "2025-01-11", "600", cash=(paid("P", "2025-01-20", "300"),)),
        won("C", "2025-01-13", "700"),
    ]
    assert len(all_orders(of, events)) == 1
