"""Accounts: rate what a payee earns under a plan, and tell the difference to what is stored.

Nothing here writes: settling writes what comes out, the drift check and readers only look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from services.commissions import store
from services.commissions.budgets import grants_with, load_grants
from services.commissions.domain.chain import ChainInput, Rated, YearState, brought_to, rate_chain
from services.commissions.domain.closes import BroughtForward, FixedStatement
from services.commissions.domain.credits import Credit, CreditException, ExceptionKind
from services.commissions.domain.given import Grant, KpiFact
from services.commissions.domain.ledger import (
    Cause,
    Place,
    Posting,
    difference,
    transaction,
    wanted_balances,
)
from services.commissions.domain.periods import Period, PeriodKind, following, period_of
from services.commissions.domain.plan import Plan
from services.commissions.domain.sheet import QuotaKey, Sheet, SheetInput, rate_sheet
from services.commissions.domain.statement import Statement
from services.commissions.needs import UNCREDITED, budgets_in, kpis_in
from services.commissions.reference import Reference
from services.commissions.statement_rows import statement_write
from services.commissions.store import (
    AccountKey,
    Entry,
    StatementWrite,
    StoredStatement,
    Waiting,
    canonical_json,
    deal_named,
)
from services.commissions.targets import load_kpis, load_quotas
from shared.facts.settle import LockedRoot
from shared.ids import derived_id

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

ENGINE = "engine"
"""The actor of everything that is posted because facts or reference data changed."""

Posted = dict[Place, tuple[Decimal, date, date]]


@dataclass(slots=True)
class AccountState:
    """Everything of one account that rating reads, from `since` on.

    begun_until: where the plan has pay without credits, periods that begin before it have it.
    """

    account: AccountKey
    plan: Plan | None
    stored: dict[Period, YearState]
    marked: set[Period] | None
    since: date
    closed_until: date
    begun_until: date | None = None
    credits: dict[Period, list[Credit]] = field(default_factory=dict)
    waiting: dict[Period, list[CreditException]] = field(default_factory=dict)
    fixed: dict[Period, list[FixedStatement]] = field(default_factory=dict)
    quotas: dict[QuotaKey, Decimal] = field(default_factory=dict)
    gates: Mapping[str, Sequence[KpiFact]] = field(default_factory=dict)
    grants: Mapping[str, Grant] = field(default_factory=dict)
    statements: list[StoredStatement] = field(default_factory=list)
    posted: Posted = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AccountOutcome:
    """What rating an account comes to, and what has to be written for it."""

    account: AccountKey
    contribution: str | None
    sheets: Sequence[Sheet]
    writes: Sequence[StatementWrite]
    gone: Sequence[str]
    postings: Sequence[Posting]
    cause: Cause
    days: Mapping[str, tuple[date, date]]

    @property
    def differs(self) -> bool:
        """Whether anything is stored otherwise than it comes out."""
        return bool(self.writes or self.gone or self.postings)

    def entry(self, number: int) -> Entry:
        """The ledger transaction that posts the difference, as the account's `number`-th."""
        made = transaction(self.cause, self.postings)
        # The same difference may have to be posted again after it was undone.
        identity = derived_id(made.id, self.account.root_id, str(number))
        return Entry(self.account, number, identity, made, self.days)


async def rate_accounts(
    tx: Connection, roots: Sequence[LockedRoot], reference: Reference, *, lock: bool = True
) -> list[AccountOutcome]:
    """Rate the marked years of accounts. lock: hold until when all is closed, and has begun."""
    borders = await store.hold_borders(tx, lock=lock)
    states = [_begin(root, reference, borders) for root in roots]
    await _fill(tx, states, reference)
    return [_outcome(state, reference) for state in states]


async def sheet_of(  # noqa: PLR0913 - which sheet, and what is otherwise on it
    tx: Connection,
    account: AccountKey,
    year: Period,
    reference: Reference,
    *,
    extra: Sequence[Credit] = (),
    without_deal: str | None = None,
) -> Sheet | None:
    """One sheet as of a snapshot; None where the plan is unknown.

    extra: credits to rate besides, in place of all of `without_deal`.
    """
    contribution = await tx.fetchval(
        "SELECT contribution::text FROM root WHERE kind = 'account' AND id = $1", account.root_id
    )
    borders = await store.hold_borders(tx, lock=False)
    stored = _stored(contribution, reference)
    state = AccountState(
        account,
        reference.plans.get(account.plan_id),
        stored,
        set(),
        year.start,
        borders.closed_until,
        _begun(account.plan_id, borders, reference),
    )
    await _fill(tx, [state], reference)
    if state.plan is None:
        return None
    if extra or without_deal:
        mine = [c for c in state.credits.get(year, []) if c.deal_id != without_deal]
        state.credits[year] = [*mine, *extra]
        needs = reference.needs[account.plan_id]
        if budgets_in(needs):
            state.grants = await grants_with(tx, state.plan, needs, extra, without_deal)
    given = _sheet_input(state, state.plan, year, brought_to(year, stored), reference)
    return rate_sheet(given)


def _stored(contribution: str | None, reference: Reference) -> dict[Period, YearState]:
    kept: dict[str, YearState] = msgspec.json.decode(contribution) if contribution else {}
    return {reference.year(label): state for label, state in kept.items()}


def _begun(plan_id: str, borders: store.Borders, reference: Reference) -> date | None:
    return borders.begun_until if UNCREDITED in reference.needs.get(plan_id, ()) else None


def _begin(root: LockedRoot, reference: Reference, borders: store.Borders) -> AccountState:
    account = AccountKey.of(root.key.id)
    stored = _stored(root.contribution, reference)
    marked = None if "" in root.parts else {reference.year(part) for part in root.parts}
    since = date.min if not marked else min(marked).start
    plan = reference.plans.get(account.plan_id)
    begun = _begun(account.plan_id, borders, reference)
    return AccountState(account, plan, stored, marked, since, borders.closed_until, begun)


async def _fill(tx: Connection, states: Sequence[AccountState], reference: Reference) -> None:
    """Read for all accounts at once, from the earliest day that any of them needs."""
    accounts = [state.account for state in states]
    since = min(state.since for state in states)
    month = reference.fiscal_start_month
    credits_ = await store.load_credits(tx, accounts, since)
    waiting = await store.load_waiting(tx, accounts, since)
    fixed = await store.load_fixed(tx, accounts, since, month)
    quotas = await load_quotas(tx, sorted({a.payee for a in accounts}))
    statements = await store.load_statements(tx, accounts, since)
    posted = await store.load_posted(tx, accounts, max(since, states[0].closed_until))
    for state in states:
        mine, start = state.account, state.since
        for credit in credits_.get(mine, []):
            if credit.day >= start:
                state.credits.setdefault(reference.year_of(credit.day), []).append(credit)
        for entry in waiting.get(mine, []):
            if entry.day >= start:
                year = reference.year_of(entry.day)
                state.waiting.setdefault(year, []).append(_exception(entry))
        for kept in fixed.get(mine, []):
            if kept.period.start >= start:
                year = reference.year_of(kept.period.start)
                state.fixed.setdefault(year, []).append(kept)
        state.statements = [s for s in statements.get(mine, []) if s.end_day > start]
        state.posted = {
            place: found
            for place, found in posted.get(mine, {}).items()
            if found[1] >= start or state.marked is None
        }
        if state.plan is not None:
            state.quotas = _quotas(quotas.get(mine.payee, []), state.plan, month)
    await _fill_shared(tx, states, reference)


async def _fill_shared(
    tx: Connection, states: Sequence[AccountState], reference: Reference
) -> None:
    """KPIs of gates, and grants of budgets, of those accounts whose plans ask for them."""
    needs = {s.account: reference.needs.get(s.account.plan_id, frozenset()) for s in states}
    gated = {account: kpis for account, said in needs.items() if (kpis := kpis_in(said))}
    if gated:
        facts = await load_kpis(
            tx,
            sorted({account.payee for account in gated}),
            sorted({kpi for kpis in gated.values() for kpi in kpis}),
        )
        for state in states:
            if state.account in gated:
                state.gates = facts.get(state.account.payee, {})
    budgeted = [account for account, said in needs.items() if budgets_in(said)]
    if budgeted:
        grants = await load_grants(tx, budgeted)
        for state in states:
            state.grants = grants.get(state.account, {})


def _exception(entry: Waiting) -> CreditException:
    return CreditException(
        kind=ExceptionKind(entry.kind),
        event_key=entry.event_key,
        deal_id=deal_named(entry.deal_id) or "",
        plan_id=entry.plan_id,
        component_id=entry.component_id,
        payee=entry.payee,
        day=entry.day,
        message=entry.message,
    )


def _quotas(
    rows: Sequence[asyncpg.Record], plan: Plan, fiscal_start_month: int
) -> dict[QuotaKey, Decimal]:
    """Quotas of whole periods in plan currency, or of a count; of two, the greater id's holds."""
    found: dict[QuotaKey, Decimal] = {}
    for row in rows:
        if row["currency"] not in {None, plan.versions[0].currency}:
            continue
        for kind in PeriodKind:
            period = period_of(row["start_day"], kind, fiscal_start_month)
            if (period.start, period.end) == (row["start_day"], row["end_day"]):
                found[row["measure"], kind, period.start] = row["amount"]
    return found


def _sheet_input(
    state: AccountState, plan: Plan, year: Period, left: BroughtForward, reference: Reference
) -> SheetInput:
    return SheetInput(
        payee=state.account.payee,
        plan=plan,
        year=year,
        credits=state.credits.get(year, []),
        assignments=[
            a for a in reference.assignments.get(plan.id, ()) if a.payee == state.account.payee
        ],
        quotas=state.quotas,
        rates=reference.rates,
        exceptions=state.waiting.get(year, []),
        closed_before=state.closed_until,
        fixed=state.fixed.get(year, []),
        brought_forward=left,
        fiscal_start_month=reference.fiscal_start_month,
        gates=state.gates,
        grants=state.grants,
        until=state.begun_until,
        working_days=reference.org.calendar.working_days,
    )


def _years_begun(state: AccountState, reference: Reference) -> set[Period]:
    """Years, from `since` on, in which somebody assigned may have pay without any credit."""
    found: set[Period] = set()
    if state.begun_until is None or state.plan is None:
        return found
    earliest = max(state.since, state.plan.versions[0].effective.first or state.since)
    for assignment in reference.assignments.get(state.plan.id, ()):
        if assignment.payee != state.account.payee:
            continue
        first = max(earliest, assignment.days.first or earliest)
        last = assignment.days.last or date.max
        year = reference.year_of(first)
        while year.start < state.begun_until and year.start <= last and first <= last:
            found.add(year)
            year = following(year, reference.fiscal_start_month)
    return found


def _outcome(state: AccountState, reference: Reference) -> AccountOutcome:
    own = {*state.credits, *state.waiting, *state.fixed, *_years_begun(state, reference)}
    plan = state.plan
    rated = Rated()
    if plan is not None:

        def rate(year: Period, left: BroughtForward) -> Sheet:
            return rate_sheet(_sheet_input(state, plan, year, left, reference))

        everything = {*own, *state.stored}
        marked = everything if state.marked is None else state.marked
        rated = rate_chain(
            ChainInput(
                own,
                marked,
                state.stored,
                state.closed_until,
                reference.fiscal_start_month,
                state.begun_until,
            ),
            rate,
        )
    years = {*rated.sheets, *rated.cleared}
    sheets = list(rated.sheets.values())
    statements = [statement for sheet in sheets for statement in sheet.statements]
    writes, gone = _statement_changes(state, statements, years)
    postings, days = _posting_changes(state, statements, years)
    return AccountOutcome(
        account=state.account,
        contribution=canonical_json(rated.left) if rated.left else None,
        sheets=sheets,
        writes=writes,
        gone=gone,
        postings=postings,
        cause=_cause(plan, sheets, postings),
        days=days,
    )


def _covers(state: AccountState, years: set[Period], start_day: date) -> bool:
    """Whether what begins on a day is in a rated year; when all are, whatever there is."""
    return state.marked is None or any(start_day in year for year in years)


def _statement_changes(
    state: AccountState, statements: Sequence[Statement], years: set[Period]
) -> tuple[list[StatementWrite], list[str]]:
    before = {
        known.period: known for known in state.statements if _covers(state, years, known.start_day)
    }
    writes = []
    for statement in statements:
        known = before.pop(statement.period.label, None)
        write = statement_write(state.account, statement)
        if known is None or known.document != write.document:
            writes.append(write)
    return writes, sorted(before)


def _posting_changes(
    state: AccountState, statements: Sequence[Statement], years: set[Period]
) -> tuple[tuple[Posting, ...], dict[str, tuple[date, date]]]:
    """What has to be posted to open periods, and the days of these periods."""
    wanted: dict[Place, Decimal] = {}
    days: dict[str, tuple[date, date]] = {}
    for statement in statements:
        if not statement.closed and statement.period.end > state.closed_until:
            wanted.update(wanted_balances(statement))
            days[statement.period.label] = (statement.period.start, statement.period.end)
    posted = {}
    for place, (amount, start_day, end_day) in state.posted.items():
        if _covers(state, years, start_day):
            posted[place] = amount
            days.setdefault(place.period, (start_day, end_day))
    return difference(posted, wanted), days


def _cause(plan: Plan | None, sheets: Sequence[Sheet], postings: Sequence[Posting]) -> Cause:
    """The events behind the lines that are posted to."""
    keys = {posting.place.key for posting in postings}
    events: set[str] = set()
    if keys:
        for sheet in sheets:
            for statement in sheet.statements:
                for line in statement.lines:
                    if line.key in keys and line.credit is not None:
                        events.update(line.credit.source_ids)
    return Cause(tuple(sorted(events)), plan.versions[-1].hash if plan else "", ENGINE)
