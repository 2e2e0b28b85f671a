"""A relay that is cancelled from within, as Kafka's client may do, does not leave in silence."""

from __future__ import annotations

import asyncio

import pytest

from shared.runtime.failpoints import hooked
from shared.runtime.outbox import add_to_outbox
from shared.runtime.relay import Relay
from shared.telemetry.catalogue import Telemetry
from tests.chaos.interleavings import ground
from tests.support.paid_deals import fact


async def test_it_ends_its_process(database: str, kafka_bootstrap: str, topic_prefix: str) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    async with ground(database, kafka_bootstrap, topic_prefix) as on:
        async with on.pool.acquire() as tx, tx.transaction():
            await add_to_outbox(tx, "crm.deals", [fact("deal", "a:b:1", 1, owner="ana")])
        relay = Relay(on.pool, on.bootstrap, on.prefix, "paid_deals", Telemetry("paid_deals"))
        with hooked("relay.read", cancelled), pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.create_task(relay.run(asyncio.Event())), 20)
