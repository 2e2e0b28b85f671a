"""Histories for the whole plan language: cash, activities, scores, KPIs, budgets, managers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from shared.clock import to_text
from shared.events.targets import KpiData, ObjectiveScoreData
from tests.support.histories import (
    AMOUNTS,
    DEALS,
    OWNERS,
    PEOPLE,
    SINCE,
    TIES,
    Decided,
    Said,
    changed,
    company,
    day_at,
    days,
    identity_moved,
    invoice,
    merged,
    removed,
    stages_changed,
    stories,
)

INVOICES = ("crm:t:i1", "crm:t:i2")
ACTIVITIES = ("crm:t:a1", "crm:t:a2")


def _component(name: str, credit: dict[str, Any], **terms: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"id": name, "kind": "commission", "credit": credit, **terms}


def _flat(rate: str) -> dict[str, str]:
    return {"method": "flat", "rate": rate}


WON = {"on": "deal.won", "to": "owner"}
WIDE: dict[str, Any] = {
    "id": "wide",
    "currency": "USD",
    "time_zone": "UTC",
    "effective": {"from": "2025-11-01"},
    "period": "month",
    "draw": {"amount": "500", "recoverable": True, "from": "2025-11", "periods": 3},
    "components": [
        _component(
            "deals",
            {"on": "deal.won", "to": "splits"},
            rates=_flat("5%"),
            release=[{"at": "booking", "share": "40%"}, {"at": "payment", "share": "60%"}],
        ),
        _component(
            "kept",
            WON,
            rates=_flat("2%"),
            clawback={"window_days": 30, "method": "linear", "basis": "line"},
        ),
        _component("cash", {"on": "payment.received", "to": "owner"}, rates=_flat("1%")),
        _component(
            "calls",
            {
                "on": "activity.completed",
                "to": "owner",
                "when": '(activity.kind ?? "") == "call" and (deal.type ?? "new") == "new"',
            },
            kind="spiff",
            pays={"each": 10, "first": 2},
        ),
        _component("rush", WON, kind="spiff", pays={"each": 100, "budget": 250}),
        _component(
            "goals",
            {"on": "objective.scored"},
            kind="objective",
            objectives=[{"id": "o1", "weight": "60%"}, {"id": "o2", "weight": "40%"}],
        ),
        _component(
            "gated",
            WON,
            rates=_flat("1%"),
            gate={"kpi": "csat", "at_least": 4, "otherwise": "hold"},
            floor={"amount": "50", "per": "statement"},
        ),
        _component("team", {"on": "deal.won", "to": "manager"}, kind="override", rates=_flat("1%")),
    ],
}
LATER: dict[str, Any] = {
    **WIDE,
    "effective": {"from": "2025-12-15"},
    "components": [
        {**part, "pays": {"each": 100, "budget": 400}} if part["id"] == "rush" else part
        for part in WIDE["components"]
    ],
}


def _assigned(payee: str, **more: Any) -> Decided:  # noqa: ANN401 - fields of the body
    document = {"payee": payee, "plan": "wide", "from": "2025-11-10", "target_pay": "900", **more}
    return Decided("assignment", f"{payee}-wide", document)


DECISIONS: list[Sequence[Decided]] = [
    [Decided("plan", "wide", WIDE), _assigned("ana"), _assigned("ben", ramp=["50%"])],
    [_assigned("cem")],
]
LATER_DECISIONS = (
    Decided("plan", "wide", LATER, number=2),
    _assigned("ana", leave=[{"from": "2025-12-01", "to": "2025-12-07"}]),
    _assigned("cem", to="2025-12-31"),
)


@st.composite
def decisions(draw: st.DrawFn) -> list[Sequence[Decided]]:
    """The plan and who is on it, sometimes late; some of it changes."""
    return [*DECISIONS, *([d] for d in LATER_DECISIONS if draw(st.booleans()))]


@st.composite
def paid(draw: st.DrawFn) -> list[Said]:
    """A payment of a deal or of an invoice, which it may name before anybody else does."""
    record = draw(st.sampled_from(["crm:t:p1", "crm:t:p2"]))
    names = draw(
        st.sampled_from(
            [{"deal": deal} for deal in DEALS] + [{"invoice": name} for name in INVOICES]
        )
    )
    fields = {
        "amount": draw(AMOUNTS),
        "currency": "USD",
        "received_at": to_text(day_at(draw(days()))),
        "deal": None,
        **names,
    }
    return [Said("payment", record, draw(days()), fields, tie=draw(TIES))]


@st.composite
def called(draw: st.DrawFn) -> list[Said]:
    """A completed activity, of a deal or of none; said again, it may be another's."""
    fields = {
        "kind": draw(st.sampled_from(["call", "call", "meeting"])),
        "owner": draw(st.sampled_from(OWNERS)),
        "completed_at": to_text(day_at(draw(days()))),
        "deal": draw(st.sampled_from([*DEALS, None, None])),
    }
    return [
        Said("activity", draw(st.sampled_from(ACTIVITIES)), draw(days()), fields, tie=draw(TIES))
    ]


@st.composite
def scored(draw: st.DrawFn) -> list[ObjectiveScoreData]:
    """A score; its revision tells what it is, the third that it is gone."""
    revision = draw(st.integers(1, 4))
    score = ObjectiveScoreData(
        objective="o1",
        person=draw(st.sampled_from(PEOPLE)),
        period=draw(st.sampled_from(["2025-11", "2025-12"])),
        score=f"0.{revision}",
        scored_at="2025-12-30T12:00:00.000Z",
        revision=revision,
        deleted=revision == 3,
    )
    return [score]


@st.composite
def left(draw: st.DrawFn) -> list[Said]:
    """A deal is won by somebody, and lost some days later."""
    deal, day = draw(st.sampled_from(DEALS)), draw(st.integers(1, 30))
    won = {"stage": "won", "owner": draw(st.sampled_from(PEOPLE)), "amount": draw(AMOUNTS)}
    return [
        Said("deal", deal, day, {**won, "currency": "USD"}, tie=draw(TIES)),
        Said("deal", deal, day + draw(st.integers(2, 20)), {"stage": "lost"}, tie=draw(TIES)),
    ]


@st.composite
def measured(draw: st.DrawFn) -> list[KpiData]:
    """A KPI's figure; its revision tells what it is."""
    revision = draw(st.integers(1, 4))
    fact = KpiData(
        kpi="csat",
        person=draw(st.sampled_from(PEOPLE)),
        day=draw(st.sampled_from(["2025-11-30", "2025-12-31"])),
        value=str(2 + revision),
        revision=revision,
        deleted=revision == 4,
    )
    return [fact]


@st.composite
def reports_to(draw: st.DrawFn) -> list[Said]:
    """Somebody has another manager from a day on."""
    person, manager = draw(st.permutations(PEOPLE))[:2]
    day = draw(st.sampled_from([SINCE, "2025-12-05"]))
    fields = {"effective_from": day, "manager": draw(st.sampled_from([manager, manager, ""]))}
    return [Said("person", person, draw(days()), fields, tie=draw(TIES))]


FOUNDING = (
    *company(),
    Said("person", "ana", 0, {"effective_from": SINCE, "manager": "cem"}, tie=1),
)
REMOVABLE = [
    *(("deal", deal) for deal in DEALS),
    *(("invoice", name) for name in INVOICES),
    *(("activity", name) for name in ACTIVITIES),
    ("payment", "crm:t:p1"),
]
EPISODES = st.one_of(
    changed(),
    changed(),
    merged(),
    invoice(),
    removed(REMOVABLE),
    paid(),
    paid(),
    paid(),
    called(),
    called(),
    scored(),
    scored(),
    left(),
    left(),
    measured(),
    reports_to(),
    stages_changed(),
    identity_moved(),
)
STORIES = stories(FOUNDING, EPISODES, decisions())
