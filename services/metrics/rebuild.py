"""`rebuild`: derive every table anew from the topics, and say whether anything came out different.

Owned tables stay: quotas, dispositions, episodes. Nothing is announced: the first judgement of
what was projected anew opens episodes silently. No consumer may run meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
import time
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog
from aiokafka import TopicPartition

from services.metrics.consumer import SUBSCRIPTION
from services.metrics.dump import canonical_dump, dump_digest
from services.metrics.handlers import apply_facts
from services.metrics.projector import Known, MetricsProjector
from services.metrics.settings import MetricsSettings
from shared.db.pool import DATABASE_ERRORS
from shared.errors import Misconfigured
from shared.facts.marks import count_marks
from shared.facts.settle import Settler
from shared.kafka.clients import make_consumer, stop_quietly
from shared.runtime.consume import Consumer, Message
from shared.runtime.ticks import Periodic
from shared.telemetry.catalogue import Telemetry

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

    from shared.db.pool import Connection, Pool

LOCK_KEY = zlib.crc32(b"metrics/rebuild")
GUARD_INTERVAL_S = 1.0
END_WAIT_S = 30.0

DERIVED = (
    "record",
    "root",
    "mark",
    "cell",
    "people_set",
    "deal_span",
    "activity_row",
    "account_segment",
    "booking_change",
    "unjudged_import",
    "import_burst",
    "consumer_offset",
)

log = structlog.get_logger()


async def hold_against_rebuild(pool: Pool, stop: asyncio.Event) -> None:
    """Hold the shared lock that keeps a rebuild off, for as long as this process consumes."""
    while not stop.is_set():
        try:
            async with pool.acquire() as connection:
                held = await connection.fetchval("SELECT pg_try_advisory_lock_shared($1)", LOCK_KEY)
                if not held:
                    raise Misconfigured("a rebuild is going on; start the consumer when it is done")
                while not stop.is_set():
                    await connection.fetchval("SELECT 1")
                    await _pause(stop, GUARD_INTERVAL_S)
                await connection.execute("SELECT pg_advisory_unlock_shared($1)", LOCK_KEY)
        except DATABASE_ERRORS as error:
            log.warning("guard.retry", error=type(error).__name__)
            await _pause(stop, GUARD_INTERVAL_S)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


async def rebuild(pool: Pool, settings: MetricsSettings, projector: MetricsProjector) -> None:
    """Empty the derived tables, read all topics to their present ends, and compare dumps.

    Raises Misconfigured while a consumer runs.
    """
    async with pool.acquire() as guard:
        if not await guard.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
            msg = "a consumer of metrics runs; stop it, then rebuild"
            raise Misconfigured(msg)
        try:
            before = await _digest(pool)
            await _empty(pool, projector)
            await _read_again(pool, settings, projector)
            after = await _digest(pool)
        finally:
            await guard.execute("SELECT pg_advisory_unlock($1)", LOCK_KEY)
    same = "the same" if before == after else "different"
    sys.stdout.write(f"before {before}\nafter  {after}\n{same}\n")


async def _digest(pool: Pool) -> str:
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        return dump_digest(await canonical_dump(tx))


async def _empty(pool: Pool, projector: MetricsProjector) -> None:
    async with pool.acquire() as tx, tx.transaction():
        await tx.execute(f"TRUNCATE {', '.join(DERIVED)} RESTART IDENTITY")
        # Whoever remembers the former world by its version is to read it again.
        await tx.execute("UPDATE lookup_version SET version = version + 1")
        await tx.execute("UPDATE reference_version SET version = version + 1")
    await Settler(projector).announce_code_version(pool)


async def _read_again(pool: Pool, settings: MetricsSettings, projector: MetricsProjector) -> None:
    """Run the consumer's own loop, silently, until it has passed the ends read at its start."""
    settler: Settler[Known] = Settler(projector)
    stop = asyncio.Event()
    ends = await _ends(settings)

    async def take(tx: Connection, messages: Sequence[Message]) -> None:
        await apply_facts(tx, [m.body for m in messages], settler, silent=True)

    consumer = Consumer(
        pool=pool,
        bootstrap=settings.kafka,
        topic_prefix=settings.topic_prefix,
        group="metrics",
        subscription=SUBSCRIPTION,
        handler=take,
        telemetry=Telemetry("metrics"),
    )
    loop_settler: Settler[Known] = Settler(projector)

    async def settle() -> int:
        return await loop_settler.settle_waiting(pool)

    tasks = [
        asyncio.create_task(consumer.run(stop)),
        asyncio.create_task(Periodic("settle", 0.05, settle).run(stop)),
    ]
    try:
        started = time.monotonic()
        while not await _passed(pool, ends, loop_settler):
            for task in tasks:
                if task.done():
                    await task
            if time.monotonic() - started > END_WAIT_S:
                log.info("rebuild.reading", marks=await count_marks(pool))
                started = time.monotonic()
            await asyncio.sleep(0.1)
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _passed(pool: Pool, ends: dict[tuple[str, int], int], settler: Settler[Known]) -> bool:
    rows = await pool.fetch(
        "SELECT topic, partition, next_offset FROM consumer_offset WHERE consumer_group = 'metrics'"
    )
    positions = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
    if any(positions.get(place, -1) < end for place, end in ends.items()):
        return False
    return not await count_marks(pool) and not await settler.sweep(pool)


async def _ends(settings: MetricsSettings) -> dict[tuple[str, int], int]:
    client: AIOKafkaConsumer = make_consumer(
        settings.kafka,
        group=settings.topic_prefix + "metrics-rebuild",
        client_id="metrics-rebuild",
    )
    await client.start()
    try:
        places = [
            TopicPartition(settings.topic_prefix + topic, partition)
            for topic in SUBSCRIPTION.topics
            for partition in await _partitions(client, settings.topic_prefix + topic)
        ]
        ends = await client.end_offsets(places)
    finally:
        await stop_quietly(client)
    prefix = settings.topic_prefix
    return {(tp.topic.removeprefix(prefix), tp.partition): end for tp, end in ends.items()}


async def _partitions(client: AIOKafkaConsumer, topic: str) -> list[int]:
    await client._client.force_metadata_update()  # noqa: SLF001 - aiokafka has no public way
    return sorted(client.partitions_for_topic(topic) or ())
