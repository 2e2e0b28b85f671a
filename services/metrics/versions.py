"""SQL of versions: every state of a quota, objective, goal or standard, as the journal has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUOTA, OBJECTIVE, GOAL, STANDARD = "quota", "objective", "goal", "standard"


class Version(NamedTuple):
    """One version. said: what the journal is told."""

    kind: str
    id: str
    revision: int
    said: msgspec.Struct
    changed_by: str
    changed_at: datetime


async def keep_versions(tx: Connection, versions: Sequence[Version]) -> None:
    """Keep versions; a revision that is there already is a fault, and undoes the change."""
    await tx.executemany(
        "INSERT INTO target_version (kind, id, revision, document, changed_by, changed_at) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        [
            (
                v.kind,
                v.id,
                v.revision,
                msgspec.json.encode(v.said).decode(),
                v.changed_by,
                v.changed_at,
            )
            for v in versions
        ],
    )


async def versions_of(
    tx: Connection, kind: str, id_: str, *, before: int | None, limit: int
) -> list[asyncpg.Record]:
    """Versions, the newest first: (revision, document as text, changed_at, changed_by)."""
    return await tx.fetch(
        "SELECT revision, document::text AS document, changed_at, changed_by "
        "FROM target_version WHERE kind = $1 AND id = $2 "
        "AND ($3::bigint IS NULL OR revision < $3) ORDER BY revision DESC LIMIT $4",
        kind,
        id_,
        before,
        limit,
    )


def document_of(row: asyncpg.Record) -> dict[str, Any]:
    """What a version said."""
    found: dict[str, Any] = msgspec.json.decode(row["document"])
    return found
