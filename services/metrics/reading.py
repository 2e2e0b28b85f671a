"""Reads of sums and rows, as of now or as of an instant, for somebody, a team or everybody.

Now is read from cells; an instant of the past from deal and activity rows, of which each carries
what it counted for. Both give the same kind of sums.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from services.metrics.domain.contributions import (
    ACTIVITY,
    ACTIVITY_WHOLE,
    BOOKED,
    BOOKED_WHOLE,
    NO_CURRENCY,
    Cell,
    CellKey,
    people_of,
)
from services.metrics.domain.rows import ClosedRow, cells_of_row
from services.metrics.domain.stored import ORGANISATION, counts_for_organisation
from shared.money import EXACT
from shared.org.calendar import FiscalCalendar, Period
from shared.org.people import Membership, Org

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

KINDS_OF_ACTIVITY = ("call", "meeting", "email", "task", "demo", "note", "sms", "other")


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose numbers are asked for.

    kind: `rep`, `team`, `people` (those whom the caller may see) or `organisation`.
    memberships: who belongs to it when, within the days asked for; None for everybody.
    """

    kind: str
    id: str | None
    memberships: tuple[Membership, ...] | None

    @property
    def by_share(self) -> bool:
        """Whether shared deals count by share: for one person. For several they count whole."""
        return self.kind == "rep"

    def people_on(self, day: date) -> list[str] | None:
        """Who belongs to it on `day`; None for everybody."""
        if self.memberships is None:
            return None
        return sorted({m.person for m in self.memberships if m.start_day <= day < m.end_day})


def scope_of(  # noqa: PLR0913 - the parts of a request
    org: Org,
    period: Period,
    *,
    today: date,
    rep: str | None,
    team: str | None,
    visible: list[str] | None,
) -> Scope:
    """The scope of a request whose right to it is checked already.

    visible: people whom the caller may see, None for all: others are left out of a team.
    """
    start, end = date.min, date.max
    if rep is not None:
        return Scope("rep", rep, (Membership(rep, start, end),))
    if team is not None:
        # Pipeline is read as of today, which may lie outside the period.
        after = today + timedelta(days=1)
        found = org.memberships(team, min(period.start_day, today), max(period.end_day, after))
        seen = found if visible is None else [m for m in found if m.person in set(visible)]
        return Scope("team", team, tuple(seen))
    if visible is not None:
        return Scope("people", None, tuple(Membership(p, start, end) for p in visible))
    return Scope("organisation", None, None)


class Sum(NamedTuple):
    """One sum of contributions."""

    measure: str
    day: date
    currency: str
    deal_type: str
    amount: Decimal
    number: int


BOOKINGS_OF = {True: BOOKED, False: BOOKED_WHOLE}
"""by_share → the measure of bookings."""


def activity_measures(*, by_share: bool) -> list[str]:
    """The measures of activities, one a kind."""
    name = ACTIVITY if by_share else ACTIVITY_WHOLE
    return [f"{name}:{kind}" for kind in KINDS_OF_ACTIVITY]


async def sums(  # noqa: PLR0913 - one argument a filter
    tx: Connection,
    scope: Scope,
    measures: Sequence[str],
    period: Period,
    *,
    calendar: FiscalCalendar,
    as_of_ms: int | None = None,
) -> list[Sum]:
    """Sums of `measures` by day, currency and deal type, over the days of `period`."""
    if as_of_ms is not None:
        cells = await cells_as_of(tx, period, calendar, as_of_ms)
        return _summed(cell for cell in cells if cell.key.measure in measures and _in(cell, scope))
    if scope.memberships is None or scope.by_share:
        rows = await tx.fetch(
            "SELECT measure, day, currency, deal_type, sum(amount) AS amount, "
            "sum(number)::bigint AS number FROM cell "
            "WHERE people = $1 AND measure = ANY($2::text[]) AND day >= $3 AND day < $4 "
            "GROUP BY 1, 2, 3, 4",
            ORGANISATION if scope.memberships is None else scope.id,
            list(measures),
            period.start_day,
            period.end_day,
        )
    else:
        rows = await tx.fetch(
            """
            SELECT measure, day, currency, deal_type, sum(amount) AS amount,
                   sum(number)::bigint AS number
            FROM (
                SELECT DISTINCT c.people, c.measure, c.day, c.currency, c.deal_type, c.slot,
                       c.amount, c.number
                FROM unnest($1::text[], $2::date[], $3::date[]) AS m(person, start_day, end_day)
                JOIN people_set s ON s.person = m.person
                JOIN cell c ON c.people = s.set_key AND c.measure = ANY($4::text[])
                     AND c.day >= m.start_day AND c.day < m.end_day
                WHERE c.day >= $5 AND c.day < $6
            ) AS once
            GROUP BY 1, 2, 3, 4
            """,
            *_columns(scope.memberships),
            list(measures),
            period.start_day,
            period.end_day,
        )
    return [Sum(*row.values()) for row in rows]


def _columns(memberships: Iterable[Membership]) -> tuple[list[str], list[date], list[date]]:
    known = list(memberships)
    return (
        [m.person for m in known],
        [m.start_day for m in known],
        [m.end_day for m in known],
    )


def _in(cell: Cell, scope: Scope) -> bool:
    key = cell.key
    if scope.memberships is None:
        return counts_for_organisation(key.measure)
    if scope.by_share:
        return key.people == scope.id
    present = scope.people_on(key.day) or []
    return any(person in present for person in people_of(key.people))


def _summed(cells: Iterable[Cell]) -> list[Sum]:
    found: dict[CellKey, tuple[Decimal, int]] = {}
    for key, amount, number in cells:
        place = key._replace(people="")
        known_amount, known_number = found.get(place, (Decimal(0), 0))
        found[place] = (EXACT.add(known_amount, amount), known_number + number)
    return [Sum(k.measure, k.day, k.currency, k.deal_type, a, n) for k, (a, n) in found.items()]


async def cells_as_of(
    tx: Connection, period: Period, calendar: FiscalCalendar, as_of_ms: int
) -> list[Cell]:
    """The cells of `period` as they were at an instant, made from rows that held then."""
    start_ms, end_ms = calendar.bounds_ms(period)
    rows = await tx.fetch(
        "SELECT outcome, closed_owner, closed_amount, currency, shares, deal_type, closed_ms "
        "FROM deal_span WHERE closed_ms >= $1 AND closed_ms < $2 "
        "AND valid_from_ms <= $3 AND (valid_to_ms IS NULL OR valid_to_ms > $3)",
        start_ms,
        end_ms,
        as_of_ms,
    )
    cells: list[Cell] = []
    for *columns, closed_ms in (row.values() for row in rows):
        cells += cells_of_row(ClosedRow(*columns), calendar.day_of_ms(closed_ms))
    done = await tx.fetch(
        "SELECT kind, people, day FROM activity_row "
        "WHERE day >= $1 AND day < $2 AND done_ms <= $3 AND people <> ''",
        period.start_day,
        period.end_day,
        as_of_ms,
    )
    for row in done:
        kind, people, day = row["kind"], row["people"], row["day"]
        places = [(f"{ACTIVITY}:{kind}", person) for person in people_of(people)]
        for measure, whose in [*places, (f"{ACTIVITY_WHOLE}:{kind}", people)]:
            cells.append(Cell(CellKey(measure, whose, day, NO_CURRENCY, ""), Decimal(0), 1))
    return cells


# ---- bookings of many at once -----------------------------------------------------------------

DayAmounts = Mapping[tuple[date, str, str], Decimal]
"""(day, currency, deal type) → amount."""


async def bookings_of_people(
    tx: Connection, people: Collection[str], period: Period
) -> Mapping[str, DayAmounts]:
    """Booked amounts by share, of each person."""
    rows = await tx.fetch(
        "SELECT people, day, currency, deal_type, sum(amount) AS amount FROM cell "
        "WHERE people = ANY($1::text[]) AND measure = $2 AND day >= $3 AND day < $4 "
        "GROUP BY 1, 2, 3, 4",
        list(people),
        BOOKED,
        period.start_day,
        period.end_day,
    )
    return _by_first(rows)


async def bookings_of_teams(
    tx: Connection, members: Mapping[str, Collection[Membership]], period: Period
) -> Mapping[str, DayAmounts]:
    """Booked amounts of each team: every deal whole, once, by who was in the team that day."""
    pairs = [(team, m) for team, found in members.items() for m in found]
    rows = await tx.fetch(
        """
        SELECT team, day, currency, deal_type, sum(amount) AS amount
        FROM (
            SELECT DISTINCT m.team, c.people, c.day, c.currency, c.deal_type, c.slot, c.amount
            FROM unnest($1::text[], $2::text[], $3::date[], $4::date[])
                 AS m(team, person, start_day, end_day)
            JOIN people_set s ON s.person = m.person
            JOIN cell c ON c.people = s.set_key AND c.measure = $5
                 AND c.day >= m.start_day AND c.day < m.end_day
            WHERE c.day >= $6 AND c.day < $7
        ) AS once
        GROUP BY 1, 2, 3, 4
        """,
        [team for team, _ in pairs],
        *_columns(m for _, m in pairs),
        BOOKED_WHOLE,
        period.start_day,
        period.end_day,
    )
    return _by_first(rows)


async def bookings_of_everybody(tx: Connection, period: Period) -> DayAmounts:
    """Booked amounts of the organisation."""
    rows = await tx.fetch(
        "SELECT people, day, currency, deal_type, sum(amount) AS amount FROM cell "
        "WHERE people = $1 AND measure = $2 AND day >= $3 AND day < $4 GROUP BY 1, 2, 3, 4",
        ORGANISATION,
        BOOKED_WHOLE,
        period.start_day,
        period.end_day,
    )
    return _by_first(rows).get(ORGANISATION, {})


def _by_first(rows: Iterable[asyncpg.Record]) -> Mapping[str, DayAmounts]:
    found: dict[str, dict[tuple[date, str, str], Decimal]] = {}
    for first, day, currency, deal_type, amount in (row.values() for row in rows):
        found.setdefault(first, {})[day, currency, deal_type] = amount
    return found


def by_day_and_currency(amounts: Iterable[Sum]) -> dict[tuple[date, str], Decimal]:
    """Amounts added over measures and deal types, ready to be converted."""
    found: dict[tuple[date, str], Decimal] = {}
    for one in amounts:
        place = (one.day, one.currency)
        found[place] = EXACT.add(found.get(place, Decimal(0)), one.amount)
    return found
