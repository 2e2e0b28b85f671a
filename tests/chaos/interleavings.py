"""Chosen interleavings of two workers, on real Kafka and PostgreSQL, each with its own invariant.

Random faults do not find a fence that was removed; a worker that is held at a named failpoint
while another goes on does. Every scenario raises AssertionError when an effect is lost or doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import asyncpg
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from shared.db.pool import Connection, Pool, create_pool
from shared.events.catalogue import topics
from shared.events.envelope import Envelope
from shared.facts.marks import RootKey, Touched, add_marks
from shared.facts.settle import Settler
from shared.kafka.clients import ensure_topics, make_consumer, stop_quietly
from shared.runtime.consume import Consumer, FencedError, Handler, Message
from shared.runtime.failpoints import hooked
from shared.runtime.outbox import add_to_outbox
from shared.runtime.relay import Relay
from shared.telemetry.catalogue import Telemetry
from tests.support.paid_deals import (
    SCHEMA,
    SUBSCRIPTION,
    PaidDeals,
    create_schema,
    fact,
    handler_for,
    send,
)

Batch = dict[TopicPartition, list[Any]]
HELD_FOR_S = 1.0
"""How long a held worker waits for the other one, which the healthy code may keep waiting."""


@dataclass(slots=True)
class Ground:
    """A schema of the tiny service, topics of its own, and what workers are made with."""

    url: str
    bootstrap: str
    prefix: str
    pool: Pool

    async def worker(self, wrap: Callable[[Handler], Handler] = lambda handler: handler) -> Worker:
        """A worker that has claimed nothing yet."""
        settler = Settler(PaidDeals())
        await settler.announce_code_version(self.pool)
        consumer = Consumer(
            pool=self.pool,
            bootstrap=self.bootstrap,
            topic_prefix=self.prefix,
            group="paid_deals",
            subscription=SUBSCRIPTION,
            handler=wrap(handler_for(settler)),
            telemetry=Telemetry("paid_deals"),
        )
        return Worker(self, consumer, settler)

    async def batch(self, events: Sequence[Envelope]) -> Batch:
        """Send `events` and read everything that the topics hold."""
        await send(self.bootstrap, self.prefix, events)
        reader = make_consumer(self.bootstrap, group=f"{self.prefix}reader", client_id="reader")
        await reader.start()
        try:
            parts = [
                TopicPartition(topic, number)
                for topic, count in topics(self.prefix).items()
                for number in range(count)
            ]
            reader.assign(parts)
            await reader.seek_to_beginning(*parts)
            ends = await reader.end_offsets(parts)
            held: Batch = {}
            while any(len(held.get(tp, ())) < end for tp, end in ends.items()):
                for tp, records in (await reader.getmany(*parts, timeout_ms=200)).items():
                    held.setdefault(tp, []).extend(records)
            return held
        finally:
            await stop_quietly(reader)

    async def paid(self) -> dict[str, Decimal]:
        """Sums per owner, without zeros, once everything that waits is settled."""
        await self.settle_all()
        rows = await self.pool.fetch("SELECT owner, amount FROM paid WHERE amount <> 0")
        return {row["owner"]: row["amount"] for row in rows}

    async def settle_all(self) -> None:
        """What the loops beside a consumer do, until nothing waits."""
        settler = Settler(PaidDeals())
        for _ in range(20):
            if not await settler.settle_waiting(self.pool) and not await settler.sweep(self.pool):
                return

    async def settle_again(self) -> None:
        """Mark every root and settle: changes nothing where contributions are true."""
        rows = await self.pool.fetch("SELECT id FROM root")
        async with self.pool.acquire() as tx, tx.transaction():
            await add_marks(tx, [Touched(RootKey("deal", row["id"])) for row in rows])
        await self.settle_all()


@dataclass(slots=True)
class Worker:
    """One consumer, driven step by step."""

    ground: Ground
    consumer: Consumer
    settler: Settler[frozenset[str]]

    async def take(self, batch: Batch) -> Batch:
        """Claim the batch's partitions; what of it is left to do from the claimed positions."""
        claims = await self.consumer._claim(sorted(batch))
        for tp, claim in claims.items():
            if claim.next_offset < 0:
                claim.next_offset = await self.consumer._begin(tp, claim, 0)
            self.consumer._claims[tp] = claim
        return self.consumer._from_position(batch)

    async def apply(self, batch: Batch) -> None:
        """One batch, with the consumer's own retries."""
        if batch:
            await self.consumer._with_retries(batch)


@asynccontextmanager
async def ground(url: str, bootstrap: str, prefix: str) -> AsyncIterator[Ground]:
    """A fresh schema in the database at `url`, and fresh topics."""
    admin = await asyncpg.connect(url)
    await admin.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    await admin.close()
    await create_schema(url)
    await ensure_topics(bootstrap, topics(prefix))
    pool = await create_pool(url, schema=SCHEMA, name="interleaving", max_size=8)
    try:
        yield Ground(url, bootstrap, prefix, pool)
    finally:
        await pool.close()
        await _forget_topics(bootstrap, prefix)


async def _forget_topics(bootstrap: str, prefix: str) -> None:
    """A broker with thousands of partitions of past scenarios slows down those to come."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(list(topics(prefix)))
    finally:
        await admin.close()


@asynccontextmanager
async def held(name: str, failpoint: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` as the task `name` until it reaches `failpoint`; let it go on at the end."""
    reached, released = asyncio.Event(), asyncio.Event()

    async def hook() -> None:
        task = asyncio.current_task()
        if task is not None and task.get_name() == name and not reached.is_set():
            reached.set()
            await released.wait()

    with hooked(failpoint, hook):
        task = asyncio.create_task(work, name=name)
        await asyncio.wait_for(reached.wait(), 20)
        yield
        released.set()
        await asyncio.gather(task, return_exceptions=True)


async def _meanwhile(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start `work` and give it its time; the healthy code may still be waiting then."""
    task = asyncio.create_task(work)
    await asyncio.wait({task}, timeout=HELD_FOR_S)
    return task


def _part(batch: Batch, topic: str) -> Batch:
    return {tp: records for tp, records in batch.items() if tp.topic.endswith(topic)}


async def takeover_while_folding(on: Ground) -> None:
    """A worker is overtaken between reading records and writing them: no patch is lost."""
    batch = await on.batch(
        [fact("deal", "a:b:1", 1, owner="ana"), fact("payment", "a:b:p", 1, amount="5")]
    )
    payments = _part(batch, "billing")
    first, second = await on.worker(), await on.worker()
    await first.apply(await first.take(_part(batch, "deals")))
    mine = await first.take(payments)

    async def take_over() -> None:
        more = await on.batch([fact("payment", "a:b:p", 2, deal="a:b:1")])
        await second.apply(await second.take(_part(more, "billing")))

    async with held("first", "facts.folded", first.apply(mine)):
        task = await _meanwhile(take_over())
    await asyncio.gather(task)
    await on.settle_again()
    assert await on.paid() == {"ana": Decimal(5)}


async def two_workers_on_one_root(on: Ground) -> None:
    """Two payments of one deal settle at the same time; contributions stay true."""
    batch = await on.batch([fact("deal", "a:b:1", 1, owner="ana")])
    first, second = await on.worker(), await on.worker()
    await first.apply(await first.take(batch))
    batch = await on.batch(
        [
            fact("payment", f"a:b:p{number}", 2, amount=str(number), deal="a:b:1")
            for number in (1, 2, 3, 4, 5, 6, 7, 8)
        ]
    )
    parts = sorted(_part(batch, "billing").items())
    assert len(parts) > 1, "the payments must lie in several partitions"
    mine, other = dict(parts[:1]), dict(parts[1:])
    mine = await first.take(mine)
    async with held("first", "settle.projected", first.apply(mine)):
        task = await _meanwhile(second.apply(await second.take(other)))
    await asyncio.gather(task)
    await on.settle_all()
    await on.settle_again()
    assert await on.paid() == {"ana": Decimal(36)}


async def change_while_settling(on: Ground) -> None:
    """A payment commits while its deal is being settled: its mark outlives that settling."""
    batch = await on.batch([fact("deal", "a:b:1", 1, owner="ana")])
    first, second = await on.worker(), await on.worker()
    await first.apply(await first.take(batch))
    async with on.pool.acquire() as tx, tx.transaction():
        await add_marks(tx, [Touched(RootKey("deal", "a:b:1"))])
    batch = await on.batch([fact("payment", "a:b:p", 2, amount="5", deal="a:b:1")])
    payments = await second.take(_part(batch, "billing"))

    async def settle() -> None:
        await first.settler.settle_waiting(on.pool)

    async with held("first", "settle.projected", settle()):
        task = await _meanwhile(second.apply(payments))
    await asyncio.gather(task)
    assert await on.paid() == {"ana": Decimal(5)}


async def reference_changes_while_settling(on: Ground) -> None:
    """An owner becomes inactive while a deal of theirs settles with the old knowledge."""
    batch = await on.batch([fact("deal", "a:b:1", 1, owner="ana")])
    first, second = await on.worker(), await on.worker()
    await first.apply(await first.take(batch))
    batch = await on.batch(
        [
            fact("payment", "a:b:p", 2, amount="5", deal="a:b:1"),
            fact("person", "ana", 3, active=False),
        ]
    )
    mine = await first.take(_part(batch, "billing"))
    people = await second.take(_part(batch, "people"))
    async with held("first", "settle.projected", first.apply(mine)):
        task = await _meanwhile(second.apply(people))
    await asyncio.gather(task)
    assert await on.paid() == {}


async def same_root_twice(on: Ground) -> None:
    """A second payment adds its own amount, not the first one's again."""
    batch = await on.batch(
        [
            fact("deal", "a:b:1", 1, owner="ana"),
            fact("payment", "a:b:p1", 1, amount="5", deal="a:b:1"),
        ]
    )
    worker = await on.worker()
    await worker.apply(await worker.take(batch))
    batch = await on.batch([fact("payment", "a:b:p2", 1, amount="7", deal="a:b:1")])
    await worker.apply(await worker.take(batch))
    assert await on.paid() == {"ana": Decimal(12)}


async def failure_after_handling(on: Ground) -> None:
    """The connection breaks before the commit: the next owner reads the batch again."""
    batch = await on.batch(
        [
            fact("deal", "a:b:1", 1, owner="ana"),
            fact("payment", "a:b:p1", 1, amount="5", deal="a:b:1"),
        ]
    )
    first, second = await on.worker(), await on.worker()
    mine = await first.take(batch)

    async def broken() -> None:
        raise ConnectionResetError

    with hooked("consume.handled", broken), suppress(ConnectionResetError):
        await first.apply(mine)
    await second.apply(await second.take(batch))
    assert await on.paid() == {"ana": Decimal(5)}


async def overtaken_before_the_batch(on: Ground) -> None:
    """A worker with a batch in hand wakes after another took the partition: it writes nothing."""
    batch = await on.batch([fact("deal", "a:b:1", 1, owner="ana")])
    first, second = await on.worker(), await on.worker()
    stale = await first.take(batch)
    await second.apply(await second.take(batch))
    before = await on.pool.fetch("SELECT * FROM consumer_offset ORDER BY topic, partition")
    try:
        await first.apply(stale)
    except FencedError:
        pass
    else:
        msg = "an overtaken worker was not fenced"
        raise AssertionError(msg)
    after = await on.pool.fetch("SELECT * FROM consumer_offset ORDER BY topic, partition")
    assert before == after


async def one_refused_record(on: Ground) -> None:
    """A record that the database refuses becomes a dead letter; all others take effect."""
    batch = await on.batch(
        [
            fact("deal", "a:b:1", 1, owner="ana"),
            fact("deal", "a:b:2", 1, owner="ana", name="poison"),
            fact("payment", "a:b:p1", 1, amount="5", deal="a:b:1"),
        ]
    )

    def poisoned(handler: Handler) -> Handler:
        async def handle(tx: Connection, messages: Sequence[Message]) -> None:
            await handler(tx, messages)
            if any(m.body.fields.get("name") == "poison" for m in messages):
                await tx.execute("SELECT 1 / 0")

        return handle

    worker = await on.worker(poisoned)
    mine = await worker.take(batch)
    try:
        await worker.apply(mine)
    except asyncpg.DivisionByZeroError:
        await worker.consumer._isolate(mine)
    assert await on.paid() == {"ana": Decimal(5)}
    letters = await on.pool.fetch("SELECT subject FROM dead_letter")
    assert [row["subject"] for row in letters] == ["deal/a:b:2"]


async def late_commit_in_the_outbox(on: Ground) -> None:
    """A row with a lower id commits after one with a higher id was published."""
    stop = asyncio.Event()
    telemetry = Telemetry("paid_deals")
    made = Relay(on.pool, on.bootstrap, on.prefix, "paid_deals", telemetry)
    relay = asyncio.create_task(made.run(stop))
    try:
        async with on.pool.acquire() as slow, slow.transaction():
            await add_to_outbox(slow, "crm.deals", [fact("deal", "a:b:1", 1, owner="ana")])
            async with on.pool.acquire() as quick, quick.transaction():
                await add_to_outbox(quick, "crm.deals", [fact("deal", "a:b:2", 1, owner="bob")])
            await _until_published(on, 1)
        await _until_published(on, 2)
    finally:
        stop.set()
        await relay
    assert _published(telemetry) == 2


def _published(telemetry: Telemetry) -> float:
    return sum(
        sample.value
        for family in telemetry.outbox_published.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    )


async def _until_published(on: Ground, count: int) -> None:
    for _ in range(100):
        sent = await on.pool.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NOT NULL")
        if sent >= count:
            return
        await asyncio.sleep(0.05)
    msg = f"fewer than {count} outbox rows were published"
    raise AssertionError(msg)
