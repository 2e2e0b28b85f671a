"""SQL of sending: which thread's turn it is, at which place, under whose lease."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from services.notifications.domain.deliveries import (
    Delivery,
)
from services.notifications.domain.routing import ChannelKind
from services.notifications.store.deliveries import delivery_of

if TYPE_CHECKING:
    from shared.db.pool import Connection


@dataclass(frozen=True, slots=True)
class DueThread:
    """A thread that may be sent to, locked in this transaction."""

    thread_id: str
    alert_id: str
    address: str


async def lock_due_threads(
    tx: Connection, channel: ChannelKind, now: datetime, *, limit: int, per_place: int
) -> list[DueThread]:
    """Threads whose time has come, at most `per_place` for one address; others' are left out.

    Ranking by place first, so that a thousand messages for one slow place do not hide the rest.
    """
    rows = await tx.fetch(
        """
        WITH ready AS (
            SELECT thread_id,
                   row_number() OVER (PARTITION BY address ORDER BY due_at, thread_id) AS position
            FROM delivery_thread t
            WHERE channel = $1 AND due_at <= $2 AND (leased_until IS NULL OR leased_until <= $2)
              AND NOT EXISTS (SELECT FROM place_pace p WHERE p.channel = t.channel
                              AND p.address = t.address AND p.next_at > $2)
        )
        SELECT thread_id, alert_id, address FROM delivery_thread
        WHERE thread_id IN (SELECT thread_id FROM ready WHERE position <= $4)
          AND due_at <= $2 AND (leased_until IS NULL OR leased_until <= $2)
        ORDER BY due_at, thread_id LIMIT $3
        FOR UPDATE SKIP LOCKED
        """,
        channel,
        now,
        limit,
        per_place,
    )
    return [DueThread(row["thread_id"], row["alert_id"], row["address"]) for row in rows]


async def take_turn(
    tx: Connection, channel: ChannelKind, address: str, now: datetime, next_at: datetime
) -> bool:
    """Whether it is our turn at a place; then nobody's again before `next_at`."""
    taken = await tx.fetchval(
        "INSERT INTO place_pace AS p (channel, address, next_at) VALUES ($1, $2, $4) "
        "ON CONFLICT (channel, address) DO UPDATE SET next_at = excluded.next_at "
        "WHERE p.next_at <= $3 RETURNING true",
        channel,
        address,
        now,
        next_at,
    )
    return taken is True


async def pause_place(tx: Connection, channel: ChannelKind, address: str, until: datetime) -> None:
    """Send nothing to a place before `until`: it asked for that."""
    await tx.execute(
        "INSERT INTO place_pace AS p (channel, address, next_at) VALUES ($1, $2, $3) "
        "ON CONFLICT (channel, address) DO UPDATE "
        "SET next_at = greatest(p.next_at, excluded.next_at)",
        channel,
        address,
        until,
    )


async def deliveries_of_thread(tx: Connection, thread_id: str) -> list[Delivery]:
    """All steps of a thread, oldest first."""
    rows = await tx.fetch(
        "SELECT * FROM delivery WHERE thread_id = $1 ORDER BY revision, number", thread_id
    )
    return [delivery_of(row) for row in rows]


async def lease_thread(tx: Connection, thread_id: str, lease: str, until: datetime) -> None:
    """Nobody else sends in this thread before `until`."""
    await tx.execute(
        "UPDATE delivery_thread SET lease = $2, leased_until = $3 WHERE thread_id = $1",
        thread_id,
        lease,
        until,
    )


async def lock_thread(tx: Connection, thread_id: str) -> str | None:
    """Lock a thread; the lease it is under."""
    lease: str | None = await tx.fetchval(
        "SELECT lease FROM delivery_thread WHERE thread_id = $1 FOR UPDATE", thread_id
    )
    return lease


async def release_thread(tx: Connection, thread_id: str, due_at: datetime | None) -> None:
    """End the lease; `due_at` says when the thread's next step is due, None that there is none."""
    await tx.execute(
        "UPDATE delivery_thread SET lease = NULL, leased_until = NULL, due_at = $2 "
        "WHERE thread_id = $1",
        thread_id,
        due_at,
    )
