"""Tables of the schema `commissions`.

Derived, made anew from the topics: records, roots, marks, quotas, KPIs, scores, credits, budgets'
grants, exceptions, statements.
Owned: plan versions, assignments, periods, what closes fixed, the day up to which all is closed.
The ledger is neither: it is only ever added to, and a rebuild posts the differences.
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
    ForeignKey,
    Index,
    Integer,
    Numeric,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlmodel import Field

from shared.db.tables import add_runtime_tables, service_metadata, table_base, utc_now_column
from shared.facts.tables import add_fact_tables

metadata = service_metadata("commissions")

if TYPE_CHECKING:
    from sqlmodel import SQLModel as Base
else:  # made for this schema, which a type checker cannot follow
    Base = table_base(metadata)

add_runtime_tables(metadata)
add_fact_tables(metadata)


def _key() -> Column[Any]:
    return Column(Text(collation="C"), primary_key=True)


def _text(*, nullable: bool = False, default: str | None = None) -> Column[Any]:
    return Column(Text(collation="C"), nullable=nullable, server_default=default)


def _day(*, nullable: bool = False) -> Column[Any]:
    return Column(Date, nullable=nullable)


def _amount(*, nullable: bool = False) -> Column[Any]:
    return Column(Numeric, nullable=nullable)


def _instant(*, nullable: bool = False) -> Column[Any]:
    return Column(DateTime(timezone=True), nullable=nullable)


def _document() -> Column[Any]:
    return Column(JSON, nullable=False)


def _finite(*names: str) -> tuple[CheckConstraint, ...]:
    """NUMERIC takes NaN and infinities; NaN compares greater than everything else."""
    return tuple(
        CheckConstraint(f"{name} < 'Infinity' AND {name} > '-Infinity'", name=f"{name}_finite")
        for name in names
    )


class QuotaTargetRow(Base, table=True):
    """A published quota: the greatest revision. Days are [start_day, end_day)."""

    __tablename__ = "quota_target"
    __table_args__ = (*_finite("amount"), Index("ix_quota_target_person", "person"))

    quota_id: str = Field(sa_column=_key())
    person: str | None = Field(sa_column=_text(nullable=True))
    measure: str = Field(sa_column=_text())
    start_day: date = Field(sa_column=_day())
    end_day: date = Field(sa_column=_day())
    amount: Decimal = Field(sa_column=_amount())
    currency: str | None = Field(sa_column=_text(nullable=True))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    deleted: bool = Field(sa_column=Column(Boolean, nullable=False))


class CreditRow(Base, table=True):
    """One payee's credit for one component; `document` is all of it.

    deal_id: its root: a deal, or `activity/<id>`, `objective_score/<person>/<objective>/<period>`.
    budget: the component whose budget pays it, where it has one.
    """

    __tablename__ = "credit"
    __table_args__ = (
        *_finite("original", "converted"),
        Index("ix_credit_account", "payee", "plan_id", "day"),
        Index("ix_credit_budget", "plan_id", "budget", postgresql_where=text("budget IS NOT NULL")),
    )

    deal_id: str = Field(sa_column=_key())
    key: str = Field(sa_column=_key())
    payee: str = Field(sa_column=_text())
    plan_id: str = Field(sa_column=_text())
    day: date = Field(sa_column=_day())
    original: Decimal = Field(sa_column=_amount())
    currency: str = Field(sa_column=_text())
    converted: Decimal | None = Field(sa_column=_amount(nullable=True))
    document: str = Field(sa_column=_document())
    budget: str | None = Field(sa_column=_text(nullable=True))


class BudgetGrantRow(Base, table=True):
    """What a credit gets of a budget that all payees share; asked: without it."""

    __tablename__ = "budget_grant"
    __table_args__ = (
        *_finite("asked", "granted", "spent_before", "budget"),
        Index("ix_budget_grant_account", "payee", "plan_id"),
    )

    plan_id: str = Field(sa_column=_key())
    component_id: str = Field(sa_column=_key())
    key: str = Field(sa_column=_key())
    payee: str = Field(sa_column=_text())
    day: date = Field(sa_column=_day())
    asked: Decimal = Field(sa_column=_amount())
    granted: Decimal = Field(sa_column=_amount())
    spent_before: Decimal = Field(sa_column=_amount())
    budget: Decimal = Field(sa_column=_amount())


class KpiFactRow(Base, table=True):
    """A published KPI of a person as of a day: the greatest revision."""

    __tablename__ = "kpi_fact"
    __table_args__ = _finite("value")

    person: str = Field(sa_column=_key())
    kpi: str = Field(sa_column=_key())
    day: date = Field(sa_column=Column(Date, primary_key=True))
    value: Decimal = Field(sa_column=_amount())
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    deleted: bool = Field(sa_column=Column(Boolean, nullable=False))


class ObjectiveScoreRow(Base, table=True):
    """A published score of a person's objective for a period: the greatest revision."""

    __tablename__ = "objective_score"
    __table_args__ = _finite("score")

    person: str = Field(sa_column=_key())
    objective: str = Field(sa_column=_key())
    period: str = Field(sa_column=_key())
    score: Decimal = Field(sa_column=_amount())
    scored_at: datetime = Field(sa_column=_instant())
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    deleted: bool = Field(sa_column=Column(Boolean, nullable=False))


class CreditExceptionRow(Base, table=True):
    """Something of a deal that waits. payee: empty when nobody in particular is affected."""

    __tablename__ = "credit_exception"
    __table_args__ = (
        Index("ix_credit_exception_account", "payee", "plan_id", "day"),
        Index("ix_credit_exception_day", "day"),
    )

    deal_id: str = Field(sa_column=_key())
    kind: str = Field(sa_column=_key())
    event_key: str = Field(sa_column=_key())
    plan_id: str = Field(sa_column=_key())
    component_id: str = Field(sa_column=_key())
    payee: str = Field(sa_column=_key())
    day: date = Field(sa_column=_day())
    message: str = Field(sa_column=_text())


class StatementRow(Base, table=True):
    """A statement as of now: for a closed period, as it would be today. version: of its content."""

    __tablename__ = "statement"
    __table_args__ = (
        *_finite("own", "difference", "carry_out", "payable", "payout_amount"),
        *_finite("held_pay", "draw_balance"),
        Index("ix_statement_end_day", "end_day"),
        Index("ix_statement_period", "period", "payee", "plan_id"),
    )

    payee: str = Field(sa_column=_key())
    plan_id: str = Field(sa_column=_key())
    period: str = Field(sa_column=_key())
    start_day: date = Field(sa_column=_day())
    end_day: date = Field(sa_column=_day())
    currency: str = Field(sa_column=_text())
    own: Decimal = Field(sa_column=_amount())
    difference: Decimal = Field(sa_column=_amount())
    carry_out: Decimal = Field(sa_column=_amount())
    payable: Decimal = Field(sa_column=_amount())
    payout_currency: str = Field(sa_column=_text())
    payout_amount: Decimal | None = Field(sa_column=_amount(nullable=True))
    hash: str = Field(sa_column=_text())
    waiting: bool = Field(sa_column=Column(Boolean, nullable=False))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    document: str = Field(sa_column=_document())
    held_pay: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default="0"))
    draw_balance: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default="0"))


class LedgerTransactionRow(Base, table=True):
    """Postings that belong together, with their cause. number: counted within the account."""

    __tablename__ = "ledger_transaction"
    __table_args__ = (UniqueConstraint("payee", "plan_id", "number"),)

    id: str = Field(sa_column=_key())
    payee: str = Field(sa_column=_text())
    plan_id: str = Field(sa_column=_text())
    number: int = Field(sa_column=Column(BigInteger, nullable=False))
    actor: str = Field(sa_column=_text())
    plan_hash: str = Field(sa_column=_text())
    event_ids: str = Field(sa_column=_document())
    reverses: str | None = Field(sa_column=_text(nullable=True))
    recorded_at: datetime = Field(sa_column=utc_now_column("recorded_at"))


class PostingRow(Base, table=True):
    """An amount added to an account for one line of one statement. Never changed or removed."""

    __tablename__ = "posting"
    __table_args__ = (
        *_finite("amount"),
        CheckConstraint("amount <> 0", name="moves_something"),
        Index("ix_posting_account", "payee", "plan_id", "end_day"),
    )

    transaction_id: str = Field(
        sa_column=Column(
            Text(collation="C"), ForeignKey("commissions.ledger_transaction.id"), primary_key=True
        )
    )
    ordinal: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    account: str = Field(sa_column=_text())
    payee: str = Field(sa_column=_text())
    plan_id: str = Field(sa_column=_text())
    period: str = Field(sa_column=_text())
    start_day: date = Field(sa_column=_day())
    end_day: date = Field(sa_column=_day())
    line_key: str = Field(sa_column=_text())
    currency: str = Field(sa_column=_text())
    amount: Decimal = Field(sa_column=_amount())


class PlanVersionRow(Base, table=True):
    """A plan document as it was saved. Immutable. needs: see needs.py."""

    __tablename__ = "plan_version"
    __table_args__ = (UniqueConstraint("plan_id", "hash"),)

    plan_id: str = Field(sa_column=_key())
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    hash: str = Field(sa_column=_text())
    name: str = Field(sa_column=_text())
    effective_from: date = Field(sa_column=_day())
    effective_to: date | None = Field(sa_column=_day(nullable=True))
    document: str = Field(sa_column=_document())
    saved_by: str = Field(sa_column=_text())
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
        *_finite("target_pay"),
        CheckConstraint("last_day IS NULL OR last_day >= first_day", name="days"),
        Index("ix_assignment_payee", "payee"),
    )

    assignment_id: str = Field(sa_column=_key())
    payee: str = Field(sa_column=_text())
    plan_id: str = Field(sa_column=_text())
    first_day: date = Field(sa_column=_day())
    last_day: date | None = Field(sa_column=_day(nullable=True))
    quota: str = Field(sa_column=_document())
    payout_currency: str | None = Field(sa_column=_text(nullable=True))
    deleted: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    changed_by: str = Field(sa_column=_text())
    changed_at: datetime = Field(sa_column=utc_now_column("changed_at"))
    target_pay: Decimal | None = Field(sa_column=_amount(nullable=True))
    component_target_pay: str = Field(
        sa_column=Column(JSON, nullable=False, server_default=text("'{}'"))
    )
    ramp: str = Field(sa_column=Column(JSON, nullable=False, server_default=text("'[]'")))
    leave: str = Field(sa_column=Column(JSON, nullable=False, server_default=text("'[]'")))


class PeriodRow(Base, table=True):
    """A period on its way to being closed. Whoever approves is not who submitted.

    approved_hash: over the statements that were approved; others are not closed.
    one_seat: a deployment of one person, who may do both; its statements say so.
    """

    __tablename__ = "period"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'reviewing', 'approved', 'closed')", name="state"),
        CheckConstraint("end_day > start_day", name="days"),
        CheckConstraint("(state = 'open') = (submitted_by IS NULL)", name="submitted"),
        CheckConstraint(
            "(state IN ('approved', 'closed')) = (approved_by IS NOT NULL)", name="approved"
        ),
        CheckConstraint("(state = 'closed') = (closed_by IS NOT NULL)", name="closed"),
        CheckConstraint("(submitted_by IS NULL) = (submitted_at IS NULL)", name="submitted_at"),
        CheckConstraint(
            "(approved_by IS NULL) = (approved_at IS NULL) "
            "AND (approved_by IS NULL) = (approved_hash IS NULL)",
            name="approved_at",
        ),
        CheckConstraint("(closed_by IS NULL) = (closed_at IS NULL)", name="closed_at"),
        CheckConstraint(
            "approved_by IS NULL OR approved_by <> submitted_by OR one_seat",
            name="maker_is_not_checker",
        ),
    )

    period: str = Field(sa_column=_key())
    start_day: date = Field(sa_column=_day())
    end_day: date = Field(sa_column=_day())
    state: str = Field(sa_column=_text())
    submitted_by: str | None = Field(sa_column=_text(nullable=True))
    submitted_at: datetime | None = Field(sa_column=_instant(nullable=True))
    approved_by: str | None = Field(sa_column=_text(nullable=True))
    approved_at: datetime | None = Field(sa_column=_instant(nullable=True))
    approved_hash: str | None = Field(sa_column=_text(nullable=True))
    closed_by: str | None = Field(sa_column=_text(nullable=True))
    closed_at: datetime | None = Field(sa_column=_instant(nullable=True))
    one_seat: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))


class ReopeningRow(Base, table=True):
    """That a closed period is to be opened again, why, and who agreed. Kept for ever.

    revision: of the period as it was closed; each close is opened again at most once.
    """

    __tablename__ = "reopening"
    __table_args__ = (
        CheckConstraint("(confirmed_by IS NULL) = (confirmed_at IS NULL)", name="confirmed"),
        CheckConstraint(
            "confirmed_by IS NULL OR confirmed_by <> asked_by OR one_seat",
            name="maker_is_not_checker",
        ),
    )

    period: str = Field(
        sa_column=Column(
            Text(collation="C"), ForeignKey("commissions.period.period"), primary_key=True
        )
    )
    revision: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    reason: str = Field(sa_column=Column(Text, nullable=False))
    asked_by: str = Field(sa_column=_text())
    asked_at: datetime = Field(sa_column=_instant())
    confirmed_by: str | None = Field(sa_column=_text(nullable=True))
    confirmed_at: datetime | None = Field(sa_column=_instant(nullable=True))
    one_seat: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))


class ReopenedStatementRow(Base, table=True):
    """A statement as a close had fixed it, until its period was opened again. Never changed."""

    __tablename__ = "reopened_statement"

    payee: str = Field(sa_column=_key())
    plan_id: str = Field(sa_column=_key())
    period: str = Field(sa_column=_key())
    hash: str = Field(sa_column=_text())
    closed_with: str = Field(sa_column=_text())
    closed_at: datetime = Field(sa_column=_instant())
    reopened_at: datetime = Field(
        sa_column=Column(DateTime(timezone=True), primary_key=True, nullable=False)
    )
    document: str = Field(sa_column=_document())
    explanation: str = Field(sa_column=_document())


class FixedStatementRow(Base, table=True):
    """A statement as a close fixed it: never changed. closed_with: the period that was closed."""

    __tablename__ = "fixed_statement"
    __table_args__ = (
        *_finite("own", "difference", "carry_in", "carry_out", "payable", "payout_amount"),
        *_finite("draw_in", "draw_out", "held_pay"),
        Index("ix_fixed_statement_period", "period", "payee", "plan_id"),
    )

    payee: str = Field(sa_column=_key())
    plan_id: str = Field(sa_column=_key())
    period: str = Field(sa_column=_key())
    start_day: date = Field(sa_column=_day())
    end_day: date = Field(sa_column=_day())
    currency: str = Field(sa_column=_text())
    own: Decimal = Field(sa_column=_amount())
    difference: Decimal = Field(sa_column=_amount())
    carry_in: Decimal = Field(sa_column=_amount())
    carry_out: Decimal = Field(sa_column=_amount())
    payable: Decimal = Field(sa_column=_amount())
    payout_currency: str = Field(sa_column=_text())
    payout_amount: Decimal | None = Field(sa_column=_amount(nullable=True))
    hash: str = Field(sa_column=_text())
    closed_with: str = Field(
        sa_column=Column(
            Text(collation="C"), ForeignKey("commissions.period.period"), nullable=False
        )
    )
    document: str = Field(sa_column=_document())
    explanation: str = Field(sa_column=_document())
    draw_in: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default="0"))
    draw_out: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default="0"))
    held_pay: Decimal = Field(sa_column=Column(Numeric, nullable=False, server_default="0"))


class BegunUntilRow(Base, table=True):
    """The one day: statement periods that begin before it have begun. It only moves forward.

    Rating holds this row FOR SHARE, so that one account is rated as of one day.
    """

    __tablename__ = "begun_until"
    __table_args__ = (CheckConstraint("only_row = 1", name="one_row"),)

    only_row: int = Field(
        sa_column=Column(Integer, primary_key=True, autoincrement=False, server_default="1")
    )
    day: date = Field(sa_column=_day())


class ClosedUntilRow(Base, table=True):
    """The one day: every statement period that ends on or before it is closed.

    Rating holds this row FOR SHARE, a close takes it FOR UPDATE. It moves forward with a close, and
    back no further than to what is still closed.
    """

    __tablename__ = "closed_until"
    __table_args__ = (CheckConstraint("only_row = 1", name="one_row"),)

    only_row: int = Field(
        sa_column=Column(Integer, primary_key=True, autoincrement=False, server_default="1")
    )
    day: date = Field(sa_column=_day())


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

    pay_run_id: str = Field(sa_column=_key())
    through: str = Field(sa_column=_text())
    through_day: date = Field(sa_column=_day())
    pay_date: date = Field(sa_column=_day())
    template: str = Field(sa_column=_text())
    parameters: str = Field(sa_column=_document())
    employees: str | None = Field(sa_column=_text(nullable=True))
    state: str = Field(sa_column=_text())
    hash: str = Field(sa_column=_text())
    control: str = Field(sa_column=_document())
    made_by: str = Field(sa_column=_text())
    made_at: datetime = Field(sa_column=_instant())
    approved_by: str | None = Field(sa_column=_text(nullable=True))
    approved_at: datetime | None = Field(sa_column=_instant(nullable=True))
    paid_on: date | None = Field(sa_column=_day(nullable=True))
    one_seat: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))


class PayRunLineRow(Base, table=True):
    """One statement in a pay run.

    Of a statement at most one line is neither returned nor cancelled: nobody is paid twice.
    """

    __tablename__ = "pay_run_line"
    __table_args__ = (
        *_finite("amount", "plan_amount"),
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
    payee: str = Field(sa_column=_key())
    plan_id: str = Field(sa_column=_key())
    period: str = Field(sa_column=_key())
    name: str = Field(sa_column=Column(Text, nullable=False))
    employee_number: str | None = Field(sa_column=_text(nullable=True))
    amount: Decimal = Field(sa_column=_amount())
    currency: str = Field(sa_column=_text())
    plan_amount: Decimal = Field(sa_column=_amount())
    plan_currency: str = Field(sa_column=_text())
    statement_hash: str = Field(sa_column=_text())
    state: str = Field(sa_column=_text())
    reason: str | None = Field(sa_column=Column(Text))
