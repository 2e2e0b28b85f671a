"""Tables of the schema `ingest`.

Owned: connections and their changes, rejects. Derived: reference documents, folded from what was
stated; their facts are on `crm.people` and `crm.reference`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlmodel import Field

from shared.db.tables import add_runtime_tables, service_metadata, table_base, utc_now_column

metadata = service_metadata("ingest")
Base: Any = table_base(metadata)

add_runtime_tables(metadata)
# Ingest consumes no topic and judges by the machine's time alone.
for unused in ("consumer_offset", "dead_letter", "simulated_clock"):
    metadata.remove(metadata.tables[f"ingest.{unused}"])


def _key() -> Column[Any]:
    return Column(Text(collation="C"), primary_key=True)


def _text() -> Column[Any]:
    return Column(Text, nullable=False)


def _count() -> Column[Any]:
    return Column(BigInteger, nullable=False)


class SourceRow(Base, table=True):  # type: ignore[call-arg, misc] # the base is made for this schema
    """One CRM connection. secrets: encrypted; version: of the whole; revision: of its reading."""

    __tablename__ = "source"

    id: str = Field(sa_column=_key())
    adapter: str = Field(sa_column=_text())
    tenants: Any = Field(sa_column=Column(JSONB, nullable=False))
    public_url: str = Field(sa_column=_text())
    mapping: Any = Field(sa_column=Column(JSONB, nullable=False))
    options: Any = Field(sa_column=Column(JSONB, nullable=False))
    secrets: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    revision: int = Field(sa_column=Column(Integer, nullable=False))
    version: int = Field(sa_column=_count())
    updated_at: datetime = Field(sa_column=utc_now_column("updated_at"))


class SourceChangeRow(Base, table=True):  # type: ignore[call-arg, misc] # as SourceRow
    """Who changed which connection, and what: secrets by fingerprint only. Never updated."""

    __tablename__ = "source_change"

    number: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    source: str = Field(sa_column=Column(Text(collation="C"), nullable=False, index=True))
    version: int = Field(sa_column=_count())
    actor: str = Field(sa_column=_text())
    document: Any = Field(sa_column=Column(JSONB, nullable=False))
    changed_at: datetime = Field(sa_column=utc_now_column("changed_at"))


class RejectRow(Base, table=True):  # type: ignore[call-arg, misc] # as SourceRow
    """One event of a delivery that could not be read. body: a delivery of this event alone."""

    __tablename__ = "reject"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'redriven', 'discarded')", name="state"),
        Index("ix_reject_open", "number", postgresql_where=text("state = 'open'")),
        Index("ix_reject_source_number", "source", "number"),
    )

    id: str = Field(sa_column=_key())
    number: int = Field(
        sa_column=Column(BigInteger, Identity(always=True), nullable=False, unique=True)
    )
    source: str = Field(sa_column=Column(Text(collation="C"), nullable=False))
    cause: str = Field(sa_column=_text())
    message: str = Field(sa_column=_text())
    pointer: str = Field(sa_column=_text())
    raw_id: str = Field(sa_column=_text())
    excerpt: str = Field(sa_column=_text())
    headers: Any = Field(sa_column=Column(JSONB, nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    received_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False, server_default="open"))
    resolution: Any = Field(sa_column=Column(JSONB))


class ReferenceRow(Base, table=True):  # type: ignore[call-arg, misc] # as SourceRow
    """What was stated about a person, team, calendar, stage map or rate, folded.

    The document is `json`: its text comes back as it was written.
    """

    __tablename__ = "reference_document"

    kind: str = Field(sa_column=_key())
    id: str = Field(sa_column=_key())
    document: Any = Field(sa_column=Column(JSON, nullable=False))
    version: int = Field(sa_column=_count())
    updated_at: datetime = Field(sa_column=utc_now_column("updated_at"))
