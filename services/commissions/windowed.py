"""Accounts as facts change them: only the windows that are touched are read and rated again.

What comes out is what rating.py makes of the whole years; the drift check compares the two. What is
read and rated grows with a window's credits, and not with what an account has ever earned.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, TypeVar

from services.commissions import store
from services.commissions.domain.chain import ChainInput, Rated, YearState, rate_chain
from services.commissions.domain.closes import BroughtForward
from services.commissions.domain.periods import Period
from services.commissions.domain.sheet import Sheet, rate_sheet
from services.commissions.domain.windows import Windows, linked_years, meet
from services.commissions.rating import (
    AccountOutcome,
    AccountState,
    begin_account,
    fill_all,
    outcome_of,
    sheet_input,
    stored_windows,
)
from services.commissions.reference import Reference
from shared.facts.settle import LockedRoot

if TYPE_CHECKING:
    from shared.db.pool import Connection

T = TypeVar("T")

QUIET_S = 1.0
"""A transaction says something at least so often: an idle one is ended by the server."""


class _BeyondError(Exception):
    """More windows have to be rated than were read."""


@dataclass(slots=True)
class _Account:
    """One account on its way. parts: the marked stretches; None: everything."""

    root: LockedRoot
    state: AccountState
    windows: Windows
    stored: Mapping[Period, YearState]
    parts: Sequence[Period] | None
    own: set[Period] = field(default_factory=set)


async def rate_windows(
    tx: Connection, roots: Sequence[LockedRoot], reference: Reference
) -> list[AccountOutcome]:
    """Rate what is marked of accounts, and what that changes after it.

    Holds until when all is closed, and has begun.
    """
    borders = await store.hold_borders(tx, lock=True)
    accounts = [_begin(root, reference, borders) for root in roots]
    await fill_all(tx, [account.state for account in accounts], reference)
    outcomes: dict[int, AccountOutcome] = {}
    beyond: list[int] = []
    quiet_since = time.monotonic()
    for number, account in enumerate(accounts):
        outcome = _outcome(account, reference)
        if outcome is None:
            beyond.append(number)
        else:
            outcomes[number] = outcome
        await asyncio.sleep(0)
        if time.monotonic() - quiet_since > QUIET_S:
            await tx.execute("SELECT")
            quiet_since = time.monotonic()
    for number in beyond:
        wider = _widened(accounts[number], reference, borders)
        await fill_all(tx, [wider.state], reference)
        found = _outcome(wider, reference)
        if found is None:
            msg = f"account {wider.root.key.id} has windows beyond all that was read"
            raise RuntimeError(msg)
        outcomes[number] = found
    return [outcomes[number] for number in range(len(accounts))]


def _begin(root: LockedRoot, reference: Reference, borders: store.Borders) -> _Account:
    account = store.AccountKey.of(root.key.id)
    stored = stored_windows(root.contribution, reference)
    windows = reference.windows(account.plan_id)
    parts = None
    since, until = date.min, date.max
    if "" not in root.parts and not root.older:
        parts = [reference.period(part) for part in root.parts]
        # Whatever is rated in one is read whole.
        reached = [*parts, *(known for known in stored if _met(known, parts))]
        since = min(stretch.start for stretch in reached)
        until = max(stretch.end for stretch in reached)
    state = begin_account(account, None, since, reference, borders)
    state.until = until
    return _Account(root, state, windows, stored, parts)


def _met(window: Period, parts: Iterable[Period]) -> bool:
    return any(meet(window, part) for part in parts)


def _widened(account: _Account, reference: Reference, borders: store.Borders) -> _Account:
    """The same with whole years, and with all that comes after it."""
    since = account.state.since
    if since != date.min:
        since = reference.year_of(since).start
    state = begin_account(account.state.account, None, since, reference, borders)
    return replace(account, state=state, own=set())


def _outcome(account: _Account, reference: Reference) -> AccountOutcome | None:
    """What an account comes to; None where more has to be read."""
    state = account.state
    if state.overrides and not _reads_years(state, reference):
        return None
    _cut(account, reference)
    marked = None
    if account.parts is not None:
        known = {*account.own, *account.stored}
        marked = {window for window in known if _met(window, account.parts)}
        marked |= {account.windows.at(part.start) for part in account.parts}
    state.marked = marked
    try:
        return outcome_of(state, _rated(account, reference))
    except _BeyondError:
        return None


def _reads_years(state: AccountState, reference: Reference) -> bool:
    """Whether no year was read in part. An override takes a deal's lines wherever they are."""
    return all(
        day in {date.min, date.max} or reference.year_of(day).start == day
        for day in (state.since, state.until)
    )


def _cut(account: _Account, reference: Reference) -> None:
    """Put what was read by years into windows."""
    state, plan_id = account.state, account.state.account.plan_id
    capped = reference.deal_capped.get(plan_id, frozenset())
    whole = {
        known
        for known in account.stored
        if reference.year_of(known.start) == known and not _reads(state, known)
    }
    for year, found in state.credits.items():
        if _reads(state, year) and capped:
            whole |= linked_years(found, capped, reference.year_of, account.windows.at)
    if state.overrides:
        read = {*state.credits, *state.waiting, *state.fixed, *state.adjustments}
        whole |= {year for year in read if _reads(state, year)}
    account.windows = replace(account.windows, whole=frozenset(whole))
    at = account.windows.at
    state.credits = _regrouped(state.credits, lambda credit: at(credit.day))
    state.waiting = _regrouped(state.waiting, lambda entry: at(entry.day))
    state.fixed = _regrouped(state.fixed, lambda fixed: at(fixed.period.start))
    state.adjustments = _regrouped(state.adjustments, lambda agreed: at(agreed.day))
    account.own = {*state.credits, *state.waiting, *state.fixed, *state.adjustments}
    account.own |= _begun(account, reference)


def _reads(state: AccountState, year: Period) -> bool:
    return state.since <= year.start and year.end <= state.until


def _regrouped(
    by_year: Mapping[Period, Sequence[T]], window_of: Callable[[T], Period]
) -> dict[Period, list[T]]:
    found: dict[Period, list[T]] = {}
    for entries in by_year.values():
        for entry in entries:
            found.setdefault(window_of(entry), []).append(entry)
    return found


def _begun(account: _Account, reference: Reference) -> set[Period]:
    """Windows that were read in which somebody assigned may have pay without any credit."""
    state, windows = account.state, account.windows
    found: set[Period] = set()
    if state.begun_until is None or state.plan is None:
        return found
    earliest = max(state.since, state.plan.versions[0].effective.first or state.since)
    for assignment in reference.assignments_of(state.account.payee, state.plan.id):
        first = max(earliest, assignment.days.first or earliest)
        last = min(assignment.days.last or date.max, state.until)
        window = windows.at(first)
        while window.start < min(state.begun_until, state.until) and first <= last >= window.start:
            found.add(window)
            window = windows.after(window)
    return found


def _rated(account: _Account, reference: Reference) -> Rated:
    """The chain of an account's windows. Raises _BeyondError where it leaves what was read."""
    state, plan, windows = account.state, account.state.plan, account.windows
    if plan is None:
        return Rated()

    def rate(window: Period, left: BroughtForward) -> Sheet:
        if window.end > state.until:
            raise _BeyondError
        return rate_sheet(sheet_input(state, plan, window, left, reference))

    stored = {known: kept for known, kept in account.stored.items() if windows.holds(known)}
    marked = {*account.own, *stored} if state.marked is None else state.marked
    given = ChainInput(
        account.own,
        {window for window in marked if windows.holds(window)},
        stored,
        state.closed_until,
        reference.fiscal_start_month,
        state.begun_until,
        windows.after,
    )
    rated = rate_chain(given, rate)
    if any(window.end > state.until for window in rated.cleared):
        raise _BeyondError  # what is stored of it has to be taken back
    # Windows of another cut: what they hold is in the others now.
    rated.cleared += [known for known in account.stored if not windows.holds(known)]
    return rated
