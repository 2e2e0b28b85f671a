"""What a person decides before pay moves: deals that vanished after a close, held changes."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlmodel import Field

from services.commissions.tables.columns import (
    Base,
    day_column,
    document_column,
    instant_column,
    key_column,
    text_column,
)
from shared.db.tables import utc_now_column


class FixedDealRow(Base, table=True):
    """That a close fixed credits of a deal under a plan: which statement period. Owned.

    closed_with: the period that was closed; opened again, its rows go.
    """

    __tablename__ = "fixed_deal"
    __table_args__ = (Index("ix_fixed_deal_closed_with", "closed_with"),)

    deal_id: str = Field(sa_column=key_column())
    plan_id: str = Field(sa_column=key_column())
    period: str = Field(sa_column=key_column())
    start_day: date = Field(sa_column=day_column())
    end_day: date = Field(sa_column=day_column())
    closed_with: str = Field(
        sa_column=Column(
            Text(collation="C"), ForeignKey("commissions.period.period"), nullable=False
        )
    )


class HeldDeletionRow(Base, table=True):
    """What was decided of a deal that was deleted or merged away after a close. Kept for ever.

    wanted: whether its credits of closed periods are to stay (`keep`) or go (`reverse`); it counts
    once a second person confirmed it, until it is superseded: by another decision, or because the
    deal came back. days: of each plan, the days whose credits it is about, as [plan, start, end).
    """

    __tablename__ = "held_deletion"
    __table_args__ = (
        CheckConstraint("wanted IN ('keep', 'reverse')", name="wanted"),
        CheckConstraint("(confirmed_by IS NULL) = (confirmed_at IS NULL)", name="confirmed"),
        CheckConstraint(
            "confirmed_by IS NULL OR confirmed_by <> asked_by OR one_seat",
            name="maker_is_not_checker",
        ),
    )

    deal_id: str = Field(sa_column=key_column())
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    wanted: str = Field(sa_column=text_column())
    reason: str = Field(sa_column=Column(Text, nullable=False))
    days: str = Field(sa_column=document_column())
    asked_by: str = Field(sa_column=text_column())
    asked_at: datetime = Field(sa_column=instant_column())
    confirmed_by: str | None = Field(sa_column=text_column(nullable=True))
    confirmed_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    one_seat: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    superseded_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))


class HeldChangeRow(Base, table=True):
    """A fact about reference data, or a quota, that was put aside before it counts. Owned.

    value: the event as it came. state: judging; then applied (it moves little), or held until a
    person released or discarded it; refused: nobody can use it, and it is a dead letter.
    moved: what it would move, each {plan, period, start, currency, before, moved, earlier, share}.
    payees: whose pay that is. first_day: of the first period in which it would move anything.
    """

    __tablename__ = "held_change"
    __table_args__ = (
        CheckConstraint(
            "state IN ('judging', 'applied', 'held', 'released', 'discarded', 'refused')",
            name="state",
        ),
        CheckConstraint(
            "(state IN ('released', 'discarded')) = (decided_by IS NOT NULL) "
            "AND (decided_by IS NULL) = (reason IS NULL)",
            name="decided",
        ),
        Index("uq_held_change_event_id", "event_id", unique=True),
        Index("ix_held_change_waiting", "id", postgresql_where=text("state = 'judging'")),
        Index("ix_held_change_held", "id", postgresql_where=text("state = 'held'")),
        Index("ix_held_change_judged_at", "judged_at"),
    )

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    event_id: str = Field(sa_column=text_column())
    kind: str = Field(sa_column=text_column())
    subject: str = Field(sa_column=text_column())
    source: str = Field(sa_column=text_column())
    topic: str = Field(sa_column=text_column())
    partition: int = Field(sa_column=Column(Integer, nullable=False))
    message_offset: int = Field(sa_column=Column(BigInteger, nullable=False))
    value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    state: str = Field(sa_column=text_column(default="judging"))
    noted_at: datetime = Field(sa_column=utc_now_column("noted_at"))
    judged_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    moved: str = Field(sa_column=Column(JSON, nullable=False, server_default=text("'[]'")))
    payees: list[str] = Field(
        sa_column=Column(ARRAY(Text(collation="C")), nullable=False, server_default="{}")
    )
    first_day: date | None = Field(sa_column=day_column(nullable=True))
    reason: str | None = Field(sa_column=Column(Text, nullable=True))
    decided_by: str | None = Field(sa_column=text_column(nullable=True))
    decided_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="0"))
