"""Opening a closed period again: asked for with a reason, confirmed by a second person.

Only the last close can be opened, and only while nothing that it fixed is in a pay run: what has
been paid is corrected by the carried difference of the next period. What the close had fixed stays
readable as it was.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from services.commissions.closing.periods import StoredPeriod, save_period
from services.commissions.domain.periods import Period
from services.commissions.held.deletions import forget_fixed
from services.commissions.two_persons import check_second_person
from shared.errors import Refused

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def ask_to_reopen(
    tx: Connection, period: Period, *, reason: str, actor: str, now: datetime
) -> StoredPeriod:
    """Ask for it. Asked again before it is confirmed, the latest asker and reason count.

    Raises Refused (409): not closed, not the last close, or paid.
    """
    stored = await _closed_period(tx, period)
    await tx.execute(
        "INSERT INTO reopening (period, revision, reason, asked_by, asked_at) "
        "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (period, revision) DO UPDATE "
        "SET reason = excluded.reason, asked_by = excluded.asked_by, asked_at = excluded.asked_at",
        stored.period,
        stored.revision,
        reason,
        actor,
        now,
    )
    return stored


async def confirm_reopening(
    tx: Connection, period: Period, *, actor: str, now: datetime, one_seat: bool
) -> StoredPeriod:
    """Open it. From here on its lines are rated and posted again as in any open period.

    Raises Refused (409): nobody asked, the same person did, or it is the actor's own pay.
    """
    stored = await _closed_period(tx, period)
    asked = await tx.fetchrow(
        "SELECT * FROM reopening WHERE period = $1 AND revision = $2 FOR UPDATE",
        stored.period,
        stored.revision,
    )
    if asked is None:
        msg = f"nobody has asked to open {stored.period} again; ask with a reason first"
        raise Refused("reopening-not-asked", msg)
    check_second_person(
        maker=asked["asked_by"],
        checker=actor,
        is_own_pay=await tx.fetchval(
            "SELECT EXISTS (SELECT FROM fixed_statement WHERE closed_with = $1 AND payee = $2)",
            stored.period,
            actor,
        ),
        of=f"opening {stored.period} again",
        one_seat=one_seat,
    )
    await tx.execute(
        "UPDATE reopening SET confirmed_by = $3, confirmed_at = $4, one_seat = $5 "
        "WHERE period = $1 AND revision = $2",
        stored.period,
        stored.revision,
        actor,
        now,
        asked["asked_by"] == actor,
    )
    await _release_statements(tx, stored, now)
    opened = stored.reopened()
    await save_period(tx, opened, actor, now, reason=asked["reason"])
    await tx.execute(
        "UPDATE closed_until SET day = coalesce("
        "(SELECT max(end_day) FROM period WHERE state = 'closed'), '0001-01-01')"
    )
    await tx.execute(
        "INSERT INTO mark (kind, root_id, part) SELECT kind, id, '' FROM root "
        "WHERE kind = 'account' ORDER BY id"
    )
    return opened


async def _closed_period(tx: Connection, period: Period) -> StoredPeriod:
    """The period, closed last and unpaid, with everybody kept from rating. Raises Refused (409)."""
    closed_until = await tx.fetchval("SELECT day FROM closed_until FOR UPDATE")
    row = await tx.fetchrow("SELECT * FROM period WHERE period = $1 FOR UPDATE", period.label)
    if row is None or row["state"] != "closed":
        msg = f"period {period.label} was not closed; what closed its days may have another name"
        raise Refused("period-not-closed", msg)
    stored = StoredPeriod.of(row)
    if stored.end_day != closed_until:
        msg = f"later days are closed, until {closed_until}; open the last close first"
        raise Refused("later-period-closed", msg)
    run = await tx.fetchval(
        "SELECT l.pay_run_id FROM pay_run_line l JOIN fixed_statement f "
        "USING (payee, plan_id, period) WHERE f.closed_with = $1 AND l.state IN ('due', 'paid') "
        "LIMIT 1",
        stored.period,
    )
    if run is not None:
        msg = (
            f"pay run {run} pays statements of {stored.period}: cancel it while it is a draft; "
            "what was paid is corrected in the next period"
        )
        raise Refused("period-paid", msg)
    return stored


async def _release_statements(tx: Connection, stored: StoredPeriod, now: datetime) -> None:
    """Keep what the close fixed as it was shown, and fix it no longer."""
    await tx.execute(
        "INSERT INTO reopened_statement (payee, plan_id, period, hash, closed_with, closed_at, "
        "reopened_at, document, explanation) SELECT payee, plan_id, period, hash, closed_with, "
        "$2, $3, document, explanation FROM fixed_statement WHERE closed_with = $1",
        stored.period,
        stored.closed_at,
        now,
    )
    await tx.execute("DELETE FROM fixed_statement WHERE closed_with = $1", stored.period)
    await forget_fixed(tx, stored.period)
