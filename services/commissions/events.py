"""Events this service writes: the journal of what people decided, and statements that were fixed.

Every event carries its subject's whole state; `revision` counts within the subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from shared.clock import to_text
from shared.events.catalogue import COMMISSIONS_EVENTS, COMMISSIONS_JOURNAL, EventType
from shared.events.envelope import Envelope, encode_data, sequence_of
from shared.ids import derived_id
from shared.runtime.outbox import add_to_outbox

if TYPE_CHECKING:
    from shared.db.pool import Connection

SOURCE = "/attain/commissions"


class PlanVersionData(msgspec.Struct, frozen=True, kw_only=True):
    """A plan version that was saved. document: as it was sent."""

    plan: str
    version: int
    hash: str
    document: dict[str, Any]
    actor: str


class AssignmentData(msgspec.Struct, frozen=True, kw_only=True):
    """An assignment as it is now. from_, to: first and last day, both included."""

    assignment: str
    payee: str
    plan: str
    from_: str = msgspec.field(name="from")
    to: str | None
    quota: dict[str, str]
    payout_currency: str | None
    deleted: bool
    revision: int
    actor: str


class FixedData(msgspec.Struct, frozen=True, kw_only=True):
    """One statement in a close: which, its hash and what it pays."""

    payee: str
    plan: str
    period: str
    hash: str
    payable: str
    currency: str


class PeriodData(msgspec.Struct, frozen=True, kw_only=True):
    """A period as it is now. A close lists the statements it fixed; each is an event as well."""

    period: str
    start: str
    end: str
    state: str
    submitted_by: str | None
    closed_by: str | None
    one_seat: bool
    revision: int
    actor: str
    statements: list[FixedData] = []


class StatementData(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that a close fixed, whole, with its lines."""

    statement: dict[str, Any]
    closed_with: str


PLAN_VERSION = EventType("attain.plan_version.v1", COMMISSIONS_JOURNAL, PlanVersionData)
ASSIGNMENT = EventType("attain.assignment.v1", COMMISSIONS_JOURNAL, AssignmentData)
PERIOD = EventType("attain.period.v1", COMMISSIONS_JOURNAL, PeriodData)
STATEMENT = EventType("attain.statement.v1", COMMISSIONS_EVENTS, StatementData)


async def write_events(
    tx: Connection,
    kind: EventType,
    said: Sequence[tuple[str, int, msgspec.Struct]],
    now: datetime,
) -> None:
    """Put (subject, revision, data) of one type into the outbox of the open transaction."""
    at = to_text(now)
    events = [
        Envelope(
            id=derived_id(kind.type, subject, str(revision)),
            source=SOURCE,
            type=kind.type,
            subject=subject,
            time=at,
            recordedtime=at,
            sequence=sequence_of(now, revision),
            revision=revision,
            data=encode_data(data),
        )
        for subject, revision, data in said
    ]
    await add_to_outbox(tx, kind.topic, events)
