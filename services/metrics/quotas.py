"""SQL of quotas: owned rows, published and journaled with every change."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from services.metrics.domain.log import quota_event, quota_stated_event
from services.metrics.versions import QUOTA, Version, keep_versions
from shared.errors import Refused
from shared.events.catalogue import METRICS_JOURNAL, METRICS_TARGETS
from shared.events.journals import QuotaStatedData
from shared.events.planned import QuotaTermsData
from shared.events.targets import QuotaData
from shared.money import parse_decimal, to_text
from shared.runtime.outbox import add_to_outbox

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

BOOKINGS = "bookings"
NEW_BUSINESS = "new_business"
MEASURED = {BOOKINGS: None, NEW_BUSINESS: "new"}
"""Measures that this service sums, and the deal type that counts; None: every type."""

_COLUMNS = (
    "id, person, team, measure, period, start_day, end_day, amount, currency, revision, deleted, "
    "changed_at, changed_by, terms::text AS terms"
)
_decode_terms = msgspec.json.Decoder(QuotaTermsData).decode


class Place(NamedTuple):
    """What a quota is for: there is one in each place."""

    person: str | None
    team: str | None
    measure: str
    start_day: date
    end_day: date


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota as stored. person and team None: the organisation's.

    amount: the figure in force, which everybody is measured by. terms: how it came about; None for
    a quota that is as it was stated.
    """

    id: str
    person: str | None
    team: str | None
    measure: str
    period: str
    start_day: date
    end_day: date
    amount: Decimal
    currency: str | None
    revision: int
    deleted: bool
    changed_at: datetime
    changed_by: str
    terms: QuotaTermsData | None = None

    @property
    def stated(self) -> Decimal:
        """What was stated for the whole period."""
        return self.amount if self.terms is None else parse_decimal(self.terms.amount)

    @property
    def place(self) -> Place:
        """Whose it is, for what and when."""
        return Place(self.person, self.team, self.measure, self.start_day, self.end_day)

    @property
    def subject(self) -> tuple[str | None, str | None]:
        """Whose it is: (person, team)."""
        return (self.person, self.team)

    def wire(self) -> QuotaData:
        """As others are told of it."""
        return QuotaData(
            quota=self.id,
            person=self.person,
            team=self.team,
            measure=self.measure,
            period=self.period,
            start=self.start_day.isoformat(),
            end=self.end_day.isoformat(),
            amount=to_text(self.amount),
            currency=self.currency,
            revision=self.revision,
            method="stated" if self.terms is None else self.terms.method,
            deleted=self.deleted,
            stated=None if self.stated == self.amount else to_text(self.stated),
        )


def quota_of_row(row: asyncpg.Record) -> Quota:
    """A quota as the database has it."""
    fields = dict(row)
    terms = fields.pop("terms")
    return Quota(**fields, terms=None if terms is None else _decode_terms(terms))


async def quota_of(tx: Connection, quota_id: str, *, lock: bool = False) -> Quota | None:
    """One quota, deleted ones included."""
    if lock:
        # Absent rows cannot be locked: two first statements of one id wait here for each other.
        await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 4711))", quota_id)
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM quota WHERE id = $1" + (" FOR UPDATE" if lock else ""),  # noqa: S608
        quota_id,
    )
    return None if row is None else quota_of_row(row)


async def lock_all(tx: Connection) -> None:
    """Hold all quotas against every change, while many are stated at once. Reading goes on."""
    await tx.execute("LOCK TABLE quota IN EXCLUSIVE MODE")


async def quotas_by_id(tx: Connection, ids: Collection[str]) -> dict[str, Quota]:
    """Quotas, deleted ones included."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM quota WHERE id = ANY($1::text[])",  # noqa: S608 - constants
        list(ids),
    )
    return {row["id"]: quota_of_row(row) for row in rows}


async def holders_of(tx: Connection, places: Collection[Place]) -> dict[Place, str]:
    """Place → the id of the quota that is there."""
    rows = await tx.fetch(
        "SELECT person, team, measure, start_day, end_day, id FROM quota WHERE NOT deleted "
        "AND (measure, start_day, end_day) IN "
        "(SELECT * FROM unnest($1::text[], $2::date[], $3::date[])) ORDER BY id DESC",
        [place.measure for place in places],
        [place.start_day for place in places],
        [place.end_day for place in places],
    )
    return {Place(*list(row.values())[:5]): row["id"] for row in rows}


def check_single(quota: Quota, holder: str | None) -> None:
    """Refuses (409) a second quota of the same person or team, measure and days.

    There is one figure in force: whoever reads two would have to guess.
    """
    if holder not in {None, quota.id}:
        msg = (
            f"{holder} is the quota of the same {quota.measure} for the same days; "
            "change that one, or delete it first"
        )
        raise Refused("second-quota", msg)


async def state_quota(tx: Connection, quota: Quota, reason: str | None) -> None:
    """Save a quota where there is no other in its place, which no other takes meanwhile."""
    place = repr(tuple(quota.place))
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 4712))", place)
    check_single(quota, (await holders_of(tx, [quota.place])).get(quota.place))
    await save_quota(tx, quota, reason)


async def save_quota(tx: Connection, quota: Quota, reason: str | None = None) -> None:
    """Store a quota, publish it and journal it; it is judged at the next tick."""
    await save_quotas(tx, [quota], reason)


async def save_quotas(tx: Connection, quotas: Sequence[Quota], reason: str | None = None) -> None:
    """Store quotas, publish and journal them; they are judged at the next tick."""
    await tx.executemany(
        """
        INSERT INTO quota (id, person, team, measure, period, start_day, end_day, amount, currency,
                           revision, deleted, changed_at, changed_by, terms, next_due)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'epoch')
        ON CONFLICT (id) DO UPDATE SET
            person = excluded.person, team = excluded.team, measure = excluded.measure,
            period = excluded.period, start_day = excluded.start_day, end_day = excluded.end_day,
            amount = excluded.amount, currency = excluded.currency, revision = excluded.revision,
            deleted = excluded.deleted, changed_at = excluded.changed_at,
            changed_by = excluded.changed_by, terms = excluded.terms,
            next_due = excluded.next_due
        """,
        [
            (
                q.id,
                q.person,
                q.team,
                q.measure,
                q.period,
                q.start_day,
                q.end_day,
                q.amount,
                q.currency,
                q.revision,
                q.deleted,
                q.changed_at,
                q.changed_by,
                None if q.terms is None else msgspec.json.encode(q.terms).decode(),
            )
            for q in sorted(quotas, key=lambda q: q.id)
        ],
    )
    said = [
        QuotaStatedData(quota=q.wire(), changed_by=q.changed_by, terms=q.terms, reason=reason)
        for q in quotas
    ]
    together = list(zip(quotas, said, strict=True))
    told = [quota_event(s.quota, q.changed_at) for q, s in together]
    await add_to_outbox(tx, METRICS_TARGETS, told)
    journal = [quota_stated_event(s, q.changed_at) for q, s in together]
    await add_to_outbox(tx, METRICS_JOURNAL, journal)
    await keep_versions(
        tx,
        [Version(QUOTA, q.id, q.revision, s, q.changed_by, q.changed_at) for q, s in together],
    )


async def list_quotas(  # noqa: PLR0913 - one argument a filter
    tx: Connection,
    *,
    people: list[str] | None,
    teams: Sequence[str],
    person: str | None,
    team: str | None,
    period: tuple[date, date] | None,
    after: str | None,
    limit: int,
) -> list[Quota]:
    """Quotas that the caller may see, by id."""
    start, end = period or (None, None)
    rows = await tx.fetch(
        f"""
        SELECT {_COLUMNS} FROM quota
        WHERE NOT deleted AND ($1::text[] IS NULL OR person = ANY($1) OR team = ANY($2::text[]))
          AND ($3::text IS NULL OR person = $3) AND ($4::text IS NULL OR team = $4)
          AND ($5::date IS NULL OR (start_day < $6::date AND end_day > $5))
          AND ($7::text IS NULL OR id > $7)
        ORDER BY id LIMIT $8
        """,  # noqa: S608 - constants
        people,
        list(teams),
        person,
        team,
        start,
        end,
        after,
        limit,
    )
    return [quota_of_row(row) for row in rows]


async def quotas_overlapping(
    tx: Connection, measure: str, start_day: date, end_day: date
) -> list[Quota]:
    """Every quota of one measure that is in force on some day of [start_day, end_day)."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM quota WHERE NOT deleted AND measure = $1 "  # noqa: S608
        "AND start_day < $3 AND end_day > $2 ORDER BY id",
        measure,
        start_day,
        end_day,
    )
    return [quota_of_row(row) for row in rows]


# ---- what a tick looks at ---------------------------------------------------------------------


async def take_booking_changes(tx: Connection) -> set[str]:
    """People whose bookings changed since the last time."""
    rows = await tx.fetch("DELETE FROM booking_change RETURNING person")
    return {row["person"] for row in rows}


async def make_due(
    tx: Connection, people: Collection[str], teams: Collection[str], day: date
) -> None:
    """Quotas of these, and the organisation's, that are in force on `day` are due at once."""
    rows = await tx.fetch(
        "SELECT id FROM quota WHERE start_day <= $3 AND end_day > $3 AND NOT deleted "
        "AND (person = ANY($1::text[]) OR team = ANY($2::text[]) "
        "OR (person IS NULL AND team IS NULL)) ORDER BY id FOR UPDATE",
        list(people),
        list(teams),
        day,
    )
    await tx.execute(
        "UPDATE quota SET next_due = 'epoch' WHERE id = ANY($1::text[])",
        [row["id"] for row in rows],
    )


async def take_due(tx: Connection, now: datetime, limit: int) -> list[Quota]:
    """Quotas that are due, locked; those another tick holds are its own."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM quota WHERE next_due <= $1 ORDER BY next_due, id LIMIT $2 "  # noqa: S608
        "FOR UPDATE SKIP LOCKED",
        now,
        limit,
    )
    return [quota_of_row(row) for row in rows]


async def set_due(tx: Connection, due: Sequence[tuple[str, datetime | None]]) -> None:
    """When quotas are to be judged again."""
    await tx.execute(
        "UPDATE quota SET next_due = d.next_due FROM unnest($1::text[], $2::timestamptz[]) "
        "AS d(id, next_due) WHERE quota.id = d.id",
        [quota_id for quota_id, _ in due],
        [at for _, at in due],
    )
