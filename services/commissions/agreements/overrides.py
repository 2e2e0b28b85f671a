"""Overrides: terms agreed by two persons in place of a component's, from a day to a day.

An earlier end is agreed on in the same way: somebody asks for it, and somebody else approves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
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
from services.commissions.domain.periods import following
from services.commissions.domain.plan import Plan
from services.commissions.events import write_events
from services.commissions.reference import Reference
from services.commissions.store import AccountKey
from services.commissions.two_persons import check_second_person
from shared.errors import InvalidValue, Refused
from shared.events.journals import OVERRIDE, AgreementState, EndingData, OverrideData
from shared.money import to_text

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

ACCOUNT_LOCK = 0x0C0DE_21
"""Class of the advisory locks under which two overrides of one account are approved in turn."""

MAX_DAYS = 5 * 366
"""Terms that are meant to stay are a plan's."""

ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class OverrideWanted:
    """What somebody asks for. Exactly one of amount (of a deal, in plan currency) and rate."""

    payee: str
    plan: str
    component: str
    deal: str | None
    amount: Decimal | None
    rate: Decimal | None
    first_day: date
    last_day: date
    reason: str
    dispute: str | None


@dataclass(frozen=True, slots=True)
class StoredOverride:
    """A row of `override`."""

    override_id: str
    payee: str
    plan_id: str
    component_id: str
    deal_id: str | None
    amount: Decimal | None
    rate: Decimal | None
    currency: str
    first_day: date
    last_day: date
    reason: str
    dispute_id: str | None
    state: AgreementState
    asked_by: str
    asked_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decision: str | None
    ending_last_day: date | None
    ending_reason: str | None
    ending_asked_by: str | None
    ending_decided_by: str | None
    one_seat: bool
    revision: int

    @classmethod
    def of(cls, row: asyncpg.Record) -> StoredOverride:
        """From a row with COLUMNS."""
        return cls(*(row[name] for name in cls.__slots__))

    @property
    def account(self) -> AccountKey:
        """Whose credits it is about."""
        return AccountKey(self.payee, self.plan_id)

    @property
    def end_is_asked(self) -> bool:
        """Whether somebody has asked for an earlier end that nobody has decided on."""
        return self.ending_asked_by is not None and self.ending_decided_by is None


COLUMNS = ", ".join(StoredOverride.__slots__)


def percentage(rate: Decimal) -> str:
    """A fraction as people write it."""
    return f"{to_text(rate.scaleb(2))}%"


async def propose_override(  # noqa: PLR0913 - what is asked for, and by whom
    tx: Connection,
    reference: Reference,
    wanted: OverrideWanted,
    *,
    override_id: str,
    actor: str,
    now: datetime,
) -> StoredOverride:
    """Ask for an override. It counts once a second person has approved it.

    Raises InvalidValue for terms that say nothing; Refused (409) for an unknown plan or component,
    a payee who was never on it, or a dispute that is not about them.
    """
    plan = await plan_of_payee(tx, reference, wanted.payee, wanted.plan)
    _check_terms(plan, wanted, reference)
    await check_dispute(tx, wanted.dispute, wanted.payee, wanted.plan)
    row = await tx.fetchrow(
        "INSERT INTO override (override_id, payee, plan_id, component_id, deal_id, amount, rate, "  # noqa: S608 - constants
        "currency, first_day, last_day, reason, dispute_id, state, asked_by, asked_at, revision) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'proposed', $13, $14, $15) "
        f"RETURNING {COLUMNS}",
        override_id,
        wanted.payee,
        wanted.plan,
        wanted.component,
        wanted.deal,
        wanted.amount,
        wanted.rate,
        plan.versions[0].currency,
        wanted.first_day,
        wanted.last_day,
        wanted.reason,
        wanted.dispute,
        actor,
        now,
        PROPOSED,
    )
    return await _told(tx, row, actor, now)


def _check_terms(plan: Plan, wanted: OverrideWanted, reference: Reference) -> None:
    known = [c for v in plan.versions for c in v.components if c.id == wanted.component]
    if not known:
        msg = f"plan {plan.id} has no component {wanted.component}"
        raise Refused("unknown-component", msg)
    if known[0].objectives:
        msg = f"{wanted.component} pays objectives; adjust the statement instead"
        raise Refused("objectives-not-overridden", msg)
    check_day(wanted.first_day, "/from")
    check_day(wanted.last_day, "/until")
    if (wanted.last_day - wanted.first_day).days >= MAX_DAYS:
        msg = "an override lasts at most five years; make it a plan version instead"
        raise InvalidValue(msg, pointer="/until")
    if wanted.amount is None:
        return
    check_minor_units(wanted.amount, plan)
    # A deal's lines are rated year by year, and an agreed amount is paid once.
    year = reference.year_of(wanted.first_day)
    if wanted.last_day not in year:
        msg = f"an amount for a deal holds within one fiscal year: end it by {year.last_day}"
        raise InvalidValue(msg, pointer="/until")


async def approve_override(  # noqa: PLR0913 - what is approved, by whom, under which rule
    tx: Connection,
    reference: Reference,
    override_id: str,
    *,
    actor: str,
    now: datetime,
    one_seat: bool,
) -> StoredOverride:
    """Approve what is proposed: the override, or its earlier end. Its account is rated again.

    Raises Refused: 404; 409 where nothing is proposed, by whoever asked, about own pay, where it
    would change what is closed, or where another override covers the same credits.
    """
    found = await override_of(tx, override_id, lock=True)
    if found.state == "approved" and found.end_is_asked:
        return await _end(tx, reference, found, actor, now, one_seat=one_seat)
    if found.state == "approved" and actor in {found.decided_by, found.ending_decided_by}:
        return found
    must_be_proposed(f"override {found.override_id}", found.state)
    _check_second(found, found.asked_by, actor, one_seat=one_seat)
    open_from = await hold_open(tx)
    if found.first_day < open_from:
        msg = (
            f"days from {found.first_day} on are closed; the first open day is {open_from}: "
            "propose it from there, and adjust a statement for what was before"
        )
        raise Refused("period-closed", msg)
    await _refuse_overlap(tx, found)
    row = await tx.fetchrow(
        "UPDATE override SET state = 'approved', decided_by = $2, decided_at = $3, one_seat = $4, "  # noqa: S608
        f"revision = revision + 1 WHERE override_id = $1 RETURNING {COLUMNS}",
        found.override_id,
        actor,
        now,
        actor in {found.asked_by, found.payee},
    )
    await mark_years(tx, found.account, _years(reference, found.first_day, found.last_day))
    return await _told(tx, row, actor, now)


async def ask_to_end(  # noqa: PLR0913 - which end, and by whom
    tx: Connection, override_id: str, *, until: date, reason: str, actor: str, now: datetime
) -> StoredOverride:
    """Ask that an approved override ends earlier; the day before its first takes it back wholly.

    Raises Refused: 404; 409 where it is not approved, or would end later or in a closed period.
    """
    found = await override_of(tx, override_id, lock=True)
    if found.state != "approved":
        msg = f"override {found.override_id} is {found.state}; only an approved one can end earlier"
        raise Refused("not-approved", msg)
    if not found.first_day - ONE_DAY <= until < found.last_day:
        msg = (
            f"it holds from {found.first_day} to {found.last_day}: name an earlier last day, or "
            f"{found.first_day - ONE_DAY} to take it back wholly"
        )
        raise Refused("ends-no-earlier", msg)
    await _check_end_is_open(tx, until)
    row = await tx.fetchrow(
        "UPDATE override SET ending_last_day = $2, ending_reason = $3, ending_asked_by = $4, "  # noqa: S608
        "ending_decided_by = NULL, revision = revision + 1 WHERE override_id = $1 "
        f"RETURNING {COLUMNS}",
        found.override_id,
        until,
        reason,
        actor,
    )
    return await _told(tx, row, actor, now)


async def reject_override(
    tx: Connection, override_id: str, *, reason: str, actor: str, now: datetime
) -> StoredOverride:
    """Decide against what is proposed. Raises Refused: 404; 409 where nothing is."""
    found = await override_of(tx, override_id, lock=True)
    if found.end_is_asked:
        return await _drop_end(tx, found, actor, now)
    must_be_proposed(f"override {found.override_id}", found.state)
    return await _decide_against(tx, found, "rejected", reason, actor, now)


async def withdraw_override(
    tx: Connection, override_id: str, *, actor: str, now: datetime
) -> StoredOverride:
    """Take back what one has proposed. Raises Refused: 404; 409 for anybody but who asked."""
    found = await override_of(tx, override_id, lock=True)
    what = f"override {found.override_id}"
    if found.end_is_asked and found.ending_asked_by is not None:
        must_have_asked(f"the end of {what}", found.ending_asked_by, actor)
        return await _drop_end(tx, found, actor, now)
    if found.state == "withdrawn" and found.decided_by == actor:
        return found
    must_be_proposed(what, found.state)
    must_have_asked(what, found.asked_by, actor)
    return await _decide_against(tx, found, "withdrawn", None, actor, now)


async def override_of(tx: Connection, override_id: str, *, lock: bool = False) -> StoredOverride:
    """An override. Raises Refused (404)."""
    row = await tx.fetchrow(
        f"SELECT {COLUMNS} FROM override WHERE override_id = $1"  # noqa: S608 - constants
        + (" FOR UPDATE" if lock else ""),
        override_id,
    )
    if row is None:
        raise Refused("not-found", "There is no such override.", status=404)
    return StoredOverride.of(row)


def _check_second(found: StoredOverride, maker: str | None, actor: str, *, one_seat: bool) -> None:
    check_second_person(
        maker=maker,
        checker=actor,
        is_own_pay=found.payee == actor,
        of=f"override {found.override_id}",
        one_seat=one_seat,
    )


async def _refuse_overlap(tx: Connection, found: StoredOverride) -> None:
    """Of the same credits one override holds. One of a deal goes before one of the component."""
    await tx.execute(
        "SELECT pg_advisory_xact_lock($1, hashtext($2))", ACCOUNT_LOCK, found.account.root_id
    )
    other = await tx.fetchrow(
        "SELECT override_id, first_day, last_day FROM override WHERE payee = $1 AND plan_id = $2 "
        "AND component_id = $3 AND deal_id IS NOT DISTINCT FROM $4 AND state = 'approved' "
        "AND first_day <= $6 AND last_day >= $5 AND last_day >= first_day "
        "ORDER BY first_day LIMIT 1",
        found.payee,
        found.plan_id,
        found.component_id,
        found.deal_id,
        found.first_day,
        found.last_day,
    )
    if other is not None:
        msg = (
            f"override {other['override_id']} holds for the same credits from "
            f"{other['first_day']} to {other['last_day']}; end it earlier, or choose other days"
        )
        raise Refused("override-overlaps", msg)


async def _check_end_is_open(tx: Connection, until: date) -> None:
    open_from = await hold_open(tx)
    if until < open_from - ONE_DAY:
        msg = f"days until {open_from - ONE_DAY} are closed; it can end on that day or later"
        raise Refused("period-closed", msg)


async def _end(  # noqa: PLR0913 - what is approved, by whom, under which rule
    tx: Connection,
    reference: Reference,
    found: StoredOverride,
    actor: str,
    now: datetime,
    *,
    one_seat: bool,
) -> StoredOverride:
    until = found.ending_last_day
    if until is None:
        msg = f"override {found.override_id} has no end that somebody asked for"
        raise RuntimeError(msg)
    _check_second(found, found.ending_asked_by, actor, one_seat=one_seat)
    await _check_end_is_open(tx, until)
    row = await tx.fetchrow(
        "UPDATE override SET last_day = ending_last_day, ending_decided_by = $2, "  # noqa: S608
        f"one_seat = one_seat OR $3, revision = revision + 1 WHERE override_id = $1 "
        f"RETURNING {COLUMNS}",
        found.override_id,
        actor,
        actor in {found.ending_asked_by, found.payee},
    )
    await mark_years(tx, found.account, _years(reference, until + ONE_DAY, found.last_day))
    return await _told(tx, row, actor, now)


async def _drop_end(
    tx: Connection, found: StoredOverride, actor: str, now: datetime
) -> StoredOverride:
    row = await tx.fetchrow(
        "UPDATE override SET ending_last_day = NULL, ending_reason = NULL, "  # noqa: S608
        "ending_asked_by = NULL, ending_decided_by = NULL, revision = revision + 1 "
        f"WHERE override_id = $1 RETURNING {COLUMNS}",
        found.override_id,
    )
    return await _told(tx, row, actor, now)


async def _decide_against(  # noqa: PLR0913, PLR0917 - the parts of one decision
    tx: Connection,
    found: StoredOverride,
    state: AgreementState,
    decision: str | None,
    actor: str,
    now: datetime,
) -> StoredOverride:
    row = await tx.fetchrow(
        "UPDATE override SET state = $2, decided_by = $3, decided_at = $4, decision = $5, "  # noqa: S608
        f"revision = revision + 1 WHERE override_id = $1 RETURNING {COLUMNS}",
        found.override_id,
        state,
        actor,
        now,
        decision,
    )
    return await _told(tx, row, actor, now)


def _years(reference: Reference, first: date, last: date) -> list[str]:
    """Labels of the fiscal years in which days lie."""
    found, year = [], reference.year_of(first)
    while year.start <= last:
        found.append(year.label)
        year = following(year, reference.fiscal_start_month)
    return found


async def _told(
    tx: Connection, row: asyncpg.Record | None, actor: str, now: datetime
) -> StoredOverride:
    """The override as it is now, told to the journal."""
    if row is None:
        msg = "the override is gone, though it is locked"
        raise RuntimeError(msg)
    found = StoredOverride.of(row)
    data = OverrideData(
        override=found.override_id,
        payee=found.payee,
        plan=found.plan_id,
        component=found.component_id,
        deal=found.deal_id,
        amount=None if found.amount is None else to_text(found.amount),
        rate=None if found.rate is None else percentage(found.rate),
        currency=found.currency,
        from_=found.first_day.isoformat(),
        until=found.last_day.isoformat(),
        reason=found.reason,
        dispute=found.dispute_id,
        state=found.state,
        asked_by=found.asked_by,
        decided_by=found.decided_by,
        decision=found.decision,
        ending=_ending(found),
        one_seat=found.one_seat,
        revision=found.revision,
        actor=actor,
    )
    subject = f"override/{found.override_id}"
    await write_events(tx, OVERRIDE, [(subject, found.revision, data)], now)
    return found


def _ending(found: StoredOverride) -> EndingData | None:
    until, reason, asked_by = found.ending_last_day, found.ending_reason, found.ending_asked_by
    if until is None or reason is None or asked_by is None:
        return None
    return EndingData(
        until=until.isoformat(),
        reason=reason,
        asked_by=asked_by,
        decided_by=found.ending_decided_by,
    )
