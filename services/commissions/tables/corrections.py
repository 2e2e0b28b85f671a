"""What people agreed on beside plans, and what they disagree on: adjustments, overrides, disputes.

Whoever approves is neither who asked nor whose pay it is, unless exactly one person works here.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlmodel import Field

from services.commissions.tables.columns import (
    Base,
    amount_column,
    day_column,
    finite,
    instant_column,
    key_column,
    text_column,
)


def _decided() -> tuple[CheckConstraint, ...]:
    """Of what is proposed by one person and decided by another."""
    states = "'proposed', 'approved', 'rejected', 'withdrawn'"
    conditions = {
        "state": f"state IN ({states})",
        "decided": "(state = 'proposed') = (decided_by IS NULL) "
        "AND (decided_by IS NULL) = (decided_at IS NULL)",
        "maker_is_not_checker": "state <> 'approved' OR one_seat OR decided_by <> asked_by",
        "not_own_pay": "state <> 'approved' OR one_seat OR decided_by <> payee",
    }
    return tuple(CheckConstraint(text_, name=name) for name, text_ in conditions.items())


def _reason() -> Column[str]:
    return Column(Text, nullable=False)


def _one_seat() -> Column[bool]:
    return Column(Boolean, nullable=False, server_default=text("false"))


def _dispute() -> Column[str | None]:
    return Column(Text(collation="C"), ForeignKey("commissions.dispute.dispute_id"), nullable=True)


class DisputeRow(Base, table=True):
    """Somebody says that a statement is wrong, and what it showed then.

    line_key: the line; None: something is missing, perhaps `deal_id`. due_on: to be answered until
    the end of that day. adjustments, overrides: what an accepted one led to; each names it too.
    """

    __tablename__ = "dispute"
    __table_args__ = (
        *finite("amount"),
        CheckConstraint("state IN ('open', 'answered', 'resolved')", name="state"),
        CheckConstraint("outcome IN ('accepted', 'rejected', 'withdrawn')", name="outcome"),
        CheckConstraint(
            "(state = 'resolved') = (outcome IS NOT NULL) "
            "AND (outcome IS NULL) = (resolved_by IS NULL) "
            "AND (resolved_by IS NULL) = (resolved_at IS NULL)",
            name="resolved",
        ),
        CheckConstraint(
            "(outcome IS NOT DISTINCT FROM 'accepted') "
            "= (cardinality(adjustments) + cardinality(overrides) > 0)",
            name="led_to",
        ),
        CheckConstraint(
            "outcome IS NULL OR one_seat "
            "OR (outcome = 'withdrawn' AND resolved_by = raised_by) "
            "OR (outcome <> 'withdrawn' AND resolved_by <> raised_by AND resolved_by <> payee)",
            name="second_person",
        ),
        Index("ix_dispute_unresolved", "end_day", postgresql_where=text("state <> 'resolved'")),
    )

    dispute_id: str = Field(sa_column=key_column())
    payee: str = Field(sa_column=text_column())
    plan_id: str = Field(sa_column=text_column())
    period: str = Field(sa_column=text_column())
    start_day: date = Field(sa_column=day_column())
    end_day: date = Field(sa_column=day_column())
    line_key: str | None = Field(sa_column=text_column(nullable=True))
    deal_id: str | None = Field(sa_column=text_column(nullable=True))
    text: str = Field(sa_column=_reason())
    statement_hash: str | None = Field(sa_column=text_column(nullable=True))
    amount: Decimal | None = Field(sa_column=amount_column(nullable=True))
    explanation: str | None = Field(sa_column=Column(JSON))
    state: str = Field(sa_column=text_column())
    outcome: str | None = Field(sa_column=text_column(nullable=True))
    raised_by: str = Field(sa_column=text_column())
    raised_at: datetime = Field(sa_column=instant_column())
    due_on: date = Field(sa_column=day_column())
    resolved_by: str | None = Field(sa_column=text_column(nullable=True))
    resolved_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    resolution: str | None = Field(sa_column=Column(Text))
    adjustments: list[str] = Field(
        sa_column=Column(ARRAY(Text(collation="C")), nullable=False, server_default="{}")
    )
    overrides: list[str] = Field(
        sa_column=Column(ARRAY(Text(collation="C")), nullable=False, server_default="{}")
    )
    one_seat: bool = Field(sa_column=_one_seat())
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))


class DisputeCommentRow(Base, table=True):
    """What somebody said in a dispute; `number` counts from 1."""

    __tablename__ = "dispute_comment"

    dispute_id: str = Field(
        sa_column=Column(
            Text(collation="C"), ForeignKey("commissions.dispute.dispute_id"), primary_key=True
        )
    )
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    person: str = Field(sa_column=text_column())
    text: str = Field(sa_column=_reason())
    said_at: datetime = Field(sa_column=instant_column())


class AdjustmentRow(Base, table=True):
    """An amount added to one statement, or taken from it. Once decided it never changes."""

    __tablename__ = "adjustment"
    __table_args__ = (
        *finite("amount"),
        *_decided(),
        CheckConstraint("amount <> 0", name="changes_something"),
        CheckConstraint("end_day > start_day", name="days"),
        Index(
            "ix_adjustment_account",
            "payee",
            "plan_id",
            "start_day",
            postgresql_where=text("state = 'approved'"),
        ),
        Index("ix_adjustment_proposed", "end_day", postgresql_where=text("state = 'proposed'")),
    )

    adjustment_id: str = Field(sa_column=key_column())
    payee: str = Field(sa_column=text_column())
    plan_id: str = Field(sa_column=text_column())
    period: str = Field(sa_column=text_column())
    start_day: date = Field(sa_column=day_column())
    end_day: date = Field(sa_column=day_column())
    amount: Decimal = Field(sa_column=amount_column())
    currency: str = Field(sa_column=text_column())
    reason: str = Field(sa_column=_reason())
    dispute_id: str | None = Field(sa_column=_dispute())
    state: str = Field(sa_column=text_column())
    asked_by: str = Field(sa_column=text_column())
    asked_at: datetime = Field(sa_column=instant_column())
    decided_by: str | None = Field(sa_column=text_column(nullable=True))
    decided_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    decision: str | None = Field(sa_column=Column(Text))
    one_seat: bool = Field(sa_column=_one_seat())
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))


class OverrideRow(Base, table=True):
    """Terms in place of a component's, for credits from the first to the last day, both included.

    rate: a fraction of the credited amount. decided_*: of the override itself. ending_*: an earlier
    end that somebody asked for, and who agreed; it takes effect by moving `last_day`, no further
    back than to the day before the first, which takes the override back.
    """

    __tablename__ = "override"
    __table_args__ = (
        *finite("amount", "rate"),
        *_decided(),
        CheckConstraint("(amount IS NULL) <> (rate IS NULL)", name="amount_or_rate"),
        CheckConstraint("amount IS NULL OR deal_id IS NOT NULL", name="amount_of_a_deal"),
        CheckConstraint("coalesce(amount, rate) >= 0", name="not_negative"),
        CheckConstraint("last_day >= first_day - 1", name="days"),
        CheckConstraint(
            "(ending_last_day IS NULL) = (ending_asked_by IS NULL) "
            "AND (ending_last_day IS NULL) = (ending_reason IS NULL) "
            "AND (ending_decided_by IS NULL OR ending_asked_by IS NOT NULL)",
            name="ending",
        ),
        CheckConstraint(
            "ending_decided_by IS NULL OR one_seat "
            "OR (ending_decided_by <> ending_asked_by AND ending_decided_by <> payee)",
            name="ending_second_person",
        ),
        Index(
            "ix_override_account",
            "payee",
            "plan_id",
            "last_day",
            postgresql_where=text("state = 'approved'"),
        ),
        Index("ix_override_proposed", "first_day", postgresql_where=text("state = 'proposed'")),
    )

    override_id: str = Field(sa_column=key_column())
    payee: str = Field(sa_column=text_column())
    plan_id: str = Field(sa_column=text_column())
    component_id: str = Field(sa_column=text_column())
    deal_id: str | None = Field(sa_column=text_column(nullable=True))
    amount: Decimal | None = Field(sa_column=amount_column(nullable=True))
    rate: Decimal | None = Field(sa_column=amount_column(nullable=True))
    currency: str = Field(sa_column=text_column())
    first_day: date = Field(sa_column=day_column())
    last_day: date = Field(sa_column=day_column())
    reason: str = Field(sa_column=_reason())
    dispute_id: str | None = Field(sa_column=_dispute())
    state: str = Field(sa_column=text_column())
    asked_by: str = Field(sa_column=text_column())
    asked_at: datetime = Field(sa_column=instant_column())
    decided_by: str | None = Field(sa_column=text_column(nullable=True))
    decided_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    decision: str | None = Field(sa_column=Column(Text))
    ending_last_day: date | None = Field(sa_column=day_column(nullable=True))
    ending_reason: str | None = Field(sa_column=Column(Text))
    ending_asked_by: str | None = Field(sa_column=text_column(nullable=True))
    ending_decided_by: str | None = Field(sa_column=text_column(nullable=True))
    one_seat: bool = Field(sa_column=_one_seat())
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
