"""SQL of deliveries and their threads.

Deliveries change only under the lock of their thread (an unroutable one, which has none, under
its alert's).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from services.notifications.domain.deliveries import (
    Delivery,
    DeliveryStatus,
    MessageRef,
    Transition,
)
from services.notifications.domain.log import delivery_event
from services.notifications.domain.planning import Thread
from services.notifications.domain.routing import ChannelKind, RouteReason
from shared.events.catalogue import NOTIFICATIONS_DELIVERIES
from shared.ids import derived_id
from shared.runtime.outbox import add_to_outbox

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection


def thread_id_of(thread: Thread) -> str:
    """The id of one alert's message on one channel to one recipient."""
    alert_id, channel, recipient = thread
    return derived_id("thread", alert_id, str(channel), recipient)


async def save_threads(tx: Connection, planned: Sequence[Delivery], now: datetime) -> None:
    """Have each planned delivery's thread due when the delivery is."""
    due = {
        thread_id_of(d.thread): d
        for d in planned
        if d.channel is not None and d.status is DeliveryStatus.PENDING
    }
    order = sorted(due)
    await tx.execute(
        """
        INSERT INTO delivery_thread (thread_id, alert_id, channel, recipient, address, due_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],
                             $6::timestamptz[])
        ON CONFLICT (thread_id) DO UPDATE
        SET address = excluded.address, due_at = excluded.due_at
        """,
        order,
        [due[thread_id].alert_id for thread_id in order],
        [due[thread_id].channel for thread_id in order],
        [due[thread_id].recipient for thread_id in order],
        [due[thread_id].address for thread_id in order],
        [due[thread_id].due_at or now for thread_id in order],
    )


async def insert_deliveries(tx: Connection, planned: Sequence[Delivery], now: datetime) -> None:
    """Write deliveries that are not there yet, and say so in the delivery log."""
    rows = await tx.fetch(
        """
        INSERT INTO delivery (delivery_id, alert_id, thread_id, revision, transition, channel,
                              recipient, address, reason, status, attempts, due_at, detail,
                              log_revision, created_at)
        SELECT delivery_id, alert_id, thread_id, revision, transition, channel, recipient, address,
               reason, status, 0, due_at, detail, 1, $13
        FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[],
                    $7::text[], $8::text[], $9::text[], $10::text[], $11::timestamptz[],
                    $12::text[])
             AS new(delivery_id, alert_id, thread_id, revision, transition, channel, recipient,
                    address, reason, status, due_at, detail)
        ON CONFLICT (delivery_id) DO NOTHING
        RETURNING delivery_id
        """,
        [d.delivery_id for d in planned],
        [d.alert_id for d in planned],
        [None if d.channel is None else thread_id_of(d.thread) for d in planned],
        [d.revision for d in planned],
        [d.transition for d in planned],
        [d.channel for d in planned],
        [d.recipient for d in planned],
        [d.address for d in planned],
        [d.reason for d in planned],
        [d.status for d in planned],
        [d.due_at for d in planned],
        [d.detail for d in planned],
        now,
    )
    new = {row["delivery_id"] for row in rows}
    await _publish(tx, [(d, 1) for d in planned if d.delivery_id in new], now)


async def update_deliveries(tx: Connection, changed: Sequence[Delivery], now: datetime) -> None:
    """Write new states of deliveries, and say so in the delivery log."""
    if not changed:
        return
    rows = await tx.fetch(
        """
        UPDATE delivery d SET status = new.status, attempts = new.attempts, due_at = new.due_at,
            attempted_at = new.attempted_at, ref_place = new.ref_place,
            ref_message = new.ref_message, detail = new.detail, log_revision = d.log_revision + 1
        FROM unnest($1::text[], $2::text[], $3::int[], $4::timestamptz[], $5::timestamptz[],
                    $6::text[], $7::text[], $8::text[])
             AS new(delivery_id, status, attempts, due_at, attempted_at, ref_place, ref_message,
                    detail)
        WHERE d.delivery_id = new.delivery_id
        RETURNING d.delivery_id, d.log_revision
        """,
        [d.delivery_id for d in changed],
        [d.status for d in changed],
        [d.attempts for d in changed],
        [d.due_at for d in changed],
        [d.attempted_at for d in changed],
        [None if d.ref is None else d.ref.place for d in changed],
        [None if d.ref is None else d.ref.message for d in changed],
        [d.detail for d in changed],
    )
    revisions = {row["delivery_id"]: row["log_revision"] for row in rows}
    await _publish(tx, [(d, revisions[d.delivery_id]) for d in changed], now)


async def _publish(tx: Connection, states: Iterable[tuple[Delivery, int]], now: datetime) -> None:
    events = [delivery_event(delivery, revision, now) for delivery, revision in states]
    await add_to_outbox(tx, NOTIFICATIONS_DELIVERIES, events)


def delivery_of(row: Mapping[str, Any] | asyncpg.Record) -> Delivery:
    """The delivery in a row of the table."""
    ref = None
    if row["ref_place"] is not None:
        ref = MessageRef(row["ref_place"], row["ref_message"])
    return Delivery(
        delivery_id=row["delivery_id"],
        alert_id=row["alert_id"],
        revision=row["revision"],
        transition=Transition(row["transition"]),
        channel=None if row["channel"] is None else ChannelKind(row["channel"]),
        recipient=row["recipient"],
        address=row["address"],
        reason=RouteReason(row["reason"]),
        status=DeliveryStatus(row["status"]),
        attempts=row["attempts"],
        due_at=row["due_at"],
        attempted_at=row["attempted_at"],
        ref=ref,
        detail=row["detail"],
    )
