"""Pay runs, and what the database itself refuses of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OF_CLOSED_PERIODS = """
    SELECT n.payee, n.plan_id, n.period INTO bad FROM added n
        WHERE n.end_day <= closed_until LIMIT 1;
"""

OF_CLOSED_PERIODS_BUT_PAYMENTS = """
    -- A payment moves what a close made payable; it changes nothing that the close fixed.
    SELECT n.payee, n.plan_id, n.period INTO bad FROM added n
        WHERE n.end_day <= closed_until
        AND NOT (n.account IN ('payable', 'paid') AND n.line_key LIKE 'payrun/%') LIMIT 1;
"""

CHECK_POSTINGS = """
CREATE OR REPLACE FUNCTION commissions.check_postings() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    closed_until date;
    bad record;
BEGIN
    -- A close holds this row FOR UPDATE: whoever posts waits for it, and it for them.
    SELECT day INTO closed_until FROM commissions.closed_until FOR SHARE;
    {of_closed_periods}
    IF FOUND THEN
        RAISE EXCEPTION 'period % of %/% is closed', bad.period, bad.payee, bad.plan_id
            USING ERRCODE = 'restrict_violation', HINT = 'post to the first open period';
    END IF;
    SELECT p.transaction_id, p.currency, sum(p.amount) AS total INTO bad
        FROM commissions.posting p
        WHERE p.transaction_id IN (SELECT transaction_id FROM added)
        GROUP BY p.transaction_id, p.currency HAVING sum(p.amount) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transaction % is uneven by % %',
            bad.transaction_id, bad.total, bad.currency
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "pay_run",
        sa.Column("pay_run_id", sa.Text(collation="C"), nullable=False),
        sa.Column("through", sa.Text(collation="C"), nullable=False),
        sa.Column("through_day", sa.Date(), nullable=False),
        sa.Column("pay_date", sa.Date(), nullable=False),
        sa.Column("template", sa.Text(collation="C"), nullable=False),
        sa.Column("parameters", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("employees", sa.Text(collation="C"), nullable=True),
        sa.Column("state", sa.Text(collation="C"), nullable=False),
        sa.Column("hash", sa.Text(collation="C"), nullable=False),
        sa.Column("control", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("made_by", sa.Text(collation="C"), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approved_by", sa.Text(collation="C"), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paid_on", sa.Date(), nullable=True),
        sa.Column("one_seat", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(state = 'paid') = (paid_on IS NOT NULL)", name=op.f("ck_pay_run_paid")
        ),
        sa.CheckConstraint(
            "(state IN ('approved', 'paid')) = (approved_by IS NOT NULL)",
            name=op.f("ck_pay_run_approved"),
        ),
        sa.CheckConstraint(
            "state IN ('draft', 'approved', 'paid', 'cancelled')", name=op.f("ck_pay_run_state")
        ),
        sa.CheckConstraint(
            "approved_by IS NULL OR approved_by <> made_by OR one_seat",
            name=op.f("ck_pay_run_maker_is_not_checker"),
        ),
        sa.PrimaryKeyConstraint("pay_run_id", name=op.f("pk_pay_run")),
        schema="commissions",
    )
    op.create_index(
        "ix_pay_run_made_at",
        "pay_run",
        ["made_at", "pay_run_id"],
        unique=False,
        schema="commissions",
    )
    op.create_table(
        "pay_run_line",
        sa.Column("pay_run_id", sa.Text(collation="C"), nullable=False),
        sa.Column("payee", sa.Text(collation="C"), nullable=False),
        sa.Column("plan_id", sa.Text(collation="C"), nullable=False),
        sa.Column("period", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("employee_number", sa.Text(collation="C"), nullable=True),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.Column("currency", sa.Text(collation="C"), nullable=False),
        sa.Column("plan_amount", sa.Numeric(), nullable=False),
        sa.Column("plan_currency", sa.Text(collation="C"), nullable=False),
        sa.Column("statement_hash", sa.Text(collation="C"), nullable=False),
        sa.Column("state", sa.Text(collation="C"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(state = 'returned') = (reason IS NOT NULL)", name=op.f("ck_pay_run_line_reason")
        ),
        sa.CheckConstraint(
            "amount < 'Infinity' AND amount > '-Infinity'",
            name=op.f("ck_pay_run_line_amount_finite"),
        ),
        sa.CheckConstraint(
            "plan_amount < 'Infinity' AND plan_amount > '-Infinity'",
            name=op.f("ck_pay_run_line_plan_amount_finite"),
        ),
        sa.CheckConstraint(
            "state IN ('due', 'paid', 'returned', 'cancelled')", name=op.f("ck_pay_run_line_state")
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_pay_run_line_pays_something")),
        sa.ForeignKeyConstraint(
            ["pay_run_id"],
            ["commissions.pay_run.pay_run_id"],
            name=op.f("fk_pay_run_line_pay_run_id"),
        ),
        sa.PrimaryKeyConstraint(
            "pay_run_id", "payee", "plan_id", "period", name=op.f("pk_pay_run_line")
        ),
        schema="commissions",
    )
    op.create_index(
        "uq_pay_run_line_statement",
        "pay_run_line",
        ["payee", "plan_id", "period"],
        unique=True,
        schema="commissions",
        postgresql_where=sa.text("state IN ('due', 'paid')"),
    )
    op.execute(CHECK_POSTINGS.format(of_closed_periods=OF_CLOSED_PERIODS_BUT_PAYMENTS))
    op.execute(
        "CREATE TRIGGER refuse_change BEFORE UPDATE ON commissions.pay_run_line FOR EACH ROW "
        "WHEN (row(OLD.amount, OLD.currency, OLD.plan_amount, OLD.statement_hash) "
        "IS DISTINCT FROM row(NEW.amount, NEW.currency, NEW.plan_amount, NEW.statement_hash)) "
        "EXECUTE FUNCTION commissions.refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER refuse_delete BEFORE DELETE ON commissions.pay_run_line "
        "FOR EACH ROW EXECUTE FUNCTION commissions.refuse_change()"
    )


def downgrade() -> None:
    op.execute(CHECK_POSTINGS.format(of_closed_periods=OF_CLOSED_PERIODS))
    op.drop_index(
        "uq_pay_run_line_statement",
        table_name="pay_run_line",
        schema="commissions",
        postgresql_where=sa.text("state IN ('due', 'paid')"),
    )
    op.drop_table("pay_run_line", schema="commissions")
    op.drop_index("ix_pay_run_made_at", table_name="pay_run", schema="commissions")
    op.drop_table("pay_run", schema="commissions")
