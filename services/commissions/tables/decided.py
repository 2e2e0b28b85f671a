"""What people decided: plan versions and assignments."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlmodel import Field

from services.commissions.tables.columns import (
    Base,
    amount_column,
    day_column,
    document_column,
    finite,
    key_column,
    text_column,
)
from shared.db.tables import utc_now_column


class PlanVersionRow(Base, table=True):
    """A plan document as it was saved. Immutable. needs: see needs.py."""

    __tablename__ = "plan_version"
    __table_args__ = (UniqueConstraint("plan_id", "hash"),)

    plan_id: str = Field(sa_column=key_column())
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    hash: str = Field(sa_column=text_column())
    name: str = Field(sa_column=text_column())
    effective_from: date = Field(sa_column=day_column())
    effective_to: date | None = Field(sa_column=day_column(nullable=True))
    document: str = Field(sa_column=document_column())
    saved_by: str = Field(sa_column=text_column())
    saved_at: datetime = Field(sa_column=utc_now_column("saved_at"))
    needs: list[str] = Field(
        sa_column=Column(ARRAY(Text(collation="C")), nullable=False, server_default="{}")
    )


class AssignmentRow(Base, table=True):
    """A payee is on a plan from the first to the last day, both included.

    component_target_pay: component → in place of target_pay. ramp: percentages by month of the
    assignment. leave: days that do not count, each {from, to}.
    """

    __tablename__ = "assignment"
    __table_args__ = (
        *finite("target_pay"),
        CheckConstraint("last_day IS NULL OR last_day >= first_day", name="days"),
        Index("ix_assignment_payee", "payee"),
    )

    assignment_id: str = Field(sa_column=key_column())
    payee: str = Field(sa_column=text_column())
    plan_id: str = Field(sa_column=text_column())
    first_day: date = Field(sa_column=day_column())
    last_day: date | None = Field(sa_column=day_column(nullable=True))
    quota: str = Field(sa_column=document_column())
    payout_currency: str | None = Field(sa_column=text_column(nullable=True))
    deleted: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    changed_by: str = Field(sa_column=text_column())
    changed_at: datetime = Field(sa_column=utc_now_column("changed_at"))
    target_pay: Decimal | None = Field(sa_column=amount_column(nullable=True))
    component_target_pay: str = Field(
        sa_column=Column(JSON, nullable=False, server_default=text("'{}'"))
    )
    ramp: str = Field(sa_column=Column(JSON, nullable=False, server_default=text("'[]'")))
    leave: str = Field(sa_column=Column(JSON, nullable=False, server_default=text("'[]'")))
