"""Histories small enough to compute by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.simulator import reference
from tests.simulator.history import (
    Assignment,
    Change,
    Deal,
    History,
    Person,
    Quota,
    RateRow,
    Team,
    Value,
)
from tests.simulator.worktime import to_ms

TIERS = [("0%", "4%"), ("50%", "8%"), ("100%", "12%"), ("125%", "15%")]


def ms(text: str) -> int:
    """The instant `2025-01-15T12:00` in UTC; a bare day is its noon."""
    instant = datetime.fromisoformat(text if "T" in text else text + "T12:00")
    return to_ms(instant.replace(tzinfo=UTC))


def person(name: str, team: str = "team") -> Person:
    """A rep whose identity in the CRM is `crm:1:<name>`."""
    return Person(name, name, "", "rep", team, (), f"crm:1:{name}", "UTC", "USD")


def history(*deals: Deal, plan: dict[str, Any] | None = None, quota: str = "200000") -> History:
    """Ana and ben of one team, cy of another; monthly quotas of 2025; a plan for all of them."""
    people = [person("ana"), person("ben"), person("cy", "other")]
    found = History(2025, ms("2026-01-02"), reference.calendar(2025), people)
    found.teams = [Team("team", "Team", "boss"), Team("other", "Other", "boss")]
    found.stage_maps = reference.stage_maps(2025)
    found.deals = list(deals)
    for who in ("ana", "ben", "cy"):
        for month in range(1, 13):
            period = f"2025-{month:02d}"
            found.quotas.append(
                Quota(f"{who}-{period}", who, None, "bookings", period, "", "", quota, "USD")
            )
        found.assignments.append(Assignment(who, who, "plan", "2025-01-01", None, "USD"))
    found.plans = {"plan": plan or marginal()}
    found.rates = [RateRow("org", "EUR", "USD", "2024-12-01", "1.1")]
    return found


def plan(component: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A plan of one component."""
    document: dict[str, Any] = {
        "id": "plan",
        "currency": "USD",
        "time_zone": "America/New_York",
        "effective": {"from": "2025-01-01"},
        "period": "month",
        "rounding": {"mode": "half_up", "at": "line"},
        "components": [component],
    }
    return document | more


def component(rates: dict[str, Any], *, to: str = "owner", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A component with a monthly measure."""
    credit = {"on": "deal.won", "amount": "deal.amount", "to": to}
    quota = {"measure": "bookings", "period": "month"}
    return {
        "id": "c",
        "kind": "commission",
        "credit": credit,
        "quota": quota,
        "rates": rates,
    } | more


def tiered(method: str) -> dict[str, Any]:
    """The four tiers over attainment that most examples use."""
    tiers = [{"from": at, "rate": rate} for at, rate in TIERS]
    return {"method": method, "over": "attainment", "tiers": tiers}


def marginal() -> dict[str, Any]:
    """The base plan of the examples."""
    return plan(component(tiered("marginal")))


def deal(name: str, won: str | None, amount: str, owner: str = "ana", **more: Value) -> Deal:
    """A deal created in November, won at an instant (None: open). more: stated at its creation."""
    created = ms("2024-11-10")
    fields: dict[str, Value] = {
        "stage": "qualifiedtobuy",
        "amount": amount,
        "currency": "USD",
        "close_date": "2025-02-01",
        "owner": f"crm:1:{owner}",
        "created_at": created,
    }
    changes = [Change(created, field, value) for field, value in (fields | more).items()]
    if won is not None:
        changes.append(Change(ms(won), "stage", "closedwon"))
    return Deal(f"crm:1:{name}", changes)
