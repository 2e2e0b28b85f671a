"""Changes that people state of what pay rests on, put aside until it is known what they move.

Rates, stage maps, calendars, what plans ask of people, and quotas: once there is pay, such a fact
does not count at once. It is stored as it came, judged (judge.py), and then counts, or is held
until a person releases or discards it. Facts that a connected CRM sends always count at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from services.commissions.events import write_events
from services.commissions.needs import PEOPLE
from services.commissions.sources import GROUP
from services.commissions.two_persons import check_second_person
from shared.errors import Refused
from shared.events.envelope import decode, encode
from shared.events.journals import HELD_CHANGE, HeldChangeData, MovedData
from shared.events.targets import QuotaData
from shared.facts.fact import Fact
from shared.facts.record import base_name
from shared.runtime.messages import Message

if TYPE_CHECKING:
    import asyncpg

    from services.commissions.held.judge import Moved
    from shared.db.pool import Connection
    from shared.runtime.messages import Handler, Reader

State = Literal["judging", "applied", "held", "released", "discarded", "refused"]

GUARDED_KINDS = frozenset({"rate", "stage_map", "calendar"})
QUOTA_KIND = "quota"
OF_PEOPLE = frozenset({"manager", "name", "role", "currency"})
"""What plans may ask of people."""

CRM_SOURCES = "/crm/"
"""What the sources of facts begin with that a connected CRM sent."""

COUNTING = ("applied", "released")
ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class HeldChange:
    """A change as it is stored, without its bytes."""

    id: int
    event_id: str
    kind: str
    subject: str
    source: str
    state: State
    noted_at: datetime
    judged_at: datetime | None
    moved: tuple[MovedData, ...]
    payees: tuple[str, ...]
    first_day: date | None
    reason: str | None
    decided_by: str | None
    decided_at: datetime | None
    revision: int

    @classmethod
    def of(cls, row: asyncpg.Record) -> HeldChange:
        """From a row of `held_change`, read with COLUMNS."""
        found = {name: row[name] for name in cls.__slots__}
        moved = msgspec.json.decode(row["moved"], type=tuple[MovedData, ...])
        return cls(**{**found, "moved": moved, "payees": tuple(row["payees"])})


COLUMNS = ", ".join("moved::text" if n == "moved" else n for n in HeldChange.__slots__)


# ---- putting aside ----------------------------------------------------------------------------


async def put_aside(tx: Connection, messages: Sequence[Message]) -> Sequence[Message]:
    """Store, within a batch, what has to be judged first; what of the batch counts at once.

    Before there is any pay everything counts at once. A fact that was put aside before and comes
    again is the same one.
    """
    guarded = [message for message in messages if is_guarded(message)]
    of_people = [message for message in messages if _is_of_people(message)]
    if of_people and await _asks_of_people(tx):
        guarded += of_people
    if not guarded or not await tx.fetchval("SELECT EXISTS (SELECT FROM posting)"):
        return messages
    await tx.execute(
        "INSERT INTO held_change (event_id, kind, subject, source, topic, partition, "
        "message_offset, value) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], "
        "$4::text[], $5::text[], $6::int[], $7::bigint[], $8::bytea[]) "
        # One that nobody could use, and that was sent again, is tried again.
        "ON CONFLICT (event_id) DO UPDATE SET state = 'judging', topic = excluded.topic, "
        "partition = excluded.partition, message_offset = excluded.message_offset "
        "WHERE held_change.state = 'refused'",
        [message.envelope.id for message in guarded],
        [kind_of(message) for message in guarded],
        [message.envelope.subject for message in guarded],
        [message.envelope.source for message in guarded],
        [message.topic for message in guarded],
        [message.partition for message in guarded],
        [message.message_offset for message in guarded],
        [encode(message.envelope) for message in guarded],
    )
    aside = {id(message) for message in guarded}
    return [message for message in messages if id(message) not in aside]


def is_guarded(message: Message) -> bool:
    """Whether people state it, and every plan may rest on it."""
    body = message.body
    if isinstance(body, QuotaData):
        return True
    return isinstance(body, Fact) and body.kind.name in GUARDED_KINDS and _by_people(message)


def may_be_put_aside(message: Message) -> bool:
    """Whether it may have been put aside, whatever plans ask for."""
    return is_guarded(message) or _is_of_people(message)


def kind_of(message: Message) -> str:
    """What it is about: changes of one kind that come together are judged together."""
    return message.body.kind.name if isinstance(message.body, Fact) else QUOTA_KIND


def _is_of_people(message: Message) -> bool:
    body = message.body
    return (
        isinstance(body, Fact)
        and body.kind.name == "person"
        and any(base_name(name) in OF_PEOPLE for name in body.fields)
        and _by_people(message)
    )


def _by_people(message: Message) -> bool:
    return not message.envelope.source.startswith(CRM_SOURCES)


async def _asks_of_people(tx: Connection) -> bool:
    asked: bool = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM plan_version WHERE $1 = ANY(needs))", PEOPLE
    )
    return asked


async def not_counting(tx: Connection, messages: Sequence[Message]) -> dict[str, Message]:
    """Those of `messages`, by event, that were put aside and do not count yet, or never will."""
    asked = {m.envelope.id: m for m in messages if may_be_put_aside(m)}
    if not asked:
        return {}
    rows = await tx.fetch(
        "SELECT event_id FROM held_change WHERE event_id = ANY($1::text[]) "
        "AND NOT state = ANY($2::text[])",
        list(asked),
        list(COUNTING),
    )
    return {row["event_id"]: asked[row["event_id"]] for row in rows}


# ---- letting count ----------------------------------------------------------------------------


async def let_count(
    tx: Connection, changes: Collection[int], before: State, handle: Handler, reader: Reader
) -> list[int]:
    """Handle what was put aside, as the batch would have; those that were still in that state.

    The positions of their partitions are held: whoever consumes them folds before or after this.
    """
    await tx.execute(
        "SELECT FROM consumer_offset o WHERE consumer_group = $1 AND EXISTS (SELECT FROM "
        "held_change h WHERE h.id = ANY($2::bigint[]) AND h.topic = o.topic "
        "AND h.partition = o.partition) ORDER BY topic, partition FOR UPDATE",
        GROUP,
        list(changes),
    )
    rows = await tx.fetch(
        "SELECT id, topic, partition, message_offset, value FROM held_change "
        "WHERE id = ANY($1::bigint[]) AND state = $2 ORDER BY id FOR UPDATE",
        list(changes),
        before,
    )
    if rows:
        await handle(tx, [message_of(row, reader) for row in rows])
    return [row["id"] for row in rows]


def message_of(row: asyncpg.Record, reader: Reader) -> Message:
    """The message as it was read from its topic."""
    envelope = decode(row["value"])
    return Message(
        row["topic"], row["partition"], row["message_offset"], envelope, reader(envelope)
    )


async def set_state(  # noqa: PLR0913 - a new state, and what is known of it
    tx: Connection,
    changes: Collection[int],
    state: State,
    now: datetime,
    *,
    moved: Moved | None = None,
    actor: str = ENGINE,
    reason: str | None = None,
) -> list[HeldChange]:
    """Write the state of changes and tell it to the journal. moved: where they were judged now."""
    decided = state in {"released", "discarded"}
    rows = await tx.fetch(
        f"""
        UPDATE held_change SET state = $2, revision = revision + 1,
            judged_at = CASE WHEN $3::text IS NULL THEN judged_at ELSE $6 END,
            moved = coalesce($3::text::json, moved), payees = coalesce($4::text[], payees),
            first_day = CASE WHEN $3::text IS NULL THEN first_day ELSE $5 END,
            reason = $7, decided_by = $8, decided_at = $9
        WHERE id = ANY($1::bigint[]) RETURNING {COLUMNS}
        """,  # noqa: S608 - constants
        list(changes),
        state,
        None if moved is None else moved.text(),
        None if moved is None else sorted(moved.payees),
        None if moved is None else moved.first_day,
        now,
        reason,
        actor if decided else None,
        now if decided else None,
    )
    found = sorted(map(HeldChange.of, rows), key=lambda change: change.id)
    await write_events(
        tx,
        HELD_CHANGE,
        [(f"held_change/{c.id}", c.revision, held_change_data(c, actor)) for c in found],
        now,
    )
    return found


def held_change_data(change: HeldChange, actor: str) -> HeldChangeData:
    """The event that tells what became of a change. Raises ValueError while it is judged."""
    if change.state == "judging":
        msg = "nothing has become of the change yet"
        raise ValueError(msg)
    return HeldChangeData(
        change=change.id,
        event=change.event_id,
        subject=change.subject,
        state=change.state,
        moved=list(change.moved),
        reason=change.reason,
        revision=change.revision,
        actor=actor,
    )


# ---- what people decide -----------------------------------------------------------------------


async def decide(  # noqa: PLR0913 - a decision, by whom and why, and how it is carried out
    tx: Connection,
    change_id: int,
    wanted: Literal["released", "discarded"],
    *,
    reason: str,
    actor: str,
    now: datetime,
    one_seat: bool,
    handle: Handler,
    reader: Reader,
) -> HeldChange:
    """Let a held change count after all, or give it up for good.

    Raises Refused (404, 409): there is none, it is not held, or it is the actor's own pay.
    """
    change = await change_of(tx, change_id)
    check_second_person(
        maker=None,
        checker=actor,
        is_own_pay=actor in change.payees,
        of=f"change {change_id}",
        one_seat=one_seat,
    )
    if wanted == "released":
        still_held = bool(await let_count(tx, [change_id], "held", handle, reader))
    else:
        still_held = await tx.fetchval(
            "SELECT state = 'held' FROM held_change WHERE id = $1 FOR UPDATE", change_id
        )
    if not still_held:
        msg = f"change {change_id} is not held: it is {change.state}"
        raise Refused("change-not-held", msg)
    (decided,) = await set_state(tx, [change_id], wanted, now, actor=actor, reason=reason)
    return decided


async def change_of(tx: Connection, change_id: int) -> HeldChange:
    """One change. Raises Refused (404)."""
    row = await tx.fetchrow(
        f"SELECT {COLUMNS} FROM held_change WHERE id = $1",  # noqa: S608 - constants
        change_id,
    )
    if row is None:
        msg = "There is no such held change."
        raise Refused("not-found", msg, status=404)
    return HeldChange.of(row)


async def held_before(tx: Connection, end_day: date) -> list[HeldChange]:
    """Changes that are held and would move pay of days before `end_day`, by number."""
    rows = await tx.fetch(
        f"SELECT {COLUMNS} FROM held_change WHERE state = 'held' "  # noqa: S608 - constants
        "AND first_day < $1 ORDER BY id",
        end_day,
    )
    return [HeldChange.of(row) for row in rows]
