"""The year so far of the company that security is tested on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from shared.clock import to_text
from shared.http.auth import Role
from tests.security.company import (
    ADMIN,
    AUDITOR,
    COMP_ADMIN,
    CRM,
    EVERYBODY,
    HOOK_URL,
    MANAGER_OF,
    PEOPLE,
    SETTLED_TIMEOUT_S,
    SOURCE,
    TEAM_OF,
    WON_DAYS_AGO,
    Caller,
    Company,
    machine,
)
from tests.support.facts import STAGES

BOOKKEEPER = Caller("bookkeeper", (Role.FINANCE,), "zzbook", sees=EVERYBODY)
"""Who asked for what is to be decided; none of those whose access is tried."""


def ago(days: float) -> datetime:
    """That many days before today's noon."""
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    return noon - timedelta(days=days)


def this_month() -> str:
    """Label of the month in which deals were won."""
    return ago(WON_DAYS_AGO).strftime("%Y-%m")


def this_quarter() -> str:
    """The present quarter's label."""
    now = datetime.now(UTC)
    return f"{now.year}-Q{(now.month + 2) // 3}"


async def fill(company: Company) -> None:
    """Its year so far, settled."""
    await _reference(company)
    await _expect(
        await company.call(
            ADMIN, "metrics", "PUT", "/v1/clock", json={"now": to_text(datetime.now(UTC))}
        )
    )
    for person in PEOPLE:
        await _seller(company, person)
    await _expect(
        await company.call(
            COMP_ADMIN, "metrics", "PUT", "/v1/standards/standard-ae", json=standard()
        )
    )
    events = [event for n, person in enumerate(PEOPLE) for event in _deals(n, person)]
    await _expect(
        await company.call(
            machine("events:write"),
            "ingest",
            "POST",
            "/v1/events",
            headers={"Content-Type": "application/cloudevents-batch+json"},
            content=json.dumps(events),
        )
    )
    await _rejects_and_dead_letters(company)
    await settled(company)
    await _name_what_there_is(company)


def correction(what: str, person: str) -> dict[str, Any]:
    """An adjustment, an override or a dispute of the person's pay."""
    of_all = {"payee": person, "plan": f"plan-{person}"}
    month = {**of_all, "period": this_month()}
    days = {"from": "2025-01-01", "until": "2025-12-31"}
    return {
        "adjustment": {**month, "amount": "12.5", "reason": "seen in a test"},
        "override": {**of_all, "component": "new", "rate": "5%", **days, "reason": "as agreed"},
        "dispute": {**month, "text": "half is missing"},
    }[what]


async def _correct(company: Company) -> None:
    """Everybody's pay is disputed, and something else proposed; nobody has decided on it."""
    for person in PEOPLE:
        for what in ("adjustment", "override", "dispute"):
            answer = await company.call(
                BOOKKEEPER,
                "commissions",
                "POST",
                f"/v1/{what}s",
                json=correction(what, person),
                headers={"Idempotency-Key": f"{what}-{person}"},
            )
            await _expect(answer)
            company.ids[f"{what}-{person}"] = answer.json()["id"]


async def _name_what_there_is(company: Company) -> None:
    """Ids that the services made, by what they are."""
    await _correct(company)
    alerts = (await company.call(ADMIN, "notifications", "GET", "/v1/alerts")).json()["data"]
    company.ids |= {f"alert-{alert['person']}": alert["id"] for alert in alerts}
    rejects = (await company.call(ADMIN, "ingest", "GET", "/v1/rejects")).json()["data"]
    company.ids["reject"] = rejects[0]["id"]


async def _reference(company: Company) -> None:
    since = {"effective_from": "2025-01-01"}
    calendar = {"time_zone": "UTC", "currency": "USD"}
    stages = {"stages": {name: dict(stage) for name, stage in STAGES.items()}}
    stated: list[tuple[str, dict[str, Any]]] = [
        ("calendars/org", {**since, **calendar}),
        (f"stage-maps/{CRM}:default", {**since, **stages}),
        ("teams/emea", {**since, "name": "EMEA", "manager": "zzmia"}),
        ("teams/us", {**since, "name": "US", "manager": "zzboss"}),
        ("people/zzboss", {**since, "name": "Bo Boss", "email": "zzboss@canary.example"}),
    ]
    for person, manager in MANAGER_OF.items():
        team = TEAM_OF[person]
        stated.append(
            (
                f"people/{person}",
                {
                    **since,
                    "name": f"Name of {person}",
                    "email": f"{person}@canary.example",
                    "manager": manager,
                    "teams": {team: True} if team else {},
                    "identities": {f"{CRM}:u-{person}": True},
                },
            )
        )
    for path, body in stated:
        await _expect(await company.call(ADMIN, "ingest", "PUT", f"/v1/{path}", json=body))
    source = {
        "adapter": "hubspot",
        "tenant": "4821",
        "secret": company.canaries.hook_secret,
        "public_url": HOOK_URL,
    }
    await _expect(await company.call(ADMIN, "ingest", "PUT", f"/v1/sources/{SOURCE}", json=source))


def plan(person: str) -> dict[str, Any]:
    """The plan that only this person is on."""
    return {
        "id": f"plan-{person}",
        "name": f"Plan of {person}",
        "currency": "USD",
        "time_zone": "UTC",
        "effective": {"from": "2025-01-01"},
        "period": "month",
        "components": [
            {
                "id": "new",
                "kind": "commission",
                "credit": {"on": "deal.won", "to": "owner"},
                "rates": {"method": "flat", "rate": "10%"},
            }
        ],
    }


def assignment(person: str) -> dict[str, Any]:
    """The person is on their plan."""
    return {"payee": person, "plan": f"plan-{person}", "from": "2025-01-01"}


def quota(person: str) -> dict[str, Any]:
    """Far more than anybody sells."""
    return {
        "person": person,
        "measure": "bookings",
        "period": this_quarter(),
        "amount": "9000000",
        "currency": "USD",
    }


def objective(person: str) -> dict[str, Any]:
    """Something to reach this month."""
    return {"person": person, "period": this_month(), "title": "Grow", "target": "two more"}


def goal(person: str) -> dict[str, Any]:
    """An average deal that nobody has."""
    year = this_month()[:4]
    return {
        "title": "Larger deals",
        "kpi": "K12",
        "target": "5000000",
        "start": f"{year}-01-01",
        "end": f"{int(year) + 1}-01-01",
        "person": person,
    }


def standard() -> dict[str, Any]:
    """What is expected of everybody of a role."""
    return {
        "title": "Calls",
        "role": "ae",
        "kpi": "K24",
        "limit": "10",
        "period": "month",
        "from": "2025-01-01",
    }


async def _seller(company: Company, person: str) -> None:
    choice = {"channels": [{"channel": "slack", "address": "U0MEMBER"}, {"channel": "email"}]}
    for service, path, body in (
        ("commissions", f"/v1/plans/plan-{person}/versions/1", plan(person)),
        ("commissions", f"/v1/assignments/assign-{person}", assignment(person)),
        ("metrics", f"/v1/quotas/quota-{person}", quota(person)),
        ("metrics", f"/v1/objectives/objective-{person}", objective(person)),
        ("metrics", f"/v1/goals/goal-{person}", goal(person)),
    ):
        await _expect(await company.call(COMP_ADMIN, service, "PUT", path, json=body))
    subscription = f"/v1/subscriptions/{person}"
    await _expect(await company.call(ADMIN, "notifications", "PUT", subscription, json=choice))


def won_deal(person: str) -> str:
    """The deal that the person won."""
    return f"{CRM}:won-{person}"


def open_deal(person: str) -> str:
    """The deal on which the person has done nothing for long."""
    return f"{CRM}:open-{person}"


def _deals(number: int, person: str) -> Iterable[dict[str, Any]]:
    first = {
        "owner": f"{CRM}:u-{person}",
        "amount": str(10_000 + 1_111 * number),
        "currency": "USD",
        "stage": "proposal",
        "name": f"Deal of {person}",
    }
    yield _event(won_deal(person), ago(60), first)
    yield _event(won_deal(person), ago(WON_DAYS_AGO), {"stage": "won"})
    yield _event(open_deal(person), ago(90), first)
    yield _event(
        f"act-{person}",
        ago(2),
        {
            "kind": "meeting",
            "owner": f"{CRM}:u-{person}",
            "deal": won_deal(person),
            "completed_at": to_text(ago(2)),
        },
        kind="activity",
    )


def _event(
    record: str, at: datetime, fields: Mapping[str, Any], kind: str = "deal"
) -> dict[str, Any]:
    record_id = record if record.startswith(CRM) else f"{CRM}:{record}"
    return {
        "specversion": "1.0",
        "id": f"{record_id}-{to_text(at)}",
        "source": "/crm/test",
        "type": f"attain.{kind}.v1",
        "subject": f"{kind}/{record_id}",
        "time": to_text(at),
        "data": dict(fields),
    }


async def _rejects_and_dead_letters(company: Company) -> None:
    unreadable = {
        "eventId": 1,
        "subscriptionId": 7,
        "portalId": 4821,
        "appId": 3,
        "occurredAt": "not a time",
        "subscriptionType": "deal.propertyChange",
        "attemptNumber": 0,
        "objectId": 5,
        "propertyName": "amount",
        "propertyValue": "reject-canary@canary.example",
    }
    await _expect(await company.hook(json.dumps([unreadable]).encode()))


async def settled(company: Company) -> None:
    """Wait until every service shows everybody's numbers."""
    month = this_month()
    looks: Sequence[tuple[str, str, dict[str, str]]] = (
        ("metrics", "/v1/deals", {}),
        ("metrics", "/v1/episodes", {"state": "open"}),
        ("metrics", "/v1/quotas", {}),
        ("metrics", "/v1/kpis/K24/records", {"from": "2025-01-01", "to": "2035-01-01"}),
        ("commissions", "/v1/statements", {"period": month}),
        ("commissions", "/v1/ledger/postings", {"period": month}),
        ("notifications", "/v1/alerts", {}),
    )
    async with asyncio.timeout(SETTLED_TIMEOUT_S):
        for service, path, params in looks:
            while True:
                answer = await company.call(AUDITOR, service, "GET", path, params=params)
                if markers(answer.text) >= EVERYBODY:
                    break
                await asyncio.sleep(0.1)


def markers(text: str) -> frozenset[str]:
    """The people whose numbers show in an answer."""
    return frozenset(person for person in PEOPLE if person in text)


async def _expect(answer: httpx.Response) -> None:
    await asyncio.sleep(0)
    assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.text}"
