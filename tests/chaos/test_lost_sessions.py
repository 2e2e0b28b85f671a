"""A session that the server ended while its worker was paused is a lost way, and no bad record."""

from __future__ import annotations

import asyncio
from threading import Thread

import asyncpg
import pytest

from shared.runtime.consume import BROKEN
from shared.runtime.failpoints import hooked
from tests.chaos.interleavings import ground
from tests.support.paid_deals import fact

_END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'idle in transaction'
"""


async def test_it_is_no_fault_of_the_record(
    database: str, kafka_bootstrap: str, topic_prefix: str
) -> None:
    async def end_sessions() -> None:
        connection = await asyncpg.connect(database)
        await connection.execute(_END_SESSIONS)
        await asyncio.sleep(0.3)  # until the server's last words are there
        await connection.close()

    async def paused() -> None:
        # As with SIGSTOP, the whole process stands still meanwhile.
        elsewhere = Thread(target=lambda: asyncio.run(end_sessions()))
        elsewhere.start()
        elsewhere.join()
        # The last words are read, the end of the connection is not: asyncpg is between both.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async with ground(database, kafka_bootstrap, topic_prefix) as on:
        batch = await on.batch([fact("deal", "a:b:1", 1, owner="ana")])
        worker = await on.worker()
        mine = await worker.take(batch)
        with hooked("consume.fenced", paused), pytest.raises(BROKEN):
            await worker.apply(mine)
