"""Which recorded traces what waits was caused by; written only while traces are on."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trace_cause",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.Text(collation="C"), nullable=False),
        sa.Column("subject", sa.Text(collation="C"), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=False),
        sa.Column(
            "noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_trace_cause")),
        schema="commissions",
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_trace_cause_event_id", "trace_cause", ["event_id"], schema="commissions")
    op.create_index(
        "ix_trace_cause_subject_number", "trace_cause", ["subject", "number"], schema="commissions"
    )


def downgrade() -> None:
    op.drop_table("trace_cause", schema="commissions")
