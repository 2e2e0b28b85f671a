"""Accounts: rate what a payee earns under a plan, and tell the difference to what is stored.

Nothing here writes: settling writes what comes out, the drift check and readers only look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from services.commissions import store
from services.commissions.agreements.agreed import NOTHING, Agreed, load_agreed
from services.commissions.budgets import load_grants
from services.commissions.domain.adjustments import Adjusted
from services.commissions.domain.agreed import Adjustment, Override
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
from services.commissions.domain.lines import Line
from services.commissions.domain.overrides import Overridden
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
    Span,
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
    from shared.db.pool import Connection

ENGINE = "engine"
"""The actor of everything that is posted because facts or reference data changed."""

Posted = dict[Place, tuple[Decimal, date, date]]


@dataclass(slots=True)
class AccountState:
    """Everything of one account that rating reads, from `since` on, and before `until`.

    begun_until: where the plan has pay without credits, periods that begin before it have it.
    """

    account: AccountKey
    plan: Plan | None
    stored: dict[Period, YearState]
    marked: set[Period] | None
    since: date
    closed_until: date
    begun_until: date | None = None
    until: date = date.max
    credits: dict[Period, list[Credit]] = field(default_factory=dict)
    waiting: dict[Period, list[CreditException]] = field(default_factory=dict)
    fixed: dict[Period, list[FixedStatement]] = field(default_factory=dict)
    quotas: dict[QuotaKey, Decimal] = field(default_factory=dict)
    gates: Mapping[str, Sequence[KpiFact]] = field(default_factory=dict)
    grants: Mapping[str, Grant] = field(default_factory=dict)
    adjustments: dict[Period, list[Adjustment]] = field(default_factory=dict)
    overrides: Sequence[Override] = ()
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
    """Rate whole years of accounts, all or the marked ones: what windowed.py does, plainly.

    lock: hold until when all is closed, and has begun.
    """
    return outcomes_of(await read_accounts(tx, roots, reference, lock=lock), reference)


async def read_accounts(
    tx: Connection, roots: Sequence[LockedRoot], reference: Reference, *, lock: bool
) -> list[AccountState]:
    """Everything that rating accounts takes. lock: as for rate_accounts."""
    borders = await store.hold_borders(tx, lock=lock)
    states = [_begin(root, reference, borders) for root in roots]
    await fill_all(tx, states, reference)
    return states


def outcomes_of(states: Iterable[AccountState], reference: Reference) -> list[AccountOutcome]:
    """What accounts come to that have been read. Pure."""
    return [_outcome(state, reference) for state in states]


async def sheet_of(
    tx: Connection, account: AccountKey, year: Period, reference: Reference
) -> Sheet | None:
    """One sheet as of a snapshot; None where the plan is unknown."""
    state = await account_since(tx, account, year.start, reference)
    return None if state.plan is None else rated_sheet(state, state.plan, year, reference)


async def account_since(
    tx: Connection, account: AccountKey, since: date, reference: Reference
) -> AccountState:
    """What rates an account from a year's first day on, as of a snapshot."""
    contribution = await tx.fetchval(
        "SELECT contribution::text FROM root WHERE kind = 'account' AND id = $1", account.root_id
    )
    borders = await store.hold_borders(tx, lock=False)
    state = begin_account(account, contribution, since, reference, borders)
    await fill_given(tx, [state], reference)
    return state


def rated_sheet(state: AccountState, plan: Plan, year: Period, reference: Reference) -> Sheet:
    """One year of an account that has been read."""
    return rate_sheet(sheet_input(state, plan, year, brought_to(year, state.stored), reference))


def _stored(contribution: str | None, reference: Reference) -> dict[Period, YearState]:
    """What each year leaves: what its last window does."""
    found: dict[Period, YearState] = {}
    for window, state in sorted(stored_windows(contribution, reference).items(), key=_end):
        found[reference.year_of(window.start)] = state
    return found


def stored_windows(contribution: str | None, reference: Reference) -> dict[Period, YearState]:
    """What each window leaves."""
    kept: dict[str, YearState] = msgspec.json.decode(contribution) if contribution else {}
    return {reference.period(label): state for label, state in kept.items()}


def _end(window: tuple[Period, YearState]) -> date:
    return window[0].end


def _begun(plan_id: str, borders: store.Borders, reference: Reference) -> date | None:
    return borders.begun_until if UNCREDITED in reference.needs.get(plan_id, ()) else None


def _begin(root: LockedRoot, reference: Reference, borders: store.Borders) -> AccountState:
    marked = None
    if "" not in root.parts and not root.older:
        marked = {reference.year_of(reference.period(part).start) for part in root.parts}
    since = date.min if not marked else min(marked).start
    account = AccountKey.of(root.key.id)
    state = begin_account(account, root.contribution, since, reference, borders)
    state.marked = marked
    return state


def begin_account(
    account: AccountKey,
    contribution: str | None,
    since: date,
    reference: Reference,
    borders: store.Borders,
) -> AccountState:
    """An account before anything is read of it but its contribution; all its years are marked."""
    return AccountState(
        account,
        reference.plans.get(account.plan_id),
        _stored(contribution, reference),
        None,
        since,
        borders.closed_until,
        _begun(account.plan_id, borders, reference),
    )


async def fill_all(tx: Connection, states: Sequence[AccountState], reference: Reference) -> None:
    """Read everything of accounts: what rates them, and what is stored and posted of it."""
    await fill_given(tx, states, reference)
    await fill_statements(tx, states)
    spans = [
        Span(state.account, max(state.since, state.closed_until), state.until) for state in states
    ]
    posted = await store.load_posted(tx, spans)
    for state in states:
        state.posted = {
            place: found
            for place, found in posted.get(state.account, {}).items()
            if found[1] >= state.since or state.marked is None
        }


async def fill_given(tx: Connection, states: Sequence[AccountState], reference: Reference) -> None:
    """Read what rates accounts, for all at once."""
    accounts = [state.account for state in states]
    since = min(state.since for state in states)
    month = reference.fiscal_start_month
    spans = _spans(states)
    credits_ = await store.load_credits(tx, spans)
    waiting = await store.load_waiting(tx, spans)
    fixed = await store.load_fixed(tx, spans, month)
    quotas = await load_quotas(tx, sorted({a.payee for a in accounts}))
    agreed = await load_agreed(tx, accounts, since)
    for state in states:
        mine = state.account
        for credit in credits_.get(mine, []):
            state.credits.setdefault(reference.year_of(credit.day), []).append(credit)
        for entry in waiting.get(mine, []):
            year = reference.year_of(entry.day)
            state.waiting.setdefault(year, []).append(exception_of(entry))
        for kept in fixed.get(mine, []):
            year = reference.year_of(kept.period.start)
            state.fixed.setdefault(year, []).append(kept)
        _take_agreed(state, agreed.get(mine, NOTHING), reference)
        if state.plan is not None:
            state.quotas = quotas_in(quotas.get(mine.payee, []), state.plan, month)
    await _fill_shared(tx, states, reference)


def _take_agreed(state: AccountState, agreed: Agreed, reference: Reference) -> None:
    for adjustment in agreed.adjustments:
        if state.since <= adjustment.day < state.until:
            year = reference.year_of(adjustment.day)
            state.adjustments.setdefault(year, []).append(adjustment)
    state.overrides = agreed.overrides


async def fill_statements(tx: Connection, states: Sequence[AccountState]) -> None:
    """Read the statements that are stored of accounts."""
    statements = await store.load_statements(tx, _spans(states))
    for state in states:
        state.statements = statements.get(state.account, [])


def _spans(states: Sequence[AccountState]) -> list[Span]:
    return [Span(state.account, state.since, state.until) for state in states]


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


def exception_of(entry: Waiting) -> CreditException:
    """A row of credit_exception as rating reads it."""
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


class QuotaRow(Protocol):
    """A quota's `measure`, `start_day`, `end_day`, `amount` and `currency`."""

    def __getitem__(self, name: str, /) -> Any:  # noqa: ANN401 - a column's value
        """One of them."""


def quotas_in(
    rows: Sequence[QuotaRow], plan: Plan, fiscal_start_month: int
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


def sheet_input(
    state: AccountState, plan: Plan, year: Period, left: BroughtForward, reference: Reference
) -> SheetInput:
    """What a year, or a window of it, is rated from."""
    return SheetInput(
        payee=state.account.payee,
        plan=plan,
        year=year,
        credits=state.credits.get(year, []),
        assignments=reference.assignments_of(state.account.payee, plan.id),
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
        adjustments=state.adjustments.get(year, ()),
        overrides=state.overrides,
    )


def _years_begun(state: AccountState, reference: Reference) -> set[Period]:
    """Years, from `since` on, in which somebody assigned may have pay without any credit."""
    found: set[Period] = set()
    if state.begun_until is None or state.plan is None:
        return found
    earliest = max(state.since, state.plan.versions[0].effective.first or state.since)
    for assignment in reference.assignments_of(state.account.payee, state.plan.id):
        first = max(earliest, assignment.days.first or earliest)
        last = assignment.days.last or date.max
        year = reference.year_of(first)
        while year.start < state.begun_until and year.start <= last and first <= last:
            found.add(year)
            year = following(year, reference.fiscal_start_month)
    return found


def own_years(state: AccountState, reference: Reference) -> set[Period]:
    """Years in which an account has something of its own, or has begun."""
    return {
        *(*state.credits, *state.waiting, *state.fixed, *state.adjustments),
        *_years_begun(state, reference),
    }


def rated_years(state: AccountState, reference: Reference) -> Rated:
    """An account's marked years, rated from what the state was filled with. Pure."""
    plan = state.plan
    if plan is None:
        return Rated()

    def rate(year: Period, left: BroughtForward) -> Sheet:
        return rate_sheet(sheet_input(state, plan, year, left, reference))

    own = own_years(state, reference)
    everything = {*own, *state.stored}
    given = ChainInput(
        own,
        everything if state.marked is None else state.marked,
        state.stored,
        state.closed_until,
        reference.fiscal_start_month,
        state.begun_until,
    )
    return rate_chain(given, rate)


def _outcome(state: AccountState, reference: Reference) -> AccountOutcome:
    return outcome_of(state, rated_years(state, reference))


def outcome_of(state: AccountState, rated: Rated) -> AccountOutcome:
    """What has to be written of an account, once it is rated. Pure."""
    plan = state.plan
    years = {*rated.sheets, *rated.cleared}
    sheets = list(rated.sheets.values())
    statements = [statement for sheet in sheets for statement in sheet.statements]
    writes, gone = statement_changes(state, statements, years)
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


def statement_changes(
    state: AccountState, statements: Sequence[Statement], years: set[Period]
) -> tuple[list[StatementWrite], list[str]]:
    """The statements of rated years that are stored otherwise, and those that are no more."""
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
                    if line.key in keys:
                        events.update(_events_behind(line))
    return Cause(tuple(sorted(events)), plan.versions[-1].hash if plan else "", ENGINE)


def _events_behind(line: Line) -> Iterator[str]:
    """The facts that a line was made of, and the decision, where people agreed on it."""
    if line.credit is not None:
        yield from line.credit.source_ids
    match line.basis:
        case Adjusted(adjustment=agreed) | Overridden(override=agreed):
            yield agreed.agreement.event_id
