"""Tables of targets besides quotas, all owned: reliefs, objectives, goals, standards, versions."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    Numeric,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlmodel import Field

from services.metrics.tables import FINITE, metadata
from shared.db.tables import table_base

__all__ = ["metadata"]

if TYPE_CHECKING:
    from sqlmodel import SQLModel as Base
else:  # made for this schema, which a type checker cannot follow
    Base = table_base(metadata)


def _key(name: str) -> Column[Any]:
    return Column(name, Text(collation="C"), primary_key=True)


def _id(*, nullable: bool = False) -> Column[Any]:
    return Column(Text(collation="C"), nullable=nullable)


def _words(*, nullable: bool = False) -> Column[Any]:
    return Column(Text, nullable=nullable)


def _day(*, nullable: bool = False) -> Column[Any]:
    return Column(Date, nullable=nullable)


def _instant(*, nullable: bool = False) -> Column[Any]:
    return Column(DateTime(timezone=True), nullable=nullable)


def _number(*, nullable: bool = False) -> Column[Any]:
    return Column(Numeric, nullable=nullable)


def _revision() -> Column[Any]:
    return Column(BigInteger, nullable=False)


def _flag() -> Column[Any]:
    return Column(Boolean, nullable=False)


class TargetVersionRow(Base, table=True):
    """Every version of every quota, objective, goal and standard, as it is on the journal."""

    __tablename__ = "target_version"

    kind: str = Field(sa_column=_key("kind"))
    id: str = Field(sa_column=_key("id"))
    revision: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    document: str = Field(sa_column=Column(JSON, nullable=False))
    changed_at: datetime = Field(sa_column=_instant())
    changed_by: str = Field(sa_column=_words())


class QuotaReliefRow(Base, table=True):
    """What is to be taken off a quota; counts while it is approved."""

    __tablename__ = "quota_relief"
    __table_args__ = (
        CheckConstraint("num_nonnulls(amount, share) = 1", name="amount_or_share"),
        CheckConstraint("state IN ('proposed', 'approved', 'refused', 'withdrawn')", name="state"),
        CheckConstraint(FINITE.format("amount"), name="amount_finite"),
    )

    quota_id: str = Field(sa_column=_key("quota_id"))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    amount: Decimal | None = Field(sa_column=_number(nullable=True))
    share: str | None = Field(sa_column=_id(nullable=True))
    reason: str = Field(sa_column=_words())
    state: str = Field(sa_column=_id())
    asked_by: str = Field(sa_column=_words())
    asked_at: datetime = Field(sa_column=_instant())
    decided_by: str | None = Field(sa_column=_words(nullable=True))
    decided_at: datetime | None = Field(sa_column=_instant(nullable=True))
    before_amount: Decimal | None = Field(sa_column=_number(nullable=True))
    after_amount: Decimal | None = Field(sa_column=_number(nullable=True))
    one_seat: bool = Field(sa_column=_flag())
    revision: int = Field(sa_column=_revision())


class ObjectiveRow(Base, table=True):
    """Something somebody is to reach in a period, and how far they did."""

    __tablename__ = "objective"
    __table_args__ = (
        CheckConstraint("start_day < end_day", name="period"),
        CheckConstraint(FINITE.format("score"), name="score_finite"),
        Index(
            "uq_objective_person",
            "person",
            "objective",
            "period",
            unique=True,
            postgresql_where=text("NOT deleted"),
        ),
    )

    id: str = Field(sa_column=_key("id"))
    objective: str = Field(sa_column=_id())
    person: str = Field(sa_column=_id())
    period: str = Field(sa_column=_id())
    start_day: date = Field(sa_column=_day())
    end_day: date = Field(sa_column=_day())
    title: str = Field(sa_column=_words())
    target: str = Field(sa_column=_words())
    weight: str | None = Field(sa_column=_id(nullable=True))
    scorer: str | None = Field(sa_column=_id(nullable=True))
    score: Decimal | None = Field(sa_column=_number(nullable=True))
    scored_at: datetime | None = Field(sa_column=_instant(nullable=True))
    scored_by: str | None = Field(sa_column=_words(nullable=True))
    evidence: str | None = Field(sa_column=_words(nullable=True))
    revision: int = Field(sa_column=_revision())
    deleted: bool = Field(sa_column=_flag())
    changed_at: datetime = Field(sa_column=_instant())
    changed_by: str = Field(sa_column=_words())


class PublishedScoreRow(Base, table=True):
    """The last revision of each published score: it goes on where an objective is made anew."""

    __tablename__ = "published_score"

    person: str = Field(sa_column=_key("person"))
    objective: str = Field(sa_column=_key("objective"))
    period: str = Field(sa_column=_key("period"))
    revision: int = Field(sa_column=_revision())


class GoalRow(Base, table=True):
    """A KPI that is to reach a target between two days."""

    __tablename__ = "goal"
    __table_args__ = (
        CheckConstraint("num_nonnulls(person, team) <= 1", name="one_subject"),
        CheckConstraint("start_day < end_day", name="period"),
        CheckConstraint("direction IN ('at_least', 'at_most')", name="direction"),
        CheckConstraint(FINITE.format("target"), name="target_finite"),
        Index("ix_goal_parent", "parent"),
    )

    id: str = Field(sa_column=_key("id"))
    title: str = Field(sa_column=_words())
    kpi: str = Field(sa_column=_id())
    direction: str = Field(sa_column=_id())
    target: Decimal = Field(sa_column=_number())
    unit: str = Field(sa_column=_words())
    start_day: date = Field(sa_column=_day())
    end_day: date = Field(sa_column=_day())
    person: str | None = Field(sa_column=_id(nullable=True))
    team: str | None = Field(sa_column=_id(nullable=True))
    owner: str = Field(sa_column=_id())
    parent: str | None = Field(sa_column=_id(nullable=True))
    revision: int = Field(sa_column=_revision())
    deleted: bool = Field(sa_column=_flag())
    changed_at: datetime = Field(sa_column=_instant())
    changed_by: str = Field(sa_column=_words())


class StandardRow(Base, table=True):
    """What is expected of everybody of a role in each period."""

    __tablename__ = "standard"
    __table_args__ = (
        CheckConstraint("direction IN ('at_least', 'at_most')", name="direction"),
        CheckConstraint("period_kind IN ('month', 'quarter', 'half', 'year')", name="period_kind"),
        CheckConstraint("last_day IS NULL OR first_day <= last_day", name="days"),
        CheckConstraint(FINITE.format("limit_value"), name="limit_finite"),
    )

    id: str = Field(sa_column=_key("id"))
    title: str = Field(sa_column=_words())
    role: str = Field(sa_column=_words())
    kpi: str = Field(sa_column=_id())
    direction: str = Field(sa_column=_id())
    limit_value: Decimal = Field(sa_column=_number())
    period_kind: str = Field(sa_column=_id())
    first_day: date = Field(sa_column=_day())
    last_day: date | None = Field(sa_column=_day(nullable=True))
    revision: int = Field(sa_column=_revision())
    deleted: bool = Field(sa_column=_flag())
    changed_at: datetime = Field(sa_column=_instant())
    changed_by: str = Field(sa_column=_words())
