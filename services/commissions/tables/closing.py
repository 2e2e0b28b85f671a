"""Periods on their way to being closed, and what closes fixed."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    Text,
    text,
)
from sqlmodel import Field

from services.commissions.tables.columns import (
    Base,
    amount_column,
    day_column,
    document_column,
    finite,
    instant_column,
    key_column,
    text_column,
)


class PeriodRow(Base, table=True):
    """A period on its way to being closed. Whoever approves is not who submitted.

    approved_hash: over the statements that were approved; others are not closed.
    one_seat: a deployment of one person, who may do both; its statements say so.
    """

    __tablename__ = "period"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'reviewing', 'approved', 'closed')", name="state"),
        CheckConstraint("end_day > start_day", name="days"),
        CheckConstraint("(state = 'open') = (submitted_by IS NULL)", name="submitted"),
        CheckConstraint(
            "(state IN ('approved', 'closed')) = (approved_by IS NOT NULL)", name="approved"
        ),
        CheckConstraint("(state = 'closed') = (closed_by IS NOT NULL)", name="closed"),
        CheckConstraint("(submitted_by IS NULL) = (submitted_at IS NULL)", name="submitted_at"),
        CheckConstraint(
            "(approved_by IS NULL) = (approved_at IS NULL) "
            "AND (approved_by IS NULL) = (approved_hash IS NULL)",
            name="approved_at",
        ),
        CheckConstraint("(closed_by IS NULL) = (closed_at IS NULL)", name="closed_at"),
        CheckConstraint(
            "approved_by IS NULL OR approved_by <> submitted_by OR one_seat",
            name="maker_is_not_checker",
        ),
    )

    period: str = Field(sa_column=key_column())
    start_day: date = Field(sa_column=day_column())
    end_day: date = Field(sa_column=day_column())
    state: str = Field(sa_column=text_column())
    submitted_by: str | None = Field(sa_column=text_column(nullable=True))
    submitted_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    approved_by: str | None = Field(sa_column=text_column(nullable=True))
    approved_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    approved_hash: str | None = Field(sa_column=text_column(nullable=True))
    closed_by: str | None = Field(sa_column=text_column(nullable=True))
    closed_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    one_seat: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))


class ReopeningRow(Base, table=True):
    """That a closed period is to be opened again, why, and who agreed. Kept for ever.

    revision: of the period as it was closed; each close is opened again at most once.
    """

    __tablename__ = "reopening"
    __table_args__ = (
        CheckConstraint("(confirmed_by IS NULL) = (confirmed_at IS NULL)", name="confirmed"),
        CheckConstraint(
            "confirmed_by IS NULL OR confirmed_by <> asked_by OR one_seat",
            name="maker_is_not_checker",
        ),
    )

    period: str = Field(
        sa_column=Column(
            Text(collation="C"), ForeignKey("commissions.period.period"), primary_key=True
        )
    )
    revision: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    reason: str = Field(sa_column=Column(Text, nullable=False))
    asked_by: str = Field(sa_column=text_column())
    asked_at: datetime = Field(sa_column=instant_column())
    confirmed_by: str | None = Field(sa_column=text_column(nullable=True))
    confirmed_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    one_seat: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))


class ReopenedStatementRow(Base, table=True):
    """A statement as a close had fixed it, until its period was opened again. Never changed."""

    __tablename__ = "reopened_statement"

    payee: str = Field(sa_column=key_column())
    plan_id: str = Field(sa_column=key_column())
    period: str = Field(sa_column=key_column())
    hash: str = Field(sa_column=text_column())
    closed_with: str = Field(sa_column=text_column())
    closed_at: datetime = Field(sa_column=instant_column())
    reopened_at: datetime = Field(
        sa_column=Column(DateTime(timezone=True), primary_key=True, nullable=False)
    )
    document: str = Field(sa_column=document_column())
    explanation: str = Field(sa_column=document_column())


class FixedStatementRow(Base, table=True):
    """A statement as a close fixed it: never changed. closed_with: the period that was closed."""

    __tablename__ = "fixed_statement"
    __table_args__ = (
        *finite("own", "difference", "carry_in", "carry_out", "payable", "payout_amount"),
        *finite("draw_in", "draw_out", "held_pay"),
        Index("ix_fixed_statement_period", "period", "payee", "plan_id"),
    )

    payee: str = Field(sa_column=key_column())
    plan_id: str = Field(sa_column=key_column())
    period: str = Field(sa_column=key_column())
    start_day: date = Field(sa_column=day_column())
    end_day: date = Field(sa_column=day_column())
    currency: str = Field(sa_column=text_column())
    own: Decimal = Field(sa_column=amount_column())
    difference: Decimal = Field(sa_column=amount_column())
    carry_in: Decimal = Field(sa_column=amount_column())
    carry_out: Decimal = Field(sa_column=amount_column())
    payable: Decimal = Field(sa_column=amount_column())
    payout_currency: str = Field(sa_column=text_column())
    payout_amount: Decimal | None = Field(sa_column=amount_column(nullable=True))
    hash: str = Field(sa_column=text_column())
    closed_with: str = Field(
        sa_column=Column(
            Text(collation="C"), ForeignKey("commissions.period.period"), nullable=False
        )
    )
    document: str = Field(sa_column=document_column())
    explanation: str = Field(sa_column=document_column())
    draw_in: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default="0"))
    draw_out: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default="0"))
    held_pay: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default="0"))


class BegunUntilRow(Base, table=True):
    """The one day: statement periods that begin before it have begun. It only moves forward.

    Rating holds this row FOR SHARE, so that one account is rated as of one day.
    """

    __tablename__ = "begun_until"
    __table_args__ = (CheckConstraint("only_row = 1", name="one_row"),)

    only_row: int = Field(
        sa_column=Column(Integer, primary_key=True, autoincrement=False, server_default="1")
    )
    day: date = Field(sa_column=day_column())


class ClosedUntilRow(Base, table=True):
    """The one day: every statement period that ends on or before it is closed.

    Rating holds this row FOR SHARE, a close takes it FOR UPDATE. It moves forward with a close, and
    back no further than to what is still closed.
    """

    __tablename__ = "closed_until"
    __table_args__ = (CheckConstraint("only_row = 1", name="one_row"),)

    only_row: int = Field(
        sa_column=Column(Integer, primary_key=True, autoincrement=False, server_default="1")
    )
    day: date = Field(sa_column=day_column())
