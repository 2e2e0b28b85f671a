"""The canonical dump: everything that must not depend on the order in which facts arrived.

Steps are not in it: posting rows, versions, positions, recording times. Two systems that know the
same facts, plans and closes give equal dumps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from shared.facts.record import canonical, decode_record
from shared.money import to_text

if TYPE_CHECKING:
    from shared.db.pool import Connection

Dump = dict[str, dict[str, Any]]


async def canonical_dump(tx: Connection) -> Dump:
    """Section → key → content, as JSON values."""
    return {
        "records": await _records(tx),
        "quotas": await _rows(
            tx,
            "SELECT quota_id AS key, to_jsonb(q)::text AS content FROM quota_target q",
        ),
        "kpis": await _rows(
            tx,
            "SELECT concat_ws('|', person, kpi, day) AS key, to_jsonb(k)::text AS content "
            "FROM kpi_fact k",
        ),
        "scores": await _rows(
            tx,
            "SELECT concat_ws('|', person, objective, period) AS key, to_jsonb(o)::text AS content "
            "FROM objective_score o",
        ),
        "grants": await _rows(
            tx,
            "SELECT concat_ws('|', plan_id, component_id, key) AS key, "
            "to_jsonb(g)::text AS content FROM budget_grant g",
        ),
        "credits": await _rows(
            tx, "SELECT deal_id || '#' || key AS key, document::text AS content FROM credit"
        ),
        "exceptions": await _rows(
            tx,
            "SELECT concat_ws('#', deal_id, kind, event_key, plan_id, component_id, payee) AS key, "
            "to_jsonb(e)::text AS content FROM credit_exception e",
        ),
        "statements": await _rows(
            tx,
            "SELECT concat_ws('|', payee, plan_id, period) AS key, document::text AS content "
            "FROM statement",
        ),
        "fixed": await _rows(
            tx,
            "SELECT concat_ws('|', payee, plan_id, period) AS key, document::text AS content "
            "FROM fixed_statement",
        ),
        "balances": await balances(tx),
    }


async def balances(tx: Connection) -> dict[str, str]:
    """Place → sum of its postings, without zeros."""
    rows = await tx.fetch(
        "SELECT concat_ws('|', payee, plan_id, period, account, line_key, currency) AS key, "
        "sum(amount) AS amount FROM posting GROUP BY 1 HAVING sum(amount) <> 0"
    )
    return {row["key"]: to_text(row["amount"]) for row in rows}


async def _records(tx: Connection) -> dict[str, Any]:
    rows = await tx.fetch("SELECT kind || '/' || id AS key, document::text AS content FROM record")
    return {row["key"]: canonical(decode_record(row["content"])) for row in rows}


async def _rows(tx: Connection, query: str) -> dict[str, Any]:
    return {row["key"]: msgspec.json.decode(row["content"]) for row in await tx.fetch(query)}


def differences(one: Dump, other: Dump) -> list[str]:
    """`section: key` of everything in which two dumps differ, sorted."""
    return [
        f"{section}: {key}"
        for section in sorted({*one, *other})
        for key in sorted({*one.get(section, {}), *other.get(section, {})})
        if one.get(section, {}).get(key) != other.get(section, {}).get(key)
    ]
