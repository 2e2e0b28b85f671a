"""Who is who, and where everybody is reached: what routing asks, answered from dated people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from services.notifications.domain.routing import ChannelKind, People, Recipient, route
from services.notifications.domain.signals import Signal, judged_day
from shared.clock import to_epoch_ms
from shared.org.people import Org

Addresses = Mapping[ChannelKind, str]

Subscription = Mapping[ChannelKind, str | None]
"""What somebody chose: the channels, with an address or, for e-mail, the one they are known by."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where messages go that no subscription directs.

    enabled: the channels that can be used. default: for everybody. by_team: in place of the
    default, for alerts of that team. fallback: for what no manager can be told.
    """

    enabled: frozenset[ChannelKind]
    default: Addresses
    by_team: Mapping[str, Addresses]
    fallback: Addresses


@dataclass(frozen=True, slots=True)
class Directory:
    """People, their subscriptions by person id, and the configured places."""

    org: Org
    subscriptions: Mapping[str, Subscription]
    places: Places

    def resolved(self, signal: Signal) -> Signal:
        """`signal` with its owner as a person of ours, where the source's id is known."""
        if signal.person is None:
            return signal
        at_ms = to_epoch_ms(signal.judged_at)
        return replace(signal, person=self.org.identities.person(signal.person, at_ms))

    def recipients(self, signal: Signal, today: date) -> tuple[Recipient, ...]:
        """Who hears about a resolved signal: lines of the judgement's day, addresses of today."""
        day = judged_day(signal, self.org.zone)
        if signal.team is None and signal.person is not None:
            signal = replace(signal, team=self.org.team_of(signal.person, day))
        people = People(
            manager_of=self.org.manager_of,
            team_manager_of=self._team_manager,
            is_active=self._is_active,
            sole_person=self._sole_person,
            addresses_of=lambda person: self.addresses_of(person, signal.team, today),
        )
        return route(signal, day, people, self.places.fallback)

    def addresses_of(self, person: str, team: str | None, today: date) -> Addresses:
        """Where `person` hears about alerts of `team`; by their subscription when they have one.

        Without one: their mailbox, and the team's Slack place or else the default one.
        """
        known = self.org.person(person, today)
        mailbox = None if known is None else known.email
        chosen: Subscription | None = self.subscriptions.get(person)
        if chosen is None:
            slack = self.places.by_team.get(team or "", self.places.default)
            chosen = {**slack, ChannelKind.EMAIL: mailbox}
        found = {
            channel: address or (mailbox if channel is ChannelKind.EMAIL else None)
            for channel, address in chosen.items()
            if channel in self.places.enabled
        }
        return {channel: address for channel, address in found.items() if address}

    def _team_manager(self, team: str, day: date) -> str | None:
        known = self.org.team(team, day)
        return None if known is None else known.manager

    def _is_active(self, person: str, day: date) -> bool:
        known = self.org.person(person, day)
        return known is not None and known.active

    def _sole_person(self, day: date) -> str | None:
        sole = None
        for person in self.org.person_ids:
            if self._is_active(person, day):
                if sole is not None:
                    return None
                sole = person
        return sole
