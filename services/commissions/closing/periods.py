"""Periods on their way to being closed: stored state, submitting and approving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from services.commissions.domain.periods import Period
from services.commissions.events import write_events
from services.commissions.two_persons import check_second_person
from shared.errors import Refused
from shared.events.journals import PERIOD, FixedData, PeriodData, PeriodState

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection, Pool


@dataclass(frozen=True, slots=True)
class StoredPeriod:
    """A period. state: open, reviewing (submitted), approved or closed.

    approved_hash: over the statements that were approved.
    """

    period: str
    start_day: date
    end_day: date
    state: PeriodState
    submitted_by: str | None
    submitted_at: datetime | None
    approved_by: str | None
    approved_at: datetime | None
    approved_hash: str | None
    closed_by: str | None
    closed_at: datetime | None
    one_seat: bool
    revision: int

    @classmethod
    def of(cls, row: asyncpg.Record) -> StoredPeriod:
        """From a row of `period`."""
        return cls(*(row[name] for name in cls.__slots__))

    def approved(self, actor: str, now: datetime, hash_: str) -> StoredPeriod:
        """The same, approved with these figures."""
        return replace(
            self,
            state="approved",
            approved_by=actor,
            approved_at=now,
            approved_hash=hash_,
            one_seat=actor == self.submitted_by,
            revision=self.revision + 1,
        )

    def closed(self, actor: str, now: datetime) -> StoredPeriod:
        """The same, closed."""
        return replace(
            self, state="closed", closed_by=actor, closed_at=now, revision=self.revision + 1
        )

    def reopened(self) -> StoredPeriod:
        """The same, open again, as if nobody had submitted it."""
        return replace(
            self,
            state="open",
            submitted_by=None,
            submitted_at=None,
            approved_by=None,
            approved_at=None,
            approved_hash=None,
            closed_by=None,
            closed_at=None,
            one_seat=False,
            revision=self.revision + 1,
        )


def period_data(
    stored: StoredPeriod,
    actor: str,
    statements: Sequence[FixedData] = (),
    reason: str | None = None,
) -> PeriodData:
    """The event that tells a period's state."""
    return PeriodData(
        period=stored.period,
        start=stored.start_day.isoformat(),
        end=stored.end_day.isoformat(),
        state=stored.state,
        submitted_by=stored.submitted_by,
        approved_by=stored.approved_by,
        closed_by=stored.closed_by,
        one_seat=stored.one_seat,
        revision=stored.revision,
        actor=actor,
        reason=reason,
        statements=list(statements),
    )


async def save_period(  # noqa: PLR0913 - a state, who caused it, and what goes with it
    tx: Connection,
    stored: StoredPeriod,
    actor: str,
    now: datetime,
    *,
    statements: Sequence[FixedData] = (),
    reason: str | None = None,
) -> None:
    """Write a period's state and tell it to the journal."""
    columns = [name for name in StoredPeriod.__slots__ if name != "period"]
    places = ", ".join(f"{name} = ${place}" for place, name in enumerate(columns, 2))
    await tx.execute(
        f"UPDATE period SET {places} WHERE period = $1",  # noqa: S608 - constants
        stored.period,
        *(getattr(stored, name) for name in columns),
    )
    data = period_data(stored, actor, statements, reason)
    await write_events(tx, PERIOD, [(f"period/{stored.period}", stored.revision, data)], now)


async def submit_period(
    tx: Connection, period: Period, *, actor: str, now: datetime, today: date
) -> StoredPeriod:
    """Submit a period for review. Sent again by the same person it is the same.

    By somebody else it is submitted anew, which takes an approval back.
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
        "approved_by = NULL, approved_at = NULL, approved_hash = NULL, one_seat = false, "
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
    data = period_data(stored, actor)
    await write_events(tx, PERIOD, [(f"period/{stored.period}", stored.revision, data)], now)
    return stored


async def approve_period(  # noqa: PLR0913 - what is approved, by whom, under which rule
    tx: Connection, period: Period, *, hash_: str, actor: str, now: datetime, one_seat: bool
) -> StoredPeriod:
    """Approve the figures of a submitted period as they were shown.

    Raises Refused (409): not submitted, by the same person, of own pay, or other figures by now.
    """
    stored = await submitted_period(tx, period, lock=True)
    await check_approver(tx, stored, period, actor, one_seat=one_seat)
    if hash_ != await figures_hash(tx, period):
        msg = f"the figures of {period.label} have changed since; look at them again"
        raise Refused("period-changed", msg)
    if stored.state == "approved" and (stored.approved_by, stored.approved_hash) == (actor, hash_):
        return stored
    approved = stored.approved(actor, now, hash_)
    await save_period(tx, approved, actor, now)
    return approved


async def submitted_period(
    tx: Connection | Pool, period: Period, *, lock: bool = False
) -> StoredPeriod:
    """The period, on its way to being closed. Raises Refused (409): not submitted, or closed."""
    row = await tx.fetchrow(
        "SELECT * FROM period WHERE period = $1" + (" FOR UPDATE" if lock else ""),  # noqa: S608
        period.label,
    )
    if row is None or row["state"] == "open":
        msg = f"period {period.label} has not been submitted; submit it first"
        raise Refused("period-not-submitted", msg)
    stored = StoredPeriod.of(row)
    if stored.state == "closed":
        msg = f"period {period.label} is closed already, by {stored.closed_by}"
        raise Refused("period-closed", msg)
    return stored


async def check_approver(
    tx: Connection | Pool, stored: StoredPeriod, period: Period, actor: str, *, one_seat: bool
) -> None:
    """Whether `actor` may approve a submitted period. Raises Refused (409)."""
    is_own_pay = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM statement WHERE payee = $1 AND end_day <= $2 "
        "AND end_day > (SELECT day FROM closed_until))",
        actor,
        period.end,
    )
    check_second_person(
        maker=stored.submitted_by,
        checker=actor,
        is_own_pay=is_own_pay,
        of=f"period {stored.period}",
        one_seat=one_seat,
    )


async def figures_hash(tx: Connection | Pool, period: Period) -> str:
    """SHA-256 over every statement that closing the period would fix now."""
    hashed: str = await tx.fetchval(
        "SELECT encode(sha256(convert_to(coalesce(string_agg(concat_ws('|', payee, plan_id, "
        "period, hash), E'\\n' ORDER BY payee, plan_id, period), ''), 'UTF8')), 'hex') "
        "FROM statement WHERE end_day <= $1 AND end_day > (SELECT day FROM closed_until)",
        period.end,
    )
    return hashed
