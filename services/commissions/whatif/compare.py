"""One account as stored and as it would be: statements, lines, tiers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from services.commissions.domain.chain import Rated
from services.commissions.domain.lines import Line, LineKind
from services.commissions.domain.periods import Period
from services.commissions.domain.rates import ZERO
from services.commissions.domain.sheet import Sheet
from services.commissions.domain.statement import Statement
from services.commissions.domain.terms import Over
from services.commissions.rating import AccountState, own_years, rated_years, statement_changes
from services.commissions.reference import Reference
from services.commissions.store import AccountKey, StoredStatement
from shared.money import quantise


@dataclass(frozen=True, slots=True)
class StatementDifference:
    """One statement, as stored and as it would be, in plan currency.

    before, after: what its lines earn, as of today: for a closed period not what the close fixed.
    payable_before, payable_after: what it pays; of a closed one that never changes, the difference
    is carried to the first open one. waited: something of it waited before (a missing rate, …).
    """

    period: str
    start: date
    end: date
    closed: bool
    waited: bool
    before: Decimal
    after: Decimal
    payable_before: Decimal
    payable_after: Decimal

    @property
    def changes(self) -> bool:
        """Whether it earns or pays another amount."""
        return self.before != self.after or self.payable_before != self.payable_after


@dataclass(frozen=True, slots=True)
class LineDifference:
    """One line that would be otherwise; None: it is not there."""

    period: str
    key: str
    kind: str
    component: str | None
    deal: str | None
    before: Decimal | None
    after: Decimal | None


@dataclass(frozen=True, slots=True)
class TierReached:
    """The tier in which a measure ends. place: from 0; begins_at: on the table's own axis."""

    place: int
    begins_at: Decimal
    rate: Decimal


@dataclass(frozen=True, slots=True)
class TierChange:
    """Where one component's measure ends; None: nothing is credited there, or it has no tiers."""

    component: str
    measure: str
    before: TierReached | None
    after: TierReached | None

    @property
    def crosses(self) -> bool:
        """Whether another tier is reached: its number is another one."""
        return (self.before.place if self.before else 0) != (self.after.place if self.after else 0)


@dataclass(frozen=True, slots=True)
class AccountDifference:
    """One payee under one plan: every statement of the range, also those that stay as they are.

    lines: those that differ; tiers: of every measure of the range; both only where asked for.
    """

    account: AccountKey
    currency: str
    periods: tuple[StatementDifference, ...]
    lines: tuple[LineDifference, ...] = ()
    tiers: tuple[TierChange, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether some statement earns or pays another amount."""
        return any(statement.changes for statement in self.periods)


@dataclass(frozen=True, slots=True)
class Range:
    """Days from `since` until before `until`; None: without end."""

    since: date
    until: date | None

    def meets(self, start: date, end: date) -> bool:
        """Whether a half-open period has a day in it."""
        return end > self.since and (self.until is None or start < self.until)


def compared(  # noqa: PLR0913 - an account, and what it is given before and after
    state: AccountState,
    changed: Reference,
    range_: Range,
    before: AccountState | None,
    present: Reference | None,
    *,
    detail: bool,
) -> AccountDifference:
    """Rate an account with changed reference data, and tell what differs from what is stored.

    before: the same account under present reference data, for its tiers.
    """
    _mark_years(state, changed)
    rated = rated_years(state, changed)
    statements = [s for sheet in rated.sheets.values() for s in sheet.statements]
    writes, gone = statement_changes(state, statements, {*rated.sheets, *rated.cleared})
    differing = {write.period for write in writes}.union(gone)
    after = {statement.period.label: statement for statement in statements}
    stored = {known.period: known for known in state.statements}
    periods: list[StatementDifference] = []
    lines: list[LineDifference] = []
    for label in {**stored, **after}:
        was, is_ = stored.get(label), after.get(label)
        start, end = _days(was, is_)
        if not range_.meets(start, end):
            continue
        document = None if was is None else msgspec.json.decode(was.document)
        unchanged = label not in differing
        periods.append(_statement(label, (start, end), document, is_, state, unchanged=unchanged))
        if detail and not unchanged:
            lines += _lines(label, document, is_)
    tiers: list[TierChange] = []
    if detail:
        tiers = _tiers(state, rated, range_, before, present)
    return AccountDifference(
        state.account,
        _currency(state, statements, stored),
        tuple(sorted(periods, key=lambda p: p.start)),
        tuple(lines),
        tuple(tiers),
    )


def _mark_years(state: AccountState, changed: Reference) -> None:
    """Every year from the state's first day on that has anything, or has begun."""
    if state.since == date.min:
        state.marked = None
        return
    known = {*own_years(state, changed), *state.stored}
    state.marked = {year for year in known if year.start >= state.since}


def _days(was: StoredStatement | None, is_: Statement | None) -> tuple[date, date]:
    if was is not None:
        return was.start_day, was.end_day
    if is_ is None:
        return date.min, date.min
    return is_.period.start, is_.period.end


def _statement(  # noqa: PLR0913 - a statement and what it is compared with
    label: str,
    days: tuple[date, date],
    document: Mapping[str, Any] | None,
    is_: Statement | None,
    state: AccountState,
    *,
    unchanged: bool,
) -> StatementDifference:
    before = payable_before = ZERO
    if document is not None:
        before, payable_before = _amount(document["own"]), _amount(document["payable"])
    after, payable_after = ZERO, ZERO
    if unchanged:
        after, payable_after = before, payable_before
    elif is_ is not None:
        after, payable_after = is_.own, is_.payable
    return StatementDifference(
        period=label,
        start=days[0],
        end=days[1],
        closed=days[1] <= state.closed_until,
        waited=document is not None and bool(document["exceptions"]),
        before=before,
        after=after,
        payable_before=payable_before,
        payable_after=payable_after,
    )


def _lines(
    label: str, document: Mapping[str, Any] | None, is_: Statement | None
) -> list[LineDifference]:
    """Lines that differ in amount, in the order of the statement as it would be."""
    was = {line["key"]: line for line in (document or {}).get("lines", ())}
    found = []
    for line in () if is_ is None else is_.lines:
        known = was.pop(line.key, None)
        amount = None if known is None else _amount(known["amount"])
        if amount != line.amount:
            found.append(
                LineDifference(
                    label,
                    line.key,
                    line.kind.value,
                    line.component_id or None,
                    line.deal_id,
                    amount,
                    line.amount,
                )
            )
    found += [
        LineDifference(
            label, key, known["kind"], known["component"], known["deal"],
            _amount(known["amount"]), None,
        )
        for key, known in was.items()
    ]  # fmt: skip
    return found


def _currency(
    state: AccountState, statements: Sequence[Statement], stored: Mapping[str, StoredStatement]
) -> str:
    if state.plan is not None:
        return state.plan.versions[0].currency
    for known in stored.values():
        return str(msgspec.json.decode(known.document)["currency"])
    return statements[0].currency if statements else ""


def _tiers(
    state: AccountState,
    rated: Rated,
    range_: Range,
    before: AccountState | None,
    present: Reference | None,
) -> list[TierChange]:
    was: dict[tuple[str, Period], TierReached] = {}
    if before is not None and present is not None:
        before.marked = state.marked
        was = _reached(rated_years(before, present), range_)
    now = _reached(rated, range_)
    return [
        TierChange(
            component, measure.label, was.get((component, measure)), now.get((component, measure))
        )
        for component, measure in sorted({*was, *now}, key=lambda place: (place[0], place[1].start))
    ]


def _reached(rated: Rated, range_: Range) -> dict[tuple[str, Period], TierReached]:
    """(component, measure period) → the tier its last credit ends in."""
    last: dict[tuple[str, Period], tuple[Line, Sheet]] = {}
    for sheet in rated.sheets.values():
        for statement in sheet.statements:
            for line in statement.lines:
                measure = line.measure
                if line.kind is LineKind.CREDIT and measure is not None:
                    last[line.component_id, measure] = (line, sheet)
    found = {}
    for place, (line, sheet) in last.items():
        if not range_.meets(place[1].start, place[1].end):
            continue
        table = sheet.rater.component_of(line).rates
        if table is None or len(table.tiers) < 2:  # noqa: PLR2004 - one rate has no tiers to cross
            continue
        pricing = sheet.rater.pricing_of(line)
        reached = Decimal(line.count + 1) if pricing.over is Over.COUNT else line.after
        tier = pricing.tier_at(reached)
        found[place] = TierReached(tier, table.tiers[tier].lower, table.tiers[tier].rate)
    return found


def _amount(text: object) -> Decimal:
    return quantise(Decimal(str(text)))
