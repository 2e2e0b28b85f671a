"""What the API shows and takes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from services.notifications.domain.alerts import AlertState
from services.notifications.domain.deliveries import DeliveryStatus, Transition
from services.notifications.domain.directory import Subscription
from services.notifications.domain.routing import ChannelKind, RouteReason
from services.notifications.domain.signals import SignalKind
from services.notifications.store.people import StoredSubscription
from shared.http.models import Instant, WireModel

if TYPE_CHECKING:
    import asyncpg

_SLACK_ID = re.compile(r"[CDGU][A-Z0-9]{2,30}")


class EvidenceView(WireModel):
    """One reason for the alert."""

    rule: str
    text: str
    values: dict[str, Any]


class AlertView(WireModel):
    """One alert as it stands. person: the owner; unrouted: nobody to tell was found yet."""

    id: str
    kind: SignalKind
    state: AlertState
    subject: str
    title: str
    person: str | None
    team: str | None
    opened_at: Instant
    judged_at: Instant
    closed_at: Instant | None
    revision: int
    unrouted: bool
    evidence: list[EvidenceView]
    facts: dict[str, Any]


class DeliveryView(WireModel):
    """One entry of the delivery log. recipient: `person/<id>`, `fallback` or `nobody`."""

    id: str
    alert: str
    alert_revision: int
    transition: Transition
    channel: ChannelKind | None
    recipient: str
    address: str
    reason: RouteReason
    status: DeliveryStatus
    attempts: int
    created_at: Instant
    attempted_at: Instant | None
    due_at: Instant | None
    detail: str


class AlertDetail(AlertView):
    """An alert with those of its deliveries that the reader may see, newest first."""

    deliveries: list[DeliveryView]


def _channel_name(value: object) -> object:
    """`mail` is another word for `email`."""
    return ChannelKind.EMAIL.value if value == "mail" else value


class SubscribedChannel(WireModel):
    """One way to be told.

    address: for slack a member's or conversation's id, for slack_webhook a configured name; for
    e-mail none: mails go to the address that the person is known by.
    """

    channel: Annotated[ChannelKind, BeforeValidator(_channel_name)]
    address: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _address_fits(self) -> Self:
        if self.channel is ChannelKind.EMAIL and self.address is not None:
            msg = "e-mail goes to the person's own address; leave `address` out"
            raise ValueError(msg)
        if self.channel is not ChannelKind.EMAIL and self.address is None:
            msg = f"{self.channel} needs an `address`"
            raise ValueError(msg)
        if self.channel is ChannelKind.SLACK and not _SLACK_ID.fullmatch(self.address or ""):
            msg = "a Slack address is an id such as U0123ABCD (a member) or C0123ABCD (a channel)"
            raise ValueError(msg)
        return self


class SubscriptionBody(WireModel):
    """How somebody wants to hear; an empty list is not at all."""

    channels: Annotated[list[SubscribedChannel], Field(max_length=3)]

    @model_validator(mode="after")
    def _each_channel_once(self) -> Self:
        kinds = [item.channel for item in self.channels]
        if len(set(kinds)) < len(kinds):
            msg = "name each channel once"
            raise ValueError(msg)
        return self

    def chosen(self) -> Subscription:
        """As the directory holds it."""
        return {item.channel: item.address for item in self.channels}


class SubscriptionView(WireModel):
    """A stored subscription."""

    person: str
    channels: list[SubscribedChannel]
    revision: int
    changed_at: Instant


def alert_view(row: asyncpg.Record) -> AlertView:
    """The alert in a row of the table."""
    return AlertView(**_alert_fields(row))


def alert_detail(row: asyncpg.Record, deliveries: list[DeliveryView]) -> AlertDetail:
    """The alert with its deliveries."""
    return AlertDetail(**_alert_fields(row), deliveries=deliveries)


def _alert_fields(row: asyncpg.Record) -> dict[str, Any]:
    document = json.loads(row["document"])
    names = ("kind", "state", "subject", "title", "person", "team", "revision", "unrouted")
    return {
        "id": row["alert_id"],
        **{name: row[name] for name in names},
        **{name: row[name] for name in ("opened_at", "judged_at", "closed_at")},
        "evidence": [EvidenceView(**reason) for reason in document["evidence"]],
        "facts": document["facts"],
    }


def delivery_view(row: asyncpg.Record) -> DeliveryView:
    """The delivery in a row of the table."""
    return DeliveryView(
        id=row["delivery_id"],
        alert=row["alert_id"],
        alert_revision=row["revision"],
        transition=row["transition"],
        channel=row["channel"],
        recipient=row["recipient"],
        address=row["address"],
        reason=row["reason"],
        status=row["status"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        attempted_at=row["attempted_at"],
        due_at=row["due_at"],
        detail=row["detail"],
    )


def subscription_view(stored: StoredSubscription) -> SubscriptionView:
    """The subscription as it is shown."""
    return SubscriptionView(
        person=stored.person,
        channels=[
            SubscribedChannel(channel=channel, address=address)
            for channel, address in sorted(stored.channels.items())
        ],
        revision=stored.revision,
        changed_at=stored.changed_at,
    )
