"""What a person decides before pay moves: deletions after a close, held changes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NOTE_FIXED = """
INSERT INTO commissions.fixed_deal (deal_id, plan_id, period, start_day, end_day, closed_with)
SELECT DISTINCT line ->> 'deal', f.plan_id, f.period, f.start_day, f.end_day, f.closed_with
FROM commissions.fixed_statement f, json_array_elements(f.document -> 'lines') AS line
WHERE line ->> 'kind' = 'credit' AND line ->> 'deal' <> ''
  AND EXISTS (SELECT FROM commissions.credit c
              WHERE c.deal_id = line ->> 'deal' AND c.plan_id = f.plan_id)
"""
"""Deals that were gone by now have been taken back already: they are not held afterwards."""


def upgrade() -> None:
    op.create_table(
        "fixed_deal",
        sa.Column("deal_id", sa.Text(collation="C"), nullable=False),
        sa.Column("plan_id", sa.Text(collation="C"), nullable=False),
        sa.Column("period", sa.Text(collation="C"), nullable=False),
        sa.Column("start_day", sa.Date(), nullable=False),
        sa.Column("end_day", sa.Date(), nullable=False),
        sa.Column("closed_with", sa.Text(collation="C"), nullable=False),
        sa.ForeignKeyConstraint(
            ["closed_with"],
            ["commissions.period.period"],
            name=op.f("fk_fixed_deal_closed_with"),
        ),
        sa.PrimaryKeyConstraint("deal_id", "plan_id", "period", name=op.f("pk_fixed_deal")),
        schema="commissions",
    )
    op.create_index(
        "ix_fixed_deal_closed_with",
        "fixed_deal",
        ["closed_with"],
        unique=False,
        schema="commissions",
    )
    op.execute(NOTE_FIXED)
    op.create_table(
        "held_deletion",
        sa.Column("deal_id", sa.Text(collation="C"), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("wanted", sa.Text(collation="C"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("days", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("asked_by", sa.Text(collation="C"), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_by", sa.Text(collation="C"), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("one_seat", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("wanted IN ('keep', 'reverse')", name=op.f("ck_held_deletion_wanted")),
        sa.CheckConstraint(
            "(confirmed_by IS NULL) = (confirmed_at IS NULL)",
            name=op.f("ck_held_deletion_confirmed"),
        ),
        sa.CheckConstraint(
            "confirmed_by IS NULL OR confirmed_by <> asked_by OR one_seat",
            name=op.f("ck_held_deletion_maker_is_not_checker"),
        ),
        sa.PrimaryKeyConstraint("deal_id", "number", name=op.f("pk_held_deletion")),
        schema="commissions",
    )
    op.execute(
        "CREATE TRIGGER refuse_delete BEFORE DELETE ON commissions.held_deletion "
        "FOR EACH ROW EXECUTE FUNCTION commissions.refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON commissions.held_deletion "
        "FOR EACH STATEMENT EXECUTE FUNCTION commissions.refuse_change()"
    )
    _held_changes()


def _held_changes() -> None:
    key = sa.Text(collation="C")
    op.create_table(
        "held_change",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        *(
            sa.Column(name, key, nullable=False)
            for name in ("event_id", "kind", "subject", "source", "topic")
        ),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("message_offset", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("state", key, server_default="judging", nullable=False),
        sa.Column(
            "noted_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "moved",
            postgresql.JSON(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("payees", postgresql.ARRAY(key), server_default="{}", nullable=False),
        sa.Column("first_day", sa.Date(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("decided_by", key, nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "state IN ('judging', 'applied', 'held', 'released', 'discarded', 'refused')",
            name=op.f("ck_held_change_state"),
        ),
        sa.CheckConstraint(
            "(state IN ('released', 'discarded')) = (decided_by IS NOT NULL) "
            "AND (decided_by IS NULL) = (reason IS NULL)",
            name=op.f("ck_held_change_decided"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_held_change")),
        schema="commissions",
    )
    op.create_index(
        "uq_held_change_event_id", "held_change", ["event_id"], unique=True, schema="commissions"
    )
    for name, column, where in (
        ("ix_held_change_waiting", "id", "state = 'judging'"),
        ("ix_held_change_held", "id", "state = 'held'"),
    ):
        op.create_index(
            name,
            "held_change",
            [column],
            unique=False,
            schema="commissions",
            postgresql_where=sa.text(where),
        )
    op.create_index(
        "ix_held_change_judged_at", "held_change", ["judged_at"], unique=False, schema="commissions"
    )


def downgrade() -> None:
    op.drop_table("held_change", schema="commissions")
    op.drop_table("held_deletion", schema="commissions")
    op.drop_index("ix_fixed_deal_closed_with", "fixed_deal", schema="commissions")
    op.drop_table("fixed_deal", schema="commissions")
