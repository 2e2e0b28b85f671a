"""What has to be sent when an alert moves: a pure plan with ids that a replay makes again.

A *thread* is one alert, on one channel, to one recipient: it holds one message that is updated in
place where the channel can, and followed up where it cannot. A delivery is one step of a thread,
and one row of the delivery log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.notifications.domain.alerts import Alert, AlertState
from services.notifications.domain.routing import ChannelKind, Recipient, RouteReason
from shared.ids import derived_id

UPDATES_IN_PLACE = frozenset({ChannelKind.SLACK})
"""Channels on which a sent message can be changed. The others are followed up, sparingly."""

NOBODY_KEY = "nobody"
"""Recipient key of a delivery that found nobody to tell."""


class Transition(StrEnum):
    """What a delivery tells its recipient.

    handed_over: the alert is now somebody else's, because the reporting line changed; nothing
    about the record itself is told any more.
    """

    OPENED = "opened"
    CHANGED = "changed"
    RESOLVED = "resolved"
    HANDED_OVER = "handed_over"


class DeliveryStatus(StrEnum):
    """Where a delivery stands.

    withdrawn: overtaken by a newer one, or there was nothing to update.
    unroutable: nobody to tell; stays visible in the log until somebody configures a way.
    """

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"
    UNROUTABLE = "unroutable"


@dataclass(frozen=True, slots=True)
class MessageRef:
    """Where a sent message is: the conversation and its timestamp, or mailbox and Message-ID."""

    place: str
    message: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One step of a thread: what to tell whom about which revision, and how far it got.

    channel: None only for an unroutable one. attempts: tries so far, >= 0.
    due_at: not before this instant; None means at once.
    detail: why it failed, waits or was withdrawn; for people, without secrets.
    """

    delivery_id: str
    alert_id: str
    revision: int
    transition: Transition
    channel: ChannelKind | None
    recipient: str
    address: str
    reason: RouteReason
    status: DeliveryStatus = DeliveryStatus.PENDING
    attempts: int = 0
    due_at: datetime | None = None
    attempted_at: datetime | None = None
    ref: MessageRef | None = None
    detail: str = ""

    @property
    def thread(self) -> tuple[str, ChannelKind | None, str]:
        """What identifies the message that this delivery belongs to."""
        return self.alert_id, self.channel, self.recipient


def delivery_id_of(
    alert_id: str, channel: ChannelKind | None, recipient: str, revision: int
) -> str:
    """The id of what is told about one revision of an alert to one recipient on one channel."""
    return derived_id("delivery", alert_id, channel or NOBODY_KEY, recipient, str(revision))


def plan_deliveries(
    alert_before: Alert | None,
    alert_after: Alert,
    recipients: Sequence[Recipient],
    sent: Sequence[Delivery],
) -> list[Delivery]:
    """The new deliveries that this move of an alert asks for.

    recipients: who should hear the alert now, by `routing.route`.
    sent: every delivery of this alert so far, whatever its status.
    Nothing is announced when the alert did not move, when its episode was opened silently, or
    when it was resolved before anybody was told. Delivery ids that exist are not planned again.
    """
    if alert_after == alert_before:
        return []
    known = {delivery.delivery_id for delivery in sent}
    threads = _threads(sent)
    if alert_after.state is AlertState.RESOLVED:
        planned = _steps(alert_after, threads, Transition.RESOLVED)
    else:
        told = _told(alert_after, recipients, threads)
        current = {recipient.key for recipient in recipients}
        left = {key: steps for key, steps in threads.items() if key[2] not in current}
        planned = told + _steps(alert_after, left, Transition.HANDED_OVER)
        if not recipients and not alert_after.signal.silent:
            planned += _unroutable(alert_after, sent)
    return [delivery for delivery in planned if delivery.delivery_id not in known]


def overtaken(planned: Iterable[Delivery], sent: Iterable[Delivery]) -> list[Delivery]:
    """The pending deliveries that newer ones of the same thread make pointless, now withdrawn."""
    newest = {delivery.thread: delivery.revision for delivery in planned}
    return [
        withdrawn(delivery, f"overtaken by revision {newest[delivery.thread]}")
        for delivery in sent
        if delivery.status is DeliveryStatus.PENDING
        and delivery.revision < newest.get(delivery.thread, 0)
    ]


def withdrawn(delivery: Delivery, detail: str) -> Delivery:
    """`delivery`, never to be sent, and why."""
    return replace(delivery, status=DeliveryStatus.WITHDRAWN, due_at=None, detail=detail)


def thread_ref(delivery: Delivery, sent: Iterable[Delivery]) -> MessageRef | None:
    """The message to update or to answer: the first that reached the recipient in this thread."""
    reached = [d for d in sent if d.thread == delivery.thread and d.ref is not None]
    return min(reached, key=lambda d: d.revision).ref if reached else None


_Threads = dict[tuple[str, ChannelKind | None, str], list[Delivery]]


def _threads(sent: Iterable[Delivery]) -> _Threads:
    """The steps of each thread that count, oldest first: those that were sent or still will be."""
    threads: _Threads = {}
    for delivery in sorted(sent, key=lambda d: d.revision):
        if delivery.status in {DeliveryStatus.PENDING, DeliveryStatus.SENT}:
            threads.setdefault(delivery.thread, []).append(delivery)
    return threads


def _told(alert: Alert, recipients: Sequence[Recipient], threads: _Threads) -> list[Delivery]:
    """What current recipients of an open alert are told."""
    planned = []
    for recipient in recipients:
        for channel, address in sorted(recipient.addresses.items()):
            steps = threads.get((alert.alert_id, channel, recipient.key), [])
            if not steps and alert.signal.silent:
                continue
            telling = bool(steps) and steps[-1].transition in {
                Transition.OPENED,
                Transition.CHANGED,
            }
            if telling and channel not in UPDATES_IN_PLACE:
                continue
            transition = Transition.CHANGED if telling else Transition.OPENED
            planned.append(
                Delivery(
                    delivery_id=delivery_id_of(
                        alert.alert_id, channel, recipient.key, alert.revision
                    ),
                    alert_id=alert.alert_id,
                    revision=alert.revision,
                    transition=transition,
                    channel=channel,
                    recipient=recipient.key,
                    address=address,
                    reason=recipient.reason,
                    due_at=_waiting_until(steps),
                )
            )
    return planned


def _steps(alert: Alert, threads: _Threads, transition: Transition) -> list[Delivery]:
    """`transition` told in each thread that still shows the alert as its reader's.

    A thread that was already told so is only updated in place: a second follow-up is noise.
    A thread that was handed over hears nothing more.
    """
    planned = []
    for steps in threads.values():
        last = steps[-1]
        repeated = last.transition is transition
        if last.transition is Transition.HANDED_OVER:
            continue
        if repeated and last.channel not in UPDATES_IN_PLACE:
            continue
        planned.append(
            Delivery(
                delivery_id=delivery_id_of(
                    alert.alert_id, last.channel, last.recipient, alert.revision
                ),
                alert_id=alert.alert_id,
                revision=alert.revision,
                transition=transition,
                channel=last.channel,
                recipient=last.recipient,
                address=last.address,
                reason=last.reason,
                due_at=_waiting_until(steps),
            )
        )
    return planned


def _waiting_until(steps: Iterable[Delivery]) -> datetime | None:
    """A newer step inherits the wait of the one it overtakes: the receiver asked for that pause."""
    waits = [
        step.due_at
        for step in steps
        if step.status is DeliveryStatus.PENDING and step.due_at is not None
    ]
    return max(waits, default=None)


def _unroutable(alert: Alert, sent: Iterable[Delivery]) -> list[Delivery]:
    if any(delivery.status is DeliveryStatus.UNROUTABLE for delivery in sent):
        return []
    return [
        Delivery(
            delivery_id=delivery_id_of(alert.alert_id, None, NOBODY_KEY, alert.revision),
            alert_id=alert.alert_id,
            revision=alert.revision,
            transition=Transition.OPENED,
            channel=None,
            recipient=NOBODY_KEY,
            address="",
            reason=RouteReason.NOBODY,
            status=DeliveryStatus.UNROUTABLE,
            detail="no manager with an address, and no fallback channel is configured",
        )
    ]
