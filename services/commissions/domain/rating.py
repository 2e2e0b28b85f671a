"""Credit lines: what each credit earns, in order of credit instant and deal id."""

from __future__ import annotations

import decimal
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

from services.commissions.domain.credit import Credit, ExceptionKind
from services.commissions.domain.curve import Curve
from services.commissions.domain.lines import Line, LineKind, credit_order
from services.commissions.domain.periods import Period, period_of
from services.commissions.domain.plan import PlanVersion, RoundAt
from services.commissions.domain.proration import Prorated
from services.commissions.domain.rates import ZERO, Base, Priced, Pricing
from services.commissions.domain.terms import CapScope, ClawbackBasis, Component
from shared.money import EXACT, ROUNDING_MODES, minor_unit_exponent, quantise

__all__ = ["Line", "LineKind", "Loss", "Rater", "Unrated", "credit_order"]

_ROUND = decimal.Context(prec=60)
_add, _subtract = EXACT.add, EXACT.subtract

QuotaOn = Callable[[str, Period, date], Decimal | None]
"""(measure name, measure period, day) → quota, or None where none is set."""

TargetPayOn = Callable[[PlanVersion, Component, Period], Prorated | None]
"""Target pay of a measure period, prorated, or None where none is set."""


@dataclass(frozen=True, slots=True)
class Unrated:
    """A credit that cannot be rated yet, and why."""

    credit: Credit
    kind: ExceptionKind
    message: str


class Loss(NamedTuple):
    """What a measure earns with, and without, a cancelled credit at the time of cancellation.

    earned: by the rates alone. paid: what caps per measure leave of it.
    """

    measure_with: Decimal
    measure_without: Decimal
    earned_with: Decimal
    earned_without: Decimal
    paid_with: Decimal
    paid_without: Decimal


class _Terms(NamedTuple):
    """What rates one credit: its version, component, quota and laid-out table."""

    version: PlanVersion
    component: Component
    quota: Decimal | None
    target_pay: Prorated | None
    priced: Priced


class Rater:
    """Rates the credits of one payee under one plan's versions.

    losses: credit key → what its cancellation costs, for clawbacks by recomputation; filled while
    rating.
    """

    def __init__(
        self,
        versions: Sequence[PlanVersion],
        quota_on: QuotaOn,
        target_pay_on: TargetPayOn,
        fiscal_start_month: int = 1,
    ) -> None:
        self._versions = {version.hash: version for version in versions}
        self._quota_on = quota_on
        self._target_pay_on = target_pay_on
        self._fiscal_start = fiscal_start_month
        self._pricings: dict[tuple[str, str, Decimal | None, Decimal | None], Priced] = {}
        self._components = {
            (version.hash, component.id): component
            for version in versions
            for component in version.components
        }
        self.losses: dict[str, Loss] = {}

    def component_of(self, line_or_credit: Line | Credit) -> Component:
        """The component, as its version has it, that made a credit or line."""
        return self._components[line_or_credit.version_hash, line_or_credit.component_id]

    def version_of(self, line_or_credit: Line | Credit) -> PlanVersion:
        """The plan version that made a credit or line."""
        return self._versions[line_or_credit.version_hash]

    def statement_of(self, day: date, version: PlanVersion) -> Period:
        """The statement period in which a day lies."""
        return period_of(day, version.period, self._fiscal_start)

    def measure_of(self, credit: Credit) -> Period:
        """The measure period in which a credit counts."""
        kind = self.component_of(credit).measure_period(self.version_of(credit).period)
        return period_of(credit.day, kind, self._fiscal_start)

    def target_pay(self, credit: Credit) -> Prorated | None:
        """The target pay of the measure period in which a credit counts."""
        component, version = self.component_of(credit), self.version_of(credit)
        return self._target_pay_on(version, component, self.measure_of(credit))

    def rate_component(self, credits_: Iterable[Credit]) -> tuple[list[Line], list[Unrated]]:
        """Credit lines of one component that earns by rates, in order.

        Credits in a foreign currency without a rate are not to be passed: they are held.
        """
        lines: list[Line] = []
        missing: list[Unrated] = []
        measures: dict[Period, list[Credit]] = {}
        for credit in sorted(credits_, key=credit_order):
            measures.setdefault(self.measure_of(credit), []).append(credit)
        for measure, members in measures.items():
            _Measure(self, measure).rate(members, lines, missing)
        return lines, missing

    def terms(self, measure: Period, first: Credit) -> _Terms | tuple[ExceptionKind, str]:
        """What rates a credit, or why nothing does yet."""
        component, version = self.component_of(first), self.version_of(first)
        quota: Decimal | None = None
        if component.quota is not None:
            quota = self._quota_on(component.quota.measure, measure, first.day)
            if quota is None or quota <= 0:  # of zero no share can be taken
                name = component.quota.measure
                msg = f"{first.payee} has no quota {name} above 0 for {measure.label}; set one"
                return ExceptionKind.QUOTA, msg
        target_pay: Prorated | None = None
        if component.rates is not None and component.rates.of_target_pay:
            target_pay = self._target_pay_on(version, component, measure)
            if target_pay is None:
                msg = (
                    f"{first.payee} has no target pay for {component.id} in {measure.label}; "
                    "set it on the assignment"
                )
                return ExceptionKind.TARGET_PAY, msg
        return _Terms(
            version, component, quota, target_pay,
            self._priced(version, component, quota, target_pay),
        )  # fmt: skip

    def _priced(
        self,
        version: PlanVersion,
        component: Component,
        quota: Decimal | None,
        target_pay: Prorated | None,
    ) -> Priced:
        pay = None if target_pay is None else target_pay.amount
        key = (version.hash, component.id, quota, pay)
        found = self._pricings.get(key)
        if found is None:
            found = _laid_out(component, quota, pay)
            self._pricings[key] = found
        return found

    def pricing_of(self, line: Line) -> Priced:
        """The laid-out table or curve that made a credit line."""
        return self._priced(
            self.version_of(line), self.component_of(line), line.quota, line.target_pay
        )


def _laid_out(component: Component, quota: Decimal | None, pay: Decimal | None) -> Priced:
    table = component.rates
    if table is None:
        msg = f"component {component.id} does not earn by rates"
        raise TypeError(msg)
    if table.points and quota is not None and pay is not None:
        return Curve(table, quota, pay)
    base = Base(pay, quota) if table.of_base and pay is not None and quota is not None else None
    return Pricing(table, quota, component.threshold, base)


class _Measure:
    """One measure period, swept once in order of credit; cancellations are taken out on the way."""

    def __init__(self, rater: Rater, measure: Period) -> None:
        self._rater = rater
        self._measure = measure
        self._running, self._count, self._earned = ZERO, 0, ZERO
        self._current: Priced | None = None
        self._cancelled: list[tuple[datetime, str, Credit, _Terms]] = []

    def rate(self, members: Sequence[Credit], lines: list[Line], missing: list[Unrated]) -> None:
        """Append the lines of `members`, which are in order, and what cannot be rated."""
        for _, same_day in groupby(members, _version_and_day):
            credits_ = list(same_day)
            terms = self._rater.terms(self._measure, credits_[0])
            if not isinstance(terms, _Terms):
                missing.extend(Unrated(credit, *terms) for credit in credits_)
                continue
            statement = self._rater.statement_of(credits_[0].day, terms.version)
            step, mode = rounding_of(terms.version)
            for credit in credits_:
                if self._cancelled:
                    self._take_out(credit.instant)
                self._price_by(terms.priced)
                lines.append(self._line(credit, terms, statement, step, mode))
                if credit.cancelled_at is not None:
                    self._note_cancelled(credit, terms)
        self._take_out(None)

    def _price_by(self, priced: Priced) -> None:
        """The measure goes on at a version border; what was earned so far is seen by new terms."""
        if priced is not self._current:
            self._current = priced
            self._earned = priced.earned(self._running, self._count)

    def _line(
        self, credit: Credit, terms: _Terms, statement: Period, step: Decimal | None, mode: str
    ) -> Line:
        before = self._running
        self._running = _add(before, credit.converted or ZERO)
        exact, self._earned = terms.priced.line(before, self._running, self._earned, self._count)
        amount = quantise(exact) if step is None else exact.quantize(step, mode, context=_ROUND)
        line = Line(
            credit.key,
            LineKind.CREDIT,
            credit.component_id,
            credit.version_hash,
            statement,
            self._measure,
            amount,
            exact,
            before,
            self._running,
            credit,
            terms.quota,
            self._count,
            None,
            terms.target_pay,
            None,
            amount,
        )
        self._count += 1
        return line

    def _note_cancelled(self, credit: Credit, terms: _Terms) -> None:
        rule = terms.component.clawback
        if credit.cancelled_at is None or rule is None or rule.basis is ClawbackBasis.LINE:
            return
        at = max(credit.cancelled_at, credit.instant)
        heapq.heappush(self._cancelled, (at, credit.key, credit, terms))

    def _take_out(self, before: datetime | None) -> None:
        """Take credits out that were cancelled before an instant; None: all of them."""
        while self._cancelled and (before is None or self._cancelled[0][0] < before):
            _, key, credit, terms = heapq.heappop(self._cancelled)
            without = _subtract(self._running, credit.converted or ZERO)
            self._rater.losses[key] = Loss(
                self._running,
                without,
                terms.priced.earned(self._running, self._count),
                terms.priced.earned(without, self._count - 1),
                _capped(terms, self._running, self._count),
                _capped(terms, without, self._count - 1),
            )
            self._running, self._count = without, self._count - 1
            self._current = None


def _capped(terms: _Terms, credited: Decimal, count: int) -> Decimal:
    """What a whole measure earns, with what a cap per measure leaves of it."""
    cap = terms.component.cap
    limit = attainment_limit(terms.component, terms.quota)
    seen = credited if limit is None else min(credited, limit)
    earned = terms.priced.earned(seen, count)
    if cap is not None and cap.per in {CapScope.MEASURE, CapScope.STATEMENT}:
        return min(earned, cap.amount)
    return earned


def attainment_limit(component: Component, quota: Decimal | None) -> Decimal | None:
    """The measure from which on a cap by attainment lets nothing more be earned."""
    if component.attainment_cap is None or quota is None:
        return None
    return EXACT.multiply(component.attainment_cap, quota)


def _version_and_day(credit: Credit) -> tuple[str, date]:
    return credit.version_hash, credit.day


def rounding_of(version: PlanVersion) -> tuple[Decimal | None, str]:
    """The step lines are rounded to, None where the plan rounds the statement instead."""
    if version.rounding.at is RoundAt.STATEMENT:
        return None, ROUNDING_MODES[version.rounding.mode]
    step = Decimal(1).scaleb(-minor_unit_exponent(version.currency))
    return step, ROUNDING_MODES[version.rounding.mode]


def rounded_line(exact: Decimal, version: PlanVersion) -> Decimal:
    """An amount as its line has it."""
    step, mode = rounding_of(version)
    return quantise(exact) if step is None else exact.quantize(step, mode, context=_ROUND)
