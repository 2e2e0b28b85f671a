"""Migrations: alembic, one schema and one version table a service, run with that service's role."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
from alembic import command, context
from alembic.config import Config
from sqlalchemy import MetaData, pool
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import create_async_engine

REPOSITORY = Path(__file__).resolve().parents[2]


def sqlalchemy_url(url: str) -> str:
    """The asyncpg form of a PostgreSQL URL, of one without `sslmode`."""
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+asyncpg://" + url.removeprefix(prefix)
    return url


def alembic_config(service: str, url: str) -> Config:
    """Alembic's configuration for one service, without a file."""
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "services" / service / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    return config


def upgrade(service: str, url: str) -> None:
    """Bring the service's schema to its newest version."""
    command.upgrade(alembic_config(service, url), "head")


def run_environment(metadata: MetaData) -> None:
    """What each service's `migrations/env.py` does: run migrations of `metadata`'s schema."""
    url = context.config.attributes["url"]
    asyncio.run(_run(url, metadata))


async def _run(url: str, metadata: MetaData) -> None:
    # search_path without the schema: with it, autogenerate takes every table for a new one.
    settings = {"search_path": "pg_catalog", "lock_timeout": "5000"}
    engine = create_async_engine(
        "postgresql+asyncpg://",
        poolclass=pool.NullPool,
        # asyncpg itself reads the URL, as it does for the services: SQLAlchemy knows no `sslmode`.
        async_creator=lambda: asyncpg.connect(url, server_settings=settings),
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_migrate, metadata)
            await connection.commit()
    finally:
        await engine.dispose()


def _migrate(connection: Connection, metadata: MetaData) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=metadata.schema,
        include_schemas=True,
        include_name=lambda name, kind, _parents: kind != "schema" or name == metadata.schema,
        compare_server_default=False,
    )
    with context.begin_transaction():
        context.run_migrations()
