"""Changes that reach into closed periods: told with what they move, signed by a second person.

A closed statement never changes; what such a change makes of it is carried to the first open
period. So it is kept as a proposal first, with the carried difference by period and payee as of
the day it was asked, and counts only when somebody else has confirmed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from services.commissions.events import write_events
from services.commissions.store import canonical_json
from services.commissions.two_persons import check_second_person
from services.commissions.whatif.differences import PeriodDifference, WhatIf
from shared.errors import Refused
from shared.events.journals import PROPOSAL, ProposalData
from shared.money import EXACT, exact_sum, to_text

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection, Pool

PROPOSED, CONFIRMED, WITHDRAWN = "proposed", "confirmed", "withdrawn"
MAX_ROWS = 200
"""Payees and periods told one by one, those first that change most; all count in the sums."""

COLUMNS = (
    "subject, plan_id, state, said::text AS said, figures::text AS figures, payees, closed_until, "
    "asked_by, asked_at, decided_by, decided_at, one_seat, revision"
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A row of `proposal`."""

    subject: str
    plan_id: str
    state: str
    said: Mapping[str, Any]
    figures: Mapping[str, Any] | None
    payees: frozenset[str]
    closed_until: date
    asked_by: str
    asked_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    one_seat: bool
    revision: int

    @classmethod
    def of(cls, row: asyncpg.Record) -> Proposal:
        """From a row of COLUMNS."""
        known = dict(row)
        known["said"] = msgspec.json.decode(row["said"])
        known["figures"] = None if row["figures"] is None else msgspec.json.decode(row["figures"])
        known["payees"] = frozenset(row["payees"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Moved:
    """What a change moves in closed periods. document: as it is told. payees: whose pay it is."""

    document: Mapping[str, Any]
    payees: frozenset[str]
    difference: Decimal


def moved_by(found: WhatIf, until: date | None) -> Moved:
    """What a what-if changes in statements that end by `until`, those that are closed, or in all.

    Of closed ones it is the carried difference.
    """
    rows: list[tuple[Decimal, dict[str, str]]] = []
    by_period: dict[tuple[str, str], list[Decimal]] = {}
    for account, changed in found.accounts.items():
        for statement in changed.periods:
            amount = EXACT.subtract(statement.after, statement.before)
            if not amount or (until is not None and statement.end > until):
                continue
            by_period.setdefault((account.plan_id, statement.period), []).append(amount)
            told = _difference(statement.before, statement.after, amount)
            named = {"payee": account.payee, "plan": account.plan_id, "period": statement.period}
            rows.append((amount, {**named, "currency": changed.currency, **told}))
    rows.sort(key=lambda row: (-abs(row[0]), row[1]["period"], row[1]["payee"]))
    amounts = [amount for amount, _ in rows]
    document = {
        "until": None if until is None else until.isoformat(),
        "recalculating": found.recalculating,
        "difference": to_text(exact_sum(amounts)),
        "moved": to_text(exact_sum(map(abs, amounts))),
        "periods": [
            _period(plan_id, label, found.by_period[plan_id, label], by_period[plan_id, label])
            for plan_id, label in sorted(by_period)
        ],
        "payees": [told for _, told in rows[:MAX_ROWS]],
        "untold": max(0, len(rows) - MAX_ROWS),
    }
    payees = frozenset(told["payee"] for _, told in rows)
    return Moved(document, payees, exact_sum(amounts))


def _period(
    plan_id: str, label: str, whole: PeriodDifference, amounts: list[Decimal]
) -> dict[str, Any]:
    difference = _difference(whole.before, whole.after, exact_sum(amounts))
    moved = to_text(exact_sum(map(abs, amounts)))
    named = {"plan": plan_id, "period": label, "currency": whole.currency}
    return {**named, **difference, "moved": moved, "payees": len(amounts)}


def _difference(before: Decimal, after: Decimal, amount: Decimal) -> dict[str, str]:
    return {"before": to_text(before), "after": to_text(after), "difference": to_text(amount)}


async def closed_until(tx: Connection | Pool, *, lock: bool = False) -> date:
    """The day before which all is closed; locked, it does not move before `tx` ends."""
    suffix = " FOR SHARE" if lock else ""
    day: date = await tx.fetchval(f"SELECT day FROM closed_until{suffix}")  # noqa: S608 - constants
    return day


async def load_proposal(tx: Connection, subject: str, *, lock: bool = False) -> Proposal | None:
    """The proposal of that subject."""
    suffix = " FOR UPDATE" if lock else ""
    row = await tx.fetchrow(
        f"SELECT {COLUMNS} FROM proposal WHERE subject = $1{suffix}",  # noqa: S608 - constants
        subject,
    )
    return None if row is None else Proposal.of(row)


async def propose(  # noqa: PLR0913 - a proposal's parts
    tx: Connection,
    subject: str,
    plan_id: str,
    said: Mapping[str, Any],
    *,
    until: date,
    actor: str,
    now: datetime,
) -> Proposal:
    """Ask for a change. The same again is the same proposal, as long as nothing else was closed.

    Raises Refused (409) while another change of the same thing waits.
    """
    before = await load_proposal(tx, subject, lock=True)
    if before is not None and before.state == PROPOSED:
        if canonical_json(before.said) != canonical_json(said):
            msg = "another change of it waits for a second person: confirm or withdraw that first"
            raise Refused("proposal-waits", msg)
        if before.figures is not None and before.closed_until == until:
            return before
    asked = Proposal(
        subject=subject,
        plan_id=plan_id,
        state=PROPOSED,
        said=said,
        figures=None,
        payees=frozenset(),
        closed_until=until,
        asked_by=actor,
        asked_at=now,
        decided_by=None,
        decided_at=None,
        one_seat=False,
        revision=1 if before is None else before.revision + 1,
    )
    await _save(tx, asked, actor, now)
    return asked


async def tell_figures(
    tx: Connection, asked: Proposal, moved: Moved, findings: list[dict[str, str]], now: datetime
) -> Proposal | None:
    """Keep what it moves; None when it was decided or asked anew meanwhile."""
    stored = await load_proposal(tx, asked.subject, lock=True)
    if stored is None or stored.revision != asked.revision or stored.state != PROPOSED:
        return None
    told = replace(
        stored,
        figures={**moved.document, "findings": findings},
        payees=moved.payees,
        revision=stored.revision + 1,
    )
    await _save(tx, told, told.asked_by, now)
    return told


async def confirm(
    tx: Connection, asked: Proposal, *, actor: str, now: datetime, one_seat: bool
) -> Proposal:
    """Sign a locked proposal; whoever calls then saves what it says, in the same transaction.

    Raises Refused (409): it is decided, its figures are not known, another period was closed since
    it was asked, the same person asked, or it changes the actor's own pay.
    """
    _check_open(asked)
    if asked.figures is None:
        msg = "what it would move is still being worked out; read it again in a moment, then sign"
        raise Refused("figures-missing", msg)
    if await closed_until(tx, lock=True) > asked.closed_until:
        msg = "another period was closed since it was asked; ask again, to see what it moves now"
        raise Refused("closed-meanwhile", msg)
    check_second_person(
        maker=asked.asked_by,
        checker=actor,
        is_own_pay=actor in asked.payees,
        of="a change of closed periods",
        one_seat=one_seat,
    )
    return await _decide(tx, asked, CONFIRMED, actor, now)


async def withdraw(tx: Connection, asked: Proposal, *, actor: str, now: datetime) -> Proposal:
    """Take a locked proposal back. Raises Refused (409) when it is decided."""
    _check_open(asked)
    return await _decide(tx, asked, WITHDRAWN, actor, now)


def _check_open(asked: Proposal) -> None:
    if asked.state != PROPOSED:
        msg = f"it was {asked.state} by {asked.decided_by}; propose it again to change that"
        raise Refused("proposal-decided", msg)


async def _decide(
    tx: Connection, asked: Proposal, state: str, actor: str, now: datetime
) -> Proposal:
    decided = replace(
        asked,
        state=state,
        decided_by=actor,
        decided_at=now,
        one_seat=state == CONFIRMED and actor == asked.asked_by,
        revision=asked.revision + 1,
    )
    await _save(tx, decided, actor, now)
    return decided


async def _save(tx: Connection, said: Proposal, actor: str, now: datetime) -> None:
    await tx.execute(
        "INSERT INTO proposal AS p (subject, plan_id, state, said, figures, payees, closed_until, "
        "asked_by, asked_at, decided_by, decided_at, one_seat, revision) VALUES ($1, $2, $3, "
        "$4::text::json, $5::text::json, $6, $7, $8, $9, $10, $11, $12, $13) "
        "ON CONFLICT (subject) DO UPDATE SET plan_id = excluded.plan_id, state = excluded.state, "
        "said = excluded.said, figures = excluded.figures, payees = excluded.payees, "
        "closed_until = excluded.closed_until, asked_by = excluded.asked_by, "
        "asked_at = excluded.asked_at, decided_by = excluded.decided_by, "
        "decided_at = excluded.decided_at, one_seat = excluded.one_seat, "
        "revision = excluded.revision",
        said.subject,
        said.plan_id,
        said.state,
        canonical_json(said.said),
        None if said.figures is None else canonical_json(said.figures),
        sorted(said.payees),
        said.closed_until,
        said.asked_by,
        said.asked_at,
        said.decided_by,
        said.decided_at,
        said.one_seat,
        said.revision,
    )
    data = ProposalData(
        proposal=said.subject,
        plan=said.plan_id,
        state=said.state,  # type: ignore[arg-type]  # one of the three above
        said=dict(said.said),
        closed_until=said.closed_until.isoformat(),
        figures=None if said.figures is None else dict(said.figures),
        asked_by=said.asked_by,
        decided_by=said.decided_by,
        one_seat=said.one_seat,
        revision=said.revision,
        actor=actor,
    )
    await write_events(tx, PROPOSAL, [(f"proposal/{said.subject}", said.revision, data)], now)
