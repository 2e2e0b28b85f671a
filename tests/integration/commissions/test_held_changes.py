"""A change of rates, quotas or people that moves much pay waits for a person; small ones do not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec

from services.commissions.dump import differences
from services.commissions.rebuild import rebuild_all
from shared.events.envelope import Envelope
from shared.http.auth import Role
from tests.integration.commissions.system import (
    System,
    fact,
    flat_plan,
    quota_event,
    rows,
    running,
    won,
)
from tests.integration.commissions.test_close import code

MakeDatabase = Callable[[], Awaitable[str]]
PREFIX = "crm:main:"
WHY = "as the board decided"
HOLD = "0.02"
EUR = {"table": "plan", "from": "EUR", "to": "USD", "day": "2025-01-01"}
TIERED: dict[str, Any] = {
    "id": "new",
    "kind": "commission",
    "credit": {"on": "deal.won", "to": "splits"},
    "quota": {"measure": "bookings", "period": "month"},
    "rates": {
        "method": "marginal",
        "over": "attainment",
        "tiers": [{"from": "0%", "rate": "10%"}, {"from": "100%", "rate": "20%"}],
    },
}


def stated(event: Envelope) -> Envelope:
    """As a person states it, and no CRM."""
    return msgspec.structs.replace(event, source="/attain/api")


def rate(value: str, at: str, day: str = "2025-01-01") -> Envelope:
    return stated(fact("rate", f"plan:EUR:USD:{day}", at, {**EUR, "day": day, "rate": value}))


def quota(amount: str, revision: int, person: str = "ana") -> Envelope:
    return quota_event(
        f"q-{person}",
        revision,
        {
            "person": person,
            "measure": "bookings",
            "period": "2025-01",
            "start": "2025-01-01",
            "end": "2025-02-01",
            "amount": amount,
        },
    )


async def begin(system: System, *events: Envelope, **changes: Any) -> None:  # noqa: ANN401
    """Ana earned 1 000 for dollars and 110 for euros in January."""
    plan = flat_plan(fx={"credit": {"table": "plan", "date": "credit"}}, **changes)
    assert (await system.put_plan(plan)).status_code == 201
    for payee in ("ana", "fin-c"):
        assigned = await system.assign(payee, payee=payee, plan="flat", from_="2025-01-01")
        assert assigned.status_code == 201
    await system.send(
        [
            rate("1.10", "2025-01-01T10:00:00Z"),
            *events,
            won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "10000", "ana"),
            won(f"{PREFIX}e", "2025-01-11T10:00:00Z", "1000", "ana", currency="EUR"),
        ]
    )
    await system.drain()


async def own(system: System, payee: str = "ana") -> str:
    return str((await system.statement(payee, "flat", "2025-01"))["own"])


async def listed(system: System, state: str = "held") -> list[dict[str, Any]]:
    async with system.client(Role.AUDITOR) as auditor:
        answer = await auditor.get("/v1/held-changes", params={"state": state})
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def decide(system: System, person: str, change: int, what: str) -> httpx.Response:
    async with system.client(Role.FINANCE, person=person) as finance:
        answer = await finance.post(f"/v1/held-changes/{change}/{what}", json={"reason": WHY})
    await system.drain()
    return answer


async def rebuilt(system: System) -> None:
    """A rebuild comes to the same."""
    before = await system.dump()
    report = await rebuild_all(system.settings)
    assert (list(report.differing), report.posted) == ([], 0)
    assert differences(await system.dump(), before) == []


async def test_a_rate_that_moves_much_is_held_until_a_person_decides(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """It keeps the period open, and after it was discarded it never counts."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, hold_share=HOLD) as system:
        await begin(system)
        # Before there was any pay everything counted at once.
        assert await rows(system, "SELECT FROM held_change") == []
        assert await own(system) == "1110"
        await system.send([rate("1.12", "2025-01-02T10:00:00Z")])
        await system.drain()
        assert (await own(system), await listed(system)) == ("1112", [])
        await system.send([rate("1.40", "2025-01-03T10:00:00Z")])
        await system.drain()
        assert await own(system) == "1112"
        (held,) = await listed(system)
        assert (held["subject"], held["kind"]) == ("rate/plan:EUR:USD:2025-01-01", "rate")
        assert held["moved"] == [
            {
                "plan": "flat",
                "period": "2025-01",
                "currency": "USD",
                "before": "1112",
                "moved": "28",
                "earlier": "2",
            }
        ]
        refused = await system.close("2025-01")
        assert code(refused) == "period-has-open-items"
        assert f"/v1/held-changes/{held['id']}" in refused.json()["errors"][0]["detail"]
        await rebuilt(system)
        assert code(await decide(system, "ana", held["id"], "release")) == "own-pay"
        discarded = await decide(system, "fin-a", held["id"], "discard")
        assert (discarded.status_code, discarded.json()["state"]) == (200, "discarded")
        assert code(await decide(system, "fin-a", held["id"], "release")) == "change-not-held"
        # The same statement again is the same one.
        await system.send([rate("1.40", "2025-01-03T10:00:00Z")])
        await system.drain()
        await rebuilt(system)
        assert (await system.close("2025-01")).status_code == 200
        assert await own(system) == "1112"


async def test_many_small_changes_within_an_hour_are_one_large_one(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, hold_share=HOLD) as system:
        await begin(system)
        await system.send([rate("1.25", "2025-01-02T10:00:00Z")])
        await system.drain()
        assert await own(system) == "1125"
        await system.send([rate("1.35", "2025-01-03T10:00:00Z")])
        await system.drain()
        (held,) = await listed(system)
        assert (await own(system), held["moved"][0]["earlier"]) == ("1125", "15")
        assert (await decide(system, "fin-a", held["id"], "release")).status_code == 200
        assert await own(system) == "1135"
        # What a person released, and what is older than an hour, counts no more.
        await system.parts.pool.execute(
            "UPDATE held_change SET judged_at = judged_at - interval '2 hours' "
            "WHERE state = 'applied'"
        )
        await system.send([rate("1.45", "2025-01-04T10:00:00Z")])
        await system.drain()
        assert (await own(system), await listed(system)) == ("1145", [])
        await rebuilt(system)
        told = await rows(
            system,
            "SELECT convert_from(value, 'UTF8')::json -> 'data' ->> 'state' AS state FROM outbox "
            "WHERE convert_from(key, 'UTF8') LIKE 'held_change/%' ORDER BY id",
        )
        assert [row["state"] for row in told] == ["applied", "held", "released", "applied"]


async def test_an_import_is_held_as_a_whole_and_what_fills_a_gap_is_not(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """A credit that waited for its rate was nobody's pay: to pay it moves nothing."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, hold_share=HOLD) as system:
        pounds = won(f"{PREFIX}p", "2025-01-12T10:00:00Z", "90000", "ana", currency="GBP")
        await begin(system, pounds)
        assert await own(system) == "1110"
        gap = {**EUR, "from": "GBP", "rate": "1.2"}
        at = "2025-01-02T10:00:00Z"
        await system.send([stated(fact("rate", "plan:GBP:USD:2025-01-01", at, gap))])
        await system.drain()
        assert (await own(system), await listed(system)) == ("11910", [])
        async with system.parts.pool.acquire() as tx, tx.transaction():
            # Both wait until they can be judged together.
            await tx.execute("INSERT INTO mark (kind, root_id) VALUES ('deal', 'nobody')")
            await tx.execute("SELECT FROM reference_version FOR UPDATE")
            again = {**EUR, "from": "GBP", "rate": "1.3"}
            await system.send(
                [
                    stated(fact("rate", "plan:GBP:USD:2025-01-01", "2025-01-03T10:00:00Z", again)),
                    rate("1.11", "2025-01-03T10:00:00Z"),
                ]
            )
            while await tx.fetchval("SELECT count(*) FROM held_change WHERE state = 'judging'") < 2:
                pass
        await system.drain()
        held = await listed(system)
        assert (len(held), await own(system)) == (2, "11910")
        assert {change["moved"][0]["moved"] for change in held} == {"901"}
        for change in held:
            assert (await decide(system, "fin-a", change["id"], "release")).status_code == 200
        assert await own(system) == "12811"
        await rebuilt(system)


async def test_a_quota_that_moves_much_is_held(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, hold_share=HOLD) as system:
        await begin(system, quota("20000", 1), components=[TIERED])
        assert await own(system) == "1110"
        await system.send([quota("5000", 2)])
        await system.drain()
        (held,) = await listed(system)
        assert (await own(system), held["moved"][0]["moved"]) == ("1110", "610")
        await rebuilt(system)
        # A later one that moves nothing counts; the held one then moves nothing any more.
        await system.send([quota("15000", 3)])
        await system.drain()
        assert [change["subject"] for change in await listed(system)] == ["quota/q-ana"]
        assert (await decide(system, "fin-a", held["id"], "release")).status_code == 200
        assert await own(system) == "1110"
        await rebuilt(system)


async def test_what_a_connected_crm_says_is_never_held(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, hold_share=HOLD) as system:
        await begin(system)
        await system.send(
            [
                fact(
                    "rate", "plan:EUR:USD:2025-01-01", "2025-01-03T10:00:00Z", {**EUR, "rate": "9"}
                ),
                won(f"{PREFIX}b", "2025-01-12T10:00:00Z", "90000", "ana"),
            ]
        )
        await system.drain()
        assert await own(system) == "10900"
        assert await rows(system, "SELECT FROM held_change") == []


async def test_people_are_judged_where_a_plan_asks_for_them(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Another manager is another payee of a roll-up; and what nobody can use is a dead letter."""
    rolled_up = {
        "id": "team",
        "kind": "override",
        "credit": {"on": "deal.won", "to": "manager"},
        "rates": {"method": "flat", "rate": "1%"},
    }
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, hold_share=HOLD) as system:
        led = {"effective_from": "2025-01-01", "manager": "fin-c"}
        components = [flat_plan()["components"][0], rolled_up]
        person = stated(fact("person", "ana", "2025-01-01T10:00:00Z", led))
        await begin(system, person, components=components)
        assert (await own(system), await own(system, "fin-c")) == ("1110", "111")
        left = stated(fact("person", "ana", "2025-01-03T10:00:00Z", {**led, "manager": "somebody"}))
        await system.send([left])
        await system.drain()
        (held,) = await listed(system)
        assert (held["kind"], await own(system, "fin-c")) == ("person", "111")
        assert code(await decide(system, "fin-c", held["id"], "discard")) == "own-pay"
        await rebuilt(system)
        broken = {"effective_from": "2025-01-01", "time_zone": "Nowhere/At_All"}
        await system.send([stated(fact("calendar", "org", "2025-01-03T10:00:00Z", broken))])
        await system.drain()
        assert [change["kind"] for change in await listed(system, "refused")] == ["calendar"]
        async with system.client(Role.ADMIN, person="root") as admin:
            letters = (await admin.get("/v1/dead-letters")).json()["data"]
        assert [letter["subject"] for letter in letters] == ["calendar/org"]
