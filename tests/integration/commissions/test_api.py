"""The routes: plans, assignments, estimates, and who sees what on each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest_asyncio

from shared.http.auth import Role
from tests.integration.commissions.company import SALES_PLAN
from tests.integration.commissions.system import (
    System,
    fact,
    flat_plan,
    quota_event,
    rows,
    running,
    won,
)

MakeDatabase = Callable[[], Awaitable[str]]
PREFIX = "crm:main:"
AT = "2025-01-10T10:00:00Z"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def system(database: str, kafka_bootstrap: str) -> AsyncIterator[System]:
    """Ana and Ben report to Mia, Zoe to nobody; each has won a deal."""
    async with running(database, kafka_bootstrap, "commissions-api.") as found:
        assert (await found.put_plan(flat_plan())).status_code == 201
        assert (await found.put_plan({**flat_plan(), "id": "other"})).status_code == 201
        for payee, plan in (("ana", "flat"), ("ben", "flat"), ("zoe", "other")):
            await found.assign(f"{payee}-{plan}", payee=payee, plan=plan, from_="2025-01-01")
        since = {"effective_from": "2025-01-01"}
        await found.send(
            [
                fact("person", "ana", AT, {**since, "manager": "mia"}),
                fact("person", "ben", AT, {**since, "manager": "mia"}),
                fact("person", "mia", AT, {**since, "name": "Mia"}),
                fact("person", "zoe", AT, since),
                won(f"{PREFIX}a", AT, "1000", "ana", splits={"ana": "60%", "ben": "40%"}),
                won(f"{PREFIX}z", AT, "3000", "zoe"),
            ]
        )
        await found.drain()
        yield found


async def test_a_plan_version_never_changes(system: System) -> None:
    document = flat_plan(id="fixed")
    assert (await system.put_plan(document)).status_code == 201
    assert (await system.put_plan(document)).status_code == 200
    changed = await system.put_plan({**document, "name": "Another"})
    assert changed.status_code == 409
    assert changed.json()["type"].endswith("plan-version-immutable")
    assert (await system.put_plan(document, 2)).json()["type"].endswith("plan-version-exists")
    later = {**document, "effective": {"from": "2025-06-01"}}
    assert (await system.put_plan(later, 2)).status_code == 201
    other_currency = {**document, "effective": {"from": "2025-09-01"}, "currency": "EUR"}
    refused = await system.put_plan(other_currency, 3)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/currency")
    async with system.client(Role.COMP_ADMIN) as admin:
        versions = (await admin.get("/v1/plans/fixed/versions")).json()
        assert [v["version"] for v in versions] == [1, 2]
        one = await admin.get("/v1/plans/fixed/versions/1")
        assert one.json()["document"] == document
        elsewhere = await admin.put("/v1/plans/elsewhere/versions/1", json=document)
        assert elsewhere.status_code == 422
        events = await rows(system, "SELECT value FROM outbox WHERE key = 'plan/fixed/1'::bytea")
        assert len(events) == 1


async def test_a_bad_plan_names_every_problem(system: System) -> None:
    bad: dict[str, Any] = {**flat_plan(id="bad"), "surprise": 1, "currency": "dollars"}
    refused = await system.put_plan(bad)
    assert refused.status_code == 422
    assert {"/surprise", "/currency"} <= {e["pointer"] for e in refused.json()["errors"]}


async def test_assignments_need_if_match_and_never_overlap(system: System) -> None:
    body = {"payee": "kim", "plan": "other", "from": "2025-01-01", "to": "2025-06-30"}
    async with system.client(Role.COMP_ADMIN, person="boss") as admin:
        path = "/v1/assignments/kim-1"
        made = await admin.put(path, json=body)
        assert (made.status_code, made.headers["etag"]) == (201, '"1"')
        assert (await admin.put(path, json=body)).status_code == 200
        longer = {**body, "to": None}
        assert (await admin.put(path, json=longer)).status_code == 428
        wrong = await admin.put(path, json=longer, headers={"If-Match": '"7"'})
        assert wrong.status_code == 412
        right = await admin.put(path, json=longer, headers={"If-Match": '"1"'})
        assert (right.status_code, right.json()["revision"]) == (200, 2)
        overlapping = await admin.put("/v1/assignments/kim-2", json=body)
        assert overlapping.json()["type"].endswith("assignment-overlaps")
        unknown = await admin.put("/v1/assignments/kim-3", json={**body, "plan": "none"})
        assert unknown.json()["type"].endswith("unknown-plan")
        backwards = {**body, "to": "2024-01-01"}
        assert (await admin.put("/v1/assignments/kim-4", json=backwards)).status_code == 422
        gone = await admin.delete(path, headers={"If-Match": '"2"'})
        assert gone.status_code == 204
        assert (await admin.get(path)).status_code == 404
        assert (await admin.put(path, json=body)).status_code == 201


async def test_an_assignment_keeps_target_pay_ramp_and_leave(system: System) -> None:
    stated = {
        "target_pay": "60000",
        "component_target_pay": {"new": "6000.5"},
        "ramp": ["25%", "62.5%"],
        "leave": [{"from": "2025-03-01", "to": "2025-03-20"}],
    }
    body = {"payee": "lee", "plan": "other", "from": "2025-01-01", **stated}
    async with system.client(Role.COMP_ADMIN, person="boss") as admin:
        path = "/v1/assignments/lee-1"
        assert (await admin.put(path, json=body)).status_code == 201
        assert (await admin.put(path, json=body)).status_code == 200
        found = (await admin.get(path)).json()
        assert {name: found[name] for name in stated} == stated
        for wrong in (
            {"target_pay": "-1"},
            {"component_target_pay": {"new": "-0.01"}},
            {"ramp": ["1/2"]},
            {"leave": [{"from": "2025-03-20", "to": "2025-03-01"}]},
            {"leave": [*stated["leave"], {"from": "2025-03-20", "to": "2025-03-21"}]},
        ):
            answer = await admin.put("/v1/assignments/lee-2", json={**body, **wrong})
            assert answer.status_code == 422, wrong
        assert (await admin.delete(path, headers={"If-Match": '"1"'})).status_code == 204


async def test_only_the_compensation_admin_writes(system: System) -> None:
    body = {"payee": "ana", "plan": "flat", "from": "2025-01-01"}
    for role in set(Role) - {Role.COMP_ADMIN}:
        async with system.client(role, person="ana") as other:
            assert (await other.put("/v1/assignments/x", json=body)).status_code == 403
            assert (
                await other.put("/v1/plans/x/versions/1", json=flat_plan(id="x"))
            ).status_code == 403
    for role in set(Role) - {Role.ADMIN}:
        async with system.client(role, person="ana") as other:
            seen = 200 if role is Role.AUDITOR else 403
            assert (await other.get("/v1/dead-letters")).status_code == seen
            assert (await other.post("/v1/dead-letters/1/redrive")).status_code == 403


LISTS = ("/v1/statements", "/v1/assignments", "/v1/ledger/balances", "/v1/ledger/postings")
SEEN = {
    (Role.REP, "ana"): {"ana"},
    (Role.REP, "ben"): {"ben"},
    (Role.REP, None): set(),
    (Role.MANAGER, "mia"): {"ana", "ben"},
    (Role.MANAGER, "zoe"): {"zoe"},
    (Role.SERVICE, None): set(),
}
ALL = {"ana", "ben", "zoe"}


async def test_everybody_sees_their_own_world_on_every_route(system: System) -> None:
    """Lists, single reads, explanations, the ledger, plans and estimates show the same people."""
    everybody = {(role, "x"): ALL for role in (Role.COMP_ADMIN, Role.FINANCE, Role.AUDITOR)}
    for (role, person), seen in (SEEN | everybody).items():
        async with system.client(role, person=person) as caller:
            if role is Role.SERVICE:
                assert (await caller.get("/v1/statements")).status_code == 403
                continue
            for path in LISTS:
                found = (await caller.get(path, params={"limit": 500})).json()["data"]
                assert {row["payee"] for row in found} & ALL == seen, (role, person, path)
                csv = await caller.get(path, headers={"Accept": "text/csv"})
                assert {name for name in ALL if f"{name}," in csv.text} <= seen
            for payee, plan in (("ana", "flat"), ("ben", "flat"), ("zoe", "other")):
                await _sees_one(caller, payee, plan, 200 if payee in seen else 404)
                asked = (await caller.get("/v1/statements", params={"payee": payee})).json()
                assert bool(asked["data"]) == (payee in seen)
            plans = {row["id"] for row in (await caller.get("/v1/plans")).json()["data"]}
            assert ("flat" in plans) == bool(seen & {"ana", "ben"})
            assert ("other" in plans) == ("zoe" in seen)
            assert (await caller.get("/v1/plans/other")).status_code == (
                200 if "zoe" in seen else 404
            )
            answer = await caller.post("/v1/estimates", json=HYPOTHESIS)
            assert {one["payee"] for one in answer.json()["estimates"]} == seen & {"ana", "ben"}
            known = await caller.post("/v1/estimates", json={"deal": {"id": f"{PREFIX}z"}})
            assert known.status_code == (200 if "zoe" in seen else 404)


HYPOTHESIS = {
    "deal": {
        "amount": "500",
        "currency": "USD",
        "owner": "ana",
        "splits": {"ana": "50%", "ben": "50%"},
        "closed_at": AT,
    }
}


async def _sees_one(caller: Any, payee: str, plan: str, status: int) -> None:  # noqa: ANN401 - a client
    base = f"/v1/statements/{payee}/{plan}/2025-01"
    deal_id = f"{PREFIX}{'z' if payee == 'zoe' else 'a'}"
    line = f"deal:{deal_id}/{plan}/new/{payee}"
    for path in (base, f"{base}/explanation", f"{base}/lines/{line}/explanation"):
        for view in ("shown", "recomputed"):
            answer = await caller.get(path, params={"view": view})
            assert answer.status_code == status, (path, answer.text)
    answer = await caller.get(f"/v1/assignments/{payee}-{plan}")
    assert answer.status_code == status


async def test_a_line_opens_down_to_its_events(system: System) -> None:
    async with system.client(Role.REP, person="ana") as ana:
        statement = (await ana.get("/v1/statements/ana/flat/2025-01")).json()
        assert (statement["own"], statement["state"]) == ("60", "open")
        key = statement["lines"][0]["key"]
        tree = (await ana.get(f"/v1/statements/ana/flat/2025-01/lines/{key}/explanation")).json()
        assert len(tree["credit"]["events"]) == 1
        assert "600" in tree["sentence"]
        missing = await ana.get("/v1/statements/ana/flat/2025-01/lines/none/explanation")
        assert missing.status_code == 404


async def test_an_estimate_is_the_same_engine_and_records_nothing(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        assert (await system.put_plan(SALES_PLAN)).status_code == 201
        await system.assign("ana", payee="ana", plan="sales", from_="2025-01-01")
        quota = {
            "person": "ana",
            "measure": "bookings",
            "period": "2025-Q1",
            "start": "2025-01-01",
            "end": "2025-04-01",
            "amount": "100000",
        }
        await system.send([quota_event("q", 1, quota), won(f"{PREFIX}a", AT, "40000", "ana")])
        await system.send([fact("deal", f"{PREFIX}o", AT, {"amount": "20000", "owner": "ana"})])
        await system.send([fact("deal", f"{PREFIX}o", AT, {"currency": "USD", "type": "new"}, 1)])
        await system.drain()
        before = await system.dump()
        deal = {"amount": "20000", "currency": "USD", "owner": "ana", "closed_at": AT}
        async with system.client(Role.REP, person="ana") as ana:
            answer = (await ana.post("/v1/estimates", json={"deal": deal})).json()
            (one,) = answer["estimates"]
            # 40 % of quota earns 4 %; 60 % reaches the second tier, which rates all of it.
            assert (one["before"], one["after"], one["delta"]) == ("1600", "4800", "3200")
            (component,) = one["components"]
            assert component["next_tier"] == {
                "measure": "60000",
                "begins_at": "100000",
                "missing": "40000",
                "rate": "0.12",
            }
            known = {"deal": {"id": f"{PREFIX}o", "closed_at": AT}}
            same = (await ana.post("/v1/estimates", json=known)).json()
            assert same["estimates"][0]["delta"] == "3200"
            won_already = {"deal": {"id": f"{PREFIX}a", "amount": "50000", "closed_at": AT}}
            other = (await ana.post("/v1/estimates", json=won_already)).json()
            assert other["estimates"][0]["after"] == "4000"
            bad = await ana.post("/v1/estimates", json={"deal": {**deal, "amount": "NaN"}})
            assert bad.status_code == 422
            held = (await ana.post("/v1/estimates", json={"deal": {"owner": "ana"}})).json()
            assert held["waiting"]
        assert await system.dump() == before
        await system.send([won(f"{PREFIX}o", AT, "20000", "ana")])
        await system.drain()
        statement = await system.statement("ana", "sales", "2025-01")
        assert Decimal(statement["own"]) == 4800
