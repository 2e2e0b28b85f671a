"""`rate_sheet`: everything one payee earns under one plan in one fiscal year, from its credits.

The one entry point of rating: pure, independent of the order of its inputs, linear in credits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from services.commissions.domain.closes import (
    BroughtForward,
    Correction,
    FixedStatement,
    Settled,
    corrections,
    settle,
    still_to_land,
)
from services.commissions.domain.credits import Credit, CreditException, ExceptionKind
from services.commissions.domain.exchange import RateBook, RateRow, converted
from services.commissions.domain.periods import Period, PeriodKind, period_of
from services.commissions.domain.plan import Assignment, CapScope, Plan, PlanVersion
from services.commissions.domain.rates import ZERO
from services.commissions.domain.rating import Line, QuotaMissing, Rater
from services.commissions.domain.statement import (
    Payout,
    Statement,
    in_statement_order,
    line_amounts,
    statement_hash,
    whole_statement_lines,
)
from shared.errors import InvalidValue
from shared.money import EXACT, exact_sum, round_to_minor

QuotaKey = tuple[str, PeriodKind, date]
"""Measure name, length, and first day of the measure period."""


@dataclass(frozen=True, slots=True)
class SheetInput:
    """What one sheet is rated from.

    credits: of this payee and plan in the fiscal year, each key once; held ones included.
    exceptions: what waits for this payee under this plan, by the credit's day.
    year: the fiscal year, of kind `year`. quotas: in plan currency.
    closed_before: every period that ends on or before it is closed.
    fixed: what closes fixed, by period; a closed period without one was closed at nothing.
    """

    payee: str
    plan: Plan
    year: Period
    credits: Sequence[Credit]
    assignments: Sequence[Assignment] = ()
    quotas: Mapping[QuotaKey, Decimal] = field(default_factory=dict)
    rates: RateBook = field(default_factory=RateBook)
    exceptions: Sequence[CreditException] = ()
    closed_before: date | None = None
    fixed: Sequence[FixedStatement] = ()
    brought_forward: BroughtForward = field(default_factory=BroughtForward)
    fiscal_start_month: int = 1


@dataclass(frozen=True, slots=True)
class Sheet:
    """Statements by period, in order; what waits; and what is left for a later year.

    to_bring_forward: what the next year's sheet is given when this one has no open period.
    rater: answers for each line which version, component and laid-out table made it.
    """

    payee: str
    plan_id: str
    statements: tuple[Statement, ...]
    exceptions: tuple[CreditException, ...]
    to_bring_forward: BroughtForward
    rater: Rater

    def statement(self, label: str) -> Statement | None:
        """The statement of the period labelled so."""
        return next((s for s in self.statements if s.period.label == label), None)


def rate_sheet(given: SheetInput) -> Sheet:
    """Rate all credits and assemble all statements of one sheet.

    Raises InvalidValue for a credit that is given twice or belongs to another sheet.
    """
    _check(given)
    rater = Rater(given.plan.versions, _quota_lookup(given), given.fiscal_start_month)
    by_component: dict[str, list[Credit]] = {}
    held: list[Credit] = []
    for credit in given.credits:
        if credit.converted is None:
            held.append(credit)
        else:
            by_component.setdefault(credit.component_id, []).append(credit)
    lines: list[Line] = []
    missing: list[QuotaMissing] = []
    for component_id in sorted(by_component):
        rated, unrated = rater.rate_component(by_component[component_id])
        lines.extend(rated)
        missing.extend(unrated)
    held.extend(entry.credit for entry in missing)
    waiting = [*given.exceptions, *_quota_exceptions(missing, given.plan.id)]
    return _Assembly(given, rater, lines, held, waiting).sheet()


def _check(given: SheetInput) -> None:
    seen: set[str] = set()
    for credit in given.credits:
        if credit.key in seen:
            msg = f"credit {credit.key} is given twice"
            raise InvalidValue(msg)
        mine = credit.payee == given.payee and credit.plan_id == given.plan.id
        if not mine or credit.day not in given.year:
            msg = f"credit {credit.key} of {credit.day} belongs to another sheet"
            raise InvalidValue(msg)
        seen.add(credit.key)


def _quota_lookup(given: SheetInput) -> _QuotaLookup:
    mine = [
        entry
        for entry in given.assignments
        if entry.payee == given.payee and entry.plan_id == given.plan.id
    ]
    return _QuotaLookup(mine, given.quotas)


@dataclass(frozen=True, slots=True)
class _QuotaLookup:
    """An assignment's own figure on the line's day, else the quota that was published."""

    assignments: Sequence[Assignment]
    quotas: Mapping[QuotaKey, Decimal]

    def __call__(self, measure: str, period: Period, day: date) -> Decimal | None:
        for assignment in self.assignments:
            if day in assignment.days:
                override = assignment.quota_for(measure)
                if override is not None:
                    return override
        return self.quotas.get((measure, period.kind, period.start))


def _quota_exceptions(missing: Iterable[QuotaMissing], plan_id: str) -> list[CreditException]:
    return [
        CreditException(
            kind=ExceptionKind.QUOTA,
            event_key=entry.credit.event_key,
            deal_id=entry.credit.deal_id,
            plan_id=plan_id,
            component_id=entry.credit.component_id,
            payee=entry.credit.payee,
            day=entry.credit.day,
            message=(
                f"{entry.credit.payee} has no quota {entry.measure_name} above 0 for "
                f"{entry.measure.label}; set one"
            ),
        )
        for entry in missing
    ]


class _Assembly:
    """Statements in order of period, each with what the one before it leaves."""

    def __init__(
        self,
        given: SheetInput,
        rater: Rater,
        lines: Iterable[Line],
        held: Iterable[Credit],
        waiting: Sequence[CreditException],
    ) -> None:
        self._given = given
        self._rater = rater
        self._waiting = tuple(waiting)
        self._kind = given.plan.versions[0].period
        self._lines: dict[Period, list[Line]] = {}
        self._held: dict[Period, list[Credit]] = {}
        self._notes: dict[Period, list[CreditException]] = {}
        for line in lines:
            self._lines.setdefault(line.statement, []).append(line)
        for credit in held:
            self._held.setdefault(self._period(credit.day), []).append(credit)
        for entry in waiting:
            self._notes.setdefault(self._period(entry.day), []).append(entry)
        self._fixed = {entry.period: entry for entry in given.fixed}
        self._carry = given.brought_forward.carry
        self._found: list[Correction] = list(given.brought_forward.corrections)
        self._landed: list[Decimal] = [given.brought_forward.already]
        self._cap_sums: dict[object, Decimal] = {}

    def _period(self, day: date) -> Period:
        return period_of(day, self._kind, self._given.fiscal_start_month)

    def sheet(self) -> Sheet:
        """All statements, closed periods first, then the open ones."""
        statements: list[Statement] = []
        periods = sorted({*self._lines, *self._held, *self._notes, *self._fixed})
        closed = [period for period in periods if self._is_closed(period)]
        still_open = [period for period in periods if not self._is_closed(period)]
        statements.extend(self._closed_statement(period) for period in closed)
        difference = still_to_land(self._found, self._landed)
        landing = self._landing()
        if landing is not None and landing not in still_open and (difference or self._carry):
            still_open = sorted([*still_open, landing])
        unsettled = landing is None
        for place, period in enumerate(still_open):
            lands = difference if place == 0 else ZERO
            statements.append(self._open_statement(period, lands))
        rest = BroughtForward(
            tuple(self._found) if unsettled else (),
            exact_sum(self._landed) if unsettled else ZERO,
            self._carry,
        )
        return Sheet(
            self._given.payee,
            self._given.plan.id,
            tuple(statements),
            self._waiting,
            rest,
            self._rater,
        )

    def _is_closed(self, period: Period) -> bool:
        before = self._given.closed_before
        return period in self._fixed or (before is not None and period.end <= before)

    def _landing(self) -> Period | None:
        """The first open period of this year; None when the year is wholly closed."""
        year = self._given.year
        ends = [period.end for period in self._fixed]
        first = max([year.start, self._given.closed_before or year.start, *ends])
        return self._period(first) if first < year.end else None

    def _rated(self, period: Period) -> tuple[tuple[Line, ...], PlanVersion]:
        """A period's own lines with rounding and plan cap."""
        version = self._given.plan.nearest(period.last_day)
        lines = self._lines.get(period, [])
        scope = self._cap_scope(version, period)
        before = self._cap_sums.get(scope, ZERO)
        extra = whole_statement_lines(lines, period, version, before)
        uncapped = [*lines, *(line for line in extra if line.cap is None)]
        self._cap_sums[scope] = EXACT.add(before, exact_sum(line.amount for line in uncapped))
        return in_statement_order([*lines, *extra]), version

    def _cap_scope(self, version: PlanVersion, period: Period) -> object:
        if version.cap is None or version.cap.per is CapScope.STATEMENT:
            return period
        kind = PeriodKind.YEAR
        if version.cap.per is CapScope.MEASURE:
            kind = version.components[0].measure_period(version.period)
        return period_of(period.start, kind, self._given.fiscal_start_month)

    def _closed_statement(self, period: Period) -> Statement:
        fixed = self._fixed.get(period) or FixedStatement(
            period, {}, carry_in=self._carry, carry_out=self._carry
        )
        lines, version = self._rated(period)
        found = corrections(period, fixed.lines, line_amounts(lines))
        self._found.extend(found)
        self._landed.append(fixed.difference)
        self._carry = fixed.carry_out
        return self._statement(period, version, lines, fixed.difference, found, fixed)

    def _open_statement(self, period: Period, difference: Decimal) -> Statement:
        lines, version = self._rated(period)
        found = tuple(self._found) if difference else ()
        return self._statement(period, version, lines, difference, found, None)

    def _statement(  # noqa: PLR0913, PLR0917 - a statement's parts
        self,
        period: Period,
        version: PlanVersion,
        lines: tuple[Line, ...],
        difference: Decimal,
        found: tuple[Correction, ...],
        fixed: FixedStatement | None,
    ) -> Statement:
        own = exact_sum(line.amount for line in lines)
        carry_in = self._carry if fixed is None else fixed.carry_in
        if fixed is None:
            settled = settle(own, difference, carry_in, version.max_recovery, version.currency)
            self._carry = settled.carry_out
        else:
            settled = Settled(fixed.payable, fixed.carry_out, ZERO)
        payout, note = self._payout(period, version, settled.payable)
        return Statement(
            payee=self._given.payee,
            plan_id=self._given.plan.id,
            period=period,
            currency=version.currency,
            lines=lines,
            own=own,
            difference=difference,
            corrections=found,
            landed=exact_sum(self._landed) if difference and fixed is None else ZERO,
            carry_in=carry_in,
            carry_out=settled.carry_out,
            taken=settled.taken,
            payable=settled.payable,
            payout=payout,
            held=tuple(sorted(self._held.get(period, []), key=_by_key)),
            exceptions=(*self._notes.get(period, []), *(note if fixed is None else ())),
            hash=statement_hash(lines, difference, carry_in, settled, payout),
            fixed=fixed,
        )

    def _payout(
        self, period: Period, version: PlanVersion, payable: Decimal
    ) -> tuple[Payout, tuple[CreditException, ...]]:
        """The payable in the assignment's payout currency, converted once and rounded."""
        currency = self._payout_currency(period) or version.currency
        mode = version.rounding.mode
        if currency == version.currency:
            return Payout(currency, round_to_minor(payable, currency, mode)), ()
        row: RateRow | None = None
        if version.fx_payout is not None:
            row = self._given.rates.on(
                version.fx_payout, version.currency, currency, period.last_day
            )
        if row is not None:
            amount = round_to_minor(converted(payable, row), currency, mode)
            return Payout(currency, amount, row), ()
        if payable == 0:
            return Payout(currency, ZERO), ()
        return Payout(currency, None), (self._payout_exception(period, version, currency),)

    def _payout_currency(self, period: Period) -> str | None:
        """Of the newest assignment that touches the period."""
        mine = [
            entry
            for entry in self._given.assignments
            if entry.payee == self._given.payee
            and entry.plan_id == self._given.plan.id
            and (entry.days.first or date.min) < period.end
            and (entry.days.last or date.max) >= period.start
        ]
        newest = max(mine, key=lambda entry: entry.days.first or date.min, default=None)
        return newest.payout_currency if newest else None

    def _payout_exception(
        self, period: Period, version: PlanVersion, currency: str
    ) -> CreditException:
        table = version.fx_payout
        if table is None:
            what = (
                f"the plan names no rate table for {version.currency} to {currency}; add fx.payout"
            )
        else:
            what = (
                f"table {table} has no rate {version.currency} to {currency} on or before "
                f"{period.last_day}; load one"
            )
        return CreditException(
            kind=ExceptionKind.PAYOUT_RATE,
            event_key="",
            deal_id="",
            plan_id=version.id,
            component_id="",
            payee=self._given.payee,
            day=period.last_day,
            message=what,
        )


def _by_key(credit: Credit) -> str:
    return credit.key
