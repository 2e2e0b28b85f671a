"""Periods on their way to being closed: stored state, and submitting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from services.commissions.domain.periods import Period
from services.commissions.events import write_events
from shared.errors import Refused
from shared.events.journals import PERIOD, FixedData, PeriodData, PeriodState

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection


@dataclass(frozen=True, slots=True)
class StoredPeriod:
    """A period. state: open, reviewing (submitted) or closed."""

    period: str
    start_day: date
    end_day: date
    state: PeriodState
    submitted_by: str | None
    submitted_at: datetime | None
    closed_by: str | None
    closed_at: datetime | None
    one_seat: bool
    revision: int

    @classmethod
    def of(cls, row: asyncpg.Record) -> StoredPeriod:
        """From a row of `period`."""
        return cls(*(row[name] for name in cls.__slots__))

    def closed(self, actor: str, now: datetime, *, one_seat: bool) -> StoredPeriod:
        """The same, closed."""
        return replace(
            self,
            state="closed",
            closed_by=actor,
            closed_at=now,
            one_seat=one_seat,
            revision=self.revision + 1,
        )


def period_data(
    stored: StoredPeriod, actor: str, statements: Sequence[FixedData] = ()
) -> PeriodData:
    """The event that tells a period's state."""
    return PeriodData(
        period=stored.period,
        start=stored.start_day.isoformat(),
        end=stored.end_day.isoformat(),
        state=stored.state,
        submitted_by=stored.submitted_by,
        closed_by=stored.closed_by,
        one_seat=stored.one_seat,
        revision=stored.revision,
        actor=actor,
        statements=list(statements),
    )


async def submit_period(
    tx: Connection, period: Period, *, actor: str, now: datetime, today: date
) -> StoredPeriod:
    """Submit a period for review. Sent again by the same person it is the same.

    Raises Refused (409): the period is not over, or closed already.
    """
    if period.end > today:
        msg = f"period {period.label} ends on {period.last_day} and is not over"
        raise Refused("period-not-over", msg)
    if period.end <= await tx.fetchval("SELECT day FROM closed_until"):
        msg = f"period {period.label} is closed already"
        raise Refused("period-closed", msg)
    row = await tx.fetchrow(
        "INSERT INTO period AS p (period, start_day, end_day, state, submitted_by, submitted_at, "
        "revision) VALUES ($1, $2, $3, 'reviewing', $4, $5, 1) "
        "ON CONFLICT (period) DO UPDATE SET state = 'reviewing', "
        "submitted_by = excluded.submitted_by, submitted_at = excluded.submitted_at, "
        "revision = p.revision + 1 "
        "WHERE p.state <> 'closed' AND p.submitted_by IS DISTINCT FROM excluded.submitted_by "
        "RETURNING *",
        period.label,
        period.start,
        period.end,
        actor,
        now,
    )
    if row is None:
        row = await tx.fetchrow("SELECT * FROM period WHERE period = $1", period.label)
        if row is None or row["state"] == "closed":
            msg = f"period {period.label} is closed already"
            raise Refused("period-closed", msg)
        return StoredPeriod.of(row)
    stored = StoredPeriod.of(row)
    subject = f"period/{stored.period}"
    await write_events(tx, PERIOD, [(subject, stored.revision, period_data(stored, actor))], now)
    return stored
