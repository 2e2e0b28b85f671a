"""Series by month: robust slope, flatness, consistency, and how long somebody took to ramp (K36).

The slope is Theil and Sen's: the median of the slopes between any two months, so that one odd
month does not turn it. Months left out (leave, no value) keep their place in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from math import isqrt

from services.metrics.domain.kpis import KpiValue, Reason, median, to_decimal
from shared.money import to_text

MIN_MONTHS = 3
"""With fewer values a slope is the difference of two accidents."""

CONSISTENT_MONTHS = 6
FLAT_WITHIN = Decimal("0.02")
"""A change of at most this share of the usual level a month is flat."""

MONTHS_A_YEAR = 12
FULL_QUOTA = 1
_SQUARED_STEP = 10**24


@dataclass(frozen=True, slots=True)
class Trend:
    """slope: change a month. level: the median value. flatness: slope ÷ level, None at level 0.

    flat: whether that is within FLAT_WITHIN; None where it is not known. months: with a value.
    """

    slope: Decimal | None
    level: Decimal | None
    flatness: Decimal | None
    flat: bool | None
    months: int

    def parts(self) -> dict[str, str | None]:
        """As parts of a value."""
        shown = {"slope": self.slope, "level": self.level, "flatness": self.flatness}
        texts = {name: None if of is None else to_text(of) for name, of in shown.items()}
        flat = None if self.flat is None else str(self.flat).lower()
        return {**texts, "flat": flat, "months": str(self.months)}


def theil_sen(values: Sequence[Decimal | None]) -> Fraction | None:
    """The median slope between any two values, by place; None with fewer than three values."""
    known = [(place, Fraction(value)) for place, value in enumerate(values) if value is not None]
    if len(known) < MIN_MONTHS:
        return None
    slopes = sorted((later - value) / (after - at) for (at, value), (after, later) in _pairs(known))
    return (slopes[(len(slopes) - 1) // 2] + slopes[len(slopes) // 2]) / 2


def _pairs(
    known: Sequence[tuple[int, Fraction]],
) -> list[tuple[tuple[int, Fraction], tuple[int, Fraction]]]:
    return list(combinations(known, 2))


def trend(values: Sequence[Decimal | None], flat_within: Decimal = FLAT_WITHIN) -> Trend:
    """The trend of a series with one value a month, None where a month has none."""
    known = [value for value in values if value is not None]
    level = median(known) if known else None
    slope = theil_sen(values)
    if slope is None:
        return Trend(None, level, None, None, len(known))
    if not level:
        flat = True if not slope else None
        return Trend(to_decimal(slope), level, None, flat, len(known))
    flatness = slope / abs(Fraction(level))
    flat = abs(flatness) <= Fraction(flat_within)
    return Trend(to_decimal(slope), level, to_decimal(flatness), flat, len(known))


def consistency(values: Sequence[Decimal | None]) -> Decimal | None:
    """Standard deviation (of all values) ÷ mean; None below three values or a mean not above 0."""
    known = [Fraction(value) for value in values if value is not None]
    if len(known) < MIN_MONTHS:
        return None
    average = sum(known, Fraction(0)) / len(known)
    if average <= 0:
        return None
    variance = sum(((value - average) ** 2 for value in known), Fraction(0)) / len(known)
    squared = variance / average**2
    root = isqrt(squared.numerator * _SQUARED_STEP // squared.denominator)
    return to_decimal(Fraction(root, isqrt(_SQUARED_STEP)))


@dataclass(frozen=True, slots=True)
class Month:
    """A month of somebody's. attainment: of the full quota, None without one. leave: left out."""

    start: date
    attainment: Decimal | None
    leave: bool = False


def ramp_months(hired_on: date, months: Sequence[Month]) -> int | None:
    """Months from that of hiring to the first one at 100 % of the full quota, both counted.

    Months of leave are not counted. None while no month reached it.
    """
    first = _number(hired_on)
    counted = 0
    for month in sorted(months, key=lambda one: one.start):
        if _number(month.start) < first or month.leave:
            continue
        counted += 1
        if month.attainment is not None and month.attainment >= FULL_QUOTA:
            return counted
    return None


def _number(day: date) -> int:
    return day.year * MONTHS_A_YEAR + day.month


def ramp(
    hired_on: date | None,
    months: Sequence[Month],
    recent: Sequence[Decimal | None],
    *,
    one_person: bool = True,
) -> KpiValue:
    """K36: the ramp time of one person; consistency and trend of anybody in the parts.

    months: since hiring, whole ones only. recent: bookings of the last six whole months.
    """
    varies = consistency(recent)
    parts = {
        "consistency": None if varies is None else to_text(varies),
        **trend(recent).parts(),
        "hired_on": None if hired_on is None else hired_on.isoformat(),
    }
    if not one_person:
        return KpiValue(None, Reason.ONE_PERSON_ONLY, parts)
    if hired_on is None:
        return KpiValue(None, Reason.UNKNOWN_HIRING, parts)
    taken = ramp_months(hired_on, months)
    if taken is None:
        return KpiValue(None, Reason.NOT_RAMPED, parts)
    return KpiValue(Decimal(taken), None, parts)
