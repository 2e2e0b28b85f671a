"""The relay: outbox rows to Kafka, one relay a service at a time, in the order of their ids.

Rows are marked, not passed by a cursor: a lower id may commit after a higher one. A relay that
dies between sending and marking sends again; consumers keep the greatest revision.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import structlog
from aiokafka.errors import KafkaError

from shared.kafka.clients import make_producer, stop_quietly
from shared.runtime.failpoints import failpoint
from shared.runtime.ticks import Periodic
from shared.runtime.tracing import publishing

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

    from shared.db.pool import Connection, Pool
    from shared.telemetry.catalogue import Telemetry

BATCH_ROWS = 1_000
IDLE_S = 0.05
RETRY_S = 1.0
SEND_TIMEOUT_S = 15.0
COUNT_INTERVAL_S = 5.0
KEEP_PUBLISHED = "7 days"

UNPUBLISHED = """
    SELECT id, topic, key, value FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT $1
"""

log = structlog.get_logger()


@dataclass(slots=True)
class Relay:
    """Publishes one schema's outbox until told to stop."""

    pool: Pool
    bootstrap: str
    topic_prefix: str
    service: str
    telemetry: Telemetry

    async def run(self, stop: asyncio.Event) -> None:
        """Publish, and show how much waits, also while the broker is away."""
        async with asyncio.TaskGroup() as tasks:
            relaying = tasks.create_task(self._relay(stop))
            tasks.create_task(Periodic("outbox", COUNT_INTERVAL_S, self._count_waiting).run(stop))
            # A group passes over a task that was cancelled: without this the relay would be gone
            # and the process live on.
            await relaying

    async def _relay(self, stop: asyncio.Event) -> None:
        """Hold the advisory lock, publish, and begin anew after any error."""
        while not stop.is_set():
            try:
                await self._lead(stop)
            except (
                KafkaError,
                OSError,
                TimeoutError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,
            ) as error:
                log.warning("relay.retry", service=self.service, error=type(error).__name__)
                await _pause(stop, RETRY_S)

    async def _lead(self, stop: asyncio.Event) -> None:
        async with self.pool.acquire() as lock:
            key = zlib.crc32(f"relay/{self.service}".encode())
            while not await lock.fetchval("SELECT pg_try_advisory_lock($1)", key):
                if await _pause(stop, RETRY_S):
                    return
            producer = make_producer(self.bootstrap, client_id=f"{self.service}-relay")
            try:
                await asyncio.wait_for(producer.start(), SEND_TIMEOUT_S)
                while not stop.is_set():
                    if not await self._publish(lock, producer):
                        await _pause(stop, IDLE_S)
            finally:
                await stop_quietly(producer)

    async def _publish(self, connection: Connection, producer: AIOKafkaProducer) -> int:
        rows = await connection.fetch(UNPUBLISHED, BATCH_ROWS)
        if not rows:
            return 0
        await failpoint("relay.read")
        with publishing(self.telemetry.traces, rows):
            await self._send(producer, rows)
        await failpoint("relay.sent")
        await connection.execute(
            "UPDATE outbox SET published_at = now() WHERE id = ANY($1::bigint[])",
            [row["id"] for row in rows],
        )
        await failpoint("relay.marked")
        for topic, count in Counter(row["topic"] for row in rows).items():
            self.telemetry.outbox_published.labels(topic=topic).inc(count)
        return len(rows)

    async def _send(self, producer: AIOKafkaProducer, rows: Sequence[asyncpg.Record]) -> None:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            sent = [
                await producer.send(
                    self.topic_prefix + row["topic"], key=row["key"], value=row["value"]
                )
                for row in rows
            ]
            await asyncio.gather(*sent)

    async def _count_waiting(self) -> None:
        waiting = await self.pool.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL")
        self.telemetry.outbox_waiting.set(waiting)


async def prune_outbox(pool: Pool) -> None:
    """Drop rows that were published long ago; the topic is their home."""
    await pool.execute(
        f"DELETE FROM outbox WHERE published_at < now() - interval '{KEEP_PUBLISHED}'"  # noqa: S608 - a constant
    )


async def _pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait, but no longer than until `stop`; whether it was set."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True
