"""The ledger: only ever added to; a rebuild posts the differences."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Text,
    UniqueConstraint,
)
from sqlmodel import Field

from services.commissions.tables.columns import (
    Base,
    amount_column,
    day_column,
    document_column,
    finite,
    key_column,
    text_column,
)
from shared.db.tables import utc_now_column


class LedgerTransactionRow(Base, table=True):
    """Postings that belong together, with their cause. number: counted within the account."""

    __tablename__ = "ledger_transaction"
    __table_args__ = (UniqueConstraint("payee", "plan_id", "number"),)

    id: str = Field(sa_column=key_column())
    payee: str = Field(sa_column=text_column())
    plan_id: str = Field(sa_column=text_column())
    number: int = Field(sa_column=Column(BigInteger, nullable=False))
    actor: str = Field(sa_column=text_column())
    plan_hash: str = Field(sa_column=text_column())
    event_ids: str = Field(sa_column=document_column())
    reverses: str | None = Field(sa_column=text_column(nullable=True))
    recorded_at: datetime = Field(sa_column=utc_now_column("recorded_at"))


class PostingRow(Base, table=True):
    """An amount added to an account for one line of one statement. Never changed or removed."""

    __tablename__ = "posting"
    __table_args__ = (
        *finite("amount"),
        CheckConstraint("amount <> 0", name="moves_something"),
        Index("ix_posting_account", "payee", "plan_id", "end_day"),
    )

    transaction_id: str = Field(
        sa_column=Column(
            Text(collation="C"), ForeignKey("commissions.ledger_transaction.id"), primary_key=True
        )
    )
    ordinal: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    account: str = Field(sa_column=text_column())
    payee: str = Field(sa_column=text_column())
    plan_id: str = Field(sa_column=text_column())
    period: str = Field(sa_column=text_column())
    start_day: date = Field(sa_column=day_column())
    end_day: date = Field(sa_column=day_column())
    line_key: str = Field(sa_column=text_column())
    currency: str = Field(sa_column=text_column())
    amount: Decimal = Field(sa_column=amount_column())
