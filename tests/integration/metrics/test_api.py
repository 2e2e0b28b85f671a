"""Who sees what on every route, and the manners of what is written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import pytest_asyncio

from shared.clock import to_text
from shared.events.catalogue import METRICS_JOURNAL, METRICS_TARGETS
from shared.events.envelope import encode_data
from shared.http.auth import Role
from tests.integration.metrics.company import at, company, deal, won
from tests.integration.metrics.harness import Metrics, fact

Q1 = "2026-Q1"
BOOKINGS = {"measure": "bookings", "period": Q1, "amount": "1000", "currency": "USD"}


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def history(metrics: Metrics) -> None:
    """One won and one stalled deal, one activity and one quota for each of three reps."""
    await metrics.send(company())
    for number, rep in enumerate(("ana", "ben", "cem")):
        said = {"stage": "proposal", "amount": "10", "currency": "USD", "owner": rep}
        done = to_text(at(1))
        await metrics.send(
            [
                *won(10 + number, at(11), rep, "100"),
                deal(20 + number, at(1), close_date="2026-03-01", **said),
                fact(
                    "activity",
                    f"crm:t:{rep}",
                    at(1),
                    kind="call",
                    owner=rep,
                    completed_at=done,
                    deal=f"crm:t:{20 + number}",
                ),
            ]
        )
        await metrics.put(f"/v1/quotas/q-{rep}", {**BOOKINGS, "person": rep})
    shared = {"splits": {"ana": "50%", "cem": "50%"}}
    await metrics.send(won(30, at(12), "cem", "1000", **shared))
    await metrics.put("/v1/quotas/q-emea", {**BOOKINGS, "team": "emea"})
    await metrics.put("/v1/quotas/q-us", {**BOOKINGS, "team": "us"})
    await metrics.drain()
    await metrics.at(at(60))


CALLERS = {
    "ana": ((Role.REP,), {"ana"}),
    "mia": ((Role.MANAGER,), {"mia", "ana", "ben"}),
    "boss": ((Role.MANAGER,), {"boss", "mia", "ana", "ben", "cem"}),
    "stranger": ((Role.REP,), {"stranger"}),
    "auditor": ((Role.AUDITOR,), {"boss", "mia", "ana", "ben", "cem"}),
}


@pytest.mark.parametrize("caller", CALLERS)
async def test_every_list_holds_what_the_caller_may_see(metrics: Metrics, caller: str) -> None:
    roles, visible = CALLERS[caller]
    token = metrics.token(*roles, person=caller)
    reps = visible & {"ana", "ben", "cem"}

    async def rows(path: str, **params: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await metrics.get(path, token, **params))["data"]
        return found

    deals = {row["id"] for row in await rows("/v1/deals")}
    expected = {f"crm:t:{n}" for n, rep in ((10, "ana"), (11, "ben"), (12, "cem")) if rep in reps}
    expected |= {f"crm:t:{int(i.rpartition(':')[2]) + 10}" for i in expected}
    expected |= {"crm:t:30"} if reps & {"ana", "cem"} else set()
    assert deals == expected
    stalled = await rows("/v1/episodes", state="open", detector="deal_stalled")
    assert {row["person"] for row in stalled} == reps
    quotas = {row["id"] for row in await rows("/v1/quotas")}
    teams = {"q-emea"} if visible >= {"ana", "ben"} else set()
    teams |= {"q-us"} if "cem" in visible else set()
    assert quotas == {f"q-{rep}" for rep in reps} | teams
    attained = await rows("/v1/attainment", period=Q1)
    assert {row["person"] for row in attained if row["person"]} == reps
    booked = await metrics.get("/v1/kpis/K12", token, period=Q1)
    owned = len(reps) + ("cem" in reps)
    assert booked["parts"]["deals"] == str(owned)
    records = await rows("/v1/kpis/K12/records", period=Q1)
    assert len(records) == owned
    calls = await metrics.get("/v1/kpis/K24", token, period=Q1)
    assert calls["value"] == str(len(reps))
    assert len(await rows("/v1/kpis/K24/records", period=Q1)) == len(reps)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/deals/crm:t:12",
        "/v1/quotas/q-cem",
        "/v1/quotas/q-us",
        "/v1/quotas/q-emea",
        "/v1/kpis/K1?rep=cem&period=2026-Q1",
        "/v1/kpis/K1?team=us&period=2026-Q1",
        "/v1/kpis/K1/records?rep=cem&period=2026-Q1",
        "/v1/kpis/K24/records?team=us&period=2026-Q1",
        "/v1/deals?rep=cem",
        "/v1/deals?team=us",
        "/v1/deals/crm:t:nothing",
        "/v1/kpis/K99?period=2026-Q1",
    ],
)
async def test_what_is_not_ones_own_is_not_there(metrics: Metrics, path: str) -> None:
    response = await metrics.api.get(path, headers=metrics.token(Role.REP, person="ana"))
    assert response.status_code == 404
    assert response.json()["type"] == "urn:attain:problem:not-found"


async def test_a_machine_sees_by_its_scopes(metrics: Metrics) -> None:
    read = metrics.token(Role.SERVICE, scopes=["metrics:read"])
    assert (await metrics.get("/v1/deals", read))["data"] == []
    everybody = metrics.token(Role.SERVICE, scopes=["metrics:read", "people:all"])
    assert len((await metrics.get("/v1/deals", everybody))["data"]) == 7
    nothing = await metrics.api.get("/v1/deals", headers=metrics.token(Role.SERVICE))
    assert nothing.status_code == 403
    assert (await metrics.api.get("/v1/deals")).status_code == 401


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/v1/kpis/K1?rep=ana", "#query/period"),
        ("/v1/kpis/K1?rep=ana&period=2026-Q7", "#query/period"),
        ("/v1/kpis/K1?rep=ana&from=2026-01-01", "#query/period"),
        ("/v1/kpis/K1?rep=ana&team=emea&period=2026-Q1", "#query/team"),
        ("/v1/kpis/K1?rep=ana&period=2026-Q1&as_of=2030-01-01T00:00:00Z", "#query/as_of"),
        ("/v1/attainment?period=soon", "#query/period"),
    ],
)
async def test_a_malformed_question_says_where(metrics: Metrics, path: str, pointer: str) -> None:
    response = await metrics.api.get(path, headers=metrics.token(Role.ADMIN))
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["pointer"] == pointer


async def test_a_quota_is_changed_only_by_who_has_seen_it(metrics: Metrics) -> None:
    path, body = "/v1/quotas/q-new", {**BOOKINGS, "person": "ben", "period": "2026-03"}
    admin = metrics.token(Role.COMP_ADMIN)
    first = await metrics.api.put(path, json=body, headers=admin)
    assert (first.status_code, first.headers["etag"]) == (200, '"1"')
    assert (await metrics.api.put(path, json=body, headers=admin)).status_code == 428
    stale = {**admin, "If-Match": '"7"'}
    assert (await metrics.api.put(path, json=body, headers=stale)).status_code == 412
    seen = {**admin, "If-Match": '"1"'}
    second = await metrics.api.put(path, json={**body, "amount": "0.1"}, headers=seen)
    assert second.json()["amount"] == "0.1"
    for wrong in ({"amount": "NaN"}, {"amount": "1e400"}, {"period": "x"}, {"team": "emea"}):
        refused = await metrics.api.put(path, json={**body, **wrong}, headers=seen)
        assert refused.status_code == 422, wrong
    rep = metrics.token(Role.REP, person="ben")
    assert (await metrics.api.put(path, json=body, headers=rep)).status_code == 403
    gone = await metrics.api.delete(path, headers={**admin, "If-Match": '"2"'})
    assert gone.status_code == 204
    assert (await metrics.api.get(path, headers=admin)).status_code == 404
    told = [
        e["data"] for e in await metrics.published(METRICS_TARGETS) if e["subject"] == "quota/q-new"
    ]
    assert [(d["revision"], d["amount"], d["deleted"]) for d in told] == [
        (1, "1000", False),
        (2, "0.1", False),
        (3, "0.1", True),
    ]
    stated = [
        e["data"] for e in await metrics.published(METRICS_JOURNAL) if e["subject"] == "quota/q-new"
    ]
    assert [d["changed_by"] for d in stated] == ["tester"] * 3


async def test_a_dead_letter_is_listed_redriven_and_discarded(metrics: Metrics) -> None:

    broken = msgspec.structs.replace(
        deal(40, at(1), stage="lead"), data=encode_data({"amount": "much"})
    )
    await metrics.send([broken])
    await metrics.drain()
    admin = metrics.token(Role.ADMIN)
    letter = (await metrics.get("/v1/dead-letters"))["data"][0]
    assert (letter["subject"], letter["cause"]) == ("deal/crm:t:40", "unreadable")
    assert (await metrics.get("/v1/kpis/K17"))["freshness"]["unreadable_records"] == 1
    path = f"/v1/dead-letters/{letter['id']}"
    assert (await metrics.api.post(f"{path}/redrive", headers=admin)).status_code == 204
    metrics.sent += 1
    await metrics.drain()
    again = (await metrics.get("/v1/dead-letters"))["data"][0]
    discarded = await metrics.api.post(
        f"/v1/dead-letters/{again['id']}/discard", json={"reason": "a test"}, headers=admin
    )
    assert discarded.status_code == 204
    twice = await metrics.api.post(f"{path}/redrive", headers=admin)
    assert twice.status_code == 409
    rep = metrics.token(Role.REP, person="ana")
    assert (await metrics.api.get("/v1/dead-letters", headers=rep)).status_code == 403


async def test_lists_page_and_come_as_csv(metrics: Metrics) -> None:
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await metrics.get("/v1/deals", limit="2", **cursor)
        seen += [row["id"] for row in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == sorted(set(seen))
    assert len(seen) == 7
    csv = await metrics.api.get(
        "/v1/deals", headers={**metrics.token(Role.ADMIN), "Accept": "text/csv"}
    )
    assert csv.text.startswith("id,name,owner")
