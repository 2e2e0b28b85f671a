"""The canonical dump: what must be equal after any order and repetition of the same facts.

Records without recording times, cells summed over writers without zeros, rows, and who is open.
Logs of steps (signals, outbox, positions) are not part of it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from shared.facts.record import canonical, decode_record
from shared.money import to_text

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def canonical_dump(tx: Connection) -> dict[str, Any]:
    """The dump, by table; run it in one repeatable-read transaction."""
    records = await tx.fetch(
        "SELECT kind, id, document::text AS document, parent, merged_into FROM record "
        "ORDER BY kind, id"
    )
    cells = await tx.fetch(
        "SELECT people, measure, day, currency, deal_type, sum(amount) AS amount, "
        "sum(number)::bigint AS number FROM cell GROUP BY 1, 2, 3, 4, 5 "
        "HAVING sum(amount) <> 0 OR sum(number) <> 0 ORDER BY 1, 2, 3, 4, 5"
    )
    spans = await tx.fetch("SELECT * FROM deal_span ORDER BY deal_id, valid_from_ms")
    activities = await tx.fetch("SELECT * FROM activity_row ORDER BY activity_id")
    roots = await tx.fetch(
        "SELECT kind, id, contribution::text AS contribution FROM root "
        "WHERE contribution::text NOT IN ('{}') ORDER BY kind, id"
    )
    segments = await tx.fetch("SELECT * FROM account_segment ORDER BY account")
    return {
        "records": {
            f"{r['kind']}/{r['id']}": {
                **canonical(decode_record(r["document"])),
                "parent": r["parent"],
                "merged_into": r["merged_into"],
            }
            for r in records
        },
        "cells": {
            "/".join([r["people"], r["measure"], str(r["day"]), r["currency"], r["deal_type"]]): [
                to_text(r["amount"]),
                r["number"],
            ]
            for r in cells
        },
        "deal_rows": [_plain(r) for r in spans],
        "activity_rows": [_plain(r) for r in activities],
        "contributions": {f"{r['kind']}/{r['id']}": r["contribution"] for r in roots},
        "segments": [_plain(r) for r in segments],
    }


async def open_episodes(tx: Connection) -> dict[str, list[str]]:
    """Detector and subject → the rules that fire. Compared where the same ticks judged."""
    rows = await tx.fetch(
        "SELECT detector, subject, rules FROM episode WHERE closed_ms IS NULL ORDER BY 1, 2"
    )
    return {f"{row['detector']}:{row['subject']}": list(row["rules"]) for row in rows}


def dump_digest(dump: dict[str, Any]) -> str:
    """One text that differs when the dump does."""
    encoded = msgspec.json.encode(dump, order="sorted")
    return hashlib.sha256(encoded).hexdigest()


def _plain(row: Any) -> dict[str, Any]:  # noqa: ANN401 - asyncpg.Record is a mapping at run time
    return {
        name: f"{value.normalize():f}" if hasattr(value, "normalize") else value
        for name, value in row.items()
    }
