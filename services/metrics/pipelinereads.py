"""Reads of deal rows for what moves: conversion, slips, pushes, flow, creation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from services.metrics.domain.kpis import OMITTED_CATEGORY
from services.metrics.domain.pipeline import WON_RANK
from services.metrics.rowreads import ALL, Members, Slice

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

Window = tuple[date, date]


@dataclass(slots=True)
class Terms:
    """Conditions on a deal row `s`, and the values of their places.

    Only what is asked for becomes a condition, so that each combination gets a plan of its own.
    """

    values: list[object] = field(default_factory=list)

    def place(self, value: object) -> str:
        """Where a value stands in the statement."""
        self.values.append(value)
        return f"${len(self.values)}"

    def held(self, at_ms: int | None, row: str = "s") -> str:
        """The row in force at an instant; None for now."""
        if at_ms is None:
            return f"{row}.valid_to_ms IS NULL"
        at = f"{self.place(at_ms)}::bigint"
        return (
            f"{row}.valid_from_ms <= {at} "
            f"AND ({row}.valid_to_ms IS NULL OR {row}.valid_to_ms > {at})"
        )

    def owned(self, people: list[str] | None, row: str = "s") -> str:
        """Owned by one of them; None for everybody."""
        return "true" if people is None else f"{row}.owner = ANY({self.place(people)}::text[])"

    def belonging(self, members: Members, owner: str, at_ms: str) -> str:
        """The owner belonged to the scope at that instant."""
        if members.people is None:
            return "true"
        columns = (
            f"{self.place(members.people)}::text[], {self.place(members.start_ms)}::bigint[], "
            f"{self.place(members.end_ms)}::bigint[]"
        )
        return (
            f"EXISTS (SELECT FROM unnest({columns}) AS m(person, start_ms, end_ms) "
            f"WHERE m.person = {owner} AND {at_ms} >= m.start_ms AND {at_ms} < m.end_ms)"
        )

    def closing(self, window: Window | None, row: str = "s") -> str:
        """Closing in the days of the window; None for any."""
        if window is None:
            return "true"
        start, end = (f"{self.place(day)}::date" for day in window)
        return f"{row}.close_date >= {start} AND {row}.close_date < {end}"

    def sliced(self, which: Slice, row: str = "s") -> str:
        """Of the deal type and segment."""
        terms = ["true"]
        if which.deal_type is not None:
            terms.append(f"{row}.deal_type = {self.place(which.deal_type)}")
        if which.segment is not None:
            terms.append(
                f"{row}.account IN (SELECT account FROM account_segment "  # noqa: S608 - a place
                f"WHERE segment = {self.place(which.segment)})"
            )
        return " AND ".join(terms)

    def paged(self, after: str | None, limit: int | None, column: str = "deal_id") -> str:
        """One page by deal; everything without a limit."""
        if limit is None:
            return ""
        condition = "" if after is None else f"WHERE {column} > {self.place(after)}"
        return f"{condition} ORDER BY {column} LIMIT {self.place(limit)}"


# ---- K22 ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FlowAsked:
    """Two instants, who belonged to the scope at each, and the window of close dates.

    until_ms: None for now.
    """

    since_ms: int
    until_ms: int | None
    people_then: list[str] | None
    people_now: list[str] | None
    window: Window | None
    which: Slice = ALL


def _in_pipeline(terms: Terms, asked: FlowAsked, row: str = "s") -> str:
    """Open, not omitted and in the window; of whom is asked apart."""
    return (
        f"{row}.status = 'open' AND {row}.category IS DISTINCT FROM '{OMITTED_CATEGORY}' "
        f"AND {terms.closing(asked.window, row)} AND {terms.sliced(asked.which, row)}"
    )


def _moved(terms: Terms, asked: FlowAsked) -> str:
    """Every deal in the pipeline at one of the instants, and what it was at the other.

    `same`: one row held at both, so that only who belonged to the scope can differ. `m`: the row
    of the first instant ended, that of the second began, in between; the latter two are joined.
    Rows follow each other without a gap: the last that began by an instant holds at it.
    """
    since = f"{terms.place(asked.since_ms)}::bigint"
    until = f"{terms.place(_END_MS if asked.until_ms is None else asked.until_ms)}::bigint"
    then, now = terms.owned(asked.people_then), terms.owned(asked.people_now)
    other_then, other_now = (
        terms.owned(people, "o") for people in (asked.people_then, asked.people_now)
    )
    begun = f"s.valid_from_ms > {since} AND {terms.held(asked.until_ms)}"
    return f"""
        same AS (
            SELECT s.deal_id, coalesce({then}, false) AS was, coalesce({now}, false) AS stays,
                   s.amount, s.currency
            FROM deal_span s
            WHERE s.valid_from_ms <= {since} AND {terms.held(asked.until_ms)}
              AND {_in_pipeline(terms, asked)} AND ({then} OR {now})
        ),
        b AS (
            SELECT s.deal_id, s.amount, s.currency FROM deal_span s
            WHERE s.valid_from_ms <= {since} AND s.valid_to_ms > {since}
              AND s.valid_to_ms <= {until} AND {_in_pipeline(terms, asked)} AND {then}
        ),
        a AS (
            SELECT s.deal_id, s.amount, s.currency FROM deal_span s
            WHERE {begun} AND {_in_pipeline(terms, asked)} AND {now}
        ),
        m AS (
            SELECT coalesce(b.deal_id, a.deal_id) AS deal_id, b.deal_id IS NOT NULL AS was,
                   a.deal_id IS NOT NULL AS stays, b.amount AS before, a.amount AS after,
                   coalesce(a.currency, b.currency) AS currency
            FROM b FULL JOIN a ON a.deal_id = b.deal_id
        ),
        moved AS (
            SELECT deal_id, was, stays, currency, CASE WHEN was THEN amount END AS before,
                   CASE WHEN stays THEN amount END AS after, 'open' AS status,
                   was = stays AS ours, true AS inside, false AS omitted
            FROM same
            UNION ALL
            SELECT m.deal_id, m.was, m.stays, m.currency, m.before, m.after, p.status,
                   coalesce(p.ours, true), coalesce(p.inside, true), coalesce(p.omitted, false)
            FROM m LEFT JOIN LATERAL (
                SELECT o.status,
                       coalesce(CASE WHEN m.was THEN {other_now} ELSE {other_then} END, false)
                       AS ours,
                       coalesce({terms.closing(asked.window, "o")}, false) AS inside,
                       o.category IS NOT DISTINCT FROM '{OMITTED_CATEGORY}' AS omitted
                FROM deal_span o
                WHERE m.was <> m.stays AND o.deal_id = m.deal_id
                  AND o.valid_from_ms <= CASE WHEN m.was THEN {until} ELSE {since} END
                ORDER BY o.valid_from_ms DESC LIMIT 1) AS p ON true
        )
    """  # noqa: S608 - constants and places


_END_MS = 2**62
_UNPRICED = "CASE WHEN (was AND before IS NULL) OR (stays AND after IS NULL) THEN 1 ELSE 0 END"


async def flow_groups(tx: Connection, asked: FlowAsked) -> list[asyncpg.Record]:
    """Deals of the flow in groups that its classes cannot tell apart, with both their sums."""
    terms = Terms()
    return await tx.fetch(
        f"""
        WITH {_moved(terms, asked)}
        SELECT was, stays, status, ours, inside, omitted, currency,
               sign(coalesce(after, 0) - coalesce(before, 0)) AS direction,
               coalesce(sum(before), 0) AS before, coalesce(sum(after), 0) AS after,
               count(*) AS number, sum({_UNPRICED})::bigint AS without_amount
        FROM moved GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        """,  # noqa: S608 - constants and places
        *terms.values,
    )


async def flow_deals(
    tx: Connection, asked: FlowAsked, after: str | None, limit: int
) -> list[asyncpg.Record]:
    """The deals of the flow, by id."""
    terms = Terms()
    return await tx.fetch(
        f"""
        WITH {_moved(terms, asked)}
        SELECT deal_id, was, stays, status, ours, inside, omitted, before, after,
               {_UNPRICED} AS without_amount
        FROM moved {terms.paged(after, limit)}
        """,  # noqa: S608 - constants and places
        *terms.values,
    )


# ---- K18 ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DueAsked:
    """Deals open at the first instant that should close in the window; as they are at the last."""

    first_ms: int
    last_ms: int
    window: Window
    people: list[str] | None
    which: Slice = ALL


def _due(terms: Terms, asked: DueAsked) -> str:
    first = terms.held(asked.first_ms)
    return f"""
        SELECT s.deal_id, s.currency, s.amount, coalesce(e.status, 'open') AS status_then
        FROM deal_span s
        LEFT JOIN deal_span e ON e.deal_id = s.deal_id AND {terms.held(asked.last_ms, "e")}
        WHERE {first} AND s.status = 'open' AND {terms.owned(asked.people)}
          AND {terms.closing(asked.window)} AND {terms.sliced(asked.which)}
    """  # noqa: S608 - constants and places


async def due_groups(tx: Connection, asked: DueAsked) -> list[asyncpg.Record]:
    """Those deals by currency, whether an amount is stated, and whether they end open."""
    terms = Terms()
    return await tx.fetch(
        f"""
        SELECT d.currency, d.amount IS NOT NULL AS priced, d.status_then = 'open' AS still_open,
               coalesce(sum(d.amount), 0) AS amount, count(*) AS number
        FROM ({_due(terms, asked)}) AS d GROUP BY 1, 2, 3
        """,  # noqa: S608 - constants and places
        *terms.values,
    )


async def due_deals(
    tx: Connection, asked: DueAsked, after: str | None, limit: int
) -> list[asyncpg.Record]:
    """Those deals, by id."""
    terms = Terms()
    due = _due(terms, asked)
    return await tx.fetch(
        f"SELECT * FROM ({due}) AS d {terms.paged(after, limit, 'd.deal_id')}",  # noqa: S608
        *terms.values,
    )


# ---- K19, K23, K8 ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Happened:
    """What happened to deals in [start_ms, end_ms), of whoever belonged to the scope then.

    as_of_ms: by what had happened by then; None for all.
    """

    start_ms: int
    end_ms: int
    as_of_ms: int | None
    members: Members
    which: Slice = ALL


def _touched_then(terms: Terms, asked: Happened) -> tuple[str, str, str]:
    """(first instant, end, the rows of deals of which something was said between them)."""
    start, end = (f"{terms.place(ms)}::bigint" for ms in (asked.start_ms, asked.end_ms))
    until = ""
    if asked.as_of_ms is not None:
        until = f"AND s.valid_from_ms <= {terms.place(asked.as_of_ms)}::bigint"
    rows = (
        "FROM deal_span s WHERE s.deal_id IN (SELECT t.deal_id FROM deal_span t "  # noqa: S608 - places
        f"WHERE t.valid_from_ms >= {start} AND t.valid_from_ms < {end}) {until} "
        f"AND {terms.sliced(asked.which)}"
    )
    return start, end, rows


def _pushes(terms: Terms, asked: Happened) -> str:
    start, end, rows = _touched_then(terms, asked)
    return f"""
        SELECT p.deal_id, p.before, p.close_date, p.valid_from_ms
        FROM (SELECT s.deal_id, s.owner, s.status, s.close_date, s.valid_from_ms,
                     lag(s.close_date) OVER (PARTITION BY s.deal_id ORDER BY s.valid_from_ms)
                     AS before {rows}) AS p
        WHERE p.valid_from_ms >= {start} AND p.valid_from_ms < {end} AND p.status = 'open'
          AND p.close_date > p.before
          AND {terms.belonging(asked.members, "p.owner", "p.valid_from_ms")}
    """  # noqa: S608 - constants and places


async def pushes(tx: Connection, asked: Happened) -> list[asyncpg.Record]:
    """Every move of an open deal's close date to a later day: deal, from, to."""
    terms = Terms()
    return await tx.fetch(_pushes(terms, asked), *terms.values)


async def pushed_deals(
    tx: Connection, asked: Happened, after: str | None, limit: int
) -> list[asyncpg.Record]:
    """Pushed deals by id, with their moves and the instant of the last one."""
    terms = Terms()
    moves = _pushes(terms, asked)
    return await tx.fetch(
        f"""
        SELECT * FROM (
            SELECT p.deal_id, array_agg(p.before ORDER BY p.valid_from_ms) AS before,
                   array_agg(p.close_date ORDER BY p.valid_from_ms) AS after,
                   max(p.valid_from_ms) AS at_ms
            FROM ({moves}) AS p GROUP BY p.deal_id) AS d
        {terms.paged(after, limit)}
        """,  # noqa: S608 - constants and places
        *terms.values,
    )


async def qualified_entries(
    tx: Connection, asked: Happened, after: str | None = None, limit: int | None = None
) -> list[asyncpg.Record]:
    """Deals that first were in a qualified stage in the period: amount, currency, and when."""
    terms = Terms()
    start, end, rows = _touched_then(terms, asked)
    return await tx.fetch(
        f"""
        SELECT * FROM (
            SELECT f.deal_id, f.amount, f.currency, f.valid_from_ms AS at_ms
            FROM (SELECT DISTINCT ON (s.deal_id) s.deal_id, s.owner, s.amount, s.currency,
                         s.valid_from_ms {rows} AND s.qualified AND s.status <> 'lost'
                  ORDER BY s.deal_id, s.valid_from_ms) AS f
            WHERE f.valid_from_ms >= {start} AND f.valid_from_ms < {end}
              AND {terms.belonging(asked.members, "f.owner", "f.valid_from_ms")}) AS d
        {terms.paged(after, limit)}
        """,  # noqa: S608 - constants and places
        *terms.values,
    )


def _paths(terms: Terms, asked: Happened, people: list[str] | None) -> str:
    """The way of each deal, of whoever owns it as of the end, as a text such as `1- 2+ 3+`.

    One item for each stage it came to, in time: its order, and `+` where that lay in the period.
    The rows come in that order already, so that ordering the items costs nothing more.
    """
    start, end, rows = _touched_then(terms, asked)
    owned = terms.owned(people, "n").replace("n.owner", "coalesce(n.closed_owner, n.owner)")
    return f"""
        SELECT p.deal_id, p.path, n.status AS standing,
               CASE WHEN p.deal_id LIKE '%:%:%'
                    THEN split_part(p.deal_id, ':', 1) || ':'
                         || split_part(p.deal_id, ':', 2) || ':'
                    WHEN p.deal_id LIKE '%:%' THEN split_part(p.deal_id, ':', 1) || ':'
                    ELSE '' END || p.pipeline AS place
        FROM (
            SELECT v.deal_id, v.pipeline,
                   string_agg(v.rank || CASE WHEN v.from_ms >= {start} AND v.from_ms < {end}
                                        THEN '+' ELSE '-' END, ' ' ORDER BY v.from_ms) AS path
            FROM (
                SELECT r.*, lag(r.rank) OVER (PARTITION BY r.deal_id, r.pipeline
                                              ORDER BY r.from_ms) AS before
                FROM (SELECT s.deal_id, s.pipeline, s.valid_from_ms AS from_ms,
                             CASE WHEN s.status = 'won' THEN {WON_RANK}
                                  ELSE s.stage_order END AS rank
                      {rows} AND (s.status = 'won'
                                  OR (s.status = 'open' AND s.stage_order IS NOT NULL))) AS r
            ) AS v
            WHERE v.before IS DISTINCT FROM v.rank
            GROUP BY v.deal_id, v.pipeline) AS p
        JOIN deal_span n ON n.deal_id = p.deal_id AND {terms.held(asked.as_of_ms, "n")}
        WHERE p.path LIKE '%+%' AND {owned}
    """  # noqa: S608 - constants and places


async def stage_paths(
    tx: Connection, asked: Happened, people: list[str] | None
) -> list[asyncpg.Record]:
    """Deals that came to some stage in the period, in groups of the same way."""
    terms = Terms()
    return await tx.fetch(
        "SELECT d.place, d.path, d.standing, count(*) AS number "  # noqa: S608 - places
        f"FROM ({_paths(terms, asked, people)}) AS d GROUP BY 1, 2, 3",
        *terms.values,
    )


async def stage_path_deals(
    tx: Connection, asked: Happened, people: list[str] | None, after: str | None, limit: int
) -> list[asyncpg.Record]:
    """The same deals by id, each with its ways through the pipelines it was in."""
    terms = Terms()
    paths = _paths(terms, asked, people)
    return await tx.fetch(
        f"""
        SELECT * FROM (
            SELECT d.deal_id, min(d.standing) AS standing,
                   array_agg(d.place ORDER BY d.place) AS places,
                   array_agg(d.path ORDER BY d.place) AS paths
            FROM ({paths}) AS d GROUP BY d.deal_id) AS g
        {terms.paged(after, limit)}
        """,  # noqa: S608 - constants and places
        *terms.values,
    )


# ---- K14 ---------------------------------------------------------------------------------------


async def open_qualified(
    tx: Connection, people: list[str] | None, as_of_ms: int | None, which: Slice
) -> int:
    """How many open deals are in a qualified stage."""
    terms = Terms()
    found = await tx.fetchval(
        f"SELECT count(*) FROM deal_span s WHERE {terms.held(as_of_ms)} AND s.status = 'open' "  # noqa: S608
        f"AND s.qualified AND {terms.owned(people)} AND {terms.sliced(which)}",
        *terms.values,
    )
    return int(found)


# ---- rows to show ------------------------------------------------------------------------------


async def rows_at(
    tx: Connection, deals: list[str], at_ms: list[int | None]
) -> dict[str, asyncpg.Record]:
    """The row of each deal that was in force at its instant; None for now."""
    rows = await tx.fetch(
        """
        SELECT s.* FROM unnest($1::text[], $2::bigint[]) AS w(deal_id, at_ms)
        JOIN deal_span s ON s.deal_id = w.deal_id
         AND (s.valid_from_ms <= w.at_ms OR w.at_ms IS NULL)
         AND (s.valid_to_ms IS NULL OR s.valid_to_ms > w.at_ms)
        """,
        deals,
        at_ms,
    )
    return {row["deal_id"]: row for row in rows}
