"""One move of an alert, decided whole: who is told, what is withdrawn, and what has to wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.notifications.domain.alerts import Alert, AlertState
from services.notifications.domain.deliveries import (
    Delivery,
    DeliveryStatus,
    overtaken,
    plan_deliveries,
    withdrawn,
)
from services.notifications.domain.directory import Directory
from services.notifications.domain.routing import Recipient, RouteReason
from services.notifications.domain.signals import Signal

Thread = tuple[str, str | None, str]


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored about an alert before it moves.

    alert: None for a new one. sent: all its deliveries so far. in_flight: threads of which a
    message is being sent at this moment. created_at: when it was first heard of.
    """

    alert: Alert | None
    sent: Sequence[Delivery]
    in_flight: frozenset[Thread]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """What a move asks for.

    owner: the person the alert is about, as far as known. planned: new deliveries. changed: those
    withdrawn. unrouted: open, to be announced, and nobody found yet. route_at: when to look
    again without being asked; None waits for people, subscriptions or settings to change.
    """

    alert: Alert
    owner: str | None
    planned: Sequence[Delivery]
    changed: Sequence[Delivery]
    unrouted: bool
    route_at: datetime | None


def moved(
    known: Known, alert: Alert, directory: Directory, now: datetime, people_wait: timedelta
) -> Step:
    """The step from what is stored to `alert`.

    With `known.alert` None an open alert is routed as if it were new: so is one that found nobody
    before. People and signals come by different ways: when it is not the owner's manager who would
    hear, people are waited for, `people_wait` long from the first signal, before anybody else does.
    """
    signal = directory.resolved(alert.signal)
    resolved = alert.state is AlertState.RESOLVED
    found = () if resolved else directory.recipients(signal, now.date())
    waits_until = known.created_at + people_wait
    waiting = not resolved and now < waits_until and not _is_first_choice(signal, found)
    recipients = () if waiting else found
    planned = plan_deliveries(known.alert, alert, recipients, known.sent)
    if waiting:
        detail = "the owner's manager is not known here yet"
        planned = [
            replace(d, detail=detail) if d.status is DeliveryStatus.UNROUTABLE else d
            for d in planned
        ]
    changed = [d for d in overtaken(planned, known.sent) if d.thread not in known.in_flight]
    if resolved or recipients:
        reason = "resolved before anybody was told" if resolved else "somebody was found since"
        changed += [
            withdrawn(d, reason) for d in known.sent if d.status is DeliveryStatus.UNROUTABLE
        ]
    return Step(
        alert=alert,
        owner=signal.person,
        planned=planned,
        changed=changed,
        unrouted=not (resolved or recipients or signal.silent),
        route_at=waits_until if waiting else None,
    )


def _is_first_choice(signal: Signal, recipients: Sequence[Recipient]) -> bool:
    """Whether no further news about people could name somebody nearer to the owner."""
    nearest = RouteReason.TEAM_MANAGER if signal.person is None else RouteReason.MANAGER
    return any(recipient.reason is nearest for recipient in recipients)
