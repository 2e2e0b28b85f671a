"""The schema's metadata, and the kinds of columns that its tables are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Numeric,
    Text,
)
from sqlalchemy.dialects.postgresql import JSON

from shared.db.tables import add_runtime_tables, service_metadata, table_base
from shared.facts.tables import add_fact_tables

__all__ = [
    "Base",
    "amount_column",
    "day_column",
    "document_column",
    "finite",
    "instant_column",
    "key_column",
    "metadata",
    "text_column",
]

metadata = service_metadata("commissions")

if TYPE_CHECKING:
    from sqlmodel import SQLModel as Base
else:  # made for this schema, which a type checker cannot follow
    Base = table_base(metadata)

add_runtime_tables(metadata)
add_fact_tables(metadata)


def key_column() -> Column[Any]:
    """Part of the primary key, in byte order."""
    return Column(Text(collation="C"), primary_key=True)


def text_column(*, nullable: bool = False, default: str | None = None) -> Column[Any]:
    """Text in byte order."""
    return Column(Text(collation="C"), nullable=nullable, server_default=default)


def day_column(*, nullable: bool = False) -> Column[Any]:
    """A calendar day."""
    return Column(Date, nullable=nullable)


def amount_column(*, nullable: bool = False) -> Column[Any]:
    """An exact amount; see `finite`."""
    return Column(Numeric, nullable=nullable)


def instant_column(*, nullable: bool = False) -> Column[Any]:
    """An instant."""
    return Column(DateTime(timezone=True), nullable=nullable)


def document_column() -> Column[Any]:
    """JSON, as it is read whole."""
    return Column(JSON, nullable=False)


def finite(*names: str) -> tuple[CheckConstraint, ...]:
    """NUMERIC takes NaN and infinities; NaN compares greater than everything else."""
    return tuple(
        CheckConstraint(f"{name} < 'Infinity' AND {name} > '-Infinity'", name=f"{name}finite")
        for name in names
    )
