"""Records in PostgreSQL: load the ones a batch speaks of, fold, write the ones that changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.db.arrays import array_text
from shared.db.behind import Behind
from shared.facts.fact import Fact
from shared.facts.record import Record, decode_record, encode_record
from shared.runtime.failpoints import failpoint

if TYPE_CHECKING:
    from shared.db.pool import Connection

RECORDS_BEHIND = 500
"""So many records are written at once, while the next ones are encoded."""

ParentOf = Callable[[str, Record], str | None]
"""(kind, record) → subject of the record it points at, or None: which records share a root."""


@dataclass(frozen=True, slots=True)
class FoldedRecord:
    """One record that a batch changed, with the references it had before."""

    kind: str
    id: str
    record: Record
    facts: tuple[Fact, ...]
    parent_before: str | None
    parent: str | None
    merged_into_before: str | None
    merged_into: str | None


async def fold_into_store(
    tx: Connection, facts: Iterable[Fact], parent_of: ParentOf
) -> list[FoldedRecord]:
    """Fold `facts` into the stored records, in one read and one write; those that changed.

    The fence of the batch's partitions keeps every other writer off the same records.
    """
    said: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts:
        said.setdefault((fact.kind.name, fact.record_id), []).append(fact)
    if not said:
        return []
    stored = await _load(tx, said)
    changed: list[FoldedRecord] = []
    for key in sorted(said):
        kind, record_id = key
        record, parent_before, merged_before = stored.get(key, (Record(), None, None))
        news = [record.fold(fact) for fact in said[key]]
        if not any(news) and key in stored:
            continue
        changed.append(
            FoldedRecord(
                kind=kind,
                id=record_id,
                record=record,
                facts=tuple(said[key]),
                parent_before=parent_before,
                parent=parent_of(kind, record),
                merged_into_before=merged_before,
                merged_into=record.value("merged_into"),
            )
        )
    await failpoint("facts.folded")
    await _write(tx, changed)
    return changed


async def load_records(tx: Connection, kind: str, ids: Iterable[str]) -> dict[str, Record]:
    """The records of one kind, by id; absent ones are left out."""
    rows = await tx.fetch(
        "SELECT id, document::text AS document FROM record WHERE kind = $1 AND id = ANY($2)",
        kind,
        list(ids),
    )
    return {row["id"]: decode_record(row["document"]) for row in rows}


async def load_kind(tx: Connection, kind: str) -> dict[str, Record]:
    """All records of a kind: for reference data, which is small."""
    rows = await tx.fetch("SELECT id, document::text AS document FROM record WHERE kind = $1", kind)
    return {row["id"]: decode_record(row["document"]) for row in rows}


async def load_children(
    tx: Connection, kind: str, parents: Iterable[str]
) -> dict[str, list[tuple[str, Record]]]:
    """Records of `kind` that point at the given subjects: parent → (id, record), by id."""
    rows = await tx.fetch(
        "SELECT parent, id, document::text AS document FROM record "
        "WHERE kind = $1 AND parent = ANY($2) ORDER BY id",
        kind,
        list(parents),
    )
    children: dict[str, list[tuple[str, Record]]] = {}
    for row in rows:
        children.setdefault(row["parent"], []).append((row["id"], decode_record(row["document"])))
    return children


async def load_redirects(
    tx: Connection, kind: str, ids: Iterable[str]
) -> dict[str, tuple[str, str]]:
    """Every merge that is linked to the given records, either way: id → (target, sequence)."""
    rows = await tx.fetch(
        """
        WITH RECURSIVE linked(id) AS (
            SELECT unnest($2::text[]) COLLATE "C"
            UNION
            SELECT n.id
            FROM linked l
            CROSS JOIN LATERAL (
                SELECT merged_into AS id FROM record
                WHERE kind = $1 AND id = l.id AND merged_into IS NOT NULL
                UNION ALL
                SELECT id FROM record WHERE kind = $1 AND merged_into = l.id
            ) n
        )
        SELECT r.id, r.merged_into, r.merged_sequence
        FROM linked l JOIN record r ON r.kind = $1 AND r.id = l.id
        WHERE r.merged_into IS NOT NULL
        """,
        kind,
        list(ids),
    )
    return {row["id"]: (row["merged_into"], row["merged_sequence"]) for row in rows}


async def _load(
    tx: Connection, keys: Mapping[tuple[str, str], object]
) -> dict[tuple[str, str], tuple[Record, str | None, str | None]]:
    rows = await tx.fetch(
        "SELECT r.kind, r.id, r.document::text AS document, r.parent, r.merged_into "
        "FROM unnest($1::text::text[], $2::text::text[]) AS k(kind, id) "
        "JOIN record r USING (kind, id)",
        array_text([kind for kind, _ in keys]),
        array_text([record_id for _, record_id in keys]),
    )
    return {
        (row["kind"], row["id"]): (
            decode_record(row["document"]),
            row["parent"],
            row["merged_into"],
        )
        for row in rows
    }


async def _write(tx: Connection, changed: list[FoldedRecord]) -> None:
    """In key order, each part on its way while the next one is encoded."""
    async with Behind() as behind:
        for first in range(0, len(changed), RECORDS_BEHIND):
            part = changed[first : first + RECORDS_BEHIND]
            await behind.run(_put(tx, part, [encode_record(folded.record) for folded in part]))


async def _put(tx: Connection, part: list[FoldedRecord], documents: list[str]) -> None:
    merges = [folded.record.latest("merged_into") for folded in part]
    await tx.execute(
        """
        INSERT INTO record (kind, id, document, parent, merged_into, merged_sequence)
        SELECT kind, id, document::json, parent, merged_into, merged_sequence
        FROM unnest($1::text::text[], $2::text::text[], $3::text[], $4::text::text[],
                    $5::text::text[], $6::text::text[])
             AS new(kind, id, document, parent, merged_into, merged_sequence)
        ON CONFLICT (kind, id) DO UPDATE SET
            document = excluded.document, parent = excluded.parent,
            merged_into = excluded.merged_into, merged_sequence = excluded.merged_sequence
        """,
        array_text([folded.kind for folded in part]),
        array_text([folded.id for folded in part]),
        documents,
        array_text([folded.parent for folded in part]),
        array_text([folded.merged_into for folded in part]),
        array_text(
            [None if said is None or said.value is None else said.sequence for said in merges]
        ),
    )
