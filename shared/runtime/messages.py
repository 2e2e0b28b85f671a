"""What a consumer hands on: events as messages, and dead letters of what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from shared.db.pool import Connection
from shared.errors import InvalidValue
from shared.events.envelope import Envelope, decode
from shared.runtime.dead_letters import DeadLetter

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

Reader = Callable[[Envelope], Any]


class Message(msgspec.Struct, frozen=True):
    """One readable event of a batch; `body` is what the subscription's reader made of it."""

    topic: str
    partition: int
    message_offset: int
    envelope: Envelope
    body: Any


Handler = Callable[[Connection, Sequence[Message]], Coroutine[Any, Any, None]]
"""What a service does with a batch, in the batch's transaction; any exception rolls it back.

A batch whose transaction failed may come again as the same messages: they are not to be changed.
"""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Topics (without prefix), how each event type is read, and which types are none of ours."""

    topics: Sequence[str]
    readers: Mapping[str, Reader]
    ignored: frozenset[str] = frozenset()


Readout: TypeAlias = tuple[list[Message], list[DeadLetter]]
"""What a batch says, and what of it nobody can read."""


def read_records(
    subscription: Subscription, topic: str, records: Iterable[ConsumerRecord]
) -> Readout:
    """Read `records` of one topic, given without prefix."""
    messages: list[Message] = []
    letters: list[DeadLetter] = []
    readers = subscription.readers
    for record in records:
        try:
            envelope = decode(record.value or b"")
            reader = readers.get(envelope.type)
            if reader is None:
                if envelope.type not in subscription.ignored:
                    letters.append(letter_of(topic, record, "unknown_type", envelope.type))
                continue
            messages.append(
                Message(topic, record.partition, record.offset, envelope, reader(envelope))
            )
        except InvalidValue as error:
            detail = f"{error.pointer or '/'}: {error.message}"
            letters.append(letter_of(topic, record, "unreadable", detail))
    return messages, letters


def letter_of(topic: str, record: ConsumerRecord, cause: str, detail: str) -> DeadLetter:
    """The dead letter of a record, with why it is one."""
    return DeadLetter(
        topic=topic,
        partition=record.partition,
        message_offset=record.offset,
        subject=(record.key or b"").decode(errors="replace"),
        cause=cause,
        detail=detail,
        value=record.value or b"",
    )


def add_readout(readout: Readout, more: Readout) -> None:
    """Append what later records say."""
    readout[0].extend(more[0])
    readout[1].extend(more[1])
