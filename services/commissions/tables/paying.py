"""Pay runs."""

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
    Text,
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


class PayRunRow(Base, table=True):
    """Closed statements that are paid together. Whoever approves is not who made it.

    through_day: the first day after the last period that it takes. control: totals by currency.
    """

    __tablename__ = "pay_run"
    __table_args__ = (
        CheckConstraint("state IN ('draft', 'approved', 'paid', 'cancelled')", name="state"),
        CheckConstraint(
            "(state IN ('approved', 'paid')) = (approved_by IS NOT NULL)", name="approved"
        ),
        CheckConstraint(
            "approved_by IS NULL OR approved_by <> made_by OR one_seat",
            name="maker_is_not_checker",
        ),
        CheckConstraint("(state = 'paid') = (paid_on IS NOT NULL)", name="paid"),
        Index("ix_pay_run_made_at", "made_at", "pay_run_id"),
    )

    pay_run_id: str = Field(sa_column=key_column())
    through: str = Field(sa_column=text_column())
    through_day: date = Field(sa_column=day_column())
    pay_date: date = Field(sa_column=day_column())
    template: str = Field(sa_column=text_column())
    parameters: str = Field(sa_column=document_column())
    employees: str | None = Field(sa_column=text_column(nullable=True))
    state: str = Field(sa_column=text_column())
    hash: str = Field(sa_column=text_column())
    control: str = Field(sa_column=document_column())
    made_by: str = Field(sa_column=text_column())
    made_at: datetime = Field(sa_column=instant_column())
    approved_by: str | None = Field(sa_column=text_column(nullable=True))
    approved_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    paid_on: date | None = Field(sa_column=day_column(nullable=True))
    one_seat: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))


class PayRunLineRow(Base, table=True):
    """One statement in a pay run.

    Of a statement at most one line is neither returned nor cancelled: nobody is paid twice.
    """

    __tablename__ = "pay_run_line"
    __table_args__ = (
        *finite("amount", "plan_amount"),
        CheckConstraint("amount > 0", name="pays_something"),
        CheckConstraint("state IN ('due', 'paid', 'returned', 'cancelled')", name="state"),
        CheckConstraint("(state = 'returned') = (reason IS NOT NULL)", name="reason"),
        Index(
            "uq_pay_run_line_statement",
            "payee",
            "plan_id",
            "period",
            unique=True,
            postgresql_where=text("state IN ('due', 'paid')"),
        ),
    )

    pay_run_id: str = Field(
        sa_column=Column(
            Text(collation="C"), ForeignKey("commissions.pay_run.pay_run_id"), primary_key=True
        )
    )
    payee: str = Field(sa_column=key_column())
    plan_id: str = Field(sa_column=key_column())
    period: str = Field(sa_column=key_column())
    name: str = Field(sa_column=Column(Text, nullable=False))
    employee_number: str | None = Field(sa_column=text_column(nullable=True))
    amount: Decimal = Field(sa_column=amount_column())
    currency: str = Field(sa_column=text_column())
    plan_amount: Decimal = Field(sa_column=amount_column())
    plan_currency: str = Field(sa_column=text_column())
    statement_hash: str = Field(sa_column=text_column())
    state: str = Field(sa_column=text_column())
    reason: str | None = Field(sa_column=Column(Text))
