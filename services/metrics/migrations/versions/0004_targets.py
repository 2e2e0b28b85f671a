"""Quotas with ramp and leave, reliefs, goals, standards, objectives, and every version of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _goals()
    _objectives()
    _quotas()
    _standards()
    _versions()


def downgrade() -> None:
    op.drop_column("quota", "terms", schema="metrics")
    op.drop_table("target_version", schema="metrics")
    op.drop_table("standard", schema="metrics")
    op.drop_table("quota_relief", schema="metrics")
    op.drop_table("published_score", schema="metrics")
    op.drop_index(
        "uq_objective_person",
        table_name="objective",
        schema="metrics",
        postgresql_where=sa.text("NOT deleted"),
    )
    op.drop_table("objective", schema="metrics")
    op.drop_index("ix_goal_parent", table_name="goal", schema="metrics")
    op.drop_table("goal", schema="metrics")


def _goals() -> None:
    op.create_table(
        "goal",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("kpi", sa.Text(collation="C"), nullable=False),
        sa.Column("direction", sa.Text(collation="C"), nullable=False),
        sa.Column("target", sa.Numeric(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("start_day", sa.Date(), nullable=False),
        sa.Column("end_day", sa.Date(), nullable=False),
        sa.Column("person", sa.Text(collation="C"), nullable=True),
        sa.Column("team", sa.Text(collation="C"), nullable=True),
        sa.Column("owner", sa.Text(collation="C"), nullable=False),
        sa.Column("parent", sa.Text(collation="C"), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.CheckConstraint("direction IN ('at_least', 'at_most')", name=op.f("ck_goal_direction")),
        sa.CheckConstraint(
            "target > '-Infinity' AND target < 'Infinity'", name=op.f("ck_goal_target_finite")
        ),
        sa.CheckConstraint("num_nonnulls(person, team) <= 1", name=op.f("ck_goal_one_subject")),
        sa.CheckConstraint("start_day < end_day", name=op.f("ck_goal_period")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_goal")),
        schema="metrics",
    )
    op.create_index("ix_goal_parent", "goal", ["parent"], unique=False, schema="metrics")


def _objectives() -> None:
    op.create_table(
        "objective",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("objective", sa.Text(collation="C"), nullable=False),
        sa.Column("person", sa.Text(collation="C"), nullable=False),
        sa.Column("period", sa.Text(collation="C"), nullable=False),
        sa.Column("start_day", sa.Date(), nullable=False),
        sa.Column("end_day", sa.Date(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("weight", sa.Text(collation="C"), nullable=True),
        sa.Column("scorer", sa.Text(collation="C"), nullable=True),
        sa.Column("score", sa.Numeric(), nullable=True),
        sa.Column("scored_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("scored_by", sa.Text(), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "score > '-Infinity' AND score < 'Infinity'", name=op.f("ck_objective_score_finite")
        ),
        sa.CheckConstraint("start_day < end_day", name=op.f("ck_objective_period")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_objective")),
        schema="metrics",
    )
    op.create_index(
        "uq_objective_person",
        "objective",
        ["person", "objective", "period"],
        unique=True,
        schema="metrics",
        postgresql_where=sa.text("NOT deleted"),
    )
    op.create_table(
        "published_score",
        sa.Column("person", sa.Text(collation="C"), nullable=False),
        sa.Column("objective", sa.Text(collation="C"), nullable=False),
        sa.Column("period", sa.Text(collation="C"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("person", "objective", "period", name=op.f("pk_published_score")),
        schema="metrics",
    )


def _quotas() -> None:
    op.create_table(
        "quota_relief",
        sa.Column("quota_id", sa.Text(collation="C"), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=True),
        sa.Column("share", sa.Text(collation="C"), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(collation="C"), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("before_amount", sa.Numeric(), nullable=True),
        sa.Column("after_amount", sa.Numeric(), nullable=True),
        sa.Column("one_seat", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "amount > '-Infinity' AND amount < 'Infinity'",
            name=op.f("ck_quota_relief_amount_finite"),
        ),
        sa.CheckConstraint(
            "state IN ('proposed', 'approved', 'refused', 'withdrawn')",
            name=op.f("ck_quota_relief_state"),
        ),
        sa.CheckConstraint(
            "num_nonnulls(amount, share) = 1", name=op.f("ck_quota_relief_amount_or_share")
        ),
        sa.PrimaryKeyConstraint("quota_id", "number", name=op.f("pk_quota_relief")),
        schema="metrics",
    )
    op.add_column(
        "quota",
        sa.Column(
            "terms",
            postgresql.JSON(astext_type=sa.Text()),
            nullable=True,
            comment="null: amount is as it was stated",
        ),
        schema="metrics",
    )


def _standards() -> None:
    op.create_table(
        "standard",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("kpi", sa.Text(collation="C"), nullable=False),
        sa.Column("direction", sa.Text(collation="C"), nullable=False),
        sa.Column("limit_value", sa.Numeric(), nullable=False),
        sa.Column("period_kind", sa.Text(collation="C"), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("last_day", sa.Date(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "direction IN ('at_least', 'at_most')", name=op.f("ck_standard_direction")
        ),
        sa.CheckConstraint(
            "limit_value > '-Infinity' AND limit_value < 'Infinity'",
            name=op.f("ck_standard_limit_finite"),
        ),
        sa.CheckConstraint(
            "period_kind IN ('month', 'quarter', 'half', 'year')",
            name=op.f("ck_standard_period_kind"),
        ),
        sa.CheckConstraint(
            "last_day IS NULL OR first_day <= last_day", name=op.f("ck_standard_days")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_standard")),
        schema="metrics",
    )


def _versions() -> None:
    op.create_table(
        "target_version",
        sa.Column("kind", sa.Text(collation="C"), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("document", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", "revision", name=op.f("pk_target_version")),
        schema="metrics",
    )
    # What was stated before versions were kept is its newest version.
    op.execute(
        """
        INSERT INTO metrics.target_version (kind, id, revision, document, changed_at, changed_by)
        SELECT 'quota', id, revision,
               json_build_object(
                   'quota', json_build_object(
                       'quota', id, 'person', person, 'team', team, 'measure', measure,
                       'period', period, 'start', start_day, 'end', end_day,
                       'amount', trim_scale(amount)::text, 'currency', currency,
                       'revision', revision, 'method', 'stated', 'deleted', deleted
                   ),
                   'changed_by', changed_by
               ),
               changed_at, changed_by
        FROM metrics.quota
        """
    )
