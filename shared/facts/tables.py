"""The tables of the incremental core, made once in each schema that projects."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON


def add_fact_tables(metadata: MetaData) -> None:
    """Records, roots, marks, the version of reference data, and traces that go on.

    Documents are `json`, not `jsonb`: they are read and written whole, and their text must come
    back as it was written, so that "nothing changed" is a comparison of texts.
    """
    Table(
        "record",
        metadata,
        Column("kind", Text(collation="C"), primary_key=True),
        Column("id", Text(collation="C"), primary_key=True),
        Column("document", JSON, nullable=False),
        Column("parent", Text(collation="C"), comment="subject of the record this one points at"),
        Column("merged_into", Text(collation="C"), comment="id of the record that survives"),
        Column("merged_sequence", Text(collation="C")),
        Index("ix_record_parent", "parent", postgresql_where=text("parent IS NOT NULL")),
        Index("ix_record_redirect", "kind", "id", postgresql_where=text("merged_into IS NOT NULL")),
        Index(
            "ix_record_merged_into",
            "kind",
            "merged_into",
            postgresql_where=text("merged_into IS NOT NULL"),
        ),
    )
    Table(
        "root",
        metadata,
        Column("kind", Text(collation="C"), primary_key=True),
        Column("id", Text(collation="C"), primary_key=True),
        Column("contribution", JSON, comment="what this root adds now; null adds nothing"),
        Column("reference_version", BigInteger, nullable=False, server_default="0"),
        Column("next_due", DateTime(timezone=True), comment="when time alone may change it"),
        Index("ix_root_next_due", "next_due", postgresql_where=text("next_due IS NOT NULL")),
        Index("ix_root_reference_version", "kind", "reference_version"),
    )
    Table(
        "mark",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("kind", Text(collation="C"), nullable=False),
        Column("root_id", Text(collation="C"), nullable=False),
        Column("part", Text(collation="C"), nullable=False, server_default=""),
        Index("ix_mark_kind_root_id", "kind", "root_id"),
    )
    Table(
        "reference_version",
        metadata,
        Column("only_row", Integer, primary_key=True, server_default="1"),
        Column("version", BigInteger, nullable=False),
        Column("code_version", Integer, nullable=False),
    )
    # Only written while traces are on. A crash empties it, which ends traces and nothing else.
    Table(
        "trace_cause",
        metadata,
        Column("number", BigInteger, Identity(always=True), primary_key=True),
        Column("event_id", Text(collation="C"), nullable=False),
        Column("subject", Text(collation="C"), nullable=False),
        Column("traceparent", Text, nullable=False),
        Column("noted_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Index("ix_trace_cause_event_id", "event_id"),
        Index("ix_trace_cause_subject_number", "subject", "number"),
        prefixes=["UNLOGGED"],
    )
