"""Making a delivery durable: all of it in Kafka, or else all of it in the outbox.

An answer goes out only when every message of a delivery is acknowledged by all in-sync replicas
within one deadline, or is committed to the outbox, which the relay publishes. A send that timed
out may arrive all the same: its events have the same ids, and folding them twice changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING

import msgspec
import structlog
from aiokafka.errors import KafkaConnectionError, KafkaError

from services.ingest.batches import Batches, Message
from services.ingest.store import bounded_transaction, insert_outbox
from shared.db.pool import DATABASE_ERRORS
from shared.errors import Refused
from shared.events.catalogue import RECORD_KIND_BY_TYPE, RECORD_KINDS, topics
from shared.events.deliveries import DELIVERY
from shared.events.envelope import Envelope, encode
from shared.kafka.clients import (
    MAX_REQUEST_BYTES,
    STOP_TIMEOUT_S,
    ensure_topics,
    make_producer,
    stop_quietly,
)
from shared.runtime.failpoints import failpoint
from shared.telemetry.traces import current_traceparent

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

    from shared.db.pool import Pool

MAX_BYTES_IN_FLIGHT = 33_554_432
"""Sent and not yet acknowledged; what comes on top goes to the outbox, which bounds memory."""

MAX_MESSAGE_BYTES = MAX_REQUEST_BYTES - 4_096
"""Of one message's key and value; the rest is the record's frame."""

TOPICS = sorted({DELIVERY.topic, *(kind.topic for kind in RECORD_KINDS.values())})
"""What ingest writes to."""

START_TIMEOUT_S = 5.0
RETRY_S = 0.25
MAX_RETRY_S = 2.0
"""Pauses between attempts to reach Kafka, doubled up to this: recovery shows within about 2 s."""

log = structlog.get_logger()


class Kept(StrEnum):
    """Where a delivery is durable."""

    KAFKA = "kafka"
    OUTBOX = "outbox"


class NotDurable(Refused):
    """Neither Kafka nor the database took it: nothing was promised, the sender keeps it."""

    def __init__(self) -> None:
        super().__init__(
            "storage-unavailable",
            "Nothing can be stored at the moment, and nothing was taken. Send it again.",
            status=503,
        )


def message_of(envelope: Envelope) -> Message:
    """`envelope`, encoded once for wherever it goes. Raises Refused (413) when it is too large."""
    if envelope.traceparent is None and (here := current_traceparent()) is not None:
        # What the sender stated stays: that is where the event's trace begins.
        envelope = msgspec.structs.replace(envelope, traceparent=here)
    kind = RECORD_KIND_BY_TYPE.get(envelope.type)
    topic = DELIVERY.topic if kind is None else kind.topic
    message = Message(topic, envelope.subject.encode(), encode(envelope))
    if len(message.key) + len(message.value) > MAX_MESSAGE_BYTES:
        raise Refused("body-too-large", "One event or delivery is too large.", status=413)
    return message


class Publisher:
    """Takes whole deliveries, and answers when they are durable."""

    def __init__(self, kafka: KafkaLane, pool: Pool, *, database_timeout_s: float) -> None:
        self._kafka = kafka
        self._pool = pool
        self._database_timeout_s = database_timeout_s

    async def publish(self, messages: Sequence[Message]) -> Kept:
        """Make all of `messages` durable. Raises NotDurable when neither way is open."""
        if await self._kafka.send(messages):
            await failpoint("ingest.sent")
            return Kept.KAFKA
        try:
            async with bounded_transaction(self._pool, self._database_timeout_s) as tx:
                await insert_outbox(tx, messages)
        except DATABASE_ERRORS as error:
            log.warning("ingest.not_durable", error=type(error).__name__)
            raise NotDurable from None
        await failpoint("ingest.outboxed")
        return Kept.OUTBOX

    async def check(self) -> None:
        """Readiness: raises NotDurable while a delivery could not be kept."""
        if self._kafka.is_open:
            return
        try:
            async with bounded_transaction(self._pool, self._database_timeout_s) as tx:
                await tx.execute("SELECT 1")
        except DATABASE_ERRORS:
            raise NotDurable from None


class KafkaLane:
    """The idempotent producer behind a circuit breaker.

    Closed: deliveries are sent. Open, after any failure: they are not, so that answers stay
    quick, while a background task replaces the producer (one that failed may refuse everything
    that comes after). Half open, with a new producer: one delivery at a time tries.
    """

    def __init__(
        self, bootstrap: str, *, prefix: str, timeout_s: float, replication: int = 1
    ) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._replication = replication
        self._timeout_s = timeout_s
        self._batches: Batches | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._proven = False
        self._probing = False
        self._topics_exist = False
        self._bytes_in_flight = 0
        self._wanted = asyncio.Event()
        self._wanted.set()

    @property
    def is_open(self) -> bool:
        """Whether deliveries may go to Kafka, the trying one included."""
        return self._batches is not None

    async def send(self, messages: Sequence[Message]) -> bool:
        """Whether every one of `messages` was acknowledged in time. Raises nothing."""
        batches = self._batches
        size = sum(len(message.value) for message in messages)
        if batches is None or self._bytes_in_flight + size > MAX_BYTES_IN_FLIGHT:
            return False
        if self._proven:
            return await self._attempt(batches, messages, size)
        if self._probing:
            return False
        self._probing = True
        try:
            acknowledged = await self._attempt(batches, messages, size)
        finally:
            self._probing = False
        self._proven = acknowledged and self._batches is batches
        return acknowledged

    async def _attempt(self, batches: Batches, messages: Sequence[Message], size: int) -> bool:
        self._bytes_in_flight += size
        try:
            lost = await batches.send(messages, timeout_s=self._timeout_s)
        finally:
            self._bytes_in_flight -= size
        if lost is not None:
            self._trip(batches, lost)
        return lost is None

    def _trip(self, batches: Batches, cause: BaseException) -> None:
        if self._batches is batches:
            log.warning("ingest.kafka_lost", error=type(cause).__name__)
            self._batches = None
            self._proven = False
            self._retire(batches)
            self._wanted.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep a producer ready until `stop`; then let it send what it holds."""
        pause_s = RETRY_S
        while not await _first(stop.wait(), self._wanted.wait()):
            if await self._replace():
                self._wanted.clear()
                pause_s = RETRY_S
            else:
                await _first(stop.wait(), asyncio.sleep(pause_s))
                pause_s = min(2 * pause_s, MAX_RETRY_S)
        await self._close()

    async def _replace(self) -> bool:
        producer = make_producer(self._bootstrap, client_id="ingest")
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                if not self._topics_exist:
                    await ensure_topics(
                        self._bootstrap, topics(self._prefix), replication=self._replication
                    )
                    self._topics_exist = True
                await producer.start()
                # Known beforehand, so that no delivery waits for it.
                partitions = {
                    topic: len(await producer.partitions_for(self._prefix + topic))
                    for topic in TOPICS
                }
        except (KafkaError, OSError, TimeoutError, asyncio.CancelledError) as error:
            self._end(producer)
            if isinstance(error, asyncio.CancelledError) and _being_cancelled():
                raise
            self._topics_exist = False
            log.info("ingest.kafka_unreachable", error=type(error).__name__)
            return False
        self._batches = Batches(producer, prefix=self._prefix, partitions=partitions)
        log.info("ingest.kafka_ready")
        return True

    async def _close(self) -> None:
        batches, self._batches, self._proven = self._batches, None, False
        if batches is not None:
            await batches.drain(self._timeout_s)
            self._retire(batches)
        if self._ending:
            await asyncio.wait(self._ending, timeout=2 * STOP_TIMEOUT_S)

    def _retire(self, batches: Batches) -> None:
        batches.close()
        self._end(batches.producer)

    def _end(self, producer: AIOKafkaProducer) -> None:
        """End it beside everything else: aiokafka's closing may take long, or raise anything."""
        ending = asyncio.create_task(_end(producer))
        self._ending.add(ending)
        ending.add_done_callback(self._ended)

    def _ended(self, ending: asyncio.Task[None]) -> None:
        self._ending.discard(ending)
        # It can end in a CancelledError that nobody asked for.
        if ending.cancelled() or ending.exception() is not None:
            log.info("ingest.producer_broken")


async def _end(producer: AIOKafkaProducer) -> None:
    """Fail what the producer holds, then stop it.

    `stop` alone waits for its batches, for ever while the broker is away. Failing them first also
    sends the deliveries that wait for them to the outbox at once; what was under way may still
    arrive, and does no harm.
    """
    # There is no public way to any of this.
    held = producer._message_accumulator  # noqa: SLF001
    sender = producer._sender.sender_task  # noqa: SLF001
    held.fail_all(KafkaConnectionError("given up"))
    for batch in (*chain.from_iterable(held._batches.values()), *held._pending_batches):  # noqa: SLF001
        # Nobody waits for it any more; asyncio would report that as an error each time.
        if batch._drain_waiter.done() and not batch._drain_waiter.cancelled():  # noqa: SLF001
            batch._drain_waiter.exception()  # noqa: SLF001
    if sender is not None:
        sender.cancel()
    # The connections first: requests that hang on them would hold up everything else.
    await producer.client.close()
    await stop_quietly(producer)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _first(stopping: Awaitable[object], other: Awaitable[object]) -> bool:
    """Wait for either; whether it was the first."""
    tasks = [asyncio.ensure_future(stopping), asyncio.ensure_future(other)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stopped = tasks[0].done()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return stopped
