"""Draws, floors and target pay of a part of a period: by days, by months, or by working days.

Calendar days: days ÷ days of the period. Months: each month of the period weighs the same, a part
of one by its days. Working days: as calendar days, counting only those. An assignment's ramp
multiplies the months it names (the month it begins in is the first), and days of leave do not
count.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from services.commissions.domain.periods import Period, PeriodKind, following, period_of
from services.commissions.domain.plan import Assignment, Proration
from services.commissions.domain.terms import DayRange
from shared.money import quantise, to_text

WorkingDays = Callable[[date, date], int]
"""(first day, day after the last) → working days between."""

_WIDE = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN)
_SATURDAY = 6
_DAY = timedelta(days=1)
_Run = tuple[date, date]


@dataclass(frozen=True, slots=True)
class Prorated:
    """An amount of a period as the sum of stated amounts, each times its part of the period."""

    amount: Decimal
    parts: tuple[tuple[Decimal, Fraction], ...]

    def tree(self) -> dict[str, object]:
        """For the explanation: amount = Σ stated * part."""
        return {
            "amount": to_text(self.amount),
            "parts": [
                {"stated": to_text(stated), "part": str(part)} for stated, part in self.parts
            ],
        }


def monday_to_friday(first: date, end: date) -> int:
    """Working days from `first` up to, and without, `end`, where no calendar is known."""
    days = range((end - first).days)
    return sum(1 for n in days if (first + n * _DAY).isoweekday() < _SATURDAY)


def prorated(
    period: Period,
    stated: Sequence[tuple[Decimal, Assignment]],
    within: Sequence[DayRange],
    method: Proration,
    working_days: WorkingDays,
) -> Prorated:
    """What stated amounts come to in one period, exact to the stored step.

    stated: an amount for a whole period with the assignment it is for, of one payee and plan; a
    day counts for the first assignment that has it. within: the days on which the terms are in
    force at all.
    """
    parts = []
    begin = period.start
    for amount, assignment in sorted(stated, key=lambda entry: entry[1].days.first or date.min):
        first, end = _bounds(period, [assignment.days, *within])
        first = max(first, begin)
        if first < end:
            part = _part(period, (first, end), assignment, method, working_days)
            parts.append((amount, part))
            begin = end
    total = sum((Fraction(amount) * part for amount, part in parts), Fraction(0))
    return Prorated(as_decimal(total), tuple(parts))


def as_decimal(value: Fraction) -> Decimal:
    """`value` at the stored step, half-even, whatever the caller's decimal context is."""
    return quantise(_WIDE.divide(Decimal(value.numerator), Decimal(value.denominator)))


def _bounds(period: Period, ranges: Sequence[DayRange]) -> _Run:
    """The days of a period that lie in all ranges, half-open."""
    first, end = period.start, period.end
    for days in ranges:
        first = max(first, days.first or first)
        end = min(end, end if days.last is None else days.last + _DAY)
    return first, end


def _part(
    period: Period,
    run: _Run,
    assignment: Assignment,
    method: Proration,
    working_days: WorkingDays,
) -> Fraction:
    """The part of a period that a run of its days is."""

    def days(first: date, end: date) -> int:
        if method is Proration.WORKING_DAYS:
            return working_days(first, end)
        return (end - first).days

    total, months = Fraction(0), 0
    month = period_of(period.start, PeriodKind.MONTH)
    while month.start < period.end:
        months += 1
        active = sum(
            days(first, end)
            for first, end in _without(
                (max(month.start, run[0]), min(month.end, run[1])), assignment.leave
            )
        )
        weight = Fraction(active) * _ramp(assignment, month.start)
        if method is Proration.MONTHS:
            weight /= days(month.start, month.end)
        total += weight
        month = following(month)
    whole = months if method is Proration.MONTHS else days(period.start, period.end)
    return total / whole if whole else Fraction(0)


def _ramp(assignment: Assignment, month_start: date) -> Fraction:
    first = assignment.days.first
    if first is None:
        return Fraction(1)
    number = (month_start.year - first.year) * 12 + month_start.month - first.month
    return Fraction(assignment.ramp[number]) if 0 <= number < len(assignment.ramp) else Fraction(1)


def _without(run: _Run, leave: Sequence[DayRange]) -> list[_Run]:
    """What of a run of days is left without leave."""
    left = []
    begin, end = run
    for away in sorted(leave, key=lambda days: days.first or date.min):
        away_first = away.first or date.min
        away_end = date.max if away.last is None else away.last + _DAY
        if away_first < end and away_end > begin:
            if begin < away_first:
                left.append((begin, away_first))
            begin = max(begin, away_end)
    if begin < end:
        left.append((begin, end))
    return left
