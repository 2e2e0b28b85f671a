"""SQL of the notifications service.

Locks in this order: reference version → alerts → delivery threads. Deliveries change only under
the lock of their thread (an unroutable one, which has none, under its alert's).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from services.notifications.domain.alerts import Alert
from services.notifications.domain.deliveries import (
    Delivery,
    DeliveryStatus,
    MessageRef,
    Transition,
)
from services.notifications.domain.directory import Directory, Places, Subscription
from services.notifications.domain.log import delivery_event, subscription_event
from services.notifications.domain.planning import Known, Step, Thread
from services.notifications.domain.routing import ChannelKind, RouteReason
from services.notifications.domain.signals import canonical_text, read_signal
from shared.events.catalogue import NOTIFICATIONS_DELIVERIES, NOTIFICATIONS_JOURNAL
from shared.facts.store import load_kind
from shared.ids import derived_id
from shared.org.people import Org
from shared.runtime.outbox import add_to_outbox

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection, Pool

PEOPLE_KINDS = ("person", "team", "calendar")


# ---- people ---------------------------------------------------------------------------------


async def prepare(pool: Pool) -> None:
    """At start: the row that versions people."""
    await pool.execute(
        "INSERT INTO reference_version (version, code_version) VALUES (1, 1) ON CONFLICT DO NOTHING"
    )


async def hold_people(tx: Connection) -> int:
    """The version of people, which cannot change before this transaction ends.

    Without it, an alert routed by old people could commit after the change that would have routed
    it anew has looked for such alerts.
    """
    return int(await tx.fetchval("SELECT version FROM reference_version FOR SHARE"))


async def people_version(tx: Connection | Pool) -> int:
    """The version of people as of now."""
    return int(await tx.fetchval("SELECT version FROM reference_version"))


async def load_directory(tx: Connection, places: Places) -> Directory:
    """People, teams, calendars and subscriptions, read anew."""
    people, teams, calendars = [await load_kind(tx, kind) for kind in PEOPLE_KINDS]
    rows = await tx.fetch("SELECT person, channels::text AS channels FROM subscription")
    return Directory(
        Org.build(people, teams, calendars),
        {row["person"]: _channels(row["channels"]) for row in rows},
        places,
    )


@dataclass(slots=True)
class Directories:
    """The directory, remembered by the version of people. One for each concurrent user."""

    places: Places
    _version: int = -1
    _directory: Directory | None = None

    async def at(self, tx: Connection, version: int) -> Directory:
        """The directory of `version`, which this transaction has just read and not raised."""
        if self._directory is None or version != self._version:
            self._directory = await load_directory(tx, self.places)
            self._version = version
        return self._directory


# ---- subscriptions --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredSubscription:
    """A subscription as it stands; revision counts from 1."""

    person: str
    channels: Subscription
    revision: int
    changed_at: datetime


async def subscription_of(tx: Connection | Pool, person: str) -> StoredSubscription | None:
    """What `person` chose; None for nothing yet. Changes take turns by the reference version."""
    row = await tx.fetchrow(
        "SELECT person, channels::text AS channels, revision, changed_at FROM subscription "
        "WHERE person = $1",
        person,
    )
    if row is None:
        return None
    return StoredSubscription(
        row["person"], _channels(row["channels"]), row["revision"], row["changed_at"]
    )


async def save_subscription(
    tx: Connection, subscription: StoredSubscription, *, changed_by: str
) -> None:
    """Write it, journal it, and look again for alerts that found nobody.

    The transaction has raised the reference version, so that routing sees it or comes later.
    """
    channels = {channel.value: address for channel, address in subscription.channels.items()}
    await tx.execute(
        "INSERT INTO subscription (person, revision, channels, changed_by, changed_at) "
        "VALUES ($1, $2, $3::text::json, $4, $5) ON CONFLICT (person) DO UPDATE SET "
        "revision = excluded.revision, channels = excluded.channels, "
        "changed_by = excluded.changed_by, changed_at = excluded.changed_at",
        subscription.person,
        subscription.revision,
        json.dumps(channels, sort_keys=True),
        changed_by,
        subscription.changed_at,
    )
    event = subscription_event(
        subscription.person,
        subscription.channels,
        subscription.revision,
        changed_by,
        subscription.changed_at,
    )
    await add_to_outbox(tx, NOTIFICATIONS_JOURNAL, [event])
    await route_again(tx, subscription.changed_at)


def _channels(document: str) -> Subscription:
    return {ChannelKind(name): address for name, address in json.loads(document).items()}


# ---- alerts ---------------------------------------------------------------------------------


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
    await _save_threads(tx, planned, now)
    await _insert_deliveries(tx, planned, now)
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


# ---- deliveries -----------------------------------------------------------------------------


def thread_id_of(thread: Thread) -> str:
    """The id of one alert's message on one channel to one recipient."""
    alert_id, channel, recipient = thread
    return derived_id("thread", alert_id, str(channel), recipient)


async def _save_threads(tx: Connection, planned: Sequence[Delivery], now: datetime) -> None:
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


async def _insert_deliveries(tx: Connection, planned: Sequence[Delivery], now: datetime) -> None:
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


# ---- sending --------------------------------------------------------------------------------


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


# ---- reading --------------------------------------------------------------------------------


async def list_alerts(  # noqa: PLR0913 - one argument a filter
    tx: Connection,
    *,
    people: list[str] | None,
    teams: list[str],
    state: str | None,
    person: str | None,
    kind: str | None,
    before: int | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Alerts that a reader may see, newest first. people: None lets everything through."""
    return await tx.fetch(
        "SELECT *, signal::text AS document FROM alert WHERE "
        "($1::text[] IS NULL OR person = ANY($1) OR (person IS NULL AND team = ANY($2))) "
        "AND ($3::text IS NULL OR state = $3) AND ($4::text IS NULL OR person = $4) "
        "AND ($5::text IS NULL OR kind = $5) AND ($6::bigint IS NULL OR number < $6) "
        "ORDER BY number DESC LIMIT $7",
        people,
        teams,
        state,
        person,
        kind,
        before,
        limit,
    )


async def read_alert(
    tx: Connection, alert_id: str, *, people: list[str] | None, teams: list[str]
) -> asyncpg.Record | None:
    """One alert, if the reader may see it."""
    return await tx.fetchrow(
        "SELECT *, signal::text AS document FROM alert WHERE alert_id = $3 AND "
        "($1::text[] IS NULL OR person = ANY($1) OR (person IS NULL AND team = ANY($2)))",
        people,
        teams,
        alert_id,
    )


async def list_deliveries(  # noqa: PLR0913 - one argument a filter
    tx: Connection,
    *,
    recipient: str | None,
    alert_id: str | None,
    status: str | None,
    before: int | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Deliveries, newest first. recipient: only what was addressed to this key."""
    return await tx.fetch(
        "SELECT * FROM delivery WHERE ($1::text IS NULL OR recipient = $1) "
        "AND ($2::text IS NULL OR alert_id = $2) AND ($3::text IS NULL OR status = $3) "
        "AND ($4::bigint IS NULL OR number < $4) ORDER BY number DESC LIMIT $5",
        recipient,
        alert_id,
        status,
        before,
        limit,
    )


# ---- rebuild --------------------------------------------------------------------------------


async def begin_again(tx: Connection) -> None:
    """Forget derived people and read every topic from its beginning.

    Alerts and deliveries stay: they are what people were told, and a signal that an alert knows
    already moves nothing.
    """
    await tx.execute("UPDATE reference_version SET version = version + 1")
    await tx.execute("DELETE FROM record")
    await tx.execute("UPDATE consumer_offset SET epoch = epoch + 1, next_offset = -1")
