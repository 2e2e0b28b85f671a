"""Periods that begin: pay that is due without any credit is due from then on.

The core is given the time. The day until which periods have begun is stored, so that rating, the
ledger's watch, readers and a rebuild all judge by the same one; a tick moves it once a month.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

from services.commissions.domain.periods import PeriodKind, period_of
from services.commissions.needs import UNCREDITED
from services.commissions.reference import ReferenceCache
from shared.runtime.ticks import service_now

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

EARLIEST_ZONE = timedelta(hours=14)
"""Ahead of UTC: no organisation's day begins earlier."""


def end_of_month(day: date) -> date:
    """The first day of the next month: whatever period has begun by `day` begins before it."""
    return period_of(day, PeriodKind.MONTH).end


@dataclass(slots=True)
class BegunPeriods:
    """Notices that the organisation's calendar has come to another month."""

    pool: Pool
    clock: str
    _cache: ReferenceCache = field(default_factory=ReferenceCache)

    async def advance(self) -> None:
        """Move the day on where it is time, and mark the accounts that it may give something."""
        now = await service_now(self.pool, clock=self.clock)
        stored: date = await self.pool.fetchval("SELECT day FROM begun_until")
        if end_of_month((now + EARLIEST_ZONE).date()) <= stored:
            return
        async with self.pool.acquire() as tx, tx.transaction():
            zone = (await self._cache.at(tx)).org.zone
            until = end_of_month(now.astimezone(zone).date())
            # Whoever rates holds this row: it moves between two ratings, never within one.
            moved = await tx.fetchval(
                "UPDATE begun_until SET day = $1 WHERE day < $1 RETURNING day", until
            )
            if moved is not None:
                await mark_uncredited(tx)


async def mark_uncredited(tx: Connection, plan_id: str | None = None) -> None:
    """Mark the accounts, existing or not, that may have pay without credits; of one plan or all."""
    await tx.execute(
        "INSERT INTO mark (kind, root_id, part) SELECT DISTINCT 'account', "
        "a.payee || '|' || a.plan_id, '' FROM assignment a WHERE NOT a.deleted "
        "AND ($1::text IS NULL OR a.plan_id = $1) AND EXISTS (SELECT FROM plan_version v "
        "WHERE v.plan_id = a.plan_id AND $2 = ANY(v.needs)) ORDER BY 2",
        plan_id,
        UNCREDITED,
    )


async def add_activity_roots(tx: Connection) -> None:
    """Roots for activities that were kept when no plan asked for any; a sweep settles them."""
    await tx.execute(
        "INSERT INTO root (kind, id) SELECT 'activity', id FROM record "
        "WHERE kind = 'activity' AND parent IS NULL ORDER BY id ON CONFLICT DO NOTHING"
    )
    await tx.execute(
        "INSERT INTO root (kind, id) SELECT DISTINCT 'deal', substr(parent, 6) AS id FROM record "
        "WHERE kind = 'activity' AND parent LIKE 'deal/%' ORDER BY id ON CONFLICT DO NOTHING"
    )
