"""What is made anew from the topics: credits, what waits, open statements."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Index,
    Numeric,
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


class QuotaTargetRow(Base, table=True):
    """A published quota: the greatest revision. Days are [start_day, end_day)."""

    __tablename__ = "quota_target"
    __table_args__ = (*finite("amount"), Index("ix_quota_target_person", "person"))

    quota_id: str = Field(sa_column=key_column())
    person: str | None = Field(sa_column=text_column(nullable=True))
    measure: str = Field(sa_column=text_column())
    start_day: date = Field(sa_column=day_column())
    end_day: date = Field(sa_column=day_column())
    amount: Decimal = Field(sa_column=amount_column())
    currency: str | None = Field(sa_column=text_column(nullable=True))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    deleted: bool = Field(sa_column=Column(Boolean, nullable=False))


class CreditRow(Base, table=True):
    """One payee's credit for one component; `document` is all of it.

    deal_id: its root: a deal, or `activity/<id>`, `objective_score/<person>/<objective>/<period>`.
    budget: the component whose budget pays it, where it has one.
    """

    __tablename__ = "credit"
    __table_args__ = (
        *finite("original", "converted"),
        Index("ix_credit_account", "payee", "plan_id", "day"),
        Index("ix_credit_budget", "plan_id", "budget", postgresql_where=text("budget IS NOT NULL")),
    )

    deal_id: str = Field(sa_column=key_column())
    key: str = Field(sa_column=key_column())
    payee: str = Field(sa_column=text_column())
    plan_id: str = Field(sa_column=text_column())
    day: date = Field(sa_column=day_column())
    original: Decimal = Field(sa_column=amount_column())
    currency: str = Field(sa_column=text_column())
    converted: Decimal | None = Field(sa_column=amount_column(nullable=True))
    document: str = Field(sa_column=document_column())
    budget: str | None = Field(sa_column=text_column(nullable=True))


class BudgetGrantRow(Base, table=True):
    """What a credit gets of a budget that all payees share; asked: without it."""

    __tablename__ = "budget_grant"
    __table_args__ = (
        *finite("asked", "granted", "spent_before", "budget"),
        Index("ix_budget_grant_account", "payee", "plan_id"),
    )

    plan_id: str = Field(sa_column=key_column())
    component_id: str = Field(sa_column=key_column())
    key: str = Field(sa_column=key_column())
    payee: str = Field(sa_column=text_column())
    day: date = Field(sa_column=day_column())
    asked: Decimal = Field(sa_column=amount_column())
    granted: Decimal = Field(sa_column=amount_column())
    spent_before: Decimal = Field(sa_column=amount_column())
    budget: Decimal = Field(sa_column=amount_column())


class KpiFactRow(Base, table=True):
    """A published KPI of a person as of a day: the greatest revision."""

    __tablename__ = "kpi_fact"
    __table_args__ = finite("value")

    person: str = Field(sa_column=key_column())
    kpi: str = Field(sa_column=key_column())
    day: date = Field(sa_column=Column(Date, primary_key=True))
    value: Decimal = Field(sa_column=amount_column())
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    deleted: bool = Field(sa_column=Column(Boolean, nullable=False))


class ObjectiveScoreRow(Base, table=True):
    """A published score of a person's objective for a period: the greatest revision."""

    __tablename__ = "objective_score"
    __table_args__ = finite("score")

    person: str = Field(sa_column=key_column())
    objective: str = Field(sa_column=key_column())
    period: str = Field(sa_column=key_column())
    score: Decimal = Field(sa_column=amount_column())
    scored_at: datetime = Field(sa_column=instant_column())
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    deleted: bool = Field(sa_column=Column(Boolean, nullable=False))


class CreditExceptionRow(Base, table=True):
    """Something of a deal that waits. payee: empty when nobody in particular is affected."""

    __tablename__ = "credit_exception"
    __table_args__ = (
        Index("ix_credit_exception_account", "payee", "plan_id", "day"),
        Index("ix_credit_exception_day", "day"),
    )

    deal_id: str = Field(sa_column=key_column())
    kind: str = Field(sa_column=key_column())
    event_key: str = Field(sa_column=key_column())
    plan_id: str = Field(sa_column=key_column())
    component_id: str = Field(sa_column=key_column())
    payee: str = Field(sa_column=key_column())
    day: date = Field(sa_column=day_column())
    message: str = Field(sa_column=text_column())


class StatementRow(Base, table=True):
    """A statement as of now: for a closed period, as it would be today. version: of its content."""

    __tablename__ = "statement"
    __table_args__ = (
        *finite("own", "difference", "carry_out", "payable", "payout_amount"),
        *finite("held_pay", "draw_balance"),
        Index("ix_statement_end_day", "end_day"),
        Index("ix_statement_period", "period", "payee", "plan_id"),
    )

    payee: str = Field(sa_column=key_column())
    plan_id: str = Field(sa_column=key_column())
    period: str = Field(sa_column=key_column())
    start_day: date = Field(sa_column=day_column())
    end_day: date = Field(sa_column=day_column())
    currency: str = Field(sa_column=text_column())
    own: Decimal = Field(sa_column=amount_column())
    difference: Decimal = Field(sa_column=amount_column())
    carry_out: Decimal = Field(sa_column=amount_column())
    payable: Decimal = Field(sa_column=amount_column())
    payout_currency: str = Field(sa_column=text_column())
    payout_amount: Decimal | None = Field(sa_column=amount_column(nullable=True))
    hash: str = Field(sa_column=text_column())
    waiting: bool = Field(sa_column=Column(Boolean, nullable=False))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    document: str = Field(sa_column=document_column())
    held_pay: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default="0"))
    draw_balance: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default="0"))
