"""`rate_sheet`: everything one payee earns under one plan in one fiscal year, from its credits.

The one entry point of rating: pure, independent of the order of its inputs, linear in credits.
"""

from __future__ import annotations

from dataclasses import dataclass
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
from services.commissions.domain.credit import Credit, CreditException, ExceptionKind
from services.commissions.domain.draw import DrawStanding, draw_of, standing
from services.commissions.domain.exchange import RateRow, converted
from services.commissions.domain.given import Grant, KpiFact, QuotaKey, SheetInput
from services.commissions.domain.later import line_as_row
from services.commissions.domain.lines import Line
from services.commissions.domain.order import rate
from services.commissions.domain.periods import Period
from services.commissions.domain.plan import PlanVersion
from services.commissions.domain.rates import ZERO
from services.commissions.domain.rating import Rater
from services.commissions.domain.statement import (
    Payout,
    Statement,
    in_statement_order,
    line_amounts,
    statement_hash,
)
from services.commissions.domain.work import Work
from shared.errors import InvalidValue
from shared.money import EXACT, exact_sum, round_to_minor

__all__ = ["Grant", "KpiFact", "QuotaKey", "Sheet", "SheetInput", "rate_sheet"]


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
    work = Work(given)
    rate(work)
    return _Assembly(work).sheet()


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


class _Assembly:
    """Statements in order of period, each with what the one before it leaves."""

    def __init__(self, work: Work) -> None:
        given = work.given
        self._work = work
        self._given = given
        self._lines = work.lines
        self._held: dict[Period, list[Credit]] = {}
        self._notes: dict[Period, list[CreditException]] = {}
        for credit in work.held:
            self._held.setdefault(work.period(credit.day), []).append(credit)
        for entry in work.waiting:
            self._notes.setdefault(work.period(entry.day), []).append(entry)
        self._fixed = {entry.period: entry for entry in given.fixed}
        self._carry = given.brought_forward.carry
        self._balance = given.brought_forward.draw_balance
        self._found: list[Correction] = list(given.brought_forward.corrections)
        self._landed: list[Decimal] = [given.brought_forward.already]

    def sheet(self) -> Sheet:
        """All statements, closed periods first, then the open ones."""
        statements: list[Statement] = []
        periods = sorted(
            {*self._lines, *self._held, *self._notes, *self._fixed, *self._with_draw()}
        )
        closed = [period for period in periods if self._is_closed(period)]
        still_open = [period for period in periods if not self._is_closed(period)]
        statements.extend(self._closed_statement(period) for period in closed)
        difference = still_to_land(self._found, self._landed)
        landing = self._landing()
        carried = self._carry if self._follows_closed() else ZERO
        if landing is not None and landing not in still_open and (difference or carried):
            still_open = sorted([*still_open, landing])
        unsettled = landing is None
        for place, period in enumerate(still_open):
            lands = difference if place == 0 else ZERO
            statements.append(self._open_statement(period, lands))
        work = self._work
        rest = BroughtForward(
            tuple(self._found) if unsettled else (),
            exact_sum(self._landed) if unsettled else ZERO,
            self._carry,
            tuple(work.excess[key] for key in sorted(work.excess)),
            self._balance,
            tuple(sorted(work.counts.items())),
            tuple(
                line_as_row(line, work.currency)
                for line in sorted(work.later, key=lambda line: line.key)
            ),
        )
        return Sheet(
            self._given.payee,
            self._given.plan.id,
            tuple(statements),
            tuple(work.waiting),
            rest,
            work.rater,
        )

    def _with_draw(self) -> list[Period]:
        """Periods that have begun, not closed without a statement, in which an advance is due."""
        return [
            period
            for period in self._work.periods()
            if not self._is_closed(period)
            and (version := self._work.version(period)).draw is not None
            and version.draw.recoverable
            and draw_of(self._work, period, version) is not None
        ]

    def _is_closed(self, period: Period) -> bool:
        before = self._given.closed_before
        return period in self._fixed or (before is not None and period.end <= before)

    def _follows_closed(self) -> bool:
        """Whether anything is closed up to or within this year.

        What closed periods leave shows in the first open one; other carry waits for a statement.
        """
        before = self._given.closed_before
        return bool(self._fixed) or (before is not None and before >= self._given.year.start)

    def _landing(self) -> Period | None:
        """The first open period of this year; None when the year is wholly closed."""
        year = self._given.year
        ends = [period.end for period in self._fixed]
        first = max([year.start, self._given.closed_before or year.start, *ends])
        return self._work.period(first) if first < year.end else None

    def _rated(self, period: Period) -> tuple[tuple[Line, ...], PlanVersion]:
        """A period's own lines, and the version that decides on the whole statement."""
        return in_statement_order(self._lines.get(period, [])), self._work.version(period)

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
        draw: DrawStanding | None = None
        if fixed is None:
            draw, settled = self._settled(period, own, difference, carry_in, version)
        else:
            settled = Settled(fixed.payable, fixed.carry_out, ZERO)
            self._balance = fixed.draw_out
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
            hash=statement_hash(lines, difference, carry_in, settled, payout, draw),
            fixed=fixed,
            draw=draw,
            rounding_mode=version.rounding.mode,
            max_recovery=version.max_recovery,
        )

    def _settled(
        self,
        period: Period,
        own: Decimal,
        difference: Decimal,
        carry_in: Decimal,
        version: PlanVersion,
    ) -> tuple[DrawStanding | None, Settled]:
        """Own pay, difference and carry become money; under a draw they go into its balance."""
        owed = EXACT.add(difference, carry_in)
        draw = standing(self._work, period, own, self._balance, owed)
        if draw is None:
            settled = settle(own, difference, carry_in, version.max_recovery, version.currency)
        else:
            settled = Settled(draw.payable, ZERO, ZERO)
            self._balance = draw.balance_out
        self._carry = settled.carry_out
        return draw, settled

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
            for entry in self._given.own_assignments
            if (entry.days.first or date.min) < period.end
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
