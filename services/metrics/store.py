"""SQL of what is derived from facts: cells, rows, people sets, and what a tick has to look at.

Locks in this order: reference version → records → roots → people sets → cells, each sorted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from services.metrics.domain.contributions import BOOKED, Cell, CellKey, people_of
from services.metrics.domain.rows import DealRow
from services.metrics.domain.stored import ORGANISATION, counts_for_organisation
from shared.db.arrays import columns_of
from shared.money import EXACT

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

LOOKUP_ORG = "org"
"""People, teams and calendars."""

LOOKUP_RATES = "rates"

SLOTS = 4
"""Rows that a hot cell is split into, so that writers do not wait for one another."""


class ActivityRow(NamedTuple):
    """An activity that counts (day set) or is planned, as `activity_row` holds it."""

    activity_id: str
    deal_id: str | None
    kind: str
    people: str
    day: date | None
    done_ms: int | None
    due_ms: int | None


@dataclass(slots=True)
class Changes:
    """Everything by which one settling changes the derived tables.

    people: keys of the sets of people that its rows name.
    """

    cells: list[Cell] = field(default_factory=list)
    rows_gone: list[tuple[str, int]] = field(default_factory=list)
    rows: list[DealRow] = field(default_factory=list)
    activities_gone: list[str] = field(default_factory=list)
    activities: list[ActivityRow] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    spoken_of: list[str] = field(default_factory=list)
    people: set[str] = field(default_factory=set)

    async def write_rows(self, tx: Connection) -> None:
        """Write the rows there are so far, whose roots are locked; more may follow."""
        gone, rows = self.rows_gone, self.rows
        activities_gone, activities = self.activities_gone, self.activities
        self.rows_gone, self.rows, self.activities_gone, self.activities = [], [], [], []
        self.people.update(row.seen_by for row in rows)
        self.people.update(row.people for row in activities)
        await _put_rows(tx, gone, rows)
        await _put_activities(tx, activities_gone, activities)

    async def write(self, tx: Connection, slot: int) -> None:
        """Write all of it, the cells last: others wait for them until the end."""
        await self.write_rows(tx)
        await _note_imports(tx, self)
        await _add_people(tx, chain((cell.key.people for cell in self.cells), self.people))
        await _add_to_cells(tx, self.cells, slot)
        await _note_bookings(tx, self.cells)


async def _put_rows(
    tx: Connection, gone: Sequence[tuple[str, int]], rows: Sequence[DealRow]
) -> None:
    if gone:
        await tx.execute(
            "DELETE FROM deal_span s USING unnest($1::text[], $2::bigint[]) AS g(id, from_ms) "
            "WHERE s.deal_id = g.id AND s.valid_from_ms = g.from_ms",
            [deal_id for deal_id, _ in gone],
            [from_ms for _, from_ms in gone],
        )
    if rows:
        await tx.execute(_PUT_ROWS, *columns_of(rows))


async def _put_activities(
    tx: Connection, gone: Sequence[str], activities: Sequence[ActivityRow]
) -> None:
    if gone:
        await tx.execute("DELETE FROM activity_row WHERE activity_id = ANY($1::text[])", gone)
    if activities:
        await tx.execute(_PUT_ACTIVITIES, *columns_of(activities))


async def _note_imports(tx: Connection, changes: Changes) -> None:
    if changes.imported:
        await tx.execute(
            "INSERT INTO unjudged_import SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
            sorted(changes.imported),
        )
    if changes.spoken_of:
        await tx.execute(
            "DELETE FROM unjudged_import WHERE deal_id = ANY($1::text[])", changes.spoken_of
        )


async def _add_people(tx: Connection, keys: Iterable[str]) -> None:
    pairs = sorted({(person, key) for key in set(keys) for person in people_of(key)})
    if pairs:
        await tx.execute(
            "INSERT INTO people_set (person, set_key) "
            "SELECT n.person, n.set_key FROM unnest($1::text[], $2::text[]) AS n(person, set_key) "
            "WHERE NOT EXISTS (SELECT FROM people_set s "
            "WHERE s.person = n.person AND s.set_key = n.set_key) ON CONFLICT DO NOTHING",
            [person for person, _ in pairs],
            [key for _, key in pairs],
        )


async def _add_to_cells(tx: Connection, addends: Iterable[Cell], slot: int) -> None:
    sums: dict[CellKey, tuple[Decimal, int]] = {}
    for key, amount, number in addends:
        keys = [key]
        if counts_for_organisation(key.measure):
            keys.append(key._replace(people=ORGANISATION))
        for each in keys:
            known_amount, known_number = sums.get(each, (Decimal(0), 0))
            sums[each] = (EXACT.add(known_amount, amount), known_number + number)
    rows = sorted(
        (key.people, key.measure, key.day, key.currency, key.deal_type, amount, number)
        for key, (amount, number) in sums.items()
        if amount or number
    )
    if rows:
        await tx.execute(
            """
            INSERT INTO cell AS c (people, measure, day, currency, deal_type, slot, amount, number)
            SELECT n.people, n.measure, n.day, n.currency, n.deal_type, $8, n.amount, n.number
            FROM unnest($1::text::text[], $2::text::text[], $3::text::date[], $4::text::text[],
                        $5::text::text[], $6::text::numeric[], $7::text::bigint[])
                 AS n(people, measure, day, currency, deal_type, amount, number)
            ON CONFLICT (people, measure, day, currency, deal_type, slot)
            DO UPDATE SET amount = c.amount + excluded.amount, number = c.number + excluded.number
            """,
            *columns_of(rows),
            slot,
        )


async def _note_bookings(tx: Connection, cells: Iterable[Cell]) -> None:
    people = sorted({cell.key.people for cell in cells if cell.key.measure == BOOKED})
    if people:
        await tx.execute("INSERT INTO booking_change (person) SELECT unnest($1::text[])", people)


_ROW_TYPES: Mapping[str, str] = {
    "deal_id": "text",
    "valid_from_ms": "bigint",
    "valid_to_ms": "bigint",
    "status": "text",
    "stage": "text",
    "stage_name": "text",
    "pipeline": "text",
    "owner": "text",
    "seen_by": "text",
    "amount": "numeric",
    "currency": "text",
    "close_date": "date",
    "probability": "numeric",
    "category": "text",
    "stage_entered_ms": "bigint",
    "created_ms": "bigint",
    "outcome": "text",
    "closed_ms": "bigint",
    "closed_owner": "text",
    "closed_amount": "numeric",
    "shares": "text",
    "deal_type": "text",
    "account": "text",
    "name": "text",
    "stage_order": "integer",
    "qualified": "boolean",
    "next_step_ms": "bigint",
}
_ACTIVITY_TYPES: Mapping[str, str] = {
    "activity_id": "text",
    "deal_id": "text",
    "kind": "text",
    "people": "text",
    "day": "date",
    "done_ms": "bigint",
    "due_ms": "bigint",
}


def _put(table: str, types: Mapping[str, str], key: Collection[str]) -> str:
    """An upsert of whole rows, given as one array a column."""
    columns = ", ".join(types)
    arrays = ", ".join(f"${n}::text::{kind}[]" for n, kind in enumerate(types.values(), 1))
    update = ", ".join(f"{name} = excluded.{name}" for name in types if name not in key)
    return (
        f"INSERT INTO {table} ({columns}) SELECT * FROM unnest({arrays}) "  # noqa: S608 - constants
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {update}"
    )


_PUT_ROWS = _put("deal_span", _ROW_TYPES, ("deal_id", "valid_from_ms"))
_PUT_ACTIVITIES = _put("activity_row", _ACTIVITY_TYPES, ("activity_id",))

if tuple(_ROW_TYPES) != DealRow._fields or tuple(_ACTIVITY_TYPES) != ActivityRow._fields:
    msg = "the columns of a row and of its table differ"
    raise AssertionError(msg)


# ---- accounts, people and rates ---------------------------------------------------------------


async def put_segments(tx: Connection, segments: Mapping[str, str | None]) -> None:
    """The segments of accounts; None forgets one."""
    gone = sorted(account for account, segment in segments.items() if not segment)
    known = sorted((account, segment) for account, segment in segments.items() if segment)
    if gone:
        await tx.execute("DELETE FROM account_segment WHERE account = ANY($1::text[])", gone)
    if known:
        await tx.execute(
            "INSERT INTO account_segment SELECT * FROM unnest($1::text[], $2::text[]) "
            "ON CONFLICT (account) DO UPDATE SET segment = excluded.segment",
            [account for account, _ in known],
            [segment for _, segment in known],
        )


async def deals_of_accounts(tx: Connection, accounts: Collection[str]) -> list[str]:
    """Ids of deals that point at these accounts."""
    rows = await tx.fetch(
        "SELECT id FROM record WHERE kind = 'deal' AND parent = ANY($1::text[])",
        [f"account/{account}" for account in accounts],
    )
    return [row["id"] for row in rows]


async def load_contributions(
    tx: Connection, kind: str, ids: Collection[str]
) -> dict[str, str | None]:
    """What roots contribute as of now, without locking them; those that do not exist left out."""
    rows = await tx.fetch(
        "SELECT id, contribution::text AS contribution FROM root "
        "WHERE kind = $1 AND id = ANY($2::text[])",
        kind,
        sorted(ids),
    )
    return {row["id"]: row["contribution"] for row in rows}


async def raise_lookups(tx: Connection, names: Collection[str]) -> None:
    """Announce, within the transaction that changes them, that these lookups change."""
    if names:
        await tx.execute(
            "INSERT INTO lookup_version AS l (name, version) SELECT unnest($1::text[]), 1 "
            "ON CONFLICT (name) DO UPDATE SET version = l.version + 1",
            sorted(names),
        )


async def lookup_versions(tx: Connection | Pool) -> dict[str, int]:
    """The versions of people and rates."""
    rows = await tx.fetch("SELECT name, version FROM lookup_version")
    return {row["name"]: row["version"] for row in rows}


async def judge_all_quotas(tx: Connection) -> None:
    """Working days or fiscal periods may have changed: every quota is due at the next tick."""
    ids: Sequence[str] = [
        row["id"]
        for row in await tx.fetch("SELECT id FROM quota WHERE NOT deleted ORDER BY id FOR UPDATE")
    ]
    await tx.execute("UPDATE quota SET next_due = 'epoch' WHERE id = ANY($1::text[])", ids)


async def judge_quotas_of(tx: Connection, people: Collection[str]) -> None:
    """Somebody was hired or left, maybe: their prorated quotas are due at the next tick."""
    ids: Sequence[str] = [
        row["id"]
        for row in await tx.fetch(
            "SELECT id FROM quota WHERE NOT deleted AND terms IS NOT NULL "
            "AND person = ANY($1::text[]) ORDER BY id FOR UPDATE",
            list(people),
        )
    ]
    if ids:
        await tx.execute("UPDATE quota SET next_due = 'epoch' WHERE id = ANY($1::text[])", ids)
