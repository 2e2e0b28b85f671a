"""Use cases: take in people and signals, route again what found nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from services.notifications.domain.alerts import alert_id_of, fold_signal
from services.notifications.domain.directory import Directory, Places
from services.notifications.domain.planning import Known, moved
from services.notifications.domain.signals import Signal
from services.notifications.store import alerts as alerts_store
from services.notifications.store import people as people_store
from services.notifications.store.people import Directories
from shared.clock import Clock
from shared.facts.fact import Fact
from shared.facts.record import Record
from shared.facts.settle import raise_reference_version
from shared.facts.store import fold_into_store

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.runtime.consume import Message

ROUTED_AT_ONCE = 200
"""Alerts routed again in one transaction."""


@dataclass(slots=True)
class Inbox:
    """What a batch of events does. One for each concurrent user."""

    places: Places
    clock: Clock
    people_wait: timedelta
    _directories: Directories = field(init=False)

    def __post_init__(self) -> None:
        self._directories = Directories(self.places)

    async def take(self, tx: Connection, messages: Sequence[Message]) -> None:
        """Fold people, then move the alerts that signals speak of."""
        facts = [m.body for m in messages if isinstance(m.body, Fact)]
        signals = [m.body for m in messages if isinstance(m.body, Signal)]
        now = self.clock.now()
        if facts:
            await raise_reference_version(tx)
            if await fold_into_store(tx, facts, _no_parent):
                await alerts_store.route_again(tx, now)
        if signals:
            await self._take_signals(tx, signals, await self._directory(tx, raised=bool(facts)))

    async def route_waiting(self, pool: Pool) -> int:
        """Look again for somebody to tell about alerts that found nobody; how many were due."""
        async with pool.acquire() as tx, tx.transaction():
            directory = await self._directory(tx, raised=False)
            now = self.clock.now()
            due = await alerts_store.lock_unrouted(tx, now, ROUTED_AT_ONCE)
            steps = []
            for known in due.values():
                if known.alert is not None:
                    # As if it were new: it has not moved, and is to be told all the same.
                    unheard = Known(None, known.sent, known.in_flight, known.created_at)
                    steps.append(moved(unheard, known.alert, directory, now, self.people_wait))
            if steps:
                await alerts_store.save_steps(tx, steps, now)
            return len(steps)

    async def _take_signals(
        self, tx: Connection, signals: Sequence[Signal], directory: Directory
    ) -> None:
        said: dict[str, list[Signal]] = {}
        for signal in signals:
            said.setdefault(alert_id_of(signal.episode), []).append(signal)
        now = self.clock.now()
        stored = await alerts_store.lock_alerts(tx, said, now)
        steps = []
        for alert_id in sorted(said):
            known = stored.get(alert_id) or _unheard_of(now)
            alert = known.alert
            for signal in said[alert_id]:
                alert = fold_signal(alert, signal)
            if alert is not None and alert != known.alert:
                steps.append(moved(known, alert, directory, now, self.people_wait))
        if steps:
            await alerts_store.save_steps(tx, steps, now)

    async def _directory(self, tx: Connection, *, raised: bool) -> Directory:
        """The directory, held until the transaction ends.

        raised: this transaction changes people. Its version is nobody else's until it commits,
        and is not remembered: rolled back, another change may get the same number.
        """
        if raised:
            return await people_store.load_directory(tx, self.places)
        return await self._directories.at(tx, await people_store.hold_people(tx))


def _unheard_of(now: datetime) -> Known:
    return Known(None, (), frozenset(), now)


def _no_parent(kind: str, record: Record) -> None:
    """People point at nobody's root."""
    del kind, record
