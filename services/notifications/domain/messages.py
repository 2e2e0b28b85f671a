"""The message that a due delivery becomes, decided when it is sent.

Only then is it known whether an earlier message of the thread arrived: a change whose opening
never went out becomes the first message, and a resolution nobody was told about is not sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.notifications.domain.alerts import Alert
from services.notifications.domain.content import Content, content_of
from services.notifications.domain.deliveries import (
    UPDATES_IN_PLACE,
    Delivery,
    MessageRef,
    Transition,
)
from services.notifications.domain.routing import ChannelKind


class Form(StrEnum):
    """How a message goes out: a new one, in place of an earlier one, or as an answer to it."""

    POST = "post"
    UPDATE = "update"
    FOLLOW_UP = "follow_up"


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """All that a channel needs. `ref` is set for an update or a follow-up, and only then."""

    delivery_id: str
    channel: ChannelKind
    address: str
    form: Form
    ref: MessageRef | None
    content: Content


def message_for(
    delivery: Delivery, alert: Alert, ref: MessageRef | None, base_url: str | None
) -> OutgoingMessage | None:
    """The message to send for `delivery`, or None when there is nothing to say.

    ref: `deliveries.thread_ref`, read when sending. The content is the alert's newest state.
    """
    if delivery.channel is None:
        return None
    ends = delivery.transition in {Transition.RESOLVED, Transition.HANDED_OVER}
    if ref is None and ends:
        return None
    if ref is None:
        form = Form.POST
    else:
        form = Form.UPDATE if delivery.channel in UPDATES_IN_PLACE else Form.FOLLOW_UP
    return OutgoingMessage(
        delivery_id=delivery.delivery_id,
        channel=delivery.channel,
        address=delivery.address,
        form=form,
        ref=ref,
        content=content_of(alert, delivery.transition, delivery.reason, base_url),
    )
