"""The tables of the notifications service."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alert",
        sa.Column("alert_id", sa.Text(collation="C"), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("episode", sa.Text(collation="C"), nullable=False),
        sa.Column("kind", sa.Text(collation="C"), nullable=False),
        sa.Column("state", sa.Text(collation="C"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text(collation="C"), nullable=False),
        sa.Column("title", sa.Text(collation="C"), nullable=False),
        sa.Column("person", sa.Text(collation="C"), nullable=True),
        sa.Column("team", sa.Text(collation="C"), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("signal", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("unrouted", sa.Boolean(), nullable=False),
        sa.Column("route_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('open', 'resolved')", name=op.f("ck_alert_state")),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alert")),
        sa.UniqueConstraint("number", name=op.f("uq_alert_number")),
        schema="notifications",
    )
    op.create_index(
        "ix_alert_person_number",
        "alert",
        ["person", "number"],
        unique=False,
        schema="notifications",
    )
    op.create_index(
        "ix_alert_unrouted",
        "alert",
        ["route_at"],
        unique=False,
        schema="notifications",
        postgresql_where=sa.text("unrouted"),
    )
    op.create_table(
        "consumer_offset",
        sa.Column("consumer_group", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "consumer_group", "topic", "partition", name=op.f("pk_consumer_offset")
        ),
        schema="notifications",
    )
    op.create_table(
        "dead_letter",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("message_offset", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("resolution", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "state IN ('open', 'redriven', 'discarded')", name=op.f("ck_dead_letter_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letter")),
        schema="notifications",
    )
    op.create_index(
        "ix_dead_letter_open",
        "dead_letter",
        ["subject"],
        unique=False,
        schema="notifications",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "uq_dead_letter_position",
        "dead_letter",
        ["topic", "partition", "message_offset"],
        unique=True,
        schema="notifications",
    )
    op.create_table(
        "idempotency_key",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", "route", "key", name=op.f("pk_idempotency_key")),
        schema="notifications",
        comment="Answers to requests with an Idempotency-Key; owned, purged after 30 days",
    )
    op.create_index(
        op.f("ix_idempotency_key_created_at"),
        "idempotency_key",
        ["created_at"],
        unique=False,
        schema="notifications",
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        schema="notifications",
    )
    op.create_index(
        "ix_outbox_published_at", "outbox", ["published_at"], unique=False, schema="notifications"
    )
    op.create_index(
        "ix_outbox_waiting",
        "outbox",
        ["id"],
        unique=False,
        schema="notifications",
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.create_table(
        "place_pace",
        sa.Column("channel", sa.Text(collation="C"), nullable=False),
        sa.Column("address", sa.Text(collation="C"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("channel", "address", name=op.f("pk_place_pace")),
        schema="notifications",
    )
    op.create_table(
        "record",
        sa.Column("kind", sa.Text(collation="C"), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("document", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "parent",
            sa.Text(collation="C"),
            nullable=True,
            comment="subject of the record this one points at",
        ),
        sa.Column(
            "merged_into",
            sa.Text(collation="C"),
            nullable=True,
            comment="id of the record that survives",
        ),
        sa.Column("merged_sequence", sa.Text(collation="C"), nullable=True),
        sa.PrimaryKeyConstraint("kind", "id", name=op.f("pk_record")),
        schema="notifications",
    )
    op.create_index(
        "ix_record_merged_into",
        "record",
        ["kind", "merged_into"],
        unique=False,
        schema="notifications",
        postgresql_where=sa.text("merged_into IS NOT NULL"),
    )
    op.create_index(
        "ix_record_parent",
        "record",
        ["parent"],
        unique=False,
        schema="notifications",
        postgresql_where=sa.text("parent IS NOT NULL"),
    )
    op.create_index(
        "ix_record_redirect",
        "record",
        ["kind", "id"],
        unique=False,
        schema="notifications",
        postgresql_where=sa.text("merged_into IS NOT NULL"),
    )
    op.create_table(
        "reference_version",
        sa.Column("only_row", sa.Integer(), server_default="1", nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("code_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_reference_version")),
        schema="notifications",
    )
    op.create_table(
        "simulated_clock",
        sa.Column("only_row", sa.Integer(), server_default="1", nullable=False),
        sa.Column("instant", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("only_row = 1", name=op.f("ck_simulated_clock_one_row")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_simulated_clock")),
        schema="notifications",
    )
    op.create_table(
        "subscription",
        sa.Column("person", sa.Text(collation="C"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("channels", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("changed_by", sa.Text(collation="C"), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("person", name=op.f("pk_subscription")),
        schema="notifications",
    )
    op.create_table(
        "delivery_thread",
        sa.Column("thread_id", sa.Text(collation="C"), nullable=False),
        sa.Column("alert_id", sa.Text(collation="C"), nullable=False),
        sa.Column("channel", sa.Text(collation="C"), nullable=False),
        sa.Column("recipient", sa.Text(collation="C"), nullable=False),
        sa.Column("address", sa.Text(collation="C"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease", sa.Text(collation="C"), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["notifications.alert.alert_id"], name=op.f("fk_delivery_thread_alert_id")
        ),
        sa.PrimaryKeyConstraint("thread_id", name=op.f("pk_delivery_thread")),
        schema="notifications",
    )
    op.create_index(
        op.f("ix_delivery_thread_alert_id"),
        "delivery_thread",
        ["alert_id"],
        unique=False,
        schema="notifications",
    )
    op.create_index(
        "ix_delivery_thread_due",
        "delivery_thread",
        ["channel", "due_at"],
        unique=False,
        schema="notifications",
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_table(
        "delivery",
        sa.Column("delivery_id", sa.Text(collation="C"), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("alert_id", sa.Text(collation="C"), nullable=False),
        sa.Column("thread_id", sa.Text(collation="C"), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("transition", sa.Text(collation="C"), nullable=False),
        sa.Column("channel", sa.Text(collation="C"), nullable=True),
        sa.Column("recipient", sa.Text(collation="C"), nullable=False),
        sa.Column("address", sa.Text(collation="C"), nullable=False),
        sa.Column("reason", sa.Text(collation="C"), nullable=False),
        sa.Column("status", sa.Text(collation="C"), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ref_place", sa.Text(collation="C"), nullable=True),
        sa.Column("ref_message", sa.Text(collation="C"), nullable=True),
        sa.Column("detail", sa.Text(collation="C"), nullable=False),
        sa.Column("log_revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'sent', 'failed', 'withdrawn', 'unroutable')",
            name=op.f("ck_delivery_status"),
        ),
        sa.CheckConstraint(
            "(channel IS NULL) = (thread_id IS NULL)", name=op.f("ck_delivery_thread")
        ),
        sa.CheckConstraint(
            "(ref_place IS NULL) = (ref_message IS NULL)", name=op.f("ck_delivery_ref")
        ),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["notifications.alert.alert_id"], name=op.f("fk_delivery_alert_id")
        ),
        sa.ForeignKeyConstraint(
            ["thread_id"],
            ["notifications.delivery_thread.thread_id"],
            name=op.f("fk_delivery_thread_id"),
        ),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("number", name=op.f("uq_delivery_number")),
        schema="notifications",
    )
    op.create_index(
        op.f("ix_delivery_alert_id"), "delivery", ["alert_id"], unique=False, schema="notifications"
    )
    op.create_index(
        "ix_delivery_recipient_number",
        "delivery",
        ["recipient", "number"],
        unique=False,
        schema="notifications",
    )
    op.create_index(
        op.f("ix_delivery_thread_id"),
        "delivery",
        ["thread_id"],
        unique=False,
        schema="notifications",
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_delivery_thread_id"), table_name="delivery", schema="notifications")
    op.drop_index("ix_delivery_recipient_number", table_name="delivery", schema="notifications")
    op.drop_index(op.f("ix_delivery_alert_id"), table_name="delivery", schema="notifications")
    op.drop_table("delivery", schema="notifications")
    op.drop_index(
        "ix_delivery_thread_due",
        table_name="delivery_thread",
        schema="notifications",
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.drop_index(
        op.f("ix_delivery_thread_alert_id"), table_name="delivery_thread", schema="notifications"
    )
    op.drop_table("delivery_thread", schema="notifications")
    op.drop_table("subscription", schema="notifications")
    op.drop_table("simulated_clock", schema="notifications")
    op.drop_table("reference_version", schema="notifications")
    op.drop_index(
        "ix_record_redirect",
        table_name="record",
        schema="notifications",
        postgresql_where=sa.text("merged_into IS NOT NULL"),
    )
    op.drop_index(
        "ix_record_parent",
        table_name="record",
        schema="notifications",
        postgresql_where=sa.text("parent IS NOT NULL"),
    )
    op.drop_index(
        "ix_record_merged_into",
        table_name="record",
        schema="notifications",
        postgresql_where=sa.text("merged_into IS NOT NULL"),
    )
    op.drop_table("record", schema="notifications")
    op.drop_table("place_pace", schema="notifications")
    op.drop_index(
        "ix_outbox_waiting",
        table_name="outbox",
        schema="notifications",
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.drop_index("ix_outbox_published_at", table_name="outbox", schema="notifications")
    op.drop_table("outbox", schema="notifications")
    op.drop_index(
        op.f("ix_idempotency_key_created_at"), table_name="idempotency_key", schema="notifications"
    )
    op.drop_table("idempotency_key", schema="notifications")
    op.drop_index("uq_dead_letter_position", table_name="dead_letter", schema="notifications")
    op.drop_index(
        "ix_dead_letter_open",
        table_name="dead_letter",
        schema="notifications",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.drop_table("dead_letter", schema="notifications")
    op.drop_table("consumer_offset", schema="notifications")
    op.drop_index(
        "ix_alert_unrouted",
        table_name="alert",
        schema="notifications",
        postgresql_where=sa.text("unrouted"),
    )
    op.drop_index("ix_alert_person_number", table_name="alert", schema="notifications")
    op.drop_table("alert", schema="notifications")
