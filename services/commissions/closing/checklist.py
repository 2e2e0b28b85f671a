"""What has to be settled before a period can be closed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import msgspec

from services.commissions.held.changes import held_before
from services.commissions.projector import KINDS
from services.commissions.store import UNASSIGNED, deal_named

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool


@dataclass(frozen=True, slots=True)
class Item:
    """One open matter. message: what is wrong, and what to do about it."""

    kind: str
    deal: str | None
    payee: str | None
    plan: str | None
    period: str | None
    message: str


async def open_items(tx: Connection, end_day: date) -> list[Item]:
    """Everything open that concerns days before `end_day`, in a steady order."""
    items = [
        *await _statement_items(tx, end_day),
        *await _unclaimed_items(tx, end_day),
        *await _disputes(tx, end_day),
        *await _undecided(tx, end_day),
        *await _dead_letters(tx),
    ]
    items += await _held_changes(tx, end_day)
    if not await is_quiet(tx):
        message = "facts or changed plans and rates are still being worked in; wait a moment"
        items.append(Item("recalculating", None, None, None, None, message))
    return items


async def is_quiet(tx: Connection | Pool) -> bool:
    """Whether every root is settled, with the present reference data."""
    quiet: bool = await tx.fetchval(
        "SELECT NOT EXISTS (SELECT FROM mark) "
        "AND NOT EXISTS (SELECT FROM held_change WHERE state = 'judging') "
        "AND NOT EXISTS (SELECT FROM root "
        "WHERE kind = ANY($1) "
        "AND reference_version < (SELECT version FROM reference_version))",
        list(KINDS),
    )
    return quiet


async def _statement_items(tx: Connection, end_day: date) -> list[Item]:
    rows = await tx.fetch(
        "SELECT payee, plan_id, period, document::text AS document FROM statement "
        "WHERE waiting AND end_day <= $1 ORDER BY start_day, payee, plan_id",
        end_day,
    )
    return [
        Item(entry["kind"], entry["deal"], row["payee"], row["plan_id"], row["period"], message)
        for row in rows
        for entry in msgspec.json.decode(row["document"])["exceptions"]
        if (message := entry["message"])
    ]


async def _unclaimed_items(tx: Connection, end_day: date) -> list[Item]:
    """What waits and stands on nobody's statement."""
    rows = await tx.fetch(
        "SELECT kind, deal_id, payee, plan_id, message FROM credit_exception "
        "WHERE (payee = '' OR kind = $2) AND day < $1 ORDER BY day, event_key, kind, payee",
        end_day,
        UNASSIGNED,
    )
    return [
        Item(
            row["kind"],
            deal_named(row["deal_id"]),
            row["payee"] or None,
            row["plan_id"],
            None,
            row["message"],
        )
        for row in rows
    ]


async def _disputes(tx: Connection, end_day: date) -> list[Item]:
    """Unresolved ones about statements that are still open. What is closed they do not hold up."""
    rows = await tx.fetch(
        "SELECT dispute_id, deal_id, payee, plan_id, period, due_on FROM dispute "
        "WHERE state <> 'resolved' AND end_day <= $1 AND end_day > (SELECT day FROM closed_until) "
        "ORDER BY start_day, payee, plan_id, dispute_id",
        end_day,
    )
    return [
        Item(
            "dispute",
            row["deal_id"],
            row["payee"],
            row["plan_id"],
            row["period"],
            f"dispute {row['dispute_id']}, due on {row['due_on']}, is not resolved; "
            f"answer and resolve it under /v1/disputes/{row['dispute_id']}",
        )
        for row in rows
    ]


async def _undecided(tx: Connection, end_day: date) -> list[Item]:
    """Adjustments and overrides that nobody could approve any more once the period is closed."""
    rows = await tx.fetch(
        "SELECT 'adjustment' AS kind, adjustment_id AS id, NULL AS deal_id, payee, plan_id, period "
        "FROM adjustment WHERE state = 'proposed' AND end_day <= $1 "
        "AND end_day > (SELECT day FROM closed_until) UNION ALL "
        "SELECT 'override', override_id, deal_id, payee, plan_id, NULL FROM override "
        "WHERE state = 'proposed' AND first_day < $1 "
        "AND first_day >= (SELECT day FROM closed_until) ORDER BY kind, payee, plan_id, id",
        end_day,
    )
    return [
        Item(
            row["kind"],
            row["deal_id"],
            row["payee"],
            row["plan_id"],
            row["period"],
            f"{row['kind']} {row['id']} is proposed; approve, reject or withdraw it "
            f"under /v1/{row['kind']}s/{row['id']}",
        )
        for row in rows
    ]


async def _held_changes(tx: Connection, end_day: date) -> list[Item]:
    """Changes that would move too much of what is to be fixed."""
    return [
        Item(
            "held_change",
            None,
            None,
            change.moved[0].plan,
            change.moved[0].period,
            f"{change.subject} was changed and would move {change.moved[0].moved} "
            f"{change.moved[0].currency} of {change.moved[0].before}; "
            f"release or discard it under /v1/held-changes/{change.id}",
        )
        for change in await held_before(tx, end_day)
        if change.moved
    ]


async def _dead_letters(tx: Connection) -> list[Item]:
    """Events that could not be read: nobody knows which period they concern."""
    rows = await tx.fetch(
        "SELECT subject, count(*) AS number FROM dead_letter WHERE state = 'open' "
        "GROUP BY subject ORDER BY subject"
    )
    return [
        Item(
            "dead_letter",
            row["subject"].removeprefix("deal/") if row["subject"].startswith("deal/") else None,
            None,
            None,
            None,
            f"{row['number']} event(s) about {row['subject']} could not be read; "
            "redrive or discard them under /v1/dead-letters",
        )
        for row in rows
    ]
