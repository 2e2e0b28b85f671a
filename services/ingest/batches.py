"""Group commit: the messages of deliveries that come together go to Kafka together.

Sent one by one, each message would have a future of its own and wait with its partition alone;
that costs more than everything else that is done for a webhook. Here what waits is written as one
batch a partition; while those are on their way the next ones gather. A delivery is answered when
all of its messages are acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.errors import KafkaConnectionError
from aiokafka.partitioner import murmur2

from shared.events.deliveries import DELIVERY

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

LINGER_S = 0.002
"""How long a message waits for others where nothing is on its way."""

SPREAD_BYTES = 131_072
"""Raw deliveries go to one partition until they are so many bytes, then on to the next: nobody
reads them by key, and one batch of many costs less than many of one."""

REMEMBERED_KEYS = 32_768


class Message(NamedTuple):
    """One record for Kafka. topic: without the deployment's prefix."""

    topic: str
    key: bytes
    value: bytes


Outcome = asyncio.Future[BaseException | None]


class _Delivery:
    """What is still to be acknowledged of one delivery. done: None, or why it is lost."""

    __slots__ = ("done", "left")

    def __init__(self, left: int, done: Outcome) -> None:
        self.left = left
        self.done = done

    def told(self, error: BaseException | None) -> None:
        """One of its messages was acknowledged, or lost."""
        self.left -= 1
        if (error is not None or not self.left) and not self.done.done():
            self.done.set_result(error)

    def expire(self) -> None:
        """Its time is over."""
        if not self.done.done():
            self.done.set_result(TimeoutError())


Waiting = list[tuple[Message, _Delivery]]


class Batches:
    """What goes through one producer. partitions: how many each topic has, prefix included."""

    def __init__(
        self, producer: AIOKafkaProducer, *, prefix: str, partitions: Mapping[str, int]
    ) -> None:
        self.producer = producer
        self._prefix = prefix
        self._partitions = partitions
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[tuple[str, int], Waiting] = {}
        self._since_s = 0.0
        self._on_their_way = 0
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._raw_partition = 0
        self._raw_bytes = 0
        self._unanswered: set[Outcome] = set()
        self._closed = False

    async def send(self, messages: Sequence[Message], *, timeout_s: float) -> BaseException | None:
        """Send all of `messages`; None when all are acknowledged, or else why that is not known.

        Who is cancelled here stops waiting; the messages go all the same.
        """
        if self._closed:
            return _given_up()
        done: Outcome = self._loop.create_future()
        delivery = _Delivery(len(messages), done)
        if not self._waiting:
            self._since_s = self._loop.time()
        counts: dict[str, int] = {}
        for message in messages:
            topic = message.topic
            if topic not in counts:
                counts[topic] = self._partitions_of(topic)
            turn = self._raw_turn(message) if topic == DELIVERY.topic else _hash(message.key)
            place = (topic, turn % counts[topic])
            if place in self._waiting:
                self._waiting[place].append((message, delivery))
            else:
                self._waiting[place] = [(message, delivery)]
        self._wake()
        self._unanswered.add(done)
        timer = self._loop.call_later(timeout_s, delivery.expire)
        try:
            return await done
        finally:
            timer.cancel()
            self._unanswered.discard(done)

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is unanswered, so long at most."""
        if self._unanswered:
            await asyncio.wait(self._unanswered, timeout=timeout_s)

    def close(self) -> None:
        """Take nothing more, and give up what is not on its way."""
        self._closed = True
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            _tell(each, _given_up())

    def _partitions_of(self, topic: str) -> int:
        known = self.producer.client.cluster.partitions_for_topic(self._prefix + topic)
        return len(known) if known else self._partitions[topic]

    def _raw_turn(self, message: Message) -> int:
        self._raw_bytes += len(message.value)
        if self._raw_bytes > SPREAD_BYTES:
            self._raw_bytes = len(message.value)
            self._raw_partition += 1
        return self._raw_partition

    def _wake(self) -> None:
        """See to it that what waits is sent: once nothing is on its way, and not too early."""
        if self._timer is None and not self._on_their_way and self._flushing is None:
            left_s = self._since_s + LINGER_S - self._loop.time()
            self._timer = self._loop.call_later(max(left_s, 0), self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._waiting:
            self._flushing = self._loop.create_task(self._send_batches())

    async def _send_batches(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._raw_partition += 1
        self._raw_bytes = 0
        # All are counted before the first can be acknowledged.
        self._on_their_way += len(waiting)
        for place, each in waiting.items():
            await self._send_batch(place, each)
        self._flushing = None
        if self._waiting:
            self._wake()

    async def _send_batch(self, place: tuple[str, int], waiting: Waiting) -> None:
        topic, partition = place
        builder: Any = self.producer.create_batch()
        count = 0  # the first one always fits
        try:
            for message, _ in waiting:
                if builder.append(timestamp=None, key=message.key, value=message.value) is None:
                    break
                count += 1
            builder.close()
            sent = await self.producer.send_batch(
                builder, self._prefix + topic, partition=partition
            )
        except Exception as error:  # noqa: BLE001 - whatever it was, the senders are told
            self._told(waiting, error)
            return
        sent.add_done_callback(partial(self._acknowledged, waiting[:count]))
        if count < len(waiting):
            # A full batch: the rest goes first next time.
            later = self._waiting.get(place, [])
            if self._closed:
                _tell(waiting[count:], _given_up())
            else:
                self._waiting[place] = waiting[count:] + later

    def _acknowledged(self, sent: Waiting, future: asyncio.Future[object]) -> None:
        if future.cancelled():
            self._told(sent, asyncio.CancelledError())
        else:
            self._told(sent, future.exception())

    def _told(self, sent: Waiting, error: BaseException | None) -> None:
        self._on_their_way -= 1
        _tell(sent, error)
        if self._waiting and not self._on_their_way:
            self._wake()


def _given_up() -> BaseException:
    error: BaseException = KafkaConnectionError("given up")
    return error


def _tell(messages: Waiting, error: BaseException | None) -> None:
    for _, delivery in messages:
        delivery.told(error)


@lru_cache(maxsize=REMEMBERED_KEYS)
def _hash(key: bytes) -> int:
    """What Kafka's clients choose a key's partition by. Not quick in Python, and keys recur."""
    hashed: int = murmur2(key) & 0x7FFFFFFF
    return hashed
