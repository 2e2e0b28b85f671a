"""Plan versions and assignments that wait for a second person; where plans are kept."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEMA = "commissions"
TEXT = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "proposal",
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("plan_id", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("said", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("figures", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("payees", postgresql.ARRAY(TEXT), server_default="{}", nullable=False),
        sa.Column("closed_until", sa.Date(), nullable=False),
        sa.Column("asked_by", TEXT, nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", TEXT, nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("one_seat", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('proposed', 'confirmed', 'withdrawn')", name=op.f("ck_proposal_state")
        ),
        sa.CheckConstraint(
            "(state = 'proposed') = (decided_by IS NULL) "
            "AND (decided_by IS NULL) = (decided_at IS NULL)",
            name=op.f("ck_proposal_decided"),
        ),
        sa.CheckConstraint(
            "state <> 'confirmed' OR decided_by <> asked_by OR one_seat",
            name=op.f("ck_proposal_maker_is_not_checker"),
        ),
        sa.CheckConstraint(
            "state <> 'confirmed' OR figures IS NOT NULL", name=op.f("ck_proposal_figures_seen")
        ),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_proposal")),
        schema=SCHEMA,
    )
    op.create_index(
        op.f("ix_proposal_plan_id"), "proposal", ["plan_id"], unique=False, schema=SCHEMA
    )
    op.create_table(
        "plan_keeping",
        sa.Column("plan_id", TEXT, nullable=False),
        sa.Column("kept_in", TEXT, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", TEXT, nullable=False),
        sa.Column(
            "changed_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.CheckConstraint("kept_in IN ('files', 'api')", name=op.f("ck_plan_keeping_kept_in")),
        sa.PrimaryKeyConstraint("plan_id", name=op.f("pk_plan_keeping")),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("plan_keeping", schema=SCHEMA)
    op.drop_index(op.f("ix_proposal_plan_id"), table_name="proposal", schema=SCHEMA)
    op.drop_table("proposal", schema=SCHEMA)
