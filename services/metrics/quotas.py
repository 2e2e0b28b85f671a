"""SQL of quotas: owned rows, published and journaled with every change."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from services.metrics.domain.log import quota_event, quota_stated_event
from shared.events.catalogue import METRICS_JOURNAL, METRICS_TARGETS
from shared.events.targets import QuotaData
from shared.money import to_text
from shared.runtime.outbox import add_to_outbox

if TYPE_CHECKING:
    from shared.db.pool import Connection

BOOKINGS = "bookings"
NEW_BUSINESS = "new_business"
MEASURED = {BOOKINGS: None, NEW_BUSINESS: "new"}
"""Measures that this service sums, and the deal type that counts; None: every type."""

_COLUMNS = (
    "id, person, team, measure, period, start_day, end_day, amount, currency, revision, deleted, "
    "changed_at, changed_by"
)


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota as stored. person and team None: the organisation's."""

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
            deleted=self.deleted,
        )


async def quota_of(tx: Connection, quota_id: str, *, lock: bool = False) -> Quota | None:
    """One quota, deleted ones included."""
    if lock:
        # Absent rows cannot be locked: two first statements of one id wait here for each other.
        await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 4711))", quota_id)
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM quota WHERE id = $1" + (" FOR UPDATE" if lock else ""),  # noqa: S608
        quota_id,
    )
    return None if row is None else Quota(**dict(row))


async def save_quota(tx: Connection, quota: Quota) -> None:
    """Store a quota, publish it and journal it; it is judged at the next tick."""
    await tx.execute(
        """
        INSERT INTO quota (id, person, team, measure, period, start_day, end_day, amount, currency,
                           revision, deleted, changed_at, changed_by, next_due)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'epoch')
        ON CONFLICT (id) DO UPDATE SET
            person = excluded.person, team = excluded.team, measure = excluded.measure,
            period = excluded.period, start_day = excluded.start_day, end_day = excluded.end_day,
            amount = excluded.amount, currency = excluded.currency, revision = excluded.revision,
            deleted = excluded.deleted, changed_at = excluded.changed_at,
            changed_by = excluded.changed_by, next_due = excluded.next_due
        """,
        quota.id,
        quota.person,
        quota.team,
        quota.measure,
        quota.period,
        quota.start_day,
        quota.end_day,
        quota.amount,
        quota.currency,
        quota.revision,
        quota.deleted,
        quota.changed_at,
        quota.changed_by,
    )
    wire = quota.wire()
    await add_to_outbox(tx, METRICS_TARGETS, [quota_event(wire, quota.changed_at)])
    stated = quota_stated_event(wire, quota.changed_by, quota.changed_at)
    await add_to_outbox(tx, METRICS_JOURNAL, [stated])


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
    return [Quota(**dict(row)) for row in rows]


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
    return [Quota(**dict(row)) for row in rows]


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
    return [Quota(**dict(row)) for row in rows]


async def set_due(tx: Connection, due: Sequence[tuple[str, datetime | None]]) -> None:
    """When quotas are to be judged again."""
    await tx.execute(
        "UPDATE quota SET next_due = d.next_due FROM unnest($1::text[], $2::timestamptz[]) "
        "AS d(id, next_due) WHERE quota.id = d.id",
        [quota_id for quota_id, _ in due],
        [at for _, at in due],
    )
