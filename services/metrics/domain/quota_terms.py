"""The figure in force of a quota: its stated amounts, prorated, ramped, without leave, relieved.

The method is named on the quota. Calendar days: days that count ÷ days of the period. Months: each
calendar month of the period weighs the same, a part of one by its days. Working days: as calendar
days, counting only those of the organisation's calendar. A day counts when the person is there and
not on leave; it counts for the amount that holds on it, times the ramp's share of its month. The
sum is exact and rounded once, half-up, to the currency's minor unit (a count: to 0.01); then come
the reliefs, one after another, each rounded in the same way.

A quota whose method is `stated` is what was stated, to the last digit, less its reliefs.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise

from shared.errors import InvalidValue
from shared.money import EXACT, quantise, round_to_minor
from shared.org.calendar import MONTHS_A_YEAR, FiscalCalendar, Period

ROUNDING = "half_up"
COUNT_STEP = Decimal("0.01")
"""Step of the figure of a measure that counts things: a part of a period asks for parts of them."""

_DAY = timedelta(days=1)
_WIDE = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN)
_Run = tuple[date, date]
_Days = Callable[[date, date], int]


class Method(StrEnum):
    """How a quota of a whole period becomes that of a part of it."""

    STATED = "stated"
    CALENDAR_DAYS = "calendar_days"
    MONTHS = "months"
    WORKING_DAYS = "working_days"


PRORATING = (Method.CALENDAR_DAYS, Method.MONTHS, Method.WORKING_DAYS)


@dataclass(frozen=True, slots=True)
class Days:
    """A range of days, both ends included; None is open."""

    first: date | None = None
    last: date | None = None

    @property
    def end(self) -> date:
        """The day after the last."""
        return date.max if self.last is None or self.last == date.max else self.last + _DAY


@dataclass(frozen=True, slots=True)
class Change:
    """From a day on, the amount of a whole period is another one."""

    from_day: date
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Relief:
    """What is taken off: an amount, or a share (0 to 1) of the figure before it."""

    amount: Decimal | None = None
    share: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a quota says. amount: for the whole period.

    present: when the person is there. changes: in the order of their days. ramp: shares of the
    month in which it begins (`ramp_from`, else the first day present, else the period's first) and
    of those after it; later months are whole. leave: days that do not count, once each.
    """

    amount: Decimal
    method: Method = Method.STATED
    present: Days = Days()
    changes: tuple[Change, ...] = ()
    ramp: tuple[Fraction, ...] = ()
    ramp_from: date | None = None
    leave: tuple[Days, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A figure before and after one relief."""

    before: Decimal
    after: Decimal


@dataclass(frozen=True, slots=True)
class Figure:
    """The figure in force, and before it the prorated one with each relief's step."""

    amount: Decimal
    prorated: Decimal
    steps: tuple[Step, ...]


def figure_in_force(
    terms: Terms,
    reliefs: Sequence[Relief],
    period: Period,
    calendar: FiscalCalendar,
    currency: str | None,
) -> Figure:
    """The figure of a quota for its period. currency: None for a measure that counts.

    Raises InvalidValue for a relief that takes off more than is there.
    """
    prorated = terms.amount
    if terms.method is not Method.STATED:
        window = (period.start_day, period.end_day)
        prorated = rounded(part_in_force(terms, period, calendar, window), currency)
    steps = []
    figure = prorated
    for relief in reliefs:
        after = EXACT.subtract(figure, _taken_off(relief, figure, currency))
        if after < 0 <= figure:
            msg = "the relief takes off more than the quota in force is"
            raise InvalidValue(msg, pointer="/amount")
        steps.append(Step(figure, after))
        figure = after
    return Figure(figure, prorated, tuple(steps))


def part_in_force(terms: Terms, period: Period, calendar: FiscalCalendar, window: _Run) -> Fraction:
    """What the days [start, end) of `window` ask for, of the quota of `period`; exact.

    The parts of windows that follow one another sum to that of the whole, by every method.
    """
    begin = max(period.start_day, window[0], terms.present.first or period.start_day)
    end = min(period.end_day, window[1], terms.present.end)
    if begin >= end:
        return Fraction(0)
    total = Fraction(0)
    for run, amount in _amounts(terms, (begin, end)):
        total += Fraction(amount) * _part(terms, period, calendar, run)
    return total


def rounded(amount: Fraction, currency: str | None) -> Decimal:
    """Half-up, to the currency's minor unit; a count to 0.01."""
    wide = _WIDE.divide(Decimal(amount.numerator), Decimal(amount.denominator))
    if currency is None:
        step = wide.quantize(COUNT_STEP, rounding=decimal.ROUND_HALF_UP, context=_WIDE)
        return quantise(step)
    return quantise(round_to_minor(wide, currency, ROUNDING))


def check_terms(terms: Terms, period: Period) -> None:
    """Refuses what cannot be meant, saying where. Raises InvalidValue."""
    plain = Terms(terms.amount)
    if terms.method is Method.STATED and terms != plain:
        msg = (
            "name the method by which it is prorated: calendar_days, months or working_days; "
            "a stated quota is as it is"
        )
        raise InvalidValue(msg, pointer="/method")
    if terms.present.first is not None and terms.present.first >= terms.present.end:
        raise InvalidValue("the last day lies before the first one", pointer="/to")
    for number, away in enumerate(terms.leave):
        if away.first is None or away.last is None or away.first > away.last:
            msg = "leave has a first and a last day, both included, the first not after the last"
            raise InvalidValue(msg, pointer=f"/leave/{number}")
    days = [change.from_day for change in terms.changes]
    for number, day in enumerate(days):
        if day not in period or day == period.start_day:
            msg = "a change lies within the period, after its first day; else change the amount"
            raise InvalidValue(msg, pointer=f"/changes/{number}/from")
    if any(one >= other for one, other in pairwise(days)):
        raise InvalidValue("changes follow one another, one a day", pointer="/changes")


def _taken_off(relief: Relief, figure: Decimal, currency: str | None) -> Decimal:
    if relief.amount is not None:
        return relief.amount
    return rounded(Fraction(figure) * (relief.share or Fraction(0)), currency)


def _amounts(terms: Terms, run: _Run) -> Iterator[tuple[_Run, Decimal]]:
    """The run in pieces of one amount each."""
    borders = [(date.min, terms.amount), *((c.from_day, c.amount) for c in terms.changes)]
    for number, (first, amount) in enumerate(borders):
        end = borders[number + 1][0] if number + 1 < len(borders) else date.max
        piece = (max(run[0], first), min(run[1], end))
        if piece[0] < piece[1]:
            yield piece, amount


def _part(terms: Terms, period: Period, calendar: FiscalCalendar, run: _Run) -> Fraction:
    """The part of the period's whole that a run of its days is."""
    working = terms.method is Method.WORKING_DAYS
    days: _Days = calendar.working_days if working else _calendar_days
    weighted, whole = Fraction(0), Fraction(0)
    for month in _months(period):
        within = (max(month[0], period.start_day), min(month[1], period.end_day))
        counted = sum(
            days(first, end)
            for first, end in _without((max(within[0], run[0]), min(within[1], run[1])), terms)
        )
        of_month = days(*month) if terms.method is Method.MONTHS else 1
        whole += Fraction(days(*within), of_month)
        weighted += Fraction(counted, of_month) * _ramp(terms, period, month[0])
    return weighted / whole if whole else Fraction(0)


def _calendar_days(first: date, end: date) -> int:
    return (end - first).days


def _months(period: Period) -> Iterator[_Run]:
    """The calendar months that the period touches, whole."""
    first = period.start_day.replace(day=1)
    while first < period.end_day:
        following = _first_of(_number(first) + 1)
        yield first, following
        first = following


def _ramp(terms: Terms, period: Period, month_start: date) -> Fraction:
    begun = terms.ramp_from or terms.present.first or period.start_day
    number = _number(month_start) - _number(begun)
    if not terms.ramp or number >= len(terms.ramp):
        return Fraction(1)
    # Before it begins nobody ramps yet: those days ask for what the first month does.
    return terms.ramp[max(number, 0)]


def _without(run: _Run, terms: Terms) -> Iterator[_Run]:
    """What of a run of days is left without leave."""
    begin, end = run
    for away in sorted(terms.leave, key=lambda days: days.first or date.min):
        first = away.first or date.min
        if first < end and away.end > begin:
            if begin < first:
                yield begin, first
            begin = away.end
    if begin < end:
        yield begin, end


def _number(day: date) -> int:
    return day.year * MONTHS_A_YEAR + day.month - 1


def _first_of(month: int) -> date:
    return date(month // MONTHS_A_YEAR, month % MONTHS_A_YEAR + 1, 1)
