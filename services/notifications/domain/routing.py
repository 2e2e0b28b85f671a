"""Who hears an alert: the owner's manager on the day of the judgement, and nobody by accident.

The order is: the only person of a one-seat company; the first active manager up the owner's
reporting line; the manager of the owner's team; the configured fallback. Somebody who cannot be
reached on any enabled channel is passed over. When nobody is left the result is empty, and the
plan of deliveries then shows the alert as unroutable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from services.notifications.domain.signals import Signal


class ChannelKind(StrEnum):
    """A way to reach somebody.

    slack: a Slack app's bot (address: a user or conversation id); messages can be updated.
    slack_webhook: an incoming webhook (address: the configured name, never its secret URL).
    email: a mailbox.
    """

    SLACK = "slack"
    SLACK_WEBHOOK = "slack_webhook"
    EMAIL = "email"


class RouteReason(StrEnum):
    """Why somebody is told."""

    OWN = "own"
    MANAGER = "manager"
    TEAM_MANAGER = "team_manager"
    FALLBACK = "fallback"
    NOBODY = "nobody"


FALLBACK_KEY = "fallback"
"""Recipient key of the configured fallback, which is a place and not a person."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One who is told. `key` is `person/<id>` or `fallback`, and names the message thread."""

    key: str
    reason: RouteReason
    addresses: Mapping[ChannelKind, str]


@dataclass(frozen=True, slots=True)
class People:
    """What routing asks about people. Answers are as of the given day.

    manager_of: the manager of a person; None for the head of the company or somebody unknown.
    team_manager_of: the manager of a team.
    is_active: the person works here on that day.
    sole_person: the only active person of a one-seat company, else None.
    addresses_of: today's addresses on enabled channels; empty when unreachable.
    """

    manager_of: Callable[[str, date], str | None]
    team_manager_of: Callable[[str, date], str | None]
    is_active: Callable[[str, date], bool]
    sole_person: Callable[[date], str | None]
    addresses_of: Callable[[str], Mapping[ChannelKind, str]]


def route(
    signal: Signal,
    day: date,
    people: People,
    fallback: Mapping[ChannelKind, str],
) -> tuple[Recipient, ...]:
    """Who hears about `signal`, judged on `day`; empty only when the fallback is not configured."""
    for person, reason in _candidates(signal, day, people):
        addresses = people.addresses_of(person)
        if addresses:
            return (Recipient(f"person/{person}", reason, addresses),)
    if fallback:
        return (Recipient(FALLBACK_KEY, RouteReason.FALLBACK, fallback),)
    return ()


def line_manager(person: str, day: date, people: People) -> str | None:
    """The nearest active manager above `person` on `day`; None at the top of the line.

    A manager who has left is passed over for their own manager. A cycle in the reporting line
    ends the search instead of going round.
    """
    seen = {person}
    manager = people.manager_of(person, day)
    while manager is not None and manager not in seen:
        if people.is_active(manager, day):
            return manager
        seen.add(manager)
        manager = people.manager_of(manager, day)
    return None


def _candidates(signal: Signal, day: date, people: People) -> Iterator[tuple[str, RouteReason]]:
    sole = people.sole_person(day)
    if sole is not None:
        yield sole, RouteReason.OWN
        return
    if signal.person is not None:
        manager = line_manager(signal.person, day, people)
        if manager is not None:
            yield manager, RouteReason.MANAGER
    if signal.team is not None:
        manager = people.team_manager_of(signal.team, day)
        if manager is not None and people.is_active(manager, day):
            yield manager, RouteReason.TEAM_MANAGER
