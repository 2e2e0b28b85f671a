"""Marks: "this root may have changed". Appended, never merged.

A mark is never joined to one that is already there: a settling transaction may just be removing
that one after it read the state before ours, and our change would be lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool


class RootKey(NamedTuple):
    """A root's kind and id; in text order, in which roots are locked."""

    kind: str
    id: str


class Touched(NamedTuple):
    """A root that changed, and which part of it: "" is all of it."""

    root: RootKey
    part: str = ""


async def add_marks(tx: Connection, touched: Iterable[Touched]) -> None:
    """Mark roots, existing or not, within the transaction that changed what they rest on."""
    rows = sorted(set(touched))
    if rows:
        await tx.execute(
            "INSERT INTO mark (kind, root_id, part) "
            "SELECT * FROM unnest($1::text[], $2::text[], $3::text[])",
            [row.root.kind for row in rows],
            [row.root.id for row in rows],
            [row.part for row in rows],
        )


async def take_marks(tx: Connection, kind: str, root_ids: list[str]) -> list[tuple[str, str]]:
    """Remove the marks of roots that this transaction has locked: their (root id, part)."""
    rows = await tx.fetch(
        "DELETE FROM mark WHERE kind = $1 AND root_id = ANY($2::text[]) RETURNING root_id, part",
        kind,
        root_ids,
    )
    return [(row["root_id"], row["part"]) for row in rows]


async def marked_roots(tx: Connection, kind: str, limit: int) -> list[str]:
    """Ids of roots that wait to be settled, the longest waiting first."""
    rows = await tx.fetch(
        "SELECT root_id FROM mark WHERE kind = $1 GROUP BY root_id ORDER BY min(id) LIMIT $2",
        kind,
        limit,
    )
    return [row["root_id"] for row in rows]


async def count_marks(tx: Connection | Pool) -> int:
    """How many marks wait."""
    return int(await tx.fetchval("SELECT count(*) FROM mark"))
