"""Simulations: what was asked, how far it is, what came out; and what a what-if keeps meanwhile."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, ForeignKey, Index, Text, text
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
from shared.db.tables import utc_now_column


class WhatIfCreditRow(Base, table=True):
    """What a root would credit otherwise; gone when the what-if ends. Never in any figure shown.

    what: `credit` or `waiting`. document: as `credit` has it; null: it would not be there.
    """

    __tablename__ = "whatif_credit"
    __table_args__ = (
        CheckConstraint("what IN ('credit', 'waiting')", name="what"),
        {"prefixes": ["UNLOGGED"]},
    )

    run: str = Field(sa_column=key_column())
    plan_id: str = Field(sa_column=key_column())
    payee: str = Field(sa_column=key_column())
    what: str = Field(sa_column=key_column())
    root: str = Field(sa_column=key_column())
    key: str = Field(sa_column=key_column())
    day: date = Field(sa_column=day_column())
    document: str | None = Field(sa_column=Column(JSON(none_as_null=True), nullable=True))
    made_at: datetime = Field(sa_column=utc_now_column("made_at"))


class SimulationRow(Base, table=True):
    """A simulation. worker, lease_until: who runs it, and until when nobody else may.

    phase: `credits`, then `accounts`, each with what is done of how much. request: what was asked,
    with the drafts as documents. result: its summary. tried: how often it was begun.
    """

    __tablename__ = "simulation"
    __table_args__ = (
        CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="state"
        ),
        CheckConstraint(
            "(state = 'running') = (worker IS NOT NULL) "
            "AND (worker IS NULL) = (lease_until IS NULL)",
            name="running",
        ),
        CheckConstraint("(state = 'done') = (result IS NOT NULL)", name="result"),
        Index(
            "uq_simulation_running",
            "state",
            unique=True,
            postgresql_where=text("state = 'running'"),
        ),
    )

    simulation_id: str = Field(sa_column=key_column())
    name: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(sa_column=text_column())
    request: str = Field(sa_column=document_column())
    made_by: str = Field(sa_column=text_column())
    made_at: datetime = Field(sa_column=instant_column())
    recorded_at: datetime = Field(sa_column=utc_now_column("recorded_at"))
    ended_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    worker: str | None = Field(sa_column=text_column(nullable=True))
    lease_until: datetime | None = Field(sa_column=instant_column(nullable=True))
    phase: str = Field(sa_column=text_column(default="credits"))
    done: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="0"))
    total: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="0"))
    tried: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="0"))
    problem: str | None = Field(sa_column=Column(Text, nullable=True))
    result: str | None = Field(sa_column=Column(JSON(none_as_null=True), nullable=True))


class SimulationAccountRow(Base, table=True):
    """One payee under one plan in a simulation. periods, lines, tiers: JSON lists."""

    __tablename__ = "simulation_account"
    __table_args__ = (
        *finite("before", "after"),
        Index("ix_simulation_account_change", "simulation_id", text("(after - before)")),
    )

    simulation_id: str = Field(
        sa_column=Column(
            Text(collation="C"),
            ForeignKey("commissions.simulation.simulation_id", ondelete="CASCADE"),
            primary_key=True,
        )
    )
    payee: str = Field(sa_column=key_column())
    plan_id: str = Field(sa_column=key_column())
    currency: str = Field(sa_column=text_column())
    before: Decimal = Field(sa_column=amount_column())
    after: Decimal = Field(sa_column=amount_column())
    crossings: int = Field(sa_column=Column(BigInteger, nullable=False))
    periods: str = Field(sa_column=document_column())
    lines: str = Field(sa_column=document_column())
    tiers: str = Field(sa_column=document_column())
