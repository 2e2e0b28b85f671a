"""What waits for a second person because it reaches into closed periods; where plans are kept."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlmodel import Field

from services.commissions.tables.columns import (
    Base,
    day_column,
    document_column,
    instant_column,
    key_column,
    text_column,
)
from shared.db.tables import utc_now_column


class ProposalRow(Base, table=True):
    """A change that begins before `closed_until`, and what it would move. Kept once it is decided.

    subject: `plan/<id>/<version>` or `assignment/<id>`. said: what is to be saved. figures: as they
    were told when it was asked, null while they are made. payees: everybody whose closed pay it
    changes. revision: of the whole row; whoever confirms names the one they saw.
    """

    __tablename__ = "proposal"
    __table_args__ = (
        CheckConstraint("state IN ('proposed', 'confirmed', 'withdrawn')", name="state"),
        CheckConstraint(
            "(state = 'proposed') = (decided_by IS NULL) "
            "AND (decided_by IS NULL) = (decided_at IS NULL)",
            name="decided",
        ),
        CheckConstraint(
            "state <> 'confirmed' OR decided_by <> asked_by OR one_seat",
            name="maker_is_not_checker",
        ),
        CheckConstraint("state <> 'confirmed' OR figures IS NOT NULL", name="figures_seen"),
        Index("ix_proposal_plan_id", "plan_id"),
    )

    subject: str = Field(sa_column=key_column())
    plan_id: str = Field(sa_column=text_column())
    state: str = Field(sa_column=text_column())
    said: str = Field(sa_column=document_column())
    figures: str | None = Field(sa_column=Column(JSON, nullable=True))
    payees: list[str] = Field(
        sa_column=Column(ARRAY(Text(collation="C")), nullable=False, server_default="{}")
    )
    closed_until: date = Field(sa_column=day_column())
    asked_by: str = Field(sa_column=text_column())
    asked_at: datetime = Field(sa_column=instant_column())
    decided_by: str | None = Field(sa_column=text_column(nullable=True))
    decided_at: datetime | None = Field(sa_column=instant_column(nullable=True))
    one_seat: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))


class PlanKeepingRow(Base, table=True):
    """Where a plan is kept: `files`, and then saved by `attain plan apply` only, or `api`."""

    __tablename__ = "plan_keeping"
    __table_args__ = (CheckConstraint("kept_in IN ('files', 'api')", name="kept_in"),)

    plan_id: str = Field(sa_column=key_column())
    kept_in: str = Field(sa_column=text_column())
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    changed_by: str = Field(sa_column=text_column())
    changed_at: datetime = Field(sa_column=utc_now_column("changed_at"))
