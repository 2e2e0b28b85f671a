"""Tables of the schema `metrics`.

Derived, and made anew by `rebuild`: records, roots, cells, deal and activity rows. Owned: quotas,
dispositions, episodes and the medians that episodes were judged by.
"""

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
    Identity,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlmodel import Field

from shared.db.tables import add_runtime_tables, service_metadata, table_base, utc_now_column
from shared.facts.tables import add_fact_tables

metadata = service_metadata("metrics")

if TYPE_CHECKING:
    from sqlmodel import SQLModel as Base
else:  # made for this schema, which a type checker cannot follow
    Base = table_base(metadata)

add_runtime_tables(metadata)
add_fact_tables(metadata)

FINITE = "{0} > '-Infinity' AND {0} < 'Infinity'"
"""NUMERIC takes NaN and infinities; NaN compares greater than all, so this refuses it too."""


def _key(name: str) -> Column[Any]:
    return Column(name, Text(collation="C"), primary_key=True)


def _text(name: str | None = None, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Text(collation="C"), nullable=nullable)


def _ms(name: str, *, nullable: bool = True) -> Column[Any]:
    """Milliseconds of source time since 1970."""
    return Column(name, BigInteger, nullable=nullable)


def _instant(*, nullable: bool = False) -> Column[Any]:
    return Column(DateTime(timezone=True), nullable=nullable)


CELL = Table(
    "cell",
    metadata,
    _key("people"),
    _key("measure"),
    Column("day", Date, primary_key=True),
    _key("currency"),
    _key("deal_type"),
    Column("slot", SmallInteger, primary_key=True, comment="of the writer; summed when read"),
    Column("amount", Numeric, nullable=False),
    Column("number", BigInteger, nullable=False),
    CheckConstraint(FINITE.format("amount"), name="amount_finite"),
    comment="sums in the original currency; people `*` is the whole organisation",
)

PEOPLE_SET = Table(
    "people_set",
    metadata,
    _key("person"),
    _key("set_key"),
    comment="which sets of people, named by their key, somebody is in",
)

DEAL_SPAN = Table(
    "deal_span",
    metadata,
    _key("deal_id"),
    Column("valid_from_ms", BigInteger, primary_key=True, autoincrement=False),
    _ms("valid_to_ms"),
    _text("status"),
    _text("stage", nullable=True),
    Column("stage_name", Text),
    _text("pipeline"),
    _text("owner", nullable=True),
    _text("seen_by"),
    Column("amount", Numeric),
    _text("currency", nullable=True),
    Column("close_date", Date),
    Column("probability", Numeric),
    _text("category", nullable=True),
    _ms("stage_entered_ms"),
    _ms("created_ms"),
    _text("outcome", nullable=True),
    _ms("closed_ms"),
    _text("closed_owner", nullable=True),
    Column("closed_amount", Numeric),
    Column("shares", Text),
    _text("deal_type", nullable=True),
    _text("account", nullable=True),
    Column("name", Text),
    Column("stage_order", Integer),
    Column("qualified", Boolean),
    _ms("next_step_ms"),
    CheckConstraint(FINITE.format("amount"), name="amount_finite"),
    CheckConstraint(FINITE.format("closed_amount"), name="closed_amount_finite"),
    Index("ix_deal_span_now", "deal_id", postgresql_where=text("valid_to_ms IS NULL")),
    Index("ix_deal_span_seen", "seen_by", "deal_id", postgresql_where=text("valid_to_ms IS NULL")),
    Index(
        "ix_deal_span_open",
        "owner",
        "close_date",
        postgresql_where=text("valid_to_ms IS NULL AND status = 'open'"),
    ),
    Index(
        "ix_deal_span_open_close",
        "close_date",
        postgresql_where=text("valid_to_ms IS NULL AND status = 'open'"),
    ),
    Index("ix_deal_span_closed", "closed_ms", postgresql_where=text("closed_ms IS NOT NULL")),
    Index(
        "ix_deal_span_closed_owner",
        "closed_owner",
        "closed_ms",
        postgresql_where=text("closed_ms IS NOT NULL AND valid_to_ms IS NULL"),
    ),
    Index("ix_deal_span_created", "created_ms", postgresql_where=text("valid_to_ms IS NULL")),
    Index("ix_deal_span_from", "valid_from_ms"),
    Index(
        "ix_deal_span_was_open",
        "valid_to_ms",
        postgresql_where=text("valid_to_ms IS NOT NULL AND status = 'open'"),
    ),
    comment="one row a deal and validity interval in source time",
)

ACTIVITY_ROW = Table(
    "activity_row",
    metadata,
    _key("activity_id"),
    _text("deal_id", nullable=True),
    _text("kind"),
    _text("people"),
    Column("day", Date, comment="in the organisation's zone; null until done"),
    _ms("done_ms"),
    _ms("due_ms"),
    Index("ix_activity_row_done", "deal_id", "done_ms", postgresql_where=text("day IS NOT NULL")),
    Index("ix_activity_row_due", "deal_id", "due_ms", postgresql_where=text("day IS NULL")),
    Index("ix_activity_row_people", "people", "day", "activity_id"),
    Index("ix_activity_row_day", "day", "activity_id"),
    comment="activities that count or are planned",
)

ACCOUNT_SEGMENT = Table("account_segment", metadata, _key("account"), _text("segment"))

LOOKUP_VERSION = Table(
    "lookup_version",
    metadata,
    _key("name"),
    Column("version", BigInteger, nullable=False),
    comment="raised with every change of people, teams, calendars or rates",
)

BOOKING_CHANGE = Table(
    "booking_change",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _text("person"),
    comment="appended when somebody's bookings change; their quotas are judged at the next tick",
)

UNJUDGED_IMPORT = Table(
    "unjudged_import",
    metadata,
    _key("deal_id"),
    comment="deals of imported history whose first judgement is to be silent",
)

IMPORT_BURST = Table(
    "import_burst",
    metadata,
    Column("only_row", Integer, primary_key=True, server_default="1"),
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("deals", BigInteger, nullable=False),
    Column("opened", BigInteger, nullable=False),
    utc_now_column("last_at"),
    CheckConstraint("only_row = 1", name="one_row"),
)


class StageNormRow(Base, table=True):
    """The usual age of a stage, learned once a day and then kept: episodes rest on it."""

    __tablename__ = "stage_norm"

    day: date = Field(sa_column=Column(Date, primary_key=True))
    pipeline: str = Field(sa_column=_key("pipeline"))
    stage: str = Field(sa_column=_key("stage"))
    segment: str = Field(sa_column=_key("segment"))
    median_ms: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    samples: int = Field(sa_column=Column(BigInteger, nullable=False))


class StageNormDayRow(Base, table=True):
    """Days on which norms were learned, days without any included."""

    __tablename__ = "stage_norm_day"

    day: date = Field(sa_column=Column(Date, primary_key=True))


class QuotaRow(Base, table=True):
    """What somebody is to reach: the figure in force. Owned; every version is on the journal."""

    __tablename__ = "quota"
    __table_args__ = (
        CheckConstraint("num_nonnulls(person, team) <= 1", name="one_subject"),
        CheckConstraint("start_day < end_day", name="period"),
        CheckConstraint(FINITE.format("amount"), name="amount_finite"),
        Index("ix_quota_person", "person", "start_day"),
        Index("ix_quota_team", "team", "start_day"),
        Index("ix_quota_start_day", "start_day", "id"),
        Index("ix_quota_next_due", "next_due", postgresql_where=text("next_due IS NOT NULL")),
    )

    id: str = Field(sa_column=_key("id"))
    person: str | None = Field(sa_column=_text(nullable=True))
    team: str | None = Field(sa_column=_text(nullable=True))
    measure: str = Field(sa_column=_text())
    period: str = Field(sa_column=_text())
    start_day: date = Field(sa_column=Column(Date, nullable=False))
    end_day: date = Field(sa_column=Column(Date, nullable=False))
    amount: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    currency: str | None = Field(sa_column=_text(nullable=True))
    terms: str | None = Field(sa_column=Column(JSON, comment="null: amount is as it was stated"))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    deleted: bool = Field(sa_column=Column(Boolean, nullable=False))
    changed_at: datetime = Field(sa_column=_instant())
    changed_by: str = Field(sa_column=Column(Text, nullable=False))
    next_due: datetime | None = Field(sa_column=_instant(nullable=True))


class DispositionRow(Base, table=True):
    """Somebody's word about a deal. Owned; the latest of a deal counts."""

    __tablename__ = "disposition"
    __table_args__ = (Index("ix_disposition_deal_id", "deal_id", "number"),)

    number: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    deal_id: str = Field(sa_column=_text())
    disposition: str = Field(sa_column=_text())
    reason: str = Field(sa_column=Column(Text, nullable=False))
    stated_at: datetime = Field(sa_column=_instant())
    stated_by: str = Field(sa_column=Column(Text, nullable=False))


class EpisodeRow(Base, table=True):
    """What a detector found, from when to when, and why. Owned: never judged again for the past."""

    __tablename__ = "episode"
    __table_args__ = (
        Index(
            "uq_episode_open",
            "detector",
            "subject",
            unique=True,
            postgresql_where=text("closed_ms IS NULL"),
        ),
        Index("ix_episode_subject", "subject", "opened_ms"),
        Index("ix_episode_person", "person", "number"),
        Index("ix_episode_number", "number", unique=True),
    )

    id: str = Field(sa_column=_key("id"))
    number: int = Field(sa_column=Column(BigInteger, Identity(always=True), nullable=False))
    detector: str = Field(sa_column=_text())
    subject: str = Field(sa_column=_text())
    person: str | None = Field(sa_column=_text(nullable=True))
    team: str | None = Field(sa_column=_text(nullable=True))
    title: str = Field(sa_column=Column(Text, nullable=False))
    opened_ms: int = Field(sa_column=Column(BigInteger, nullable=False))
    closed_ms: int | None = Field(sa_column=Column(BigInteger))
    judged_ms: int = Field(sa_column=Column(BigInteger, nullable=False))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    rules: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    evidence: Any = Field(sa_column=Column(JSON, nullable=False))
    facts: Any = Field(sa_column=Column(JSON, nullable=False))
    silent: bool = Field(sa_column=Column(Boolean, nullable=False))
