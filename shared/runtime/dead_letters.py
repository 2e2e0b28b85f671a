"""Dead letters: what a consumer could not read or handle, kept in the batch's own transaction.

Everything else flows on, also facts of the same record, for the fold needs no order. The record
is incomplete until its letters are redriven or discarded, and no period it touches can close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import Refused

if TYPE_CHECKING:
    from shared.db.pool import Connection

DETAIL_LIMIT = 2_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that could not be applied. cause: a short stable word; detail: for people."""

    topic: str
    partition: int
    message_offset: int
    subject: str
    cause: str
    detail: str
    value: bytes


async def bury(tx: Connection, letters: Sequence[DeadLetter]) -> None:
    """Keep `letters`; the same position again is the same letter."""
    if letters:
        await tx.execute(
            "INSERT INTO dead_letter (topic, partition, message_offset, subject, cause, detail, "
            "value) SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[], "
            "$5::text[], $6::text[], $7::bytea[]) ON CONFLICT DO NOTHING",
            [letter.topic for letter in letters],
            [letter.partition for letter in letters],
            [letter.message_offset for letter in letters],
            [letter.subject for letter in letters],
            [letter.cause for letter in letters],
            [letter.detail[:DETAIL_LIMIT] for letter in letters],
            [letter.value for letter in letters],
        )


async def incomplete_subjects(tx: Connection, subjects: Sequence[str] | None = None) -> list[str]:
    """Subjects with an open dead letter, among `subjects` when given."""
    rows = await tx.fetch(
        "SELECT DISTINCT subject FROM dead_letter WHERE state = 'open' "
        "AND ($1::text[] IS NULL OR subject = ANY($1)) ORDER BY subject",
        subjects,
    )
    return [row["subject"] for row in rows]


async def list_dead_letters(
    tx: Connection, *, after: int = 0, limit: int = 50, state: str = "open"
) -> list[dict[str, Any]]:
    """Letters in the order of their ids, without their bytes."""
    rows = await tx.fetch(
        "SELECT id, topic, partition, message_offset, subject, cause, detail, state, created_at "
        "FROM dead_letter WHERE id > $1 AND state = $2 ORDER BY id LIMIT $3",
        after,
        state,
        limit,
    )
    return [dict(row) for row in rows]


async def redrive(tx: Connection, letter_id: int, *, actor: str) -> None:
    """Send the letter's bytes to its topic again, by the outbox. Raises Refused when not open."""
    row = await _resolve(tx, letter_id, "redriven", actor, "sent to its topic again")
    await tx.execute(
        "INSERT INTO outbox (topic, key, value) VALUES ($1, $2, $3)",
        row["topic"],
        row["subject"].encode(),
        row["value"],
    )


async def discard(tx: Connection, letter_id: int, *, actor: str, reason: str) -> None:
    """Give the letter up, for a reason that is kept. Raises Refused when it is not open."""
    await _resolve(tx, letter_id, "discarded", actor, reason)


async def _resolve(
    tx: Connection, letter_id: int, state: str, actor: str, reason: str
) -> dict[str, Any]:
    row = await tx.fetchrow(
        "UPDATE dead_letter SET state = $2, resolution = jsonb_build_object("
        "'actor', $3::text, 'reason', $4::text, 'at', now()) "
        "WHERE id = $1 AND state = 'open' RETURNING topic, subject, value",
        letter_id,
        state,
        actor,
        reason,
    )
    if row is None:
        code, message = "dead-letter-not-open", f"dead letter {letter_id} is not open"
        raise Refused(code, message)
    return dict(row)
