"""Who the company is, as calls to the product's public interfaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tests.simulator.company import Company
from tests.simulator.history import History, Person, StageRow
from tests.simulator.people import PORTAL, TENANT
from tests.simulator.reference import PIPELINE

Service = Literal["ingest", "metrics", "commissions", "notifications"]

SOURCE = f"hubspot-{PORTAL}"
HOOK_PATH = f"/v1/hooks/{SOURCE}"
PUBLIC_URL = f"https://attain.acme.example{HOOK_PATH}"
"""What HubSpot calls and signs; the product is told so, since a proxy stands in between."""

RATES_PER_CALL = 500


@dataclass(frozen=True, slots=True)
class SetupCall:
    """One HTTP call that sets the company up. body: JSON."""

    method: Literal["PUT", "POST"]
    service: Service
    path: str
    body: dict[str, Any]


def setup_calls(
    company: Company, *, secret: str, public_url: str = PUBLIC_URL
) -> Iterator[SetupCall]:
    """All of it, in an order in which everything that is named exists already."""
    history = company.history
    yield from _organisation(history)
    source = {
        "adapter": "hubspot",
        "tenant": PORTAL,
        "secret": secret,
        "public_url": public_url,
    }
    yield SetupCall("PUT", "ingest", f"/v1/sources/{SOURCE}", source)
    for person in history.people:
        for body in _person(person, f"{history.year - 1}-01-01"):
            yield SetupCall("PUT", "ingest", f"/v1/people/{person.id}", body)
    for quota in history.quotas:
        names = ("person", "team", "measure", "period", "amount", "currency")
        body = {name: getattr(quota, name) for name in names}
        yield SetupCall("PUT", "metrics", f"/v1/quotas/{quota.id}", body)
    for plan, document in history.plans.items():
        yield SetupCall("PUT", "commissions", f"/v1/plans/{plan}/versions/1", document)
    for row in history.assignments:
        body = {
            "payee": row.payee,
            "plan": row.plan,
            "from": row.start,
            "to": row.to,
            "payout_currency": row.payout_currency,
        }
        yield SetupCall("PUT", "commissions", f"/v1/assignments/{row.id}", body)


def _organisation(history: History) -> Iterator[SetupCall]:
    since = f"{history.year - 1}-01-01"
    body: dict[str, Any]
    calendar = asdict(history.calendar) | {"effective_from": since}
    calendar["weekdays"] = list(history.calendar.weekdays)
    yield SetupCall("PUT", "ingest", "/v1/calendars/org", calendar)
    for team in history.teams:
        body = {"effective_from": since, "name": team.name, "manager": team.manager}
        yield SetupCall("PUT", "ingest", f"/v1/teams/{team.id}", body)
    rows = [
        {"table": r.table, "from": r.source, "to": r.target, "day": r.day, "rate": r.rate}
        for r in history.rates
    ]
    for start in range(0, len(rows), RATES_PER_CALL):
        body = {"rows": rows[start : start + RATES_PER_CALL]}
        yield SetupCall("POST", "ingest", "/v1/rates", body)
    for stage_map in history.stage_maps:
        stages = {name: _stage(row) for name, row in stage_map.stages.items()}
        body = {"effective_from": stage_map.effective_from, "stages": stages}
        yield SetupCall("PUT", "ingest", f"/v1/stage-maps/{TENANT}:{PIPELINE}", body)


def _stage(row: StageRow) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if value is not None}


def _person(person: Person, since: str) -> Iterator[dict[str, Any]]:
    first: dict[str, Any] = {
        "effective_from": since,
        "name": person.name,
        "email": person.email,
        "role": person.role,
        "timezone": person.time_zone,
        "currency": person.currency,
        "active": True,
        "hired_on": since,
        "manager": person.reports[0][1] if person.reports else "",
    }
    if person.team is not None:
        first["teams"] = {person.team: True}
    if person.identity is not None:
        first["identities"] = {person.identity: True}
    yield first
    for day, boss in person.reports[1:]:
        yield {"effective_from": day, "manager": boss}
    if person.left_on is not None:
        yield {"effective_from": person.left_on, "active": False}
