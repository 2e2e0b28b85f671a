"""Connections: asyncpg pools whose sessions cannot hold a lock for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from shared.errors import Misconfigured

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:  # asyncpg's classes take no parameters when the program runs
    Connection = asyncpg.Connection
    Pool = asyncpg.pool.Pool

DATABASE_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""All that a statement may raise for which the way to the database, or the server, is at fault.

InternalClientError: asyncpg raises it when a statement follows the server's last words, as when a
session was ended while this process was paused.
"""

MINIMUM_SERVER_VERSION = 18

LOCK_TIMEOUT_MS = 5_000
"""A statement that waits longer for a lock fails and is retried, so no queue builds up."""

STATEMENT_TIMEOUT_MS = 60_000
"""Far above any batch's longest statement; a runaway query ends here."""

IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000
"""A worker paused inside its transaction loses it, so that the next owner can go on."""


async def create_pool(
    url: str, *, schema: str, name: str, min_size: int = 1, max_size: int = 8
) -> Pool:
    """A pool whose connections see `schema` first. `name` shows in pg_stat_activity.

    Raises Misconfigured when the server is older than PostgreSQL 18.
    """
    pool = await asyncpg.create_pool(
        url,
        min_size=min_size,
        max_size=max_size,
        command_timeout=STATEMENT_TIMEOUT_MS / 1000 + 5,
        server_settings={
            "application_name": name,
            "search_path": schema,
            "timezone": "UTC",
            "lock_timeout": str(LOCK_TIMEOUT_MS),
            "statement_timeout": str(STATEMENT_TIMEOUT_MS),
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
            "jit": "off",
        },
    )
    async with pool.acquire() as connection:
        version = connection.get_server_version()
    if version.major < MINIMUM_SERVER_VERSION:
        await pool.close()
        msg = f"PostgreSQL {version.major} is too old; Attain needs {MINIMUM_SERVER_VERSION}"
        raise Misconfigured(msg)
    return pool
