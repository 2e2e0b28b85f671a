"""A service's migrations make exactly the tables that it declares."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
from alembic import command

from shared.db.migrate import alembic_config, upgrade

SERVICES = ("ingest", "metrics", "commissions", "notifications")


@pytest.mark.parametrize("service", SERVICES)
async def test_the_tables_are_those_that_migrations_make(
    service: str, database_factory: Callable[[], Awaitable[str]]
) -> None:
    url = await database_factory()
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE SCHEMA {service}")
    await connection.close()
    await asyncio.to_thread(upgrade, service, url)
    # Raises where autogeneration would write anything.
    await asyncio.to_thread(command.check, alembic_config(service, url))


@pytest.mark.parametrize("service", SERVICES)
async def test_a_migration_can_be_undone_and_done_again(
    service: str, database_factory: Callable[[], Awaitable[str]]
) -> None:
    url = await database_factory()
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE SCHEMA {service}")
    await connection.close()
    for _ in range(2):
        await asyncio.to_thread(upgrade, service, url)
        await asyncio.to_thread(command.downgrade, alembic_config(service, url), "base")
