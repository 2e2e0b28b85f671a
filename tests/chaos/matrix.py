"""Which fault can strike at which failpoint of which service: data, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What befalls a process at a failpoint.

    STOP: SIGSTOP for longer than its Kafka session and its transaction may last, then SIGCONT.
    CUT: its connections to PostgreSQL and Kafka are reset. COMMIT_LOST: PostgreSQL commits, and
    the connection is reset in place of the answer. CANCEL: the task that is there is cancelled.
    """

    KILL = "kill -9"
    STOP = "SIGSTOP"
    CUT = "connection cut"
    COMMIT_LOST = "COMMIT reply lost"
    CANCEL = "cancel"


class ServerKind(StrEnum):
    """What befalls a server; the supervisor starts it again."""

    BROKER = "broker kill -9"
    DATABASE = "database kill -9"


class Group(StrEnum):
    """Processes that do the same work; whichever reaches the failpoint first is the victim."""

    INGEST = "ingest"
    METRICS = "metrics"
    COMMISSIONS = "commissions"
    NOTIFICATIONS = "notifications"
    CLOSING = "closing"


class Spot(NamedTuple):
    """A kind of fault at a failpoint of a group."""

    group: Group
    failpoint: str
    kind: Kind


_CONSUMING = (
    *("consume.claimed", "consume.polled", "consume.fenced", "consume.handled"),
    *("consume.committed", "facts.folded"),
)
_SETTLING = ("settle.locked", "settle.projected", "settle.applied")
_RELAYING = ("relay.read", "relay.sent", "relay.marked")

WHERE: Mapping[Group, tuple[str, ...]] = {
    Group.INGEST: ("ingest.received", "ingest.sent", "ingest.outboxed", *_RELAYING),
    Group.METRICS: (*_CONSUMING, *_SETTLING, *_RELAYING, "tick.judged"),
    Group.COMMISSIONS: (*_CONSUMING, *_SETTLING, *_RELAYING),
    Group.NOTIFICATIONS: (*_CONSUMING, "deliver.sending", "deliver.sent"),
    Group.CLOSING: ("close.waited", "close.locked"),
}
"""The failpoints that each group passes while a company's year goes through."""

IMPOSSIBLE: Mapping[tuple[str, Kind], str] = {
    ("consume.committed", Kind.COMMIT_LOST): (
        "the batch's COMMIT has been answered; the next one is another batch's, "
        "struck at consume.claimed to consume.handled"
    ),
    ("relay.marked", Kind.COMMIT_LOST): (
        "the mark is committed, and nothing of this batch follows; "
        "the lost answer of the mark is struck at relay.sent"
    ),
    ("ingest.sent", Kind.COMMIT_LOST): (
        "Kafka has acknowledged the whole delivery: no transaction follows"
    ),
    ("ingest.outboxed", Kind.COMMIT_LOST): (
        "the outbox's transaction is committed, and only the HTTP answer follows; "
        "its lost COMMIT is struck at ingest.received, with Kafka away"
    ),
}
"""Pairs that cannot happen, each with its reason."""

AUTOCOMMITTED = frozenset({"relay.read", "relay.sent"})
"""Here the statement that follows commits by itself: its answer is withheld instead."""

KAFKA_AWAY = frozenset({"ingest.outboxed", *_RELAYING})
"""What ingest passes only once Kafka could not be reached."""

ONE_OF_MANY = frozenset(
    {
        *("ingest.received", "ingest.sent", "ingest.outboxed"),
        *("close.waited", "close.locked", "deliver.sending", "deliver.sent"),
    }
)
"""Here one request or message is cancelled. Elsewhere a lasting task is: its process must end."""

FENCING = ("consume.polled", "consume.claimed")
"""A worker paused here holds records, or is about to: it wakes up overtaken, to be fenced."""


def is_possible(failpoint: str, kind: Kind) -> bool:
    """Whether the pair can happen anywhere."""
    return (failpoint, kind) not in IMPOSSIBLE


def spots() -> Iterator[Spot]:
    """Every possible kind at every failpoint of every group."""
    for group, failpoints in WHERE.items():
        for failpoint in failpoints:
            for kind in Kind:
                if is_possible(failpoint, kind):
                    yield Spot(group, failpoint, kind)


def pairs() -> set[tuple[str, Kind]]:
    """Every (failpoint, kind) that can happen somewhere."""
    return {(spot.failpoint, spot.kind) for spot in spots()}
