"""Events that this service publishes: the delivery log, and changes of subscriptions."""

from __future__ import annotations

from datetime import datetime

import msgspec

from services.notifications.domain.deliveries import Delivery
from services.notifications.domain.directory import Subscription
from shared.clock import to_text
from shared.events.envelope import Envelope, encode_data, sequence_of
from shared.events.journals import (
    NOTIFICATION,
    SUBSCRIPTION,
    NotificationData,
    SubscribedData,
    SubscriptionData,
)
from shared.ids import derived_id

SOURCE = "/attain/notifications"


def delivery_event(delivery: Delivery, revision: int, now: datetime) -> Envelope:
    """The whole state of one delivery. Addresses stay here: the topic is kept for ever.

    revision: counted per delivery from 1.
    """
    return _event(
        NOTIFICATION.type,
        f"notification/{delivery.delivery_id}",
        revision,
        now,
        NotificationData(
            notification=delivery.delivery_id,
            alert=delivery.alert_id,
            alert_revision=delivery.revision,
            transition=delivery.transition.value,
            channel=None if delivery.channel is None else delivery.channel.value,
            recipient=delivery.recipient,
            reason=delivery.reason.value,
            status=delivery.status.value,
            attempts=delivery.attempts,
            due_at=_instant(delivery.due_at),
            attempted_at=_instant(delivery.attempted_at),
            detail=delivery.detail,
            revision=revision,
        ),
    )


def subscription_event(
    person: str, channels: Subscription, revision: int, changed_by: str, now: datetime
) -> Envelope:
    """The whole subscription of one person, and who stated it."""
    return _event(
        SUBSCRIPTION.type,
        f"subscription/{person}",
        revision,
        now,
        SubscriptionData(
            person=person,
            channels=[
                SubscribedData(channel=channel.value, address=address)
                for channel, address in sorted(channels.items())
            ],
            changed_by=changed_by,
            revision=revision,
        ),
    )


def _event(kind: str, subject: str, revision: int, now: datetime, data: msgspec.Struct) -> Envelope:
    return Envelope(
        id=derived_id(subject, str(revision)),
        source=SOURCE,
        type=kind,
        subject=subject,
        time=to_text(now),
        recordedtime=to_text(now),
        sequence=sequence_of(now),
        revision=revision,
        data=encode_data(data),
    )


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else to_text(instant)
