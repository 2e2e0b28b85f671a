"""Simulations over HTTP: asked for, run beside the day's work, read, and true to the cent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest_asyncio

from services.commissions.whatif.simulation_store import claim, prune
from services.commissions.whatif.simulations import Simulations
from shared.http.auth import Role
from shared.http.paging import MAX_LIMIT
from tests.integration.commissions.system import (
    System,
    flat_plan,
    rows,
    running,
    start_worker,
    won,
)

MakeDatabase = Callable[[], Awaitable[str]]
PREFIX = "crm:main:"
TIERED: dict[str, Any] = {
    "method": "marginal",
    "over": "amount",
    "tiers": [{"from": "0", "rate": "5%"}, {"from": "2000", "rate": "20%"}],
}
DONE_S = 30.0


def tiered_plan(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a document
    (component,) = flat_plan()["components"]
    return flat_plan(components=[{**component, "rates": TIERED}], **changes)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def system(database: str, kafka_bootstrap: str) -> AsyncIterator[System]:
    """Ana sells much, Ben little, Zoe nothing; January is closed."""
    async with running(database, kafka_bootstrap, "commissions-simulated.") as found:
        assert (await found.put_plan(flat_plan())).is_success
        for payee in ("ana", "ben", "zoe"):
            answer = await found.assign(payee, payee=payee, plan="flat", from_="2025-01-01")
            assert answer.is_success
        await found.send(
            [
                won(f"{PREFIX}{name}", at, amount, owner)
                for name, at, amount, owner in (
                    ("a1", "2025-01-10T10:00:00Z", "1500", "ana"),
                    ("a2", "2025-01-20T10:00:00Z", "4500", "ana"),
                    ("b1", "2025-01-21T10:00:00Z", "500", "ben"),
                    ("a3", "2025-02-03T10:00:00Z", "900", "ana"),
                    ("b2", "2025-02-04T10:00:00Z", "3000", "ben"),
                )
            ]
        )
        assert (await found.close("2025-01")).status_code == 200
        await found.drain()
        yield found


async def ask(
    system: System,
    body: Mapping[str, Any],
    key: str | None = None,
) -> httpx.Response:
    async with system.client(Role.COMP_ADMIN, person="cora") as admin:
        headers = {"Idempotency-Key": key or uuid4().hex}
        return await admin.post("/v1/simulations", json=body, headers=headers)


async def read(system: System, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401
    async with system.client(Role.FINANCE, person="fin-a") as finance:
        return await finance.get(f"/v1/simulations{path}", **options)


async def outcome_of(system: System, answer: httpx.Response) -> dict[str, Any]:
    """Wait until it has ended; what is shown then."""
    assert answer.status_code == 202, answer.text
    place = "/" + answer.json()["id"]
    async with asyncio.timeout(DONE_S):
        while True:
            shown: dict[str, Any] = (await read(system, place)).json()
            if shown["state"] not in {"queued", "running"}:
                return shown
            await asyncio.sleep(0.05)


async def ledger(system: System) -> list[str]:
    found = []
    for table in ("posting", "ledger_transaction", "statement", "fixed_statement", "credit"):
        lines = await rows(system, f"SELECT t::text AS row FROM {table} t ORDER BY 1")  # noqa: S608
        found += [f"{table} {line['row']}" for line in lines]
    return found


LAST_QUARTER = {"from": "2025-01", "to": "2025-02"}


async def test_a_simulation_says_what_a_draft_costs_and_changes_nothing(system: System) -> None:
    before, books = await system.dump(), await ledger(system)
    draft = tiered_plan(effective={"from": "2026-01-01"})
    answer = await ask(
        system, {**LAST_QUARTER, "plans": [draft], "in_force_from": "2025-01-01", "name": "Tiers"}
    )
    assert answer.headers["Location"] == f"/v1/simulations/{answer.json()['id']}"
    shown = await outcome_of(system, answer)
    assert (shown["state"], shown["name"], shown["problem"]) == ("done", "Tiers", None)
    assert (shown["phase"], shown["done"], shown["total"]) == ("accounts", 3, 3)
    (plan,) = shown["outcome"]["plans"]
    # Ana, January: 6,000 at 10 % were 600; 2,000 at 5 % and 4,000 at 20 % are 900.
    # February: her 900 earn 45 in place of 90; Ben's 500, 25 in place of 50; his 3,000 stay at 300.
    assert [(p["period"], p["closed"], p["before"], p["after"]) for p in plan["periods"]] == [
        ("2025-01", True, "650", "925"),
        ("2025-02", False, "390", "345"),
    ]
    assert (plan["winners"], plan["losers"], plan["gained"], plan["lost"]) == (1, 1, "255", "25")
    assert plan["top_winners"] == [
        {"payee": "ana", "before": "690", "after": "945", "change": "255"}
    ]
    spread = {
        (group["group"], group["from"], group["to"]): group["payees"]
        for group in plan["distribution"]
        if group["payees"]
    }
    # +37 % and -7.1 %, and Zoe, who has nothing either way.
    assert spread == {
        ("share", "0.2", "0.5"): 1,
        ("share", "-0.1", "-0.05"): 1,
        ("same", None, None): 1,
    }
    (tiers,) = plan["tiers"]
    assert (tiers["component"], tiers["crossings_up"], tiers["crossings_down"]) == ("new", 2, 0)
    assert [(t["tier"], t["begins_at"], t["measures_after"]) for t in tiers["tiers"]] == [
        (1, "0", 2),
        (2, "2000", 2),
    ]
    assert await system.dump() == before
    assert await ledger(system) == books
    assert not await rows(system, "SELECT FROM whatif_credit")


async def test_accounts_are_listed_and_open_to_their_lines(system: System) -> None:
    answer = await ask(system, {**LAST_QUARTER, "plans": [tiered_plan()]}, "listed")
    place = "/" + (await outcome_of(system, answer))["id"]
    listed = (await read(system, f"{place}/accounts", params={"limit": 2})).json()
    assert [row["payee"] for row in listed["data"]] == ["ana", "ben"]
    more = await read(system, f"{place}/accounts", params={"cursor": listed["next_cursor"]})
    assert [row["payee"] for row in more.json()["data"]] == ["zoe"]
    losers = (await read(system, f"{place}/accounts", params={"change": "losers"})).json()
    assert [(row["payee"], row["change"]) for row in losers["data"]] == [("ben", "-25")]
    csv = await read(system, f"{place}/accounts", headers={"Accept": "text/csv"})
    assert "ana,flat,USD,690,945,255,1" in csv.text.splitlines()
    (ana,) = (await read(system, f"{place}/accounts/ana")).json()
    assert [(line["deal"], line["before"], line["after"]) for line in ana["lines"]] == [
        (f"{PREFIX}a1", "150", "75"),
        (f"{PREFIX}a2", "450", "825"),
        (f"{PREFIX}a3", "90", "45"),
    ]
    assert [(p["period"], p["payable_before"], p["payable_after"]) for p in ana["periods"]] == [
        # January is closed: what it pays never changes, and February carries the difference.
        ("2025-01", "600", "600"),
        ("2025-02", "90", "345"),
    ]
    assert ana["tiers"][0]["after"] == {"tier": 2, "begins_at": "2000", "rate": "0.2"}
    assert (await read(system, f"{place}/accounts/nobody")).status_code == 404
    assert (await read(system, "/nothing/accounts")).status_code == 404


async def test_what_was_simulated_is_what_saving_gives(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Other credit rules, and somebody new on the plan: to the cent, account by account."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        assert (await system.put_plan(flat_plan())).is_success
        for payee in ("ana", "ben"):
            await system.assign(payee, payee=payee, plan="flat", from_="2025-01-01")
        shares = {"splits": {"ana": "50%", "cem": "50%"}}
        await system.send(
            won(f"{PREFIX}{n}", f"2025-02-0{n}T10:00:00Z", f"{n}000.01", "ana", **shares)
            for n in range(1, 6)
        )
        await system.drain()
        draft = tiered_plan(effective={"from": "2025-02-03"})
        draft["components"].append(
            {
                "id": "owner",
                "kind": "commission",
                "credit": {"on": "deal.won", "to": "owner", "when": "deal.amount > 3000"},
                "rates": {"method": "flat", "rate": "1%"},
            }
        )
        joins = {"payee": "cem", "plan": "flat", "from": "2025-02-02"}
        body = {**LAST_QUARTER, "plans": [draft], "assignments": [joins]}
        shown = await outcome_of(system, await ask(system, body))
        assert shown["outcome"] is not None, shown
        listed = (await read(system, f"/{shown['id']}/accounts")).json()["data"]
        assert (await system.put_plan(draft, 2)).is_success
        assert (await system.assign("cem", payee="cem", plan="flat", from_="2025-02-02")).is_success
        await system.drain()
        figures = {row["payee"]: Decimal(row["after"]) for row in listed}
        stored = await rows(system, "SELECT payee, sum(own) AS own FROM statement GROUP BY payee")
        assert {p: own for p, own in figures.items() if own} == {
            r["payee"]: r["own"] for r in stored
        }
        assert {"ana", "cem"} == {payee for payee, own in figures.items() if own}


async def test_a_broken_draft_is_refused_where_it_is_broken(system: System) -> None:
    draft = flat_plan()
    (component,) = draft["components"]
    draft["components"] = [{**component, "credit": {"on": "deal.won", "to": "ownr"}}]
    refused = await ask(system, {**LAST_QUARTER, "plans": [draft]})
    assert refused.status_code == 422
    (fault,) = refused.json()["errors"]
    assert fault["pointer"] == "/components/0/credit/to"
    assert "owner" in fault["detail"]
    unread = await ask(system, {**LAST_QUARTER, "plans": [flat_plan(id="fresh")], "x": 1})
    assert unread.status_code == 422
    later = flat_plan(effective={"from": "2027-01-01"}, name="Later")
    unseen = await ask(system, {**LAST_QUARTER, "plans": [later]})
    assert "in_force_from" in unseen.json()["detail"]
    assert (await ask(system, LAST_QUARTER)).status_code == 422
    backwards = {"from": "2025-02", "to": "2025-01", "plans": [tiered_plan()]}
    assert (await ask(system, backwards)).status_code == 422
    nobody = {**LAST_QUARTER, "versions": [{"plan": "flat", "version": 9}]}
    assert (await ask(system, nobody)).status_code == 422


async def test_a_cliff_is_told_of_when_it_is_asked(system: System) -> None:
    steep = {**TIERED, "method": "retroactive"}
    (component,) = flat_plan()["components"]
    draft = flat_plan(components=[{**component, "rates": steep}])
    answer = await ask(system, {**LAST_QUARTER, "plans": [draft]})
    assert "cliff" in {finding["code"] for finding in answer.json()["findings"]}
    assert (await outcome_of(system, answer))["state"] == "done"


async def test_the_same_key_asks_once(system: System) -> None:
    body = {**LAST_QUARTER, "without_plans": ["flat"]}
    first, again = await ask(system, body, "once"), await ask(system, body, "once")
    assert first.json() == again.json()
    shown = await outcome_of(system, first)
    (plan,) = shown["outcome"]["plans"]
    assert (plan["before"], plan["after"]) == ("1040", "0")
    async with system.client(Role.COMP_ADMIN, person="cora") as admin:
        assert (await admin.delete(f"/v1/simulations/{shown['id']}")).status_code == 204
        assert (await admin.delete(f"/v1/simulations/{shown['id']}")).status_code == 404
    assert not await rows(
        system, "SELECT FROM simulation_account WHERE simulation_id = $1", shown["id"]
    )


async def test_one_runs_at_a_time_and_another_worker_takes_over(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """A queued one can be cancelled; a stopped one is queued again; a dead one's lease ends."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, workers=0) as system:
        assert (await system.put_plan(flat_plan())).is_success
        await system.assign("ana", payee="ana", plan="flat", from_="2025-01-01")
        pool, body = system.parts.pool, {**LAST_QUARTER, "plans": [tiered_plan()]}
        first, second = [(await ask(system, body, key)).json()["id"] for key in "ab"]
        taken = await claim(pool, "one")
        assert taken is not None
        assert taken.id == first
        assert await claim(pool, "two") is None
        async with system.client(Role.COMP_ADMIN, person="cora") as admin:
            gone = await admin.post(f"/v1/simulations/{second}/cancel")
            assert gone.json()["state"] == "cancelled"
            assert (await admin.post(f"/v1/simulations/{second}/cancel")).is_success

        stopped = asyncio.Event()
        stopped.set()
        await pool.execute("UPDATE simulation SET lease_until = now() WHERE state = 'running'")
        assert await Simulations(pool, "wall", "two").run_next(stopped)
        (queued,) = await rows(
            system, "SELECT state FROM simulation WHERE simulation_id = $1", first
        )
        assert queued["state"] == "queued"

        for _ in range(4):
            await claim(pool, "dying")
            await pool.execute("UPDATE simulation SET lease_until = now() WHERE state = 'running'")
        shown = (await read(system, f"/{first}")).json()
        assert (shown["state"], shown["outcome"]) == ("failed", None)

        third = await ask(system, body, "c")
        await claim(pool, "killed")
        await pool.execute("UPDATE simulation SET lease_until = now() WHERE state = 'running'")
        system.workers.append(await start_worker(system.settings))
        try:
            assert (await outcome_of(system, third))["state"] == "done"
        finally:
            await system.workers.pop().end()
        async with system.client(Role.COMP_ADMIN, person="cora") as admin:
            ended = await admin.post(f"/v1/simulations/{third.json()['id']}/cancel")
            assert ended.status_code == 409
        await pool.execute("UPDATE simulation SET recorded_at = now() - interval '31 days'")
        await prune(pool)
        assert not await rows(system, "SELECT FROM simulation")


async def test_who_may_ask_and_who_may_read(system: System) -> None:
    body = {**LAST_QUARTER, "plans": [tiered_plan()]}
    for role in (Role.REP, Role.MANAGER, Role.FINANCE, Role.AUDITOR):
        async with system.client(role, person="ana") as caller:
            refused = await caller.post(
                "/v1/simulations", json=body, headers={"Idempotency-Key": f"k-{role}"}
            )
            assert refused.status_code == 403
            listed = await caller.get("/v1/simulations", params={"limit": MAX_LIMIT})
            allowed = role in {Role.FINANCE, Role.AUDITOR}
            assert listed.status_code == (200 if allowed else 403)
