"""Reads of deal rows: open deals, closed deals, and lists of both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from services.metrics.reading import Scope
from shared.org.calendar import FiscalCalendar, Period

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

_NOW = "s.valid_to_ms IS NULL AND $1::bigint IS NULL"
_THEN = "s.valid_from_ms <= $1 AND (s.valid_to_ms IS NULL OR s.valid_to_ms > $1)"

_ROW = """
    s.deal_id, s.name, s.owner, s.status, s.stage, s.stage_name, s.pipeline, s.amount, s.currency,
    s.close_date, s.probability, s.category, s.stage_entered_ms, s.created_ms, s.outcome,
    s.closed_ms, s.closed_owner, s.closed_amount, s.shares, s.deal_type, s.account
"""


@dataclass(frozen=True, slots=True)
class Slice:
    """Which deals of a scope. segment: of the deal's account."""

    deal_type: str | None = None
    segment: str | None = None


ALL = Slice()
"""Every deal."""


def _held(as_of_ms: int | None) -> str:
    """The rows in force: `$1` is the instant, null for now."""
    return _NOW if as_of_ms is None else _THEN


async def open_groups(
    tx: Connection,
    people: list[str] | None,
    window: tuple[date, date] | None,
    as_of_ms: int | None,
    which: Slice = ALL,
) -> list[asyncpg.Record]:
    """Open deals, closing in the days of `window` if given, grouped by what formulas tell apart.

    Columns: currency, probability, category, priced, amount, number.
    """
    return await tx.fetch(
        f"""
        SELECT s.currency, s.probability, s.category, s.amount IS NOT NULL AS priced,
               sum(s.amount) AS amount, count(*) AS number
        FROM deal_span s
        WHERE {_held(as_of_ms)} AND s.status = 'open'
          AND ($2::text[] IS NULL OR s.owner = ANY($2))
          AND ($3::date IS NULL OR (s.close_date >= $3 AND s.close_date < $4::date))
          AND ($5::text IS NULL OR s.deal_type = $5)
          AND ($6::text IS NULL OR s.account IN (
                SELECT account FROM account_segment WHERE segment = $6))
        GROUP BY 1, 2, 3, 4
        """,  # noqa: S608 - constants
        as_of_ms,
        people,
        *(window or (None, None)),
        which.deal_type,
        which.segment,
    )


async def open_ages(
    tx: Connection, people: list[str] | None, as_of_ms: int | None
) -> list[asyncpg.Record]:
    """(created_ms, stage_entered_ms) of every open deal of these people."""
    return await tx.fetch(
        f"SELECT s.created_ms, s.stage_entered_ms FROM deal_span s WHERE {_held(as_of_ms)} "  # noqa: S608
        "AND s.status = 'open' AND ($2::text[] IS NULL OR s.owner = ANY($2))",
        as_of_ms,
        people,
    )


_EPISODE_NOW = "e.detector = 'deal_stalled' AND e.closed_ms IS NULL AND $1::bigint IS NULL"
_EPISODE_THEN = (
    "e.detector = 'deal_stalled' AND e.opened_ms <= $1 "
    "AND (e.closed_ms IS NULL OR e.closed_ms > $1)"
)


def _episode(as_of_ms: int | None) -> str:
    """The stalled episodes that were open: `$1` is the instant, null for now."""
    return _EPISODE_NOW if as_of_ms is None else _EPISODE_THEN


async def stalled_and_open(
    tx: Connection, people: list[str] | None, as_of_ms: int | None
) -> tuple[int, int]:
    """How many open deals of these people are stalled, and how many there are."""
    row = await tx.fetchrow(
        f"""
        SELECT count(*) FILTER (WHERE 'deal/' || s.deal_id IN (
                   SELECT e.subject FROM episode e WHERE {_episode(as_of_ms)})) AS stalled,
               count(*) AS still_open
        FROM deal_span s
        WHERE {_held(as_of_ms)} AND s.status = 'open'
          AND ($2::text[] IS NULL OR s.owner = ANY($2))
        """,  # noqa: S608 - constants
        as_of_ms,
        people,
    )
    return (row["stalled"], row["still_open"]) if row else (0, 0)


@dataclass(frozen=True, slots=True)
class Members:
    """Memberships as parallel columns, in instants; None for everybody."""

    people: list[str] | None
    start_ms: list[int]
    end_ms: list[int]


_ALWAYS_MS = 2**62


def members_of(scope: Scope, calendar: FiscalCalendar) -> Members:
    """The scope's members with the instants between which they belong to it."""
    if scope.memberships is None:
        return Members(None, [], [])
    known = scope.memberships
    return Members(
        [m.person for m in known],
        [-_ALWAYS_MS if m.start_day == date.min else calendar.start_ms(m.start_day) for m in known],
        [_ALWAYS_MS if m.end_day == date.max else calendar.start_ms(m.end_day) for m in known],
    )


_BELONGS = """
    ($4::text[] IS NULL OR (
        s.seen_by = ANY(ARRAY(SELECT set_key FROM people_set WHERE person = ANY($4)))
        AND EXISTS (
            SELECT FROM unnest($4, $5::bigint[], $6::bigint[]) AS m(person, start_ms, end_ms)
            WHERE s.closed_ms >= m.start_ms AND s.closed_ms < m.end_ms
              AND CASE WHEN $7 AND s.shares IS NOT NULL THEN s.shares::jsonb ? m.person
                       ELSE s.closed_owner = m.person END)))
"""


WON_COLUMNS = "s.closed_owner, s.closed_amount, s.currency, s.deal_type, s.created_ms, s.closed_ms"
"""What averages of won deals need."""


async def closed_rows(  # noqa: PLR0913, PLR0917 - one argument a filter
    tx: Connection,
    members: Members,
    outcomes: list[str],
    period: Period,
    calendar: FiscalCalendar,
    as_of_ms: int | None,
    *,
    by_share: bool,
    columns: str = _ROW,
    after: str | None = None,
    limit: int | None = None,
    which: Slice = ALL,
) -> list[asyncpg.Record]:
    """Deals closed in the period, by id.

    by_share: those in whose amount somebody has a share; otherwise those whose owner it was.
    """
    start_ms, end_ms = calendar.bounds_ms(period)
    return await tx.fetch(
        f"""
        SELECT {columns} FROM deal_span s
        WHERE {_held(as_of_ms)} AND s.closed_ms >= $2 AND s.closed_ms < $3
          AND s.outcome = ANY($8::text[]) AND {_BELONGS}
          AND ($9::text IS NULL OR s.deal_id > $9)
          AND ($11::text IS NULL OR s.deal_type = $11)
          AND ($12::text IS NULL OR s.account IN (
                SELECT account FROM account_segment WHERE segment = $12))
        ORDER BY s.deal_id LIMIT $10
        """,  # noqa: S608 - constants
        as_of_ms,
        start_ms,
        end_ms,
        members.people,
        members.start_ms,
        members.end_ms,
        by_share,
        outcomes,
        after,
        limit,
        which.deal_type,
        which.segment,
    )


async def cohort_counts(
    tx: Connection,
    people: list[str] | None,
    period: Period,
    calendar: FiscalCalendar,
    as_of_ms: int | None,
) -> dict[str, int]:
    """Deals created in the period, by how they stand: `open` or an outcome."""
    start_ms, end_ms = calendar.bounds_ms(period)
    rows = await tx.fetch(
        f"""
        SELECT coalesce(s.outcome, 'open') AS standing, count(*) AS number FROM deal_span s
        WHERE {_held(as_of_ms)} AND s.created_ms >= $2 AND s.created_ms < $3
          AND ($4::text[] IS NULL OR coalesce(s.closed_owner, s.owner) = ANY($4))
        GROUP BY 1
        """,  # noqa: S608 - constants
        as_of_ms,
        start_ms,
        end_ms,
        people,
    )
    return {row["standing"]: row["number"] for row in rows}


@dataclass(frozen=True, slots=True)
class DealFilter:
    """Which deals of a list. closes: close date in [start, end). stalled: has an open episode."""

    owner: list[str] | None = None
    status: str | None = None
    stage: str | None = None
    closes: tuple[date, date] | None = None
    stalled: bool | None = None
    ids: list[str] | None = None
    which: Slice = ALL


_SEEN_BY = "s.seen_by = ANY(ARRAY(SELECT set_key FROM people_set WHERE person = ANY({0}::text[])))"

_IN_SEGMENT = "s.account IN (SELECT account FROM account_segment WHERE segment = {0})"


async def list_deals(  # noqa: PLR0913 - one argument a filter
    tx: Connection,
    *,
    visible: list[str] | None,
    wanted: DealFilter,
    as_of_ms: int | None,
    after: str | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Deals that the caller may see, by id, each with its open stalled episode if any.

    Only what is asked for becomes a condition, so that each combination gets a plan of its own.
    """
    values: list[object] = [as_of_ms, limit]
    conditions = [_held(as_of_ms)]

    def also(condition: str, *given: object) -> None:
        if all(value is not None for value in given):
            places = []
            for value in given:
                values.append(value)
                places.append(f"${len(values)}")
            conditions.append(condition.format(*places))

    also(_SEEN_BY, visible)
    also(_SEEN_BY, wanted.owner)
    also("s.owner = ANY({0}::text[])", wanted.owner)
    also("s.status = {0}", wanted.status)
    also("s.stage = {0}", wanted.stage)
    if wanted.closes is not None:
        also("s.close_date >= {0} AND s.close_date < {1}", *wanted.closes)
    if wanted.stalled is not None:
        stalled = f"SELECT substr(e.subject, 6) FROM episode e WHERE {_episode(as_of_ms)}"  # noqa: S608
        conditions.append(f"s.deal_id {'IN' if wanted.stalled else 'NOT IN'} ({stalled})")
    also("s.deal_id > {0}", after)
    also("s.deal_id = ANY({0}::text[])", wanted.ids)
    also("s.deal_type = {0}", wanted.which.deal_type)
    also(_IN_SEGMENT, wanted.which.segment)
    return await tx.fetch(
        f"""
        SELECT {_ROW}, e.id AS episode, e.rules AS stalled_by
        FROM (SELECT * FROM deal_span s WHERE {" AND ".join(conditions)}
              ORDER BY s.deal_id LIMIT $2) s
        LEFT JOIN LATERAL (
            SELECT e.id, e.rules FROM episode e
            WHERE e.subject = 'deal/' || s.deal_id AND {_episode(as_of_ms)} LIMIT 1) e ON true
        ORDER BY s.deal_id
        """,  # noqa: S608 - constants and places
        *values,
    )


async def deal_history(
    tx: Connection, deal_id: str, visible: list[str] | None
) -> list[asyncpg.Record]:
    """Every row of a deal that the caller may see now, by time; none where they may not."""
    return await tx.fetch(
        f"""
        SELECT {_ROW}, s.valid_from_ms, s.valid_to_ms FROM deal_span s
        WHERE s.deal_id = $1 AND EXISTS (
            SELECT FROM deal_span n WHERE n.deal_id = $1 AND n.valid_to_ms IS NULL
              AND ($2::text[] IS NULL OR n.seen_by = ANY(
                   ARRAY(SELECT set_key FROM people_set WHERE person = ANY($2)))))
        ORDER BY s.valid_from_ms
        """,  # noqa: S608 - constants
        deal_id,
        visible,
    )


async def list_activities(  # noqa: PLR0913 - one argument a filter
    tx: Connection,
    scope: Scope,
    period: Period,
    as_of_ms: int | None,
    *,
    after: str | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Activities done in the period, by id."""
    people, starts, ends = None, [], []
    if scope.memberships is not None:
        people = [m.person for m in scope.memberships]
        starts = [m.start_day for m in scope.memberships]
        ends = [m.end_day for m in scope.memberships]
    return await tx.fetch(
        """
        SELECT a.activity_id, a.deal_id, a.kind, a.people, a.day, a.done_ms FROM activity_row a
        WHERE a.day >= $1 AND a.day < $2 AND a.people <> ''
          AND ($3::bigint IS NULL OR a.done_ms <= $3)
          AND ($4::text[] IS NULL OR EXISTS (
                SELECT FROM unnest($4, $5::date[], $6::date[]) AS m(person, start_day, end_day)
                JOIN people_set s ON s.person = m.person AND s.set_key = a.people
                WHERE a.day >= m.start_day AND a.day < m.end_day))
          AND ($7::text IS NULL OR a.activity_id > $7)
        ORDER BY a.activity_id LIMIT $8
        """,
        period.start_day,
        period.end_day,
        as_of_ms,
        people,
        starts,
        ends,
        after,
        limit,
    )
