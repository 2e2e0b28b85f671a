"""Simulations."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "whatif_credit",
        sa.Column("run", sa.Text(collation="C"), nullable=False),
        sa.Column("plan_id", sa.Text(collation="C"), nullable=False),
        sa.Column("payee", sa.Text(collation="C"), nullable=False),
        sa.Column("what", sa.Text(collation="C"), nullable=False),
        sa.Column("root", sa.Text(collation="C"), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("document", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "made_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("what IN ('credit', 'waiting')", name=op.f("ck_whatif_credit_what")),
        sa.PrimaryKeyConstraint(
            "run", "plan_id", "payee", "what", "root", "key", name=op.f("pk_whatif_credit")
        ),
        schema="commissions",
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "simulation",
        sa.Column("simulation_id", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(collation="C"), nullable=False),
        sa.Column("request", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("made_by", sa.Text(collation="C"), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker", sa.Text(collation="C"), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("phase", sa.Text(collation="C"), server_default="credits", nullable=False),
        sa.Column("done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tried", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("result", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint(
            "(state = 'done') = (result IS NOT NULL)", name=op.f("ck_simulation_result")
        ),
        sa.CheckConstraint(
            "(state = 'running') = (worker IS NOT NULL) "
            "AND (worker IS NULL) = (lease_until IS NULL)",
            name=op.f("ck_simulation_running"),
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'cancelled')",
            name=op.f("ck_simulation_state"),
        ),
        sa.PrimaryKeyConstraint("simulation_id", name=op.f("pk_simulation")),
        schema="commissions",
    )
    op.create_index(
        "uq_simulation_running",
        "simulation",
        ["state"],
        unique=True,
        schema="commissions",
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_table(
        "simulation_account",
        sa.Column("simulation_id", sa.Text(collation="C"), nullable=False),
        sa.Column("payee", sa.Text(collation="C"), nullable=False),
        sa.Column("plan_id", sa.Text(collation="C"), nullable=False),
        sa.Column("currency", sa.Text(collation="C"), nullable=False),
        sa.Column("before", sa.Numeric(), nullable=False),
        sa.Column("after", sa.Numeric(), nullable=False),
        sa.Column("crossings", sa.BigInteger(), nullable=False),
        sa.Column("periods", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("lines", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("tiers", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "after < 'Infinity' AND after > '-Infinity'",
            name=op.f("ck_simulation_account_afterfinite"),
        ),
        sa.CheckConstraint(
            "before < 'Infinity' AND before > '-Infinity'",
            name=op.f("ck_simulation_account_beforefinite"),
        ),
        sa.ForeignKeyConstraint(
            ["simulation_id"],
            ["commissions.simulation.simulation_id"],
            name=op.f("fk_simulation_account_simulation_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "simulation_id", "payee", "plan_id", name=op.f("pk_simulation_account")
        ),
        schema="commissions",
    )
    op.create_index(
        "ix_simulation_account_change",
        "simulation_account",
        ["simulation_id", sa.literal_column("(after - before)")],
        schema="commissions",
    )


def downgrade() -> None:
    op.drop_table("simulation_account", schema="commissions")
    op.drop_table("simulation", schema="commissions")
    op.drop_table("whatif_credit", schema="commissions")
