"""Tables of the schema `notifications`.

Derived: records of people, alerts, deliveries. Owned: subscriptions. Alerts and deliveries are
kept when the service is rebuilt: they say what people were told.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlmodel import Field

from shared.db.tables import add_runtime_tables, service_metadata, table_base
from shared.facts.tables import add_fact_tables

metadata = service_metadata("notifications")

if TYPE_CHECKING:
    from sqlmodel import SQLModel as Base
else:  # made for this schema, which a type checker cannot follow
    Base = table_base(metadata)

add_runtime_tables(metadata)
add_fact_tables(metadata)
# People are read whole; nothing here is projected root by root.
for unused in ("root", "mark"):
    metadata.remove(metadata.tables[f"notifications.{unused}"])


def _id() -> Column[Any]:
    return Column(Text(collation="C"), primary_key=True)


def _text(*, nullable: bool = False) -> Column[Any]:
    return Column(Text(collation="C"), nullable=nullable)


def _instant(*, nullable: bool = False) -> Column[Any]:
    return Column(DateTime(timezone=True), nullable=nullable)


def _number() -> Column[Any]:
    """Order of arrival, which lists are read by."""
    return Column(BigInteger, Identity(always=True), nullable=False, unique=True)


def _alert_id() -> Column[Any]:
    return Column(
        Text(collation="C"),
        ForeignKey("notifications.alert.alert_id"),
        nullable=False,
        index=True,
    )


class AlertRow(Base, table=True):
    """One episode's alert: the signal of the greatest revision, and whether somebody was found."""

    __tablename__ = "alert"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'resolved')", name="state"),
        Index("ix_alert_person_number", "person", "number"),
        Index("ix_alert_unrouted", "route_at", postgresql_where=text("unrouted")),
    )

    alert_id: str = Field(sa_column=_id())
    number: int = Field(sa_column=_number())
    episode: str = Field(sa_column=_text())
    kind: str = Field(sa_column=_text())
    state: str = Field(sa_column=_text())
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    subject: str = Field(sa_column=_text())
    title: str = Field(sa_column=_text())
    person: str | None = Field(sa_column=_text(nullable=True))
    team: str | None = Field(sa_column=_text(nullable=True))
    opened_at: datetime = Field(sa_column=_instant())
    judged_at: datetime = Field(sa_column=_instant())
    closed_at: datetime | None = Field(sa_column=_instant(nullable=True))
    signal: Any = Field(sa_column=Column(JSON, nullable=False))
    unrouted: bool = Field(sa_column=Column(Boolean, nullable=False))
    route_at: datetime | None = Field(sa_column=_instant(nullable=True))
    created_at: datetime = Field(sa_column=_instant())


class ThreadRow(Base, table=True):
    """One alert, one channel, one recipient: what is locked and leased while a message goes out.

    due_at: when its pending delivery may be sent; null when there is none.
    """

    __tablename__ = "delivery_thread"
    __table_args__ = (
        Index(
            "ix_delivery_thread_due",
            "channel",
            "due_at",
            postgresql_where=text("due_at IS NOT NULL"),
        ),
    )

    thread_id: str = Field(sa_column=_id())
    alert_id: str = Field(sa_column=_alert_id())
    channel: str = Field(sa_column=_text())
    recipient: str = Field(sa_column=_text())
    address: str = Field(sa_column=_text())
    due_at: datetime | None = Field(sa_column=_instant(nullable=True))
    lease: str | None = Field(sa_column=_text(nullable=True))
    leased_until: datetime | None = Field(sa_column=_instant(nullable=True))


class DeliveryRow(Base, table=True):
    """One step of a thread: the delivery log. log_revision: counts its published states."""

    __tablename__ = "delivery"
    __table_args__ = (
        CheckConstraint(
            "status IN ('pending', 'sent', 'failed', 'withdrawn', 'unroutable')", name="status"
        ),
        CheckConstraint("(ref_place IS NULL) = (ref_message IS NULL)", name="ref"),
        CheckConstraint("(channel IS NULL) = (thread_id IS NULL)", name="thread"),
        Index("ix_delivery_recipient_number", "recipient", "number"),
    )

    delivery_id: str = Field(sa_column=_id())
    number: int = Field(sa_column=_number())
    alert_id: str = Field(sa_column=_alert_id())
    thread_id: str | None = Field(
        sa_column=Column(
            Text(collation="C"),
            ForeignKey("notifications.delivery_thread.thread_id"),
            nullable=True,
            index=True,
        )
    )
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    transition: str = Field(sa_column=_text())
    channel: str | None = Field(sa_column=_text(nullable=True))
    recipient: str = Field(sa_column=_text())
    address: str = Field(sa_column=_text())
    reason: str = Field(sa_column=_text())
    status: str = Field(sa_column=_text())
    attempts: int = Field(sa_column=Column(Integer, nullable=False))
    due_at: datetime | None = Field(sa_column=_instant(nullable=True))
    attempted_at: datetime | None = Field(sa_column=_instant(nullable=True))
    ref_place: str | None = Field(sa_column=_text(nullable=True))
    ref_message: str | None = Field(sa_column=_text(nullable=True))
    detail: str = Field(sa_column=_text())
    log_revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: datetime = Field(sa_column=_instant())


class PaceRow(Base, table=True):
    """When the next message may go to a place: Slack takes one a second in a conversation."""

    __tablename__ = "place_pace"

    channel: str = Field(sa_column=_id())
    address: str = Field(sa_column=_id())
    next_at: datetime = Field(sa_column=_instant())


class SubscriptionRow(Base, table=True):
    """How somebody wants to hear; owned, every change is on the journal.

    channels: JSON object, channel → address or null.
    """

    __tablename__ = "subscription"

    person: str = Field(sa_column=_id())
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    channels: Any = Field(sa_column=Column(JSON, nullable=False))
    changed_by: str = Field(sa_column=_text())
    changed_at: datetime = Field(sa_column=_instant())
