"""Payments of invoices, published KPIs and scores, budgets, draws, target pay, ramp and leave."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

FIGURES = (
    ("fixed_statement", "draw_in"),
    ("fixed_statement", "draw_out"),
    ("fixed_statement", "held_pay"),
    ("statement", "held_pay"),
    ("statement", "draw_balance"),
)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _finite(table: str, column: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(
        f"{column} < 'Infinity' AND {column} > '-Infinity'",
        name=op.f(f"ck_{table}_{column}_finite"),
    )


def upgrade() -> None:
    _tables()
    op.add_column("credit", _text("budget", nullable=True), schema="commissions")
    op.create_index(
        "ix_credit_budget",
        "credit",
        ["plan_id", "budget"],
        unique=False,
        schema="commissions",
        postgresql_where=sa.text("budget IS NOT NULL"),
    )
    op.add_column(
        "plan_version",
        sa.Column(
            "needs", postgresql.ARRAY(sa.Text(collation="C")), server_default="{}", nullable=False
        ),
        schema="commissions",
    )
    op.add_column(
        "assignment", sa.Column("target_pay", sa.Numeric(), nullable=True), schema="commissions"
    )
    op.create_check_constraint(
        op.f("ck_assignment_target_pay_finite"),
        "assignment",
        "target_pay < 'Infinity' AND target_pay > '-Infinity'",
        schema="commissions",
    )
    for name, empty in (("component_target_pay", "'{}'"), ("ramp", "'[]'"), ("leave", "'[]'")):
        op.add_column(
            "assignment",
            sa.Column(
                name,
                postgresql.JSON(astext_type=sa.Text()),
                server_default=sa.text(empty),
                nullable=False,
            ),
            schema="commissions",
        )
    for table, name in FIGURES:
        op.add_column(
            table,
            sa.Column(name, sa.Numeric(), server_default="0", nullable=False),
            schema="commissions",
        )
        op.create_check_constraint(
            op.f(f"ck_{table}_{name}_finite"),
            table,
            f"{name} < 'Infinity' AND {name} > '-Infinity'",
            schema="commissions",
        )
    # Payments that name no deal point at their invoice from now on.
    op.execute(
        "UPDATE commissions.record SET parent = 'invoice/' || (document #>> '{fields,invoice,2}') "
        "WHERE kind = 'payment' AND parent IS NULL "
        "AND document #>> '{fields,invoice,2}' IS NOT NULL"
    )


def _tables() -> None:
    op.create_table(
        "begun_until",
        sa.Column(
            "only_row", sa.Integer(), autoincrement=False, server_default="1", nullable=False
        ),
        sa.Column("day", sa.Date(), nullable=False),
        sa.CheckConstraint("only_row = 1", name=op.f("ck_begun_until_one_row")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_begun_until")),
        schema="commissions",
    )
    op.execute("INSERT INTO commissions.begun_until (day) VALUES ('0001-01-01')")
    op.create_table(
        "budget_grant",
        _text("plan_id"),
        _text("component_id"),
        _text("key"),
        _text("payee"),
        sa.Column("day", sa.Date(), nullable=False),
        *(
            sa.Column(name, sa.Numeric(), nullable=False)
            for name in ("asked", "granted", "spent_before", "budget")
        ),
        *(_finite("budget_grant", n) for n in ("asked", "granted", "spent_before", "budget")),
        sa.PrimaryKeyConstraint("plan_id", "component_id", "key", name=op.f("pk_budget_grant")),
        schema="commissions",
    )
    op.create_index(
        "ix_budget_grant_account", "budget_grant", ["payee", "plan_id"], schema="commissions"
    )
    op.create_table(
        "kpi_fact",
        _text("person"),
        _text("kpi"),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("value", sa.Numeric(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        _finite("kpi_fact", "value"),
        sa.PrimaryKeyConstraint("person", "kpi", "day", name=op.f("pk_kpi_fact")),
        schema="commissions",
    )
    op.create_table(
        "objective_score",
        _text("person"),
        _text("objective"),
        _text("period"),
        sa.Column("score", sa.Numeric(), nullable=False),
        sa.Column("scored_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        _finite("objective_score", "score"),
        sa.PrimaryKeyConstraint("person", "objective", "period", name=op.f("pk_objective_score")),
        schema="commissions",
    )


def downgrade() -> None:
    for table, name in FIGURES:
        op.drop_column(table, name, schema="commissions")
    for name in ("leave", "ramp", "component_target_pay", "target_pay"):
        op.drop_column("assignment", name, schema="commissions")
    op.drop_column("plan_version", "needs", schema="commissions")
    op.drop_index(
        "ix_credit_budget",
        table_name="credit",
        schema="commissions",
        postgresql_where=sa.text("budget IS NOT NULL"),
    )
    op.drop_column("credit", "budget", schema="commissions")
    for table in ("objective_score", "kpi_fact", "budget_grant", "begun_until"):
        op.drop_table(table, schema="commissions")
