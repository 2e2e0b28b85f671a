"""Days and periods: `2025-01`, `2025-Q1`, `2025-H1`, `2025`; fiscal years begin in January."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from tests.oracle.plans.case import Assigned

MONTHS = {"month": 1, "quarter": 3, "half": 6, "year": 12}
FRIDAY = 4

Span = tuple[date, date]
"""[first, end)."""


def day_in(at: datetime, zone: str) -> date:
    """The calendar day of an instant."""
    return at.astimezone(ZoneInfo(zone)).date()


def span_of(day: date, kind: str) -> Span:
    """The period of a kind in which a day lies."""
    length = MONTHS[kind]
    month = (day.month - 1) // length * length
    end = month + length
    return date(day.year, month + 1, 1), date(day.year + end // 12, end % 12 + 1, 1)


def label_of(span: Span) -> str:
    """Its name."""
    first, end = span
    match (end.year - first.year) * 12 + end.month - first.month:
        case 1:
            return f"{first:%Y-%m}"
        case 3:
            return f"{first.year}-Q{first.month // 3 + 1}"
        case 6:
            return f"{first.year}-H{first.month // 6 + 1}"
        case _:
            return str(first.year)


def spans(first: date, end: date, kind: str) -> Iterator[Span]:
    """All periods of a kind that begin before `end`, from the one of `first` on."""
    span = span_of(first, kind)
    while span[0] < end:
        yield span
        span = span_of(span[1], kind)


def days(span: Span) -> Iterator[date]:
    """Every day of it."""
    day = span[0]
    while day < span[1]:
        yield day
        day += timedelta(days=1)


def presence(assigned: Assigned, span: Span, method: str) -> Fraction:
    """The part of a period for which somebody is there: assigned and not on leave."""

    def there(day: date) -> bool:
        late = assigned.last is not None and day > assigned.last
        away = any(first <= day <= last for first, last in assigned.leave)
        return day >= assigned.first and not late and not away

    match method:
        case "calendar_days":
            found = [there(day) for day in days(span)]
            return Fraction(sum(found), len(found))
        case "working_days":
            found = [there(day) for day in days(span) if day.weekday() <= FRIDAY]
            return Fraction(sum(found), len(found))
        case "months":
            parts = [presence(assigned, month, "calendar_days") for month in spans(*span, "month")]
            return sum(parts, Fraction(0)) / len(parts)
    raise ValueError(method)


def ramped(assigned: Assigned, span: Span) -> Fraction:
    """The ramp's share in a period of one month; after the ramp, 1."""
    first = span_of(assigned.first, "month")[0]
    place = (span[0].year - first.year) * 12 + span[0].month - first.month
    ramp = assigned.ramp
    return share(ramp[place]) if 0 <= place < len(ramp) else Fraction(1)


def share(text: str | float) -> Fraction:
    """`25%`, `1/3`, `1.5x` or a number."""
    body = str(text)
    if body.endswith("%"):
        return Fraction(body[:-1]) / 100
    return Fraction(body.removesuffix("x"))
