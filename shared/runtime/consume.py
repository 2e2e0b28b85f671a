"""The consumer: batches from Kafka, each one PostgreSQL transaction with its own positions.

The position of a partition lives in `consumer_offset`, beside what the batch wrote. Claiming a
partition adds one to its epoch and gives the position; a batch begins by moving the position under
that epoch. A worker that lost its partition, or that reads twice, moves nothing and is fenced.
After any error the outcome is unknown: the connection and the claims are dropped, and the position
is read back. Kafka's own committed offsets follow for lag graphs only.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from shared.db.pool import Connection, Pool
from shared.errors import InvalidValue
from shared.events.catalogue import PARTITIONS
from shared.events.envelope import Envelope, decode
from shared.kafka.clients import ensure_topics, make_consumer, stop_quietly
from shared.runtime.dead_letters import DeadLetter, bury
from shared.runtime.failpoints import failpoint

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.structs import ConsumerRecord

    from shared.telemetry.catalogue import Telemetry

BATCH_RECORDS = 5_000
POLL_TIMEOUT_MS = 100
LAG_INTERVAL_S = 5.0
RETRY_S = 1.0
TRANSACTION_TRIES = 5
"""Serialisation failures, deadlocks and lock timeouts are tried again this often."""

DEAD_LETTER_RUN = 20
"""So many records in a row that a handler refuses stall the partition: rather a bad deploy."""

log = structlog.get_logger()

Reader = Callable[[Envelope], Any]

RETRIED = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)
BROKEN = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.QueryCanceledError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DiskFullError,
    OSError,
    TimeoutError,
)
"""The database or the way to it failed, not the record."""


class FencedError(Exception):
    """The position was not where this worker left it: somebody else owns the partition."""


@dataclass(frozen=True, slots=True)
class Message:
    """One readable event of a batch; `body` is what the subscription's reader made of it."""

    topic: str
    partition: int
    message_offset: int
    envelope: Envelope
    body: Any


Handler = Callable[[Connection, Sequence[Message]], Coroutine[Any, Any, None]]
"""What a service does with a batch, in the batch's transaction; any exception rolls it back."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Topics (without prefix), how each event type is read, and which types are none of ours."""

    topics: Sequence[str]
    readers: Mapping[str, Reader]
    ignored: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Claim:
    epoch: int
    next_offset: int


class _Rebalanced(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Notes that positions are gone. It never raises: aiokafka would swallow it."""

    def __init__(self) -> None:
        self.happened = True

    async def on_partitions_revoked(self, _revoked: object) -> None:
        self.happened = True

    async def on_partitions_assigned(self, _assigned: object) -> None:
        self.happened = True


@dataclass(slots=True)
class Consumer:
    """Reads one subscription with one handler until told to stop.

    own_topics: what this service writes; created at the start, as are the topics it reads.
    replication: copies of each topic that is created.
    """

    pool: Pool
    bootstrap: str
    topic_prefix: str
    group: str
    subscription: Subscription
    handler: Handler
    telemetry: Telemetry
    instance_id: str | None = None
    batch_records: int = BATCH_RECORDS
    after_commit: Callable[[], Awaitable[None]] | None = None
    own_topics: Sequence[str] = ()
    replication: int = 1
    _claims: dict[TopicPartition, _Claim] = field(default_factory=dict)
    _stalled: set[TopicPartition] = field(default_factory=set)
    _rebalanced: _Rebalanced = field(default_factory=_Rebalanced)
    _lag_seen_s: float = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Consume; begin anew with a fresh client after an error of the broker."""
        while not stop.is_set():
            consumer = make_consumer(
                self.bootstrap,
                group=self.topic_prefix + self.group,
                client_id=self.group,
                instance_id=self.instance_id,
            )
            try:
                await ensure_topics(self.bootstrap, self._topics(), replication=self.replication)
                consumer.subscribe(
                    [self.topic_prefix + topic for topic in self.subscription.topics],
                    listener=self._rebalanced,
                )
                await consumer.start()
                while not stop.is_set():
                    await self._step(consumer)
            except (KafkaError, *BROKEN, *RETRIED) as error:
                log.warning("consume.retry", group=self.group, error=type(error).__name__)
                await asyncio.sleep(RETRY_S)
            finally:
                self._claims.clear()
                await stop_quietly(consumer)

    async def _step(self, consumer: AIOKafkaConsumer) -> None:
        if self._rebalanced.happened:
            # A rebalance drops positions, also of partitions that stay.
            self._rebalanced.happened = False
            self._claims.clear()
        await self._claim_missing(consumer)
        ready = [tp for tp in self._claims if tp not in self._stalled]
        if not ready:
            await asyncio.sleep(POLL_TIMEOUT_MS / 1000)
            return
        try:
            polled = await consumer.getmany(
                *ready, timeout_ms=POLL_TIMEOUT_MS, max_records=self.batch_records
            )
        except (NoOffsetForPartitionError, IllegalStateError):
            self._claims.clear()
            return
        except OffsetOutOfRangeError as error:
            self._stall_outside_log(error)
            return
        await self._watch_lag(consumer)
        await failpoint("consume.polled")
        batch = self._from_position(polled)
        if batch:
            await self._apply(consumer, batch)

    async def _watch_lag(self, consumer: AIOKafkaConsumer) -> None:
        """How far the claimed partitions are behind their logs, now and then."""
        if time.monotonic() - self._lag_seen_s < LAG_INTERVAL_S:
            return
        self._lag_seen_s = time.monotonic()
        behind = dict.fromkeys(self.subscription.topics, 0)
        ends = await consumer.end_offsets(list(self._claims))
        for tp, claim in self._claims.items():
            behind[self._plain(tp.topic)] += max(0, ends[tp] - claim.next_offset)
        for topic, records in behind.items():
            self.telemetry.lag_records.labels(topic=topic).set(records)
            if not records:
                self.telemetry.lag_s.labels(topic=topic).set(0)

    def _topics(self) -> dict[str, int]:
        wanted = {*self.subscription.topics, *self.own_topics}
        return {self.topic_prefix + topic: PARTITIONS[topic] for topic in sorted(wanted)}

    async def _claim_missing(self, consumer: AIOKafkaConsumer) -> None:
        assigned = consumer.assignment()
        for lost in [tp for tp in self._claims if tp not in assigned]:
            del self._claims[lost]
        missing = sorted(assigned - self._claims.keys() - self._stalled)
        if not missing:
            return
        claims = await self._claim(missing)
        starts = await consumer.beginning_offsets(missing)
        ends = await consumer.end_offsets(missing)
        for tp, claim in claims.items():
            if claim.next_offset < 0:
                claim.next_offset = await self._begin(tp, claim, starts[tp])
            if not starts[tp] <= claim.next_offset <= ends[tp]:
                log.error(
                    "consume.outside_log",
                    topic=tp.topic,
                    partition=tp.partition,
                    position=claim.next_offset,
                    start=starts[tp],
                    end=ends[tp],
                )
                self._stall(tp)
                continue
            try:
                consumer.seek(tp, claim.next_offset)
            except IllegalStateError:
                return
            self._claims[tp] = claim
        await failpoint("consume.claimed")

    async def _claim(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, _Claim]:
        rows = await self.pool.fetch(
            """
            INSERT INTO consumer_offset (consumer_group, topic, partition, epoch, next_offset)
            SELECT $1, topic, partition, 1, -1
            FROM unnest($2::text[], $3::int[]) AS claimed(topic, partition)
            ORDER BY topic, partition
            ON CONFLICT (consumer_group, topic, partition)
            DO UPDATE SET epoch = consumer_offset.epoch + 1
            RETURNING topic, partition, epoch, next_offset
            """,
            self.group,
            [self._plain(tp.topic) for tp in partitions],
            [tp.partition for tp in partitions],
        )
        return {
            TopicPartition(self.topic_prefix + row["topic"], row["partition"]): _Claim(
                row["epoch"], row["next_offset"]
            )
            for row in rows
        }

    async def _begin(self, tp: TopicPartition, claim: _Claim, start: int) -> int:
        """A group's first position in a partition is the beginning of its log."""
        await self.pool.execute(
            "UPDATE consumer_offset SET next_offset = $5 WHERE consumer_group = $1 "
            "AND topic = $2 AND partition = $3 AND epoch = $4 AND next_offset = -1",
            self.group,
            self._plain(tp.topic),
            tp.partition,
            claim.epoch,
            start,
        )
        return start

    def _from_position(
        self, polled: Mapping[TopicPartition, list[ConsumerRecord]]
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Records of claimed partitions, from the claimed position on."""
        batch = {}
        for tp, records in polled.items():
            if (claim := self._claims.get(tp)) is None:
                continue
            if fresh := [record for record in records if record.offset >= claim.next_offset]:
                batch[tp] = fresh
        return batch

    async def _apply(
        self, consumer: AIOKafkaConsumer, batch: dict[TopicPartition, list[ConsumerRecord]]
    ) -> None:
        try:
            await self._with_retries(batch)
        except FencedError:
            for tp in batch:
                self.telemetry.fences.labels(topic=self._plain(tp.topic)).inc()
            log.info("consume.fenced", group=self.group)
            self._claims.clear()
            return
        except BROKEN as error:
            # Perhaps committed, perhaps not: the position tells, read back with a new claim.
            log.warning("consume.outcome_unknown", group=self.group, error=type(error).__name__)
            self._claims.clear()
            await asyncio.sleep(RETRY_S)
            return
        except Exception:
            log.exception("consume.handler_failed", group=self.group)
            await self._isolate(batch)
        await failpoint("consume.committed")
        await self._follow_up(consumer)

    async def _follow_up(self, consumer: AIOKafkaConsumer) -> None:
        if self.after_commit is not None:
            await self.after_commit()
        positions = {tp: claim.next_offset for tp, claim in self._claims.items()}
        try:
            if positions:
                await asyncio.wait_for(consumer.commit(positions), 1.0)
        except (KafkaError, TimeoutError, IllegalStateError):
            log.debug("consume.lag_commit_failed", group=self.group)

    async def _with_retries(self, batch: Mapping[TopicPartition, list[ConsumerRecord]]) -> None:
        for attempt in range(1, TRANSACTION_TRIES + 1):
            try:
                await self._transact(batch)
            except RETRIED as error:
                if attempt == TRANSACTION_TRIES:
                    raise TimeoutError from error
                await asyncio.sleep(0.02 * 2**attempt)
            else:
                return

    async def _transact(
        self,
        batch: Mapping[TopicPartition, list[ConsumerRecord]],
        buried: Sequence[DeadLetter] | None = None,
    ) -> None:
        """One batch, one transaction: fence, handle, dead letters, commit.

        With `buried` given, the records are not handled but kept as these dead letters.
        """
        started = time.perf_counter()
        messages, unreadable = ([], buried) if buried is not None else self._read(batch)
        connection = await self.pool.acquire()
        try:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await self._move_positions(connection, batch)
                await failpoint("consume.fenced")
                await bury(connection, unreadable)
                if messages:
                    await self.handler(connection, messages)
                await failpoint("consume.handled")
            except BaseException:
                await _roll_back(connection, transaction)
                raise
            await transaction.commit()
        except BROKEN:
            connection.terminate()
            raise
        finally:
            await self.pool.release(connection)
        for tp, records in batch.items():
            self._claims[tp].next_offset = records[-1].offset + 1
        self._observe(batch, messages, unreadable, time.perf_counter() - started)

    async def _move_positions(
        self, tx: Connection, batch: Mapping[TopicPartition, list[ConsumerRecord]]
    ) -> None:
        """The fence: every position moves from where this worker's claim left it, or none does."""
        order = sorted(batch)
        claims = [self._claims[tp] for tp in order]
        moved = await tx.fetch(
            """
            WITH mine AS (
                SELECT o.ctid, m.ends FROM consumer_offset o
                JOIN unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[])
                     AS m(topic, partition, epoch, starts, ends)
                  ON o.consumer_group = $1 AND o.topic = m.topic AND o.partition = m.partition
                 AND o.epoch = m.epoch AND o.next_offset = m.starts
                ORDER BY o.topic, o.partition
                FOR UPDATE OF o
            )
            UPDATE consumer_offset o SET next_offset = mine.ends
            FROM mine WHERE o.ctid = mine.ctid
            RETURNING o.topic
            """,
            self.group,
            [self._plain(tp.topic) for tp in order],
            [tp.partition for tp in order],
            [claim.epoch for claim in claims],
            [claim.next_offset for claim in claims],
            [batch[tp][-1].offset + 1 for tp in order],
        )
        if len(moved) != len(order):
            raise FencedError

    def _read(
        self, batch: Mapping[TopicPartition, list[ConsumerRecord]]
    ) -> tuple[list[Message], list[DeadLetter]]:
        messages: list[Message] = []
        letters: list[DeadLetter] = []
        readers = self.subscription.readers
        for tp, records in batch.items():
            topic = self._plain(tp.topic)
            for record in records:
                try:
                    envelope = decode(record.value or b"")
                    reader = readers.get(envelope.type)
                    if reader is None:
                        if envelope.type in self.subscription.ignored:
                            continue
                        letters.append(_letter(topic, record, "unknown_type", envelope.type))
                        continue
                    messages.append(
                        Message(topic, record.partition, record.offset, envelope, reader(envelope))
                    )
                except InvalidValue as error:
                    detail = f"{error.pointer or '/'}: {error.message}"
                    letters.append(_letter(topic, record, "unreadable", detail))
        return messages, letters

    async def _isolate(self, batch: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        """Halve a batch that its handler refuses, down to the records that are at fault.

        The whole run is given up, and the partition stalls, when too many in a row are at fault.
        """
        for tp, records in batch.items():
            run = 0
            pending = [records]
            while pending:
                part = pending.pop()
                try:
                    await self._with_retries({tp: part})
                    run = 0
                except (FencedError, *BROKEN):
                    self._claims.clear()
                    return
                except Exception as error:  # noqa: BLE001 - any fault of a handler isolates its record
                    if len(part) > 1:
                        middle = len(part) // 2
                        pending += [part[middle:], part[:middle]]
                        continue
                    run += 1
                    if run > DEAD_LETTER_RUN:
                        log.error("consume.stalled", topic=tp.topic, partition=tp.partition)  # noqa: TRY400 - traced per record already
                        self._stall(tp)
                        break
                    letter = _letter(
                        self._plain(tp.topic),
                        part[0],
                        "handler",
                        f"{type(error).__name__}: {error}",
                    )
                    await self._transact({tp: part}, [letter])

    def _stall_outside_log(self, error: OffsetOutOfRangeError) -> None:
        for tp in error.args[0]:
            log.error("consume.outside_log", topic=tp.topic, partition=tp.partition)
            self._stall(tp)

    def _stall(self, tp: TopicPartition) -> None:
        """Stop reading a partition until a person has looked and restarted this worker."""
        self.telemetry.partitions_stalled.labels(topic=self._plain(tp.topic)).inc()
        self._stalled.add(tp)
        self._claims.pop(tp, None)

    def _observe(
        self,
        batch: Mapping[TopicPartition, list[ConsumerRecord]],
        messages: Sequence[Message],
        letters: Sequence[DeadLetter],
        elapsed_s: float,
    ) -> None:
        self.telemetry.batch_records.observe(sum(len(records) for records in batch.values()))
        self.telemetry.batch_s.labels(outcome="committed").observe(elapsed_s)
        for topic, count in Counter(message.topic for message in messages).items():
            self.telemetry.facts_accepted.labels(topic=topic).inc(count)
        for letter in letters:
            self.telemetry.dead_letters.labels(topic=letter.topic, cause=letter.cause).inc()
        now_ms = time.time() * 1000
        for tp, records in batch.items():
            lag_s = max(0.0, (now_ms - records[-1].timestamp) / 1000)
            self.telemetry.lag_s.labels(topic=self._plain(tp.topic)).set(lag_s)

    def _plain(self, topic: str) -> str:
        return topic.removeprefix(self.topic_prefix)


def _letter(topic: str, record: ConsumerRecord, cause: str, detail: str) -> DeadLetter:
    return DeadLetter(
        topic=topic,
        partition=record.partition,
        message_offset=record.offset,
        subject=(record.key or b"").decode(errors="replace"),
        cause=cause,
        detail=detail,
        value=record.value or b"",
    )


async def _roll_back(connection: Connection, transaction: asyncpg.transaction.Transaction) -> None:
    """Roll back, and give the connection up when even that fails."""
    try:
        await asyncio.shield(transaction.rollback())
    except (*BROKEN, asyncpg.PostgresError):
        connection.terminate()
