"""SQL of alerts: their locks, their state, and the steps that move them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from services.notifications.domain.alerts import Alert
from services.notifications.domain.deliveries import Delivery
from services.notifications.domain.planning import Known, Step
from services.notifications.domain.signals import canonical_text, read_signal
from services.notifications.store.deliveries import (
    delivery_of,
    insert_deliveries,
    save_threads,
    update_deliveries,
)

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection, Pool


async def route_again(tx: Connection | Pool, now: datetime) -> None:
    """Have every alert that found nobody looked at again: whom or how to tell has changed."""
    await tx.execute("UPDATE alert SET route_at = $1 WHERE unrouted", now)


async def lock_alerts(
    tx: Connection, alert_ids: Collection[str], now: datetime
) -> dict[str, Known]:
    """What is stored about these alerts, locked against everybody else who moves them."""
    rows = await tx.fetch(
        "SELECT alert_id, signal::text AS signal, created_at FROM alert "
        "WHERE alert_id = ANY($1) ORDER BY alert_id FOR UPDATE",
        list(alert_ids),
    )
    return await _known(tx, rows, now)


async def lock_unrouted(tx: Connection, now: datetime, limit: int) -> dict[str, Known]:
    """Alerts that found nobody and are due for another look; those another holds are left out."""
    rows = await tx.fetch(
        "SELECT alert_id, signal::text AS signal, created_at FROM alert "
        "WHERE unrouted AND route_at <= $1 ORDER BY route_at, alert_id LIMIT $2 "
        "FOR UPDATE SKIP LOCKED",
        now,
        limit,
    )
    return await _known(tx, rows, now)


async def _known(tx: Connection, rows: Sequence[asyncpg.Record], now: datetime) -> dict[str, Known]:
    alerts = {row["alert_id"]: _alert(row) for row in rows}
    threads = await tx.fetch(
        "SELECT alert_id, channel, recipient, leased_until FROM delivery_thread "
        "WHERE alert_id = ANY($1) ORDER BY thread_id FOR UPDATE",
        list(alerts),
    )
    flying = frozenset(
        (row["alert_id"], row["channel"], row["recipient"])
        for row in threads
        if row["leased_until"] is not None and row["leased_until"] > now
    )
    sent: dict[str, list[Delivery]] = {alert_id: [] for alert_id in alerts}
    for row in await tx.fetch(
        "SELECT * FROM delivery WHERE alert_id = ANY($1) ORDER BY number", list(alerts)
    ):
        sent[row["alert_id"]].append(delivery_of(row))
    return {
        row["alert_id"]: Known(
            alerts[row["alert_id"]], sent[row["alert_id"]], flying, row["created_at"]
        )
        for row in rows
    }


async def load_alerts(tx: Connection, alert_ids: Collection[str]) -> dict[str, Alert]:
    """Alerts by id, as they stand."""
    rows = await tx.fetch(
        "SELECT alert_id, signal::text AS signal FROM alert WHERE alert_id = ANY($1)",
        list(alert_ids),
    )
    return {row["alert_id"]: _alert(row) for row in rows}


async def save_steps(tx: Connection, steps: Sequence[Step], now: datetime) -> None:
    """Write moved alerts and what they ask for: deliveries, threads, log events."""
    await _save_alerts(tx, steps, now)
    planned = [delivery for step in steps for delivery in step.planned]
    await save_threads(tx, planned, now)
    await insert_deliveries(tx, planned, now)
    await update_deliveries(tx, [d for step in steps for d in step.changed], now)


async def _save_alerts(tx: Connection, steps: Sequence[Step], now: datetime) -> None:
    signals = [step.alert.signal for step in steps]
    await tx.execute(
        """
        INSERT INTO alert (alert_id, episode, kind, state, revision, subject, title, person, team,
                           opened_at, judged_at, closed_at, signal, unrouted, route_at, created_at)
        SELECT alert_id, episode, kind, state, revision, subject, title, person, team,
               opened_at, judged_at, closed_at, signal::json, unrouted, route_at, $16
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[],
                    $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[],
                    $12::timestamptz[], $13::text[], $14::bool[], $15::timestamptz[])
             AS new(alert_id, episode, kind, state, revision, subject, title, person, team,
                    opened_at, judged_at, closed_at, signal, unrouted, route_at)
        ON CONFLICT (alert_id) DO UPDATE SET
            state = excluded.state, revision = excluded.revision, subject = excluded.subject,
            title = excluded.title, person = excluded.person, team = excluded.team,
            opened_at = excluded.opened_at, judged_at = excluded.judged_at,
            closed_at = excluded.closed_at, signal = excluded.signal,
            unrouted = excluded.unrouted, route_at = excluded.route_at
        """,
        [step.alert.alert_id for step in steps],
        [signal.episode for signal in signals],
        [signal.kind for signal in signals],
        [step.alert.state for step in steps],
        [signal.revision for signal in signals],
        [signal.subject for signal in signals],
        [signal.title for signal in signals],
        [step.owner for step in steps],
        [signal.team for signal in signals],
        [signal.opened_at for signal in signals],
        [signal.judged_at for signal in signals],
        [signal.closed_at for signal in signals],
        [canonical_text(signal) for signal in signals],
        [step.unrouted for step in steps],
        [step.route_at for step in steps],
        now,
    )


def _alert(row: asyncpg.Record) -> Alert:
    return Alert(row["alert_id"], read_signal(json.loads(row["signal"])))
