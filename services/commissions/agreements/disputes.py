"""Disputes: somebody says that a statement is wrong, with what it showed then; and what came of it.

What an accepted dispute leads to are adjustments and overrides, approved by two persons as always;
they name the dispute, and its outcome names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from services.commissions.domain.explain import explain_line
from services.commissions.domain.periods import Period
from services.commissions.events import write_events
from services.commissions.rating import sheet_of
from services.commissions.reference import Reference
from services.commissions.store import AccountKey, canonical_json
from services.commissions.two_persons import check_second_person
from shared.clock import to_text as instant_text
from shared.errors import InvalidValue, Refused
from shared.events.journals import (
    DISPUTE,
    CommentData,
    DisputeData,
    DisputeOutcome,
    DisputeState,
    ShownData,
)
from shared.money import to_text

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

MAX_COMMENTS = 100
"""Each event of a dispute carries all of them."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a statement showed: its hash, and of one line the amount and the explanation."""

    hash: str
    amount: Decimal | None = None
    explanation: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class DisputeWanted:
    """What somebody says is wrong. line: a line's key; None: something is missing."""

    payee: str
    plan: str
    period: str
    line: str | None
    deal: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody said."""

    person: str
    text: str
    said_at: datetime


@dataclass(frozen=True, slots=True)
class StoredDispute:
    """A row of `dispute`, and its comments in order. due_on: to be answered by that day's end."""

    dispute_id: str
    payee: str
    plan_id: str
    period: str
    start_day: date
    end_day: date
    line_key: str | None
    deal_id: str | None
    text: str
    statement_hash: str | None
    amount: Decimal | None
    explanation: Mapping[str, Any] | None
    state: DisputeState
    outcome: DisputeOutcome | None
    raised_by: str
    raised_at: datetime
    due_on: date
    resolved_by: str | None
    resolved_at: datetime | None
    resolution: str | None
    adjustments: Sequence[str]
    overrides: Sequence[str]
    one_seat: bool
    revision: int
    comments: Sequence[Comment] = ()

    @classmethod
    def of(cls, row: Mapping[str, Any], comments: Sequence[Comment] = ()) -> StoredDispute:
        """From a row with COLUMNS."""
        known = dict(row)
        if known["explanation"] is not None:
            known["explanation"] = msgspec.json.decode(known["explanation"])
        return cls(**known, comments=comments)


_PLAIN = [n for n in StoredDispute.__slots__ if n not in {"explanation", "comments"}]
COLUMNS = f"{', '.join(_PLAIN)}, explanation::text AS explanation"


# ---- raising ------------------------------------------------------------------------------------


async def shown_of(
    tx: Connection,
    reference: Reference,
    account: AccountKey,
    period: Period,
    *,
    line: str | None,
) -> Shown | None:
    """What the statement shows in the snapshot `tx`; None where there is none.

    Raises Refused (404) for a line that it has not.
    """
    row = await tx.fetchrow(
        "SELECT hash, explanation::text AS explanation FROM fixed_statement "
        "WHERE payee = $1 AND plan_id = $2 AND period = $3",
        *account,
        period.label,
    )
    if row is not None:
        shown = Shown(row["hash"])
        lines = msgspec.json.decode(row["explanation"])["lines"]
        tree = next((entry for entry in lines if entry["key"] == line), None)
    else:
        sheet = await sheet_of(tx, account, reference.year_of(period.start), reference)
        statement = None if sheet is None else sheet.statement(period.label)
        if sheet is None or statement is None:
            shown, tree = None, None
        else:
            shown = Shown(statement.hash)
            own = next((entry for entry in statement.lines if entry.key == line), None)
            tree = None if own is None else explain_line(own, sheet.rater)
    if line is None:
        return shown
    if shown is None or tree is None:
        msg = f"statement {period.label} has no such line; leave it out to say what is missing"
        raise Refused("not-found", msg, status=404)
    return Shown(shown.hash, Decimal(str(tree["amount"])), tree)


async def raise_dispute(  # noqa: PLR0913 - what is said, by whom, and what was shown
    tx: Connection,
    reference: Reference,
    wanted: DisputeWanted,
    shown: Shown | None,
    *,
    dispute_id: str,
    actor: str,
    now: datetime,
    sla_days: int,
) -> StoredDispute:
    """Raise a dispute. Raises InvalidValue for a period that no statement of the plan has."""
    period = period_of_plan(reference, wanted.plan, wanted.period)
    row = await tx.fetchrow(
        "INSERT INTO dispute (dispute_id, payee, plan_id, period, start_day, end_day, line_key, "  # noqa: S608 - constants
        "deal_id, text, statement_hash, amount, explanation, state, raised_by, raised_at, due_on, "
        "revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::text::json, 'open', "
        f"$13, $14, $15, 1) RETURNING {COLUMNS}",
        dispute_id,
        wanted.payee,
        wanted.plan,
        period.label,
        period.start,
        period.end,
        wanted.line,
        wanted.deal,
        wanted.text,
        None if shown is None else shown.hash,
        None if shown is None else shown.amount,
        None if shown is None or shown.explanation is None else canonical_json(shown.explanation),
        actor,
        now,
        due_on(reference, now, sla_days),
    )
    return await _told(tx, row, (), actor, now)


def period_of_plan(reference: Reference, plan_id: str, label: str) -> Period:
    """A statement period of a plan. Raises Refused (409) and InvalidValue."""
    plan = reference.plans.get(plan_id)
    if plan is None:
        msg = f"there is no plan {plan_id}"
        raise Refused("unknown-plan", msg)
    period = reference.period(label)
    if period.kind is not plan.versions[0].period:
        msg = f"statements of plan {plan.id} are for a {plan.versions[0].period}"
        raise InvalidValue(msg, pointer="/period")
    return period


def due_on(reference: Reference, now: datetime, sla_days: int) -> date:
    """The working day by whose end an answer is due: the first one counted is tomorrow or later."""
    calendar = reference.org.calendar
    tomorrow = date.fromordinal(now.astimezone(reference.org.zone).date().toordinal() + 1)
    return calendar.nth_working_day(tomorrow, sla_days)


# ---- answering and resolving --------------------------------------------------------------------


async def comment_on(  # noqa: PLR0913 - what is said, by whom, and what it does
    tx: Connection,
    reference: Reference,
    dispute_id: str,
    *,
    text: str,
    decides: bool,
    actor: str,
    now: datetime,
    sla_days: int,
) -> StoredDispute:
    """Say something. decides: whether the person may decide, so that it is an answer.

    An answer is of somebody who neither raised it nor is paid by it; what anybody else says opens
    it again. Raises Refused: 404; 409 once it is resolved.
    """
    found = await dispute_of(tx, dispute_id, lock=True)
    _must_be_unresolved(found)
    if len(found.comments) >= MAX_COMMENTS:
        msg = f"a dispute has at most {MAX_COMMENTS} comments; resolve it"
        raise Refused("too-many-comments", msg)
    await tx.execute(
        "INSERT INTO dispute_comment (dispute_id, number, person, text, said_at) "
        "VALUES ($1, $2, $3, $4, $5)",
        found.dispute_id,
        len(found.comments) + 1,
        actor,
        text,
        now,
    )
    answered = decides and actor not in {found.raised_by, found.payee}
    again = found.state == "answered" and not answered
    row = await tx.fetchrow(
        "UPDATE dispute SET state = $2, due_on = $3, revision = revision + 1 "  # noqa: S608
        f"WHERE dispute_id = $1 RETURNING {COLUMNS}",
        found.dispute_id,
        "answered" if answered else "open",
        due_on(reference, now, sla_days) if again else found.due_on,
    )
    return await _told(tx, row, [*found.comments, Comment(actor, text, now)], actor, now)


async def resolve_dispute(  # noqa: PLR0913 - the parts of one decision
    tx: Connection,
    dispute_id: str,
    *,
    accepted: bool,
    reason: str,
    adjustments: Sequence[str],
    overrides: Sequence[str],
    actor: str,
    now: datetime,
    one_seat: bool,
) -> StoredDispute:
    """Decide it. Accepted, it names what it led to: approved, and naming the dispute.

    Raises Refused: 404; 409 where it is resolved, by whoever raised it, about own pay, or where
    what it is to have led to does not fit; InvalidValue where an accepted one names nothing.
    """
    found = await dispute_of(tx, dispute_id, lock=True)
    _must_be_unresolved(found)
    check_second_person(
        maker=found.raised_by,
        checker=actor,
        is_own_pay=found.payee == actor,
        of=f"dispute {found.dispute_id}",
        one_seat=one_seat,
    )
    if accepted == (not adjustments and not overrides):
        msg = (
            "an accepted dispute names the adjustments or overrides it led to, a rejected one none"
        )
        raise InvalidValue(msg, pointer="/adjustments")
    await _check_led_to(tx, found, "adjustment", adjustments)
    await _check_led_to(tx, found, "override", overrides)
    row = await tx.fetchrow(
        "UPDATE dispute SET state = 'resolved', outcome = $2, resolved_by = $3, resolved_at = $4, "  # noqa: S608
        "resolution = $5, adjustments = $6, overrides = $7, one_seat = $8, "
        f"revision = revision + 1 WHERE dispute_id = $1 RETURNING {COLUMNS}",
        found.dispute_id,
        "accepted" if accepted else "rejected",
        actor,
        now,
        reason,
        sorted(set(adjustments)),
        sorted(set(overrides)),
        actor in {found.raised_by, found.payee},
    )
    return await _told(tx, row, found.comments, actor, now)


async def withdraw_dispute(
    tx: Connection, dispute_id: str, *, actor: str, now: datetime
) -> StoredDispute:
    """Take back what one has raised. Raises Refused: 404; 409 for others, or once resolved."""
    found = await dispute_of(tx, dispute_id, lock=True)
    if found.outcome == "withdrawn" and found.resolved_by == actor:
        return found
    _must_be_unresolved(found)
    if found.raised_by != actor:
        msg = f"dispute {found.dispute_id} was raised by {found.raised_by}, who can withdraw it"
        raise Refused("raised-by-another", msg)
    row = await tx.fetchrow(
        "UPDATE dispute SET state = 'resolved', outcome = 'withdrawn', resolved_by = $2, "  # noqa: S608
        f"resolved_at = $3, revision = revision + 1 WHERE dispute_id = $1 RETURNING {COLUMNS}",
        found.dispute_id,
        actor,
        now,
    )
    return await _told(tx, row, found.comments, actor, now)


async def dispute_of(tx: Connection, dispute_id: str, *, lock: bool = False) -> StoredDispute:
    """A dispute with its comments. Raises Refused (404)."""
    row = await tx.fetchrow(
        f"SELECT {COLUMNS} FROM dispute WHERE dispute_id = $1"  # noqa: S608 - constants
        + (" FOR UPDATE" if lock else ""),
        dispute_id,
    )
    if row is None:
        raise Refused("not-found", "There is no such dispute.", status=404)
    said = await tx.fetch(
        "SELECT person, text, said_at FROM dispute_comment WHERE dispute_id = $1 ORDER BY number",
        dispute_id,
    )
    return StoredDispute.of(dict(row), [Comment(*entry) for entry in said])


def _must_be_unresolved(found: StoredDispute) -> None:
    if found.state == "resolved":
        msg = f"dispute {found.dispute_id} is {found.outcome}; raise another one"
        raise Refused("dispute-resolved", msg)


async def _check_led_to(
    tx: Connection, found: StoredDispute, what: str, named: Sequence[str]
) -> None:
    """Each is approved and names the dispute, so that the link reads both ways."""
    fitting = {
        row["id"]
        for row in await tx.fetch(
            f"SELECT {what}_id AS id FROM {what} WHERE dispute_id = $1 "  # noqa: S608 - constants
            "AND state = 'approved'",
            found.dispute_id,
        )
    }
    for identity in named:
        if identity not in fitting:
            msg = f"{what} {identity} is not approved, or does not name this dispute"
            raise Refused("not-of-this-dispute", msg)


async def _told(
    tx: Connection,
    row: asyncpg.Record | None,
    comments: Sequence[Comment],
    actor: str,
    now: datetime,
) -> StoredDispute:
    """The dispute as it is now, told to the journal."""
    if row is None:
        msg = "the dispute is gone, though it is locked"
        raise RuntimeError(msg)
    found = StoredDispute.of(dict(row), comments)
    subject = f"dispute/{found.dispute_id}"
    await write_events(tx, DISPUTE, [(subject, found.revision, _data(found, actor))], now)
    return found


def _data(found: StoredDispute, actor: str) -> DisputeData:
    shown = None
    if found.statement_hash is not None:
        shown = ShownData(
            hash=found.statement_hash,
            amount=None if found.amount is None else to_text(found.amount),
            explanation=None if found.explanation is None else dict(found.explanation),
        )
    return DisputeData(
        dispute=found.dispute_id,
        payee=found.payee,
        plan=found.plan_id,
        period=found.period,
        line=found.line_key,
        deal=found.deal_id,
        text=found.text,
        shown=shown,
        state=found.state,
        outcome=found.outcome,
        raised_by=found.raised_by,
        due=found.due_on.isoformat(),
        resolved_by=found.resolved_by,
        resolution=found.resolution,
        adjustments=list(found.adjustments),
        overrides=list(found.overrides),
        comments=[
            CommentData(person=c.person, text=c.text, said_at=instant_text(c.said_at))
            for c in found.comments
        ],
        one_seat=found.one_seat,
        revision=found.revision,
        actor=actor,
    )
