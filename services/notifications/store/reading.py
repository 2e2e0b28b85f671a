"""SQL of the lists that the API shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection


async def list_alerts(  # noqa: PLR0913 - one argument a filter
    tx: Connection,
    *,
    people: list[str] | None,
    teams: list[str],
    state: str | None,
    person: str | None,
    kind: str | None,
    before: int | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Alerts that a reader may see, newest first. people: None lets everything through."""
    return await tx.fetch(
        "SELECT *, signal::text AS document FROM alert WHERE "
        "($1::text[] IS NULL OR person = ANY($1) OR (person IS NULL AND team = ANY($2))) "
        "AND ($3::text IS NULL OR state = $3) AND ($4::text IS NULL OR person = $4) "
        "AND ($5::text IS NULL OR kind = $5) AND ($6::bigint IS NULL OR number < $6) "
        "ORDER BY number DESC LIMIT $7",
        people,
        teams,
        state,
        person,
        kind,
        before,
        limit,
    )


async def read_alert(
    tx: Connection, alert_id: str, *, people: list[str] | None, teams: list[str]
) -> asyncpg.Record | None:
    """One alert, if the reader may see it."""
    return await tx.fetchrow(
        "SELECT *, signal::text AS document FROM alert WHERE alert_id = $3 AND "
        "($1::text[] IS NULL OR person = ANY($1) OR (person IS NULL AND team = ANY($2)))",
        people,
        teams,
        alert_id,
    )


async def list_deliveries(  # noqa: PLR0913 - one argument a filter
    tx: Connection,
    *,
    recipient: str | None,
    alert_id: str | None,
    status: str | None,
    before: int | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Deliveries, newest first. recipient: only what was addressed to this key."""
    return await tx.fetch(
        "SELECT * FROM delivery WHERE ($1::text IS NULL OR recipient = $1) "
        "AND ($2::text IS NULL OR alert_id = $2) AND ($3::text IS NULL OR status = $3) "
        "AND ($4::bigint IS NULL OR number < $4) ORDER BY number DESC LIMIT $5",
        recipient,
        alert_id,
        status,
        before,
        limit,
    )
