"""People and signals come through different workers: neither may miss the other."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from services.notifications.handlers import Inbox
from services.notifications.store import people as people_store
from shared.clock import WallClock
from shared.events.envelope import Envelope
from shared.facts.fact import read_fact
from shared.runtime.consume import Message
from tests.integration.notifications.deployment import COMPANY, Deployment, signal_event
from tests.unit.notifications.builders import a_signal


def message(envelope: Envelope, body: object) -> Message:
    """A message as the consumer hands it over."""
    return Message("topic", 0, 0, envelope, body)


async def test_people_that_arrive_while_a_signal_is_routed_are_not_missed(
    deployment: Deployment,
) -> None:
    said = a_signal(1)
    people = [message(event, read_fact(event)) for event in COMPANY]
    async with deployment.parts() as parts:
        await people_store.prepare(parts.pool)
        one, other = (
            Inbox(parts.settings.places, WallClock(), timedelta(minutes=1)) for _ in range(2)
        )

        async def take_people() -> None:
            async with parts.pool.acquire() as tx, tx.transaction():
                await other.take(tx, people)

        async with parts.pool.acquire() as tx:
            routing = tx.transaction()
            await routing.start()
            await one.take(tx, [message(signal_event(said), said)])
            arriving = asyncio.create_task(take_people())
            done, _ = await asyncio.wait([arriving], timeout=0.5)
            assert not done  # it waits for the alert that found nobody
            await routing.commit()
        await arriving
        assert await one.route_waiting(parts.pool) == 1
        assert await one.route_waiting(parts.pool) == 0
    assert await deployment.statuses() == [
        ("", "opened", "withdrawn"),
        ("email", "opened", "pending"),
        ("slack", "opened", "pending"),
    ]


async def test_people_that_were_rolled_back_route_nothing(deployment: Deployment) -> None:
    """A directory read in a transaction that fails is nobody's afterwards."""
    said = a_signal(1)
    people = [message(event, read_fact(event)) for event in COMPANY]
    async with deployment.parts() as parts:
        await people_store.prepare(parts.pool)
        inbox = Inbox(parts.settings.places, WallClock(), timedelta(minutes=1))
        async with parts.pool.acquire() as tx:
            lost = tx.transaction()
            await lost.start()
            await inbox.take(tx, [*people, message(signal_event(said), said)])
            await lost.rollback()
            async with tx.transaction():
                await inbox.take(tx, people[:2])
            async with tx.transaction():
                await inbox.take(tx, [message(signal_event(said), said)])
    # Only the reps are known by now, and not whom they report to.
    rows = await deployment.rows("SELECT recipient FROM delivery")
    assert [row["recipient"] for row in rows] == ["nobody"]
