"""SQL of people and of what they chose to be told by: the directory and its version."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from services.notifications.domain.directory import Directory, Places, Subscription
from services.notifications.domain.log import subscription_event
from services.notifications.domain.routing import ChannelKind
from services.notifications.store.alerts import route_again
from shared.events.catalogue import NOTIFICATIONS_JOURNAL
from shared.facts.store import load_kind
from shared.org.people import Org
from shared.runtime.outbox import add_to_outbox

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

PEOPLE_KINDS = ("person", "team", "calendar")


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


async def begin_again(tx: Connection) -> None:
    """Forget derived people and read every topic from its beginning.

    Alerts and deliveries stay: they are what people were told, and a signal that an alert knows
    already moves nothing.
    """
    await tx.execute("UPDATE reference_version SET version = version + 1")
    await tx.execute("DELETE FROM record")
    await tx.execute("UPDATE consumer_offset SET epoch = epoch + 1, next_offset = -1")
