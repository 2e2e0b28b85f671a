"""What the database itself refuses: changed books, uneven books, postings to closed periods."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

IMMUTABLE = ("posting", "ledger_transaction", "fixed_statement", "plan_version")

REFUSE_CHANGE = """
CREATE FUNCTION commissions.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION '% is only ever added to', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'undo by adding the mirrored rows';
END $$
"""

CHECK_POSTINGS = """
CREATE FUNCTION commissions.check_postings() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    closed_until date;
    bad record;
BEGIN
    -- A close holds this row FOR UPDATE: whoever posts waits for it, and it for them.
    SELECT day INTO closed_until FROM commissions.closed_until FOR SHARE;
    SELECT n.payee, n.plan_id, n.period INTO bad FROM added n
        WHERE n.end_day <= closed_until LIMIT 1;
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

CHECK_TRANSACTION = """
CREATE FUNCTION commissions.check_transaction() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM FROM commissions.posting WHERE transaction_id = NEW.id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'transaction % has no postings', NEW.id USING ERRCODE = 'check_violation';
    END IF;
    PERFORM FROM commissions.posting WHERE transaction_id = NEW.id
        GROUP BY currency HAVING sum(amount) <> 0;
    IF FOUND THEN
        RAISE EXCEPTION 'transaction % is uneven', NEW.id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$
"""

CHECK_CLOSED_UNTIL = """
CREATE FUNCTION commissions.check_closed_until() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF NEW.day <= OLD.day THEN
        RAISE EXCEPTION 'all is closed until % already', OLD.day
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$
"""

CHECK_PERIOD = """
CREATE FUNCTION commissions.check_period() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'period % is closed', OLD.period USING ERRCODE = 'restrict_violation';
END $$
"""


def upgrade() -> None:
    for function in (
        REFUSE_CHANGE,
        CHECK_POSTINGS,
        CHECK_TRANSACTION,
        CHECK_CLOSED_UNTIL,
        CHECK_PERIOD,
    ):
        op.execute(function)
    for table in IMMUTABLE:
        op.execute(
            f"CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON commissions.{table} "
            "FOR EACH ROW EXECUTE FUNCTION commissions.refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON commissions.{table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION commissions.refuse_change()"
        )
    op.execute(
        "CREATE TRIGGER check_postings AFTER INSERT ON commissions.posting "
        "REFERENCING NEW TABLE AS added "
        "FOR EACH STATEMENT EXECUTE FUNCTION commissions.check_postings()"
    )
    op.execute(
        "CREATE CONSTRAINT TRIGGER check_transaction AFTER INSERT ON "
        "commissions.ledger_transaction DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION commissions.check_transaction()"
    )
    op.execute(
        "CREATE TRIGGER check_closed_until BEFORE UPDATE ON commissions.closed_until "
        "FOR EACH ROW EXECUTE FUNCTION commissions.check_closed_until()"
    )
    op.execute(
        "CREATE TRIGGER refuse_delete BEFORE DELETE ON commissions.closed_until "
        "FOR EACH ROW EXECUTE FUNCTION commissions.refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER check_period BEFORE UPDATE OR DELETE ON commissions.period "
        "FOR EACH ROW WHEN (OLD.state = 'closed') EXECUTE FUNCTION commissions.check_period()"
    )
    # The beginning of time: nothing is closed.
    op.execute("INSERT INTO commissions.closed_until (only_row, day) VALUES (1, '0001-01-01')")


def downgrade() -> None:
    for table in IMMUTABLE:
        op.execute(f"DROP TRIGGER refuse_change ON commissions.{table}")
        op.execute(f"DROP TRIGGER refuse_truncate ON commissions.{table}")
    for trigger, table in (
        ("check_postings", "posting"),
        ("check_transaction", "ledger_transaction"),
        ("check_closed_until", "closed_until"),
        ("refuse_delete", "closed_until"),
        ("check_period", "period"),
    ):
        op.execute(f"DROP TRIGGER {trigger} ON commissions.{table}")
    for function in (
        "refuse_change",
        "check_postings",
        "check_transaction",
        "check_closed_until",
        "check_period",
    ):
        op.execute(f"DROP FUNCTION commissions.{function}()")
    op.execute("DELETE FROM commissions.closed_until")
