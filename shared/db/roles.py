"""Database roles: one schema and one login role per service, and nobody else's tables in sight."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg

SERVICES = ("ingest", "metrics", "commissions", "notifications")


def role_name(service: str) -> str:
    """The login role of a service."""
    return f"attain_{service}"


async def create_roles(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Create or update the role and the schema of each service named in `passwords`.

    admin_url: a role that may create roles, connected to the database that holds the schemas.
    Repeatable: a second call changes passwords and nothing else.
    """
    connection = await asyncpg.connect(admin_url)
    try:
        database = await connection.fetchval("SELECT current_database()")
        await connection.execute(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
        await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        for service, password in passwords.items():
            await _create_role(connection, database, service, password)
    finally:
        await connection.close()


async def _create_role(
    connection: asyncpg.Connection[asyncpg.Record], database: str, service: str, password: str
) -> None:
    if service not in SERVICES:
        msg = f"unknown service {service!r}"
        raise ValueError(msg)
    role = role_name(service)
    # Utility statements take no parameters: the server itself quotes the password.
    quoted = await connection.fetchval("SELECT quote_literal($1)", password)
    known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
    verb = "ALTER" if known else "CREATE"
    await connection.execute(f"{verb} ROLE {role} LOGIN PASSWORD {quoted}")
    await connection.execute(f'GRANT CONNECT, TEMPORARY ON DATABASE "{database}" TO {role}')
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {service} AUTHORIZATION {role}")
