from __future__ import annotations

from copy import deepcopy
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.commissions.domain.parse import Known, parse_plan, plan_hash
from services.commissions.domain.plan import CapScope, Plan, PlanInvalid, RoundAt
from tests.unit.commissions.history import load_yaml

FULL = load_yaml("""
id: ae-2026
name: Account executive 2026
currency: USD
time_zone: America/New_York
effective: {from: 2026-01-01}
period: month
rounding: {mode: half_even, at: line}
credit_date: close_date
reopen_grace: 36h
fx:
  credit: {table: plan-2026, date: credit}
  payout: {table: ecb, date: period_end}
cap: {amount: 250000, per: year, excess: lost}
max_recovery_pct: 50%
components:
  - id: new-business
    kind: commission
    credit:
      on: deal.won
      when: deal.type == "new" and deal.amount > 0
      amount: deal.amount
      to: splits
    quota: {measure: new_business, period: quarter}
    rates:
      method: marginal
      over: attainment
      tiers:
        - {from: 0%, rate: 4%}
        - {from: 50%, rate: 8%}
    threshold: {attainment: 60%, pays: first_dollar}
    cap: {amount: 30000, per: measure, excess: lost}
    effective: {from: 2026-01-01, to: 2026-06-30}
""")


def document(**changes: object) -> dict[str, Any]:
    return {**deepcopy(FULL), **changes}


def component(**changes: object) -> dict[str, Any]:
    return document(components=[deepcopy(FULL["components"][0]) | changes])


def problems(doc: dict[str, Any], known: Known | None = None) -> dict[str, str]:
    with pytest.raises(PlanInvalid) as caught:
        parse_plan(doc, known)
    return {problem.pointer: problem.message for problem in caught.value.problems}


def test_a_whole_document_is_read() -> None:
    plan = parse_plan(FULL)
    part = plan.component("new-business")
    assert plan.reopen_grace == timedelta(hours=36)
    assert plan.max_recovery == Decimal("0.5")
    assert plan.rounding.mode == "half_even"
    assert plan.rounding.at is RoundAt.LINE
    assert part.rates is not None
    assert [tier.lower for tier in part.rates.tiers] == [Decimal(0), Decimal("0.5")]
    assert part.cap is not None
    assert part.cap.per is CapScope.MEASURE
    assert date(2026, 6, 30) in part.effective
    assert date(2026, 7, 1) not in part.effective


def test_the_hash_follows_the_meaning() -> None:
    turned = dict(reversed(list(FULL.items())))
    assert plan_hash(turned) == plan_hash(FULL)
    assert plan_hash(document(name="Other")) != plan_hash(FULL)
    dated = document(effective={"from": date(2026, 1, 1)}, cap=FULL["cap"] | {"amount": "250000"})
    assert plan_hash(dated) == plan_hash(FULL)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"draw": {"amount": 4000}}, "/draw/recoverable"),
        ({"draw": {"amount": 4000, "recoverable": "yes"}}, "/draw/recoverable"),
        ({"draw": {"amount": 4000, "recoverable": True, "from": "soon"}}, "/draw/from"),
        ({"draw": {"amount": 4000, "recoverable": True, "periods": 0}}, "/draw/periods"),
        ({"draw": {"amount": -1, "recoverable": True}}, "/draw/amount"),
        ({"proration": "weeks"}, "/proration"),
        ({"cap": {"amount": 1, "per": "year", "excess": "kept"}}, "/cap/excess"),
        ({"cap": {"attainment": "120%"}}, "/cap/attainment"),
        ({"fx": {"payout": {"table": "ecb", "date": "pay"}}}, "/fx/payout/date"),
        ({"perod": "month"}, "/perod"),
        ({"time_zone": "Mars/Base"}, "/time_zone"),
        ({"time_zone": "../../etc/passwd"}, "/time_zone"),
        ({"currency": "dollars"}, "/currency"),
        ({"period": "week"}, "/period"),
        ({"effective": {}}, "/effective/from"),
        ({"effective": {"from": "2026-02-30"}}, "/effective/from"),
        ({"effective": {"from": "2026-02-01", "to": "2026-01-01"}}, "/effective/to"),
        ({"max_recovery_pct": "150%"}, "/max_recovery_pct"),
        ({"max_recovery_pct": 0.5}, "/max_recovery_pct"),
        ({"cap": {"amount": 2.5, "per": "year"}}, "/cap/amount"),
        ({"cap": {"amount": -1, "per": "year"}}, "/cap/amount"),
        ({"cap": {"amount": 1}}, "/cap/per"),
        ({"cap": {"amount": 1, "per": "deal"}}, "/cap/per"),
        ({"reopen_grace": "soon"}, "/reopen_grace"),
        ({"components": []}, "/components"),
        ({"components": ["x"]}, "/components/0"),
        ({"rounding": "half_up"}, "/rounding"),
    ],
)
def test_a_plan_is_refused_at_its_pointer(changes: dict[str, object], pointer: str) -> None:
    assert pointer in problems(document(**changes))


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"kind": "spiff"}, "rates"),
        ({"kind": "prize"}, "kind"),
        ({"kind": "override"}, "credit/to"),
        ({"kind": "objective"}, "credit/on"),
        ({"pays": {"each": 500}}, "pays"),
        ({"rates": None}, "rates"),
        ({"kind": "spiff", "rates": None, "pays": {"each": 5, "first": 0}}, "pays/first"),
        ({"kind": "spiff", "rates": None, "pays": {"budget": 5}}, "pays/each"),
        ({"kind": "spiff", "rates": None, "pays": {"each": 5}}, "quota"),
        ({"floor": {"amount": 3000, "per": "measure"}}, "floor/per"),
        ({"floor": 3000}, "floor"),
        ({"release": []}, "release"),
        ({"release": [{"at": "booking", "share": "40%"}]}, "release"),
        ({"release": [{"at": "delivery", "share": "100%"}]}, "release/0/at"),
        ({"clawback": {"window_days": 0, "basis": "line"}}, "clawback/window_days"),
        ({"clawback": {"window_days": 120}}, "clawback/basis"),
        ({"clawback": {"window_days": 9, "basis": "line", "method": "steps"}}, "clawback/method"),
        ({"gate": {"kpi": "csat", "otherwise": "hold"}}, "gate/at_least"),
        ({"gate": {"kpi": "csat", "at_least": 4}}, "gate/otherwise"),
        ({"objectives": [{"id": "o", "weight": "90%"}]}, "objectives"),
        ({"cap": {"attainment": "0%"}}, "cap/attainment"),
        ({"cap": {"attainment": "120%", "amount": 5}}, "cap/amount"),
        ({"cap": {"amount": 1, "per": "deal", "excess": "carry"}}, "cap/excess"),
        ({"credit": {"on": "payment.recieved"}}, "credit/on"),
        ({"credit": {"on": "objective.scored"}}, "credit/on"),
        ({"credit": {"on": "activity.completed", "to": "splits"}}, "credit/to"),
        ({"credit": {"on": "deal.won", "when": "deal.amout > 0"}}, "credit/when"),
        ({"credit": {"on": "deal.won", "amount": "deal.type"}}, "credit/amount"),
        ({"rates": {"method": "curve", "over": "attainment", "points": []}}, "rates/points"),
        ({"rates": {"method": "curve", "over": "amount", "points": []}}, "rates/over"),
        ({"rates": {"method": "flat", "rate": "6%", "over": "amount"}}, "rates/over"),
        ({"rates": {"method": "flat", "rate": 0.06}}, "rates/rate"),
        ({"quota": None}, "quota"),
        ({"id": "no spaces"}, "id"),
    ],
)
def test_a_component_is_refused_at_its_pointer(changes: dict[str, object], pointer: str) -> None:
    assert f"/components/0/{pointer}" in problems(component(**changes))


@pytest.mark.parametrize(
    ("tiers", "pointer"),
    [
        ([{"from": "10%", "rate": "4%"}], "0/from"),
        ([{"from": "0%", "rate": "4%"}, {"from": "0%", "rate": "5%"}], "1/from"),
        ([{"from": "0%", "rate": "4%"}, {"from": 50, "rate": "5%"}], "1/from"),
        ([{"from": "0%", "rate": "1x"}, {"from": "50%", "rate": "8%"}], ""),
        ([{"from": "0%", "rate": "x"}], "0/rate"),
        ([{"from": "0%", "rate": "4%", "upto": "50%"}], "0/upto"),
        ([], ""),
    ],
)
def test_a_table_is_refused_at_its_pointer(tiers: list[object], pointer: str) -> None:
    doc = component(rates={"method": "marginal", "over": "attainment", "tiers": tiers})
    assert f"/components/0/rates/tiers/{pointer}".rstrip("/") in problems(doc)


def test_all_problems_are_reported_at_once() -> None:
    found = problems(component(kind="prize", floor={}) | {"draw": {}, "time_zone": "X/Y"})
    assert set(found) == {
        "/draw/amount",
        "/draw/recoverable",
        "/time_zone",
        "/components/0/kind",
        "/components/0/floor/amount",
    }


def test_measures_and_tables_must_exist_where_they_are_known() -> None:
    known = Known(frozenset({"other"}), frozenset({"ecb"}))
    assert set(problems(FULL, known)) == {"/fx/credit/table", "/components/0/quota/measure"}


def test_components_have_ids_of_their_own() -> None:
    assert "/components/1/id" in problems(document(components=FULL["components"] * 2))


def test_caps_over_several_statements_need_rounded_lines() -> None:
    assert "/components/0/cap/per" in problems(document(rounding={"at": "statement"}))


def test_versions_follow_one_another() -> None:
    later = parse_plan(document(effective={"from": "2026-07-01"}))
    plan = Plan("ae-2026", (later, parse_plan(FULL)))
    assert plan.version_on(date(2025, 12, 31)) is None
    first, last = plan.version_on(date(2026, 6, 30)), plan.version_on(date(2026, 7, 1))
    assert first is not None
    assert first.hash == plan_hash(FULL)
    assert last is later


def test_a_version_keeps_the_plans_units() -> None:
    other = parse_plan(document(currency="EUR", period="quarter", effective={"from": "2026-07-01"}))
    with pytest.raises(PlanInvalid) as caught:
        Plan("ae-2026", (parse_plan(FULL), other))
    assert [p.pointer for p in caught.value.problems] == ["/currency", "/period"]
