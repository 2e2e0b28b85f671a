"""Adjustments: asked for by one person, approved by another, and then a line of the statement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from services.commissions.agreements.agreed import PROPOSED
from services.commissions.agreements.agreeing import (
    check_day,
    check_dispute,
    check_minor_units,
    hold_open,
    mark_years,
    must_be_proposed,
    must_have_asked,
    plan_of_payee,
)
from services.commissions.domain.periods import PeriodKind, period_of
from services.commissions.events import write_events
from services.commissions.reference import Reference
from services.commissions.store import AccountKey
from services.commissions.two_persons import check_second_person
from shared.errors import InvalidValue, Refused
from shared.events.journals import ADJUSTMENT, AdjustmentData, AgreementState
from shared.money import to_text

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection


@dataclass(frozen=True, slots=True)
class AdjustmentWanted:
    """What somebody asks for. period: label of a statement's period. amount: in plan currency."""

    payee: str
    plan: str
    period: str
    amount: Decimal
    reason: str
    dispute: str | None


@dataclass(frozen=True, slots=True)
class StoredAdjustment:
    """A row of `adjustment`; end_day: the first after the period."""

    adjustment_id: str
    payee: str
    plan_id: str
    period: str
    start_day: date
    end_day: date
    amount: Decimal
    currency: str
    reason: str
    dispute_id: str | None
    state: AgreementState
    asked_by: str
    asked_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decision: str | None
    one_seat: bool
    revision: int

    @classmethod
    def of(cls, row: asyncpg.Record) -> StoredAdjustment:
        """From a row with COLUMNS."""
        return cls(*(row[name] for name in cls.__slots__))

    @property
    def account(self) -> AccountKey:
        """Whose statement it is."""
        return AccountKey(self.payee, self.plan_id)


COLUMNS = ", ".join(StoredAdjustment.__slots__)


async def propose_adjustment(  # noqa: PLR0913 - what is asked for, and by whom
    tx: Connection,
    reference: Reference,
    wanted: AdjustmentWanted,
    *,
    adjustment_id: str,
    actor: str,
    now: datetime,
) -> StoredAdjustment:
    """Ask for an adjustment. It counts once a second person has approved it.

    Raises InvalidValue for a period or an amount that no statement of the plan has; Refused (409)
    for an unknown plan, a payee who was never on it, or a dispute that is not about them.
    """
    plan = await plan_of_payee(tx, reference, wanted.payee, wanted.plan)
    check_minor_units(wanted.amount, plan)
    period = reference.period(wanted.period)
    check_day(period.start, "/period")
    kind = plan.versions[0].period
    if period.kind is not kind:
        example = period_of(period.start, kind, reference.fiscal_start_month).label
        msg = f"statements of plan {plan.id} are for a {kind}: write one such as {example}"
        raise InvalidValue(msg, pointer="/period")
    await check_dispute(tx, wanted.dispute, wanted.payee, wanted.plan)
    row = await tx.fetchrow(
        "INSERT INTO adjustment (adjustment_id, payee, plan_id, period, start_day, end_day, "  # noqa: S608 - constants
        "amount, currency, reason, dispute_id, state, asked_by, asked_at, revision) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'proposed', $11, $12, $13) "
        f"RETURNING {COLUMNS}",
        adjustment_id,
        wanted.payee,
        wanted.plan,
        period.label,
        period.start,
        period.end,
        wanted.amount,
        plan.versions[0].currency,
        wanted.reason,
        wanted.dispute,
        actor,
        now,
        PROPOSED,
    )
    return await _told(tx, row, actor, now)


async def approve_adjustment(  # noqa: PLR0913 - what is approved, by whom, under which rule
    tx: Connection,
    reference: Reference,
    adjustment_id: str,
    *,
    actor: str,
    now: datetime,
    one_seat: bool,
) -> StoredAdjustment:
    """Approve it; its account is rated again. Approved again by the same person it is the same.

    Raises Refused: 404; 409 where it was decided, by whoever asked, about own pay, or for a period
    that is closed by now.
    """
    found = await adjustment_of(tx, adjustment_id, lock=True)
    if found.state == "approved" and found.decided_by == actor:
        return found
    must_be_proposed(f"adjustment {found.adjustment_id}", found.state)
    check_second_person(
        maker=found.asked_by,
        checker=actor,
        is_own_pay=found.payee == actor,
        of=f"adjustment {found.adjustment_id}",
        one_seat=one_seat,
    )
    open_from = await hold_open(tx)
    if found.end_day <= open_from:
        kind = period_kind(found, reference)
        first = period_of(open_from, kind, reference.fiscal_start_month).label
        msg = f"period {found.period} is closed; ask for the adjustment in {first}, the first open"
        raise Refused("period-closed", msg)
    decided = await _decide(tx, found, "approved", None, actor, now)
    year = reference.year_of(found.start_day).label
    await mark_years(tx, found.account, [year])
    return decided


def period_kind(found: StoredAdjustment, reference: Reference) -> PeriodKind:
    """How long the statements of its plan are."""
    return reference.plans[found.plan_id].versions[0].period


async def reject_adjustment(
    tx: Connection, adjustment_id: str, *, reason: str, actor: str, now: datetime
) -> StoredAdjustment:
    """Decide against it. Raises Refused: 404; 409 where it was decided already."""
    found = await adjustment_of(tx, adjustment_id, lock=True)
    must_be_proposed(f"adjustment {found.adjustment_id}", found.state)
    return await _decide(tx, found, "rejected", reason, actor, now)


async def withdraw_adjustment(
    tx: Connection, adjustment_id: str, *, actor: str, now: datetime
) -> StoredAdjustment:
    """Take it back before it is decided. Raises Refused: 404; 409 for anybody but who asked."""
    found = await adjustment_of(tx, adjustment_id, lock=True)
    if found.state == "withdrawn" and found.decided_by == actor:
        return found
    must_be_proposed(f"adjustment {found.adjustment_id}", found.state)
    must_have_asked(f"adjustment {found.adjustment_id}", found.asked_by, actor)
    return await _decide(tx, found, "withdrawn", None, actor, now)


async def adjustment_of(
    tx: Connection, adjustment_id: str, *, lock: bool = False
) -> StoredAdjustment:
    """An adjustment. Raises Refused (404)."""
    row = await tx.fetchrow(
        f"SELECT {COLUMNS} FROM adjustment WHERE adjustment_id = $1"  # noqa: S608 - constants
        + (" FOR UPDATE" if lock else ""),
        adjustment_id,
    )
    if row is None:
        raise Refused("not-found", "There is no such adjustment.", status=404)
    return StoredAdjustment.of(row)


async def _decide(  # noqa: PLR0913, PLR0917 - the parts of one decision
    tx: Connection,
    found: StoredAdjustment,
    state: AgreementState,
    decision: str | None,
    actor: str,
    now: datetime,
) -> StoredAdjustment:
    row = await tx.fetchrow(
        "UPDATE adjustment SET state = $2, decided_by = $3, decided_at = $4, decision = $5, "  # noqa: S608
        f"one_seat = $6, revision = revision + 1 WHERE adjustment_id = $1 RETURNING {COLUMNS}",
        found.adjustment_id,
        state,
        actor,
        now,
        decision,
        state == "approved" and actor in {found.asked_by, found.payee},
    )
    return await _told(tx, row, actor, now)


async def _told(
    tx: Connection, row: asyncpg.Record | None, actor: str, now: datetime
) -> StoredAdjustment:
    """The adjustment as it is now, told to the journal."""
    if row is None:
        msg = "the adjustment is gone, though it is locked"
        raise RuntimeError(msg)
    found = StoredAdjustment.of(row)
    data = AdjustmentData(
        adjustment=found.adjustment_id,
        payee=found.payee,
        plan=found.plan_id,
        period=found.period,
        amount=to_text(found.amount),
        currency=found.currency,
        reason=found.reason,
        dispute=found.dispute_id,
        state=found.state,
        asked_by=found.asked_by,
        decided_by=found.decided_by,
        decision=found.decision,
        one_seat=found.one_seat,
        revision=found.revision,
        actor=actor,
    )
    subject = f"adjustment/{found.adjustment_id}"
    await write_events(tx, ADJUSTMENT, [(subject, found.revision, data)], now)
    return found
