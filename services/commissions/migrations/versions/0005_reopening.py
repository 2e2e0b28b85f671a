"""Approval of a period apart from its close, and opening a closed one again."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

CHECK_CLOSED_UNTIL = """
CREATE OR REPLACE FUNCTION commissions.check_closed_until() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF NEW.day = OLD.day OR EXISTS (
        SELECT FROM commissions.period WHERE state = 'closed' AND end_day > NEW.day
    ) THEN
        RAISE EXCEPTION 'all is closed until % already', OLD.day
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$
"""

CHECK_PERIOD = """
CREATE OR REPLACE FUNCTION commissions.check_period() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    -- A closed period changes in one way: two persons agreed to open it again, as it was closed.
    IF TG_OP = 'DELETE' OR NEW.state <> 'open' OR NOT EXISTS (
        SELECT FROM commissions.reopening r WHERE r.period = OLD.period
        AND r.revision = OLD.revision AND r.confirmed_at IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'period % is closed', OLD.period USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$
"""

CHECK_FIXED = """
CREATE FUNCTION commissions.check_fixed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM FROM commissions.reopened_statement r WHERE r.payee = OLD.payee
        AND r.plan_id = OLD.plan_id AND r.period = OLD.period AND r.hash = OLD.hash
        AND r.closed_with = OLD.closed_with;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'fixed_statement is only ever added to'
            USING ERRCODE = 'restrict_violation', HINT = 'open its period again';
    END IF;
    RETURN OLD;
END $$
"""

BEFORE = {
    "state": "state IN ('open', 'reviewing', 'closed')",
    "maker_is_not_checker": "closed_by IS NULL OR closed_by <> submitted_by OR one_seat",
}
AFTER = {
    "state": "state IN ('open', 'reviewing', 'approved', 'closed')",
    "maker_is_not_checker": "approved_by IS NULL OR approved_by <> submitted_by OR one_seat",
    "approved": "(state IN ('approved', 'closed')) = (approved_by IS NOT NULL)",
    "approved_at": "(approved_by IS NULL) = (approved_at IS NULL) "
    "AND (approved_by IS NULL) = (approved_hash IS NULL)",
}


def upgrade() -> None:
    op.create_table(
        "reopened_statement",
        sa.Column("payee", sa.Text(collation="C"), nullable=False),
        sa.Column("plan_id", sa.Text(collation="C"), nullable=False),
        sa.Column("period", sa.Text(collation="C"), nullable=False),
        sa.Column("hash", sa.Text(collation="C"), nullable=False),
        sa.Column("closed_with", sa.Text(collation="C"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reopened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("explanation", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint(
            "payee", "plan_id", "period", "reopened_at", name=op.f("pk_reopened_statement")
        ),
        schema="commissions",
    )
    op.create_table(
        "reopening",
        sa.Column("period", sa.Text(collation="C"), nullable=False),
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(collation="C"), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_by", sa.Text(collation="C"), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("one_seat", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint(
            "(confirmed_by IS NULL) = (confirmed_at IS NULL)", name=op.f("ck_reopening_confirmed")
        ),
        sa.CheckConstraint(
            "confirmed_by IS NULL OR confirmed_by <> asked_by OR one_seat",
            name=op.f("ck_reopening_maker_is_not_checker"),
        ),
        sa.ForeignKeyConstraint(
            ["period"], ["commissions.period.period"], name=op.f("fk_reopening_period")
        ),
        sa.PrimaryKeyConstraint("period", "revision", name=op.f("pk_reopening")),
        schema="commissions",
    )
    for name, kind in (
        ("approved_by", sa.Text(collation="C")),
        ("approved_at", sa.DateTime(timezone=True)),
        ("approved_hash", sa.Text(collation="C")),
    ):
        op.add_column("period", sa.Column(name, kind, nullable=True), schema="commissions")
    # Until now whoever closed was the second person.
    op.execute("ALTER TABLE commissions.period DISABLE TRIGGER check_period")
    op.execute(
        "UPDATE commissions.period SET approved_by = closed_by, approved_at = closed_at, "
        "approved_hash = '' WHERE state = 'closed'"
    )
    op.execute("ALTER TABLE commissions.period ENABLE TRIGGER check_period")
    _checks(BEFORE, AFTER)
    for function in (CHECK_CLOSED_UNTIL, CHECK_PERIOD, CHECK_FIXED):
        op.execute(function)
    op.execute("DROP TRIGGER refuse_change ON commissions.fixed_statement")
    op.execute(
        "CREATE TRIGGER refuse_change BEFORE UPDATE ON commissions.fixed_statement "
        "FOR EACH ROW EXECUTE FUNCTION commissions.refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER check_fixed BEFORE DELETE ON commissions.fixed_statement "
        "FOR EACH ROW EXECUTE FUNCTION commissions.check_fixed()"
    )
    op.execute(
        "CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON commissions.reopened_statement "
        "FOR EACH ROW EXECUTE FUNCTION commissions.refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON commissions.reopened_statement "
        "FOR EACH STATEMENT EXECUTE FUNCTION commissions.refuse_change()"
    )


def downgrade() -> None:
    for table in ("reopened_statement", "reopening"):
        op.drop_table(table, schema="commissions")
    op.execute("DROP TRIGGER check_fixed ON commissions.fixed_statement")
    op.execute("DROP FUNCTION commissions.check_fixed()")
    op.execute("DROP TRIGGER refuse_change ON commissions.fixed_statement")
    op.execute(
        "CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON commissions.fixed_statement "
        "FOR EACH ROW EXECUTE FUNCTION commissions.refuse_change()"
    )
    _checks(AFTER, BEFORE)
    for name in ("approved_hash", "approved_at", "approved_by"):
        op.drop_column("period", name, schema="commissions")


def _checks(old: dict[str, str], new: dict[str, str]) -> None:
    for name in old:
        op.drop_constraint(op.f(f"ck_period_{name}"), "period", schema="commissions")
    for name, condition in new.items():
        op.create_check_constraint(
            op.f(f"ck_period_{name}"), "period", condition, schema="commissions"
        )
