"""Reads of what surrounds open deals: touches, next steps, good keeping; and of cohorts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.metrics.domain.kpis import DAY_MS
from services.metrics.pipelinereads import Terms
from services.metrics.rowreads import ALL, Slice

if TYPE_CHECKING:
    from datetime import date

    import asyncpg

    from shared.db.pool import Connection


@dataclass(frozen=True, slots=True)
class HealthAsked:
    """Open deals as of an instant.

    as_of_ms: None for now, which is moment_ms. today: its day. touched_days: how far back an
    activity counts. active: people who work here on that day.
    """

    people: list[str] | None
    as_of_ms: int | None
    moment_ms: int
    today: date
    touched_days: int
    active: list[str]
    which: Slice = ALL


def _around(terms: Terms, asked: HealthAsked) -> str:
    """Deals with an activity in the last days, and those with one that is planned.

    What was done for a deal that is merged away was done for the one that survives.
    """
    until = f"{terms.place(asked.moment_ms)}::bigint"
    since = f"{terms.place(asked.moment_ms - asked.touched_days * DAY_MS)}::bigint"
    return f"""
        merged AS (
            SELECT r.id, o.contribution ->> 'merged' AS survivor
            FROM record r JOIN root o ON o.kind = r.kind AND o.id = r.id
            WHERE r.kind = 'deal' AND r.merged_into IS NOT NULL
        ),
        touched AS (
            SELECT DISTINCT coalesce(g.survivor, a.deal_id) AS deal_id
            FROM activity_row a LEFT JOIN merged g ON g.id = a.deal_id
            WHERE a.deal_id IS NOT NULL AND a.day IS NOT NULL
              AND a.day >= {terms.place(asked.today)}::date - {asked.touched_days + 1}
              AND a.done_ms > {since} AND a.done_ms <= {until}
        ),
        planned AS (
            SELECT DISTINCT coalesce(g.survivor, a.deal_id) AS deal_id
            FROM activity_row a LEFT JOIN merged g ON g.id = a.deal_id
            WHERE a.deal_id IS NOT NULL AND a.day IS NULL AND a.due_ms > {until}
        )
    """  # noqa: S608 - constants and places


_PLANNED = "s.deal_id IN (SELECT deal_id FROM planned)"


def _next_step(asked: HealthAsked) -> str:
    """Whether a step is dated and ahead; none is kept of the past."""
    if asked.as_of_ms is not None:
        return "NULL::boolean"
    ahead = f"coalesce(s.next_step_ms > {asked.moment_ms}, false)"
    return f"({ahead} OR {_PLANNED})"


def _open(terms: Terms, asked: HealthAsked) -> str:
    return (
        f"FROM deal_span s WHERE {terms.held(asked.as_of_ms)} AND s.status = 'open' "
        f"AND {terms.owned(asked.people)} AND {terms.sliced(asked.which)}"
    )


_TOUCHED = "s.deal_id IN (SELECT deal_id FROM touched)"


async def coverage(tx: Connection, asked: HealthAsked) -> asyncpg.Record:
    """(open, touched, with_next_step) of open deals."""
    terms = Terms()
    around = _around(terms, asked)
    row = await tx.fetchrow(
        f"""
        WITH {around}
        SELECT count(*) AS open, count(*) FILTER (WHERE {_TOUCHED}) AS touched,
               CASE WHEN {"true" if asked.as_of_ms is None else "false"}
                    THEN count(*) FILTER (WHERE {_next_step(asked)}) END AS with_next_step
        {_open(terms, asked)}
        """,
        *terms.values,
    )
    if row is None:
        msg = "an aggregate has one row"
        raise AssertionError(msg)
    return row


async def covered_deals(
    tx: Connection, asked: HealthAsked, after: str | None, limit: int
) -> list[asyncpg.Record]:
    """Open deals by id, each with whether it was touched and has a next step."""
    terms = Terms()
    around = _around(terms, asked)
    return await tx.fetch(
        f"""
        WITH {around}
        SELECT * FROM (SELECT s.deal_id, {_TOUCHED} AS touched, {_next_step(asked)} AS next_step
                       {_open(terms, asked)}) AS d
        {terms.paged(after, limit)}
        """,  # noqa: S608 - constants and places
        *terms.values,
    )


def _states(terms: Terms, asked: HealthAsked) -> str:
    """Each open deal by what the rules of good keeping look at."""
    around = _around(terms, asked)
    fresh = (
        f"s.valid_from_ms > {terms.place(asked.moment_ms - asked.touched_days * DAY_MS)}::bigint"
    )
    active = f"{terms.place(asked.active)}::text[]"
    today = f"{terms.place(asked.today)}::date"
    return f"""
        WITH {around},
        twice AS (
            SELECT s.account, lower(s.name) AS name FROM deal_span s
            WHERE {terms.held(asked.as_of_ms)} AND s.status = 'open'
              AND s.account IS NOT NULL AND s.name IS NOT NULL
            GROUP BY 1, 2 HAVING count(*) > 1
        ),
        state AS (
            SELECT s.deal_id, s.stage,
                   array_remove(ARRAY[
                       CASE WHEN s.owner IS NOT NULL THEN 'owner' END,
                       CASE WHEN s.amount IS NOT NULL THEN 'amount' END,
                       CASE WHEN s.currency IS NOT NULL THEN 'currency' END,
                       CASE WHEN s.close_date IS NOT NULL THEN 'close_date' END,
                       CASE WHEN s.account IS NOT NULL THEN 'account' END,
                       CASE WHEN s.deal_type IS NOT NULL THEN 'deal_type' END,
                       CASE WHEN {_next_step(asked)} THEN 'next_step' END], NULL) AS stated,
                   coalesce(s.amount, 0) > 0 AS priced,
                   s.close_date < {today} AS overdue,
                   {_next_step(asked)} AS next_step,
                   ({fresh} OR {_TOUCHED}) AS fresh,
                   s.owner = ANY({active}) AS owner_active,
                   CASE WHEN s.account IS NULL OR s.name IS NULL THEN NULL
                        ELSE (s.account, lower(s.name)) IN (SELECT account, name FROM twice)
                        END AS duplicate
            {_open(terms, asked)}
        )
    """  # noqa: S608 - constants and places


_STATE = "stage, stated, priced, overdue, next_step, fresh, owner_active, duplicate"


async def state_groups(tx: Connection, asked: HealthAsked) -> list[asyncpg.Record]:
    """Open deals in groups that look alike."""
    terms = Terms()
    states = _states(terms, asked)
    return await tx.fetch(
        f"{states} SELECT {_STATE}, count(*) AS number FROM state GROUP BY {_STATE}",  # noqa: S608
        *terms.values,
    )


async def state_deals(
    tx: Connection, asked: HealthAsked, after: str | None, limit: int
) -> list[asyncpg.Record]:
    """Open deals by id, each as the rules see it."""
    terms = Terms()
    states = _states(terms, asked)
    return await tx.fetch(
        f"{states} SELECT deal_id, {_STATE}, 1 AS number FROM state {terms.paged(after, limit)}",  # noqa: S608
        *terms.values,
    )


# ---- K25 ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CohortAsked:
    """Deals created in [start_ms, end_ms), of whoever owns or closed them; won within the lag."""

    people: list[str] | None
    start_ms: int
    end_ms: int
    as_of_ms: int | None
    lag_ms: int
    which: Slice = ALL


def _cohort(terms: Terms, asked: CohortAsked) -> str:
    start, end, lag = (
        f"{terms.place(ms)}::bigint" for ms in (asked.start_ms, asked.end_ms, asked.lag_ms)
    )
    owned = terms.owned(asked.people).replace("s.owner", "coalesce(s.closed_owner, s.owner)")
    return f"""
        SELECT s.deal_id,
               coalesce(s.outcome = 'won' AND s.closed_ms - s.created_ms <= {lag}, false) AS won
        FROM deal_span s
        WHERE {terms.held(asked.as_of_ms)} AND s.created_ms >= {start} AND s.created_ms < {end}
          AND {owned} AND {terms.sliced(asked.which)}
    """  # noqa: S608 - constants and places


async def cohort(tx: Connection, asked: CohortAsked) -> tuple[int, int]:
    """How many deals were created, and how many of them were won within the lag."""
    terms = Terms()
    row = await tx.fetchrow(
        "SELECT count(*) AS number, count(*) FILTER (WHERE d.won) AS won "  # noqa: S608 - places
        f"FROM ({_cohort(terms, asked)}) AS d",
        *terms.values,
    )
    return (row["number"], row["won"]) if row else (0, 0)


async def cohort_deals(
    tx: Connection, asked: CohortAsked, after: str | None, limit: int
) -> list[asyncpg.Record]:
    """The same deals, by id."""
    terms = Terms()
    created = _cohort(terms, asked)
    return await tx.fetch(
        f"SELECT * FROM ({created}) AS d {terms.paged(after, limit)}",  # noqa: S608 - places
        *terms.values,
    )
