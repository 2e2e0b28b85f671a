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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
from shared.events.catalogue import PARTITIONS
from shared.kafka.clients import ensure_topics, make_consumer, stop_quietly
from shared.runtime.ahead import POLL_TIMEOUT_MS, Ahead, NotFollowingError
from shared.runtime.dead_letters import DeadLetter, bury
from shared.runtime.failpoints import failpoint
from shared.runtime.messages import (
    Handler,
    Message,
    Readout,
    Subscription,
    add_readout,
    letter_of,
    read_records,
)
from shared.runtime.positions import (
    Claim,
    Move,
    begin_partition,
    claim_partitions,
    move_positions,
)
from shared.runtime.progress import Progress

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.structs import ConsumerRecord

    from shared.telemetry.catalogue import Telemetry

__all__ = ["BATCH_RECORDS", "Consumer", "FencedError", "Handler", "Message", "Subscription"]

BATCH_RECORDS = 5_000
RETRY_S = 1.0
TRANSACTION_TRIES = 5
"""Serialisation failures, deadlocks and lock timeouts are tried again this often."""

DEAD_LETTER_RUN = 20
"""So many records in a row that a handler refuses stall the partition: rather a bad deploy."""

log = structlog.get_logger()

RETRIED = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)
BROKEN = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
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
    _claims: dict[TopicPartition, Claim] = field(default_factory=dict)
    _stalled: set[TopicPartition] = field(default_factory=set)
    _rebalanced: _Rebalanced = field(default_factory=_Rebalanced)
    _progress: Progress = field(init=False)
    _ahead: Ahead = field(init=False)

    def __post_init__(self) -> None:
        self._ahead = Ahead(self.batch_records, self._read)
        self._progress = Progress(self.telemetry, self.subscription.topics, self._plain)

    def catching_up(self) -> bool:
        """Whether much is waiting to be read, so that work that can wait had better wait."""
        return self._progress.catching_up()

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
                await self._ahead.drop()
                await stop_quietly(consumer)

    async def _step(self, consumer: AIOKafkaConsumer) -> None:
        if self._rebalanced.happened:
            # A rebalance drops positions, also of partitions that stay.
            self._rebalanced.happened = False
            self._claims.clear()
        if not self._claims:
            # Before positions are sought again, or what it polls would be missing after them.
            await self._ahead.drop()
        await self._claim_missing(consumer)
        ready = [tp for tp in self._claims if tp not in self._stalled]
        if not ready:
            await asyncio.sleep(POLL_TIMEOUT_MS / 1000)
            return
        try:
            polled = await self._ahead.poll(consumer, self._claims, ready)
        except (NotFollowingError, NoOffsetForPartitionError, IllegalStateError):
            self._claims.clear()
            return
        except OffsetOutOfRangeError as error:
            self._stall_outside_log(error)
            return
        await self._progress.watch_lag(
            consumer, {tp: claim.next_offset for tp, claim in self._claims.items()}
        )
        batch = self._from_position(polled)
        if batch:
            await failpoint("consume.polled")
            await self._apply(consumer, batch)

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

    async def _claim(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Claim]:
        places = {(self._plain(tp.topic), tp.partition): tp for tp in partitions}
        claims = await claim_partitions(self.pool, self.group, list(places))
        return {places[place]: claim for place, claim in claims.items()}

    async def _begin(self, tp: TopicPartition, claim: Claim, start: int) -> int:
        """A group's first position in a partition is the beginning of its log."""
        first = Claim(claim.epoch, start)
        await begin_partition(self.pool, self.group, self._plain(tp.topic), tp.partition, first)
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
        self._ahead.begin(consumer, self._claims, batch)
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
        messages, unreadable = ([], list(buried)) if buried is not None else self._readout(batch)
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
        self._progress.committed(batch, (messages, unreadable), time.perf_counter() - started)

    async def _move_positions(
        self, tx: Connection, batch: Mapping[TopicPartition, list[ConsumerRecord]]
    ) -> None:
        """The fence: every position moves from where this worker's claim left it, or none does."""
        moves = [
            Move(
                self._plain(tp.topic),
                tp.partition,
                self._claims[tp].epoch,
                self._claims[tp].next_offset,
                batch[tp][-1].offset + 1,
            )
            for tp in sorted(batch)
        ]
        if await move_positions(tx, self.group, moves) != len(moves):
            raise FencedError

    def _readout(self, batch: Mapping[TopicPartition, list[ConsumerRecord]]) -> Readout:
        """What `batch` says; at once where it was read while the one before it was under way."""
        known = self._ahead.readout_of(batch)
        return self._read(batch) if known is None else known

    def _read(self, batch: Mapping[TopicPartition, list[ConsumerRecord]]) -> Readout:
        readout: Readout = ([], [])
        for tp, records in batch.items():
            add_readout(readout, read_records(self.subscription, self._plain(tp.topic), records))
        return readout

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
                    letter = letter_of(
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

    def _plain(self, topic: str) -> str:
        return topic.removeprefix(self.topic_prefix)


async def _roll_back(connection: Connection, transaction: asyncpg.transaction.Transaction) -> None:
    """Roll back, and give the connection up when even that fails."""
    try:
        await asyncio.shield(transaction.rollback())
    except (*BROKEN, asyncpg.PostgresError):
        connection.terminate()
