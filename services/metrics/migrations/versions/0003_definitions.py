"""What pipeline KPIs read of a deal: its stage's order, whether that is qualified, its next step.

The rows are filled by projecting every deal anew, which the raised version of the code does.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deal_span", sa.Column("stage_order", sa.Integer()), schema="metrics")
    op.add_column("deal_span", sa.Column("qualified", sa.Boolean()), schema="metrics")
    op.add_column("deal_span", sa.Column("next_step_ms", sa.BigInteger()), schema="metrics")
    op.create_index("ix_deal_span_from", "deal_span", ["valid_from_ms"], schema="metrics")
    op.create_index(
        "ix_deal_span_was_open",
        "deal_span",
        ["valid_to_ms"],
        schema="metrics",
        postgresql_where=sa.text("valid_to_ms IS NOT NULL AND status = 'open'"),
    )


def downgrade() -> None:
    op.drop_index("ix_deal_span_was_open", "deal_span", schema="metrics")
    op.drop_index("ix_deal_span_from", "deal_span", schema="metrics")
    op.drop_column("deal_span", "next_step_ms", schema="metrics")
    op.drop_column("deal_span", "qualified", schema="metrics")
    op.drop_column("deal_span", "stage_order", schema="metrics")
