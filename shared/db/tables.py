"""Tables that every service has in its own schema, and the base its SQLModel tables stand on."""

from __future__ import annotations

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
    MetaData,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import registry
from sqlmodel import SQLModel

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def service_metadata(schema: str) -> MetaData:
    """The metadata of one service's schema."""
    return MetaData(schema=schema, naming_convention=NAMING)


def table_base(metadata: MetaData) -> type[SQLModel]:
    """The base class of a service's SQLModel tables, bound to its schema."""

    class ServiceTable(SQLModel, registry=registry(metadata=metadata)):
        """A table of this service."""

    return ServiceTable


def utc_now_column(name: str) -> Column[Any]:
    """A timestamp that the server fills in."""
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def add_runtime_tables(metadata: MetaData) -> None:
    """Positions in topics, the outbox, dead letters and idempotency keys."""
    Table(
        "consumer_offset",
        metadata,
        Column("consumer_group", Text, primary_key=True),
        Column("topic", Text, primary_key=True),
        Column("partition", Integer, primary_key=True),
        Column("epoch", BigInteger, nullable=False),
        Column("next_offset", BigInteger, nullable=False),
    )
    Table(
        "outbox",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("topic", Text, nullable=False),
        Column("key", LargeBinary, nullable=False),
        Column("value", LargeBinary, nullable=False),
        utc_now_column("created_at"),
        Column("published_at", DateTime(timezone=True)),
        Index("ix_outbox_waiting", "id", postgresql_where=text("published_at IS NULL")),
        Index("ix_outbox_published_at", "published_at"),
    )
    Table(
        "dead_letter",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("topic", Text, nullable=False),
        Column("partition", Integer, nullable=False),
        Column("message_offset", BigInteger, nullable=False),
        Column("subject", Text, nullable=False),
        Column("cause", Text, nullable=False),
        Column("detail", Text, nullable=False),
        Column("value", LargeBinary, nullable=False),
        Column("state", Text, nullable=False, server_default="open"),
        Column("resolution", JSONB),
        utc_now_column("created_at"),
        CheckConstraint("state IN ('open', 'redriven', 'discarded')", name="state"),
        Index("uq_dead_letter_position", "topic", "partition", "message_offset", unique=True),
        Index("ix_dead_letter_open", "subject", postgresql_where=text("state = 'open'")),
    )
    Table(
        "idempotency_key",
        metadata,
        Column("subject", Text, primary_key=True),
        Column("route", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("fingerprint", LargeBinary, nullable=False),
        Column("status", SmallInteger),
        Column("headers", JSONB),
        Column("body", LargeBinary),
        Column("created_at", DateTime(timezone=True), nullable=False, index=True),
        comment="Answers to requests with an Idempotency-Key; owned, purged after 30 days",
    )
    Table(
        "simulated_clock",
        metadata,
        Column("only_row", Integer, primary_key=True, server_default="1"),
        Column("instant", DateTime(timezone=True), nullable=False),
        CheckConstraint("only_row = 1", name="one_row"),
    )
