"""`sslmode` in a database URL is obeyed by the services' pool and by the migrations alike.

The session's server offers no encryption: who insists on it is refused before a password is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.exc import SQLAlchemyError

from shared.db.migrate import upgrade
from shared.db.pool import create_pool


async def _migrate(url: str) -> None:
    await asyncio.to_thread(upgrade, "ingest", url)


async def _connect(url: str) -> None:
    pool = await create_pool(url, schema="ingest", name="test")
    await pool.close()


WAYS: tuple[Callable[[str], Awaitable[None]], ...] = (_migrate, _connect)


@pytest_asyncio.fixture(loop_scope="session")
async def with_schema(database: str) -> str:
    """A database in which ingest's schema may be made."""
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE SCHEMA IF NOT EXISTS ingest")
    await connection.close()
    return database


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_who_insists_on_encryption_never_goes_without(
    with_schema: str, way: Callable[[str], Awaitable[None]], mode: str
) -> None:
    with pytest.raises((OSError, ValueError, SQLAlchemyError)) as refusal:
        await way(f"{with_schema}?sslmode={mode}")
    assert any(word in str(refusal.value) for word in ("SSL", "root certificate"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["disable", "prefer"])
async def test_who_does_not_is_served(
    with_schema: str, way: Callable[[str], Awaitable[None]], mode: str
) -> None:
    await way(f"{with_schema}?sslmode={mode}")
