"""Adjustments, overrides, disputes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TERMS = (
    "payee", "plan_id", "component_id", "deal_id", "amount", "rate", "currency", "first_day",
    "reason", "dispute_id", "state", "asked_by", "asked_at", "decided_by", "decided_at",
)  # fmt: skip
"""Of an override: what nobody changes once it was decided. Its end may come earlier."""

NEW_TERMS = ", ".join(f"NEW.{name}" for name in TERMS)
OLD_TERMS = ", ".join(f"OLD.{name}" for name in TERMS)

REFUSED = (
    ("refuse_change", "UPDATE", "adjustment", "OLD.state <> 'proposed'"),
    (
        "refuse_change",
        "UPDATE",
        "override",
        f"OLD.state <> 'proposed' AND ({NEW_TERMS}) IS DISTINCT FROM ({OLD_TERMS})",
    ),
    ("refuse_change", "UPDATE", "dispute", "OLD.state = 'resolved'"),
    ("refuse_change", "UPDATE", "dispute_comment", "true"),
    *(
        ("refuse_delete", "DELETE", table, "true")
        for table in ("adjustment", "override", "dispute", "dispute_comment")
    ),
)


def upgrade() -> None:
    op.create_table(
        "dispute",
        sa.Column("dispute_id", sa.Text(collation="C"), nullable=False),
        sa.Column("payee", sa.Text(collation="C"), nullable=False),
        sa.Column("plan_id", sa.Text(collation="C"), nullable=False),
        sa.Column("period", sa.Text(collation="C"), nullable=False),
        sa.Column("start_day", sa.Date(), nullable=False),
        sa.Column("end_day", sa.Date(), nullable=False),
        sa.Column("line_key", sa.Text(collation="C"), nullable=True),
        sa.Column("deal_id", sa.Text(collation="C"), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("statement_hash", sa.Text(collation="C"), nullable=True),
        sa.Column("amount", sa.Numeric(), nullable=True),
        sa.Column("explanation", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("state", sa.Text(collation="C"), nullable=False),
        sa.Column("outcome", sa.Text(collation="C"), nullable=True),
        sa.Column("raised_by", sa.Text(collation="C"), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_on", sa.Date(), nullable=False),
        sa.Column("resolved_by", sa.Text(collation="C"), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column(
            "adjustments",
            postgresql.ARRAY(sa.Text(collation="C")),
            server_default="{}",
            nullable=False,
        ),
        sa.Column(
            "overrides",
            postgresql.ARRAY(sa.Text(collation="C")),
            server_default="{}",
            nullable=False,
        ),
        sa.Column("one_seat", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(outcome IS NOT DISTINCT FROM 'accepted') "
            "= (cardinality(adjustments) + cardinality(overrides) > 0)",
            name=op.f("ck_dispute_led_to"),
        ),
        sa.CheckConstraint(
            "(state = 'resolved') = (outcome IS NOT NULL) "
            "AND (outcome IS NULL) = (resolved_by IS NULL) "
            "AND (resolved_by IS NULL) = (resolved_at IS NULL)",
            name=op.f("ck_dispute_resolved"),
        ),
        sa.CheckConstraint(
            "amount < 'Infinity' AND amount > '-Infinity'", name=op.f("ck_dispute_amountfinite")
        ),
        sa.CheckConstraint(
            "outcome IN ('accepted', 'rejected', 'withdrawn')", name=op.f("ck_dispute_outcome")
        ),
        sa.CheckConstraint(
            "outcome IS NULL OR one_seat OR (outcome = 'withdrawn' AND resolved_by = raised_by) "
            "OR (outcome <> 'withdrawn' AND resolved_by <> raised_by AND resolved_by <> payee)",
            name=op.f("ck_dispute_second_person"),
        ),
        sa.CheckConstraint(
            "state IN ('open', 'answered', 'resolved')", name=op.f("ck_dispute_state")
        ),
        sa.PrimaryKeyConstraint("dispute_id", name=op.f("pk_dispute")),
        schema="commissions",
    )
    op.create_index(
        "ix_dispute_unresolved",
        "dispute",
        ["end_day"],
        unique=False,
        schema="commissions",
        postgresql_where=sa.text("state <> 'resolved'"),
    )
    op.create_table(
        "dispute_comment",
        sa.Column("dispute_id", sa.Text(collation="C"), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("person", sa.Text(collation="C"), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("said_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dispute_id"],
            ["commissions.dispute.dispute_id"],
            name=op.f("fk_dispute_comment_dispute_id"),
        ),
        sa.PrimaryKeyConstraint("dispute_id", "number", name=op.f("pk_dispute_comment")),
        schema="commissions",
    )
    op.create_table(
        "adjustment",
        sa.Column("adjustment_id", sa.Text(collation="C"), nullable=False),
        sa.Column("payee", sa.Text(collation="C"), nullable=False),
        sa.Column("plan_id", sa.Text(collation="C"), nullable=False),
        sa.Column("period", sa.Text(collation="C"), nullable=False),
        sa.Column("start_day", sa.Date(), nullable=False),
        sa.Column("end_day", sa.Date(), nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.Column("currency", sa.Text(collation="C"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("dispute_id", sa.Text(collation="C"), nullable=True),
        sa.Column("state", sa.Text(collation="C"), nullable=False),
        sa.Column("asked_by", sa.Text(collation="C"), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text(collation="C"), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("one_seat", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(state = 'proposed') = (decided_by IS NULL) "
            "AND (decided_by IS NULL) = (decided_at IS NULL)",
            name=op.f("ck_adjustment_decided"),
        ),
        sa.CheckConstraint(
            "amount < 'Infinity' AND amount > '-Infinity'", name=op.f("ck_adjustment_amountfinite")
        ),
        sa.CheckConstraint(
            "state <> 'approved' OR one_seat OR decided_by <> asked_by",
            name=op.f("ck_adjustment_maker_is_not_checker"),
        ),
        sa.CheckConstraint(
            "state <> 'approved' OR one_seat OR decided_by <> payee",
            name=op.f("ck_adjustment_not_own_pay"),
        ),
        sa.CheckConstraint(
            "state IN ('proposed', 'approved', 'rejected', 'withdrawn')",
            name=op.f("ck_adjustment_state"),
        ),
        sa.CheckConstraint("amount <> 0", name=op.f("ck_adjustment_changes_something")),
        sa.CheckConstraint("end_day > start_day", name=op.f("ck_adjustment_days")),
        sa.ForeignKeyConstraint(
            ["dispute_id"],
            ["commissions.dispute.dispute_id"],
            name=op.f("fk_adjustment_dispute_id"),
        ),
        sa.PrimaryKeyConstraint("adjustment_id", name=op.f("pk_adjustment")),
        schema="commissions",
    )
    op.create_index(
        "ix_adjustment_account",
        "adjustment",
        ["payee", "plan_id", "start_day"],
        unique=False,
        schema="commissions",
        postgresql_where=sa.text("state = 'approved'"),
    )
    op.create_index(
        "ix_adjustment_proposed",
        "adjustment",
        ["end_day"],
        unique=False,
        schema="commissions",
        postgresql_where=sa.text("state = 'proposed'"),
    )
    op.create_table(
        "override",
        sa.Column("override_id", sa.Text(collation="C"), nullable=False),
        sa.Column("payee", sa.Text(collation="C"), nullable=False),
        sa.Column("plan_id", sa.Text(collation="C"), nullable=False),
        sa.Column("component_id", sa.Text(collation="C"), nullable=False),
        sa.Column("deal_id", sa.Text(collation="C"), nullable=True),
        sa.Column("amount", sa.Numeric(), nullable=True),
        sa.Column("rate", sa.Numeric(), nullable=True),
        sa.Column("currency", sa.Text(collation="C"), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("last_day", sa.Date(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("dispute_id", sa.Text(collation="C"), nullable=True),
        sa.Column("state", sa.Text(collation="C"), nullable=False),
        sa.Column("asked_by", sa.Text(collation="C"), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text(collation="C"), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("ending_last_day", sa.Date(), nullable=True),
        sa.Column("ending_reason", sa.Text(), nullable=True),
        sa.Column("ending_asked_by", sa.Text(collation="C"), nullable=True),
        sa.Column("ending_decided_by", sa.Text(collation="C"), nullable=True),
        sa.Column("one_seat", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(state = 'proposed') = (decided_by IS NULL) "
            "AND (decided_by IS NULL) = (decided_at IS NULL)",
            name=op.f("ck_override_decided"),
        ),
        sa.CheckConstraint(
            "amount < 'Infinity' AND amount > '-Infinity'", name=op.f("ck_override_amountfinite")
        ),
        sa.CheckConstraint(
            "rate < 'Infinity' AND rate > '-Infinity'", name=op.f("ck_override_ratefinite")
        ),
        sa.CheckConstraint(
            "state <> 'approved' OR one_seat OR decided_by <> asked_by",
            name=op.f("ck_override_maker_is_not_checker"),
        ),
        sa.CheckConstraint(
            "state <> 'approved' OR one_seat OR decided_by <> payee",
            name=op.f("ck_override_not_own_pay"),
        ),
        sa.CheckConstraint(
            "state IN ('proposed', 'approved', 'rejected', 'withdrawn')",
            name=op.f("ck_override_state"),
        ),
        sa.CheckConstraint(
            "(amount IS NULL) <> (rate IS NULL)", name=op.f("ck_override_amount_or_rate")
        ),
        sa.CheckConstraint(
            "(ending_last_day IS NULL) = (ending_asked_by IS NULL) "
            "AND (ending_last_day IS NULL) = (ending_reason IS NULL) "
            "AND (ending_decided_by IS NULL OR ending_asked_by IS NOT NULL)",
            name=op.f("ck_override_ending"),
        ),
        sa.CheckConstraint(
            "amount IS NULL OR deal_id IS NOT NULL", name=op.f("ck_override_amount_of_a_deal")
        ),
        sa.CheckConstraint("coalesce(amount, rate) >= 0", name=op.f("ck_override_not_negative")),
        sa.CheckConstraint(
            "ending_decided_by IS NULL OR one_seat "
            "OR (ending_decided_by <> ending_asked_by AND ending_decided_by <> payee)",
            name=op.f("ck_override_ending_second_person"),
        ),
        sa.CheckConstraint("last_day >= first_day - 1", name=op.f("ck_override_days")),
        sa.ForeignKeyConstraint(
            ["dispute_id"], ["commissions.dispute.dispute_id"], name=op.f("fk_override_dispute_id")
        ),
        sa.PrimaryKeyConstraint("override_id", name=op.f("pk_override")),
        schema="commissions",
    )
    op.create_index(
        "ix_override_account",
        "override",
        ["payee", "plan_id", "last_day"],
        unique=False,
        schema="commissions",
        postgresql_where=sa.text("state = 'approved'"),
    )
    op.create_index(
        "ix_override_proposed",
        "override",
        ["first_day"],
        unique=False,
        schema="commissions",
        postgresql_where=sa.text("state = 'proposed'"),
    )
    for name, change, table, when in REFUSED:
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {change} ON commissions.{table} FOR EACH ROW "
            f"WHEN ({when}) EXECUTE FUNCTION commissions.refuse_change()"
        )


def downgrade() -> None:
    for table in ("override", "adjustment", "dispute_comment", "dispute"):
        op.drop_table(table, schema="commissions")
