"""Days, quarters and months of the organisation, and exchange rates by day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from tests.simulator.history import RateRow

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MissingRate(LookupError):
    """No row of that table for that pair is as old as the day."""


def day_of(at_ms: int, zone: str) -> date:
    """The calendar day of an instant in a zone."""
    return (EPOCH + timedelta(milliseconds=at_ms)).astimezone(ZoneInfo(zone)).date()


def quarter_of(day: date) -> str:
    """`2025-Q1`: fiscal years that begin in January."""
    return f"{day.year}-Q{(day.month + 2) // 3}"


def month_of(day: date) -> str:
    """`2025-03`."""
    return f"{day:%Y-%m}"


def last_day_of_month(month: str) -> date:
    """The last day of `2025-03`."""
    first = date.fromisoformat(month + "-01")
    return (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def rate_on(rows: list[RateRow], table: str, source: str, target: str, day: date) -> Fraction:
    """The newest row not later than the day; 1 for one currency. No inverse, no chain.

    Raises MissingRate.
    """
    if source == target:
        return Fraction(1)
    known = [
        row
        for row in rows
        if (row.table, row.source, row.target) == (table, source, target)
        and date.fromisoformat(row.day) <= day
    ]
    if not known:
        msg = f"{table}: no rate {source} to {target} on {day}"
        raise MissingRate(msg)
    return Fraction(max(known, key=lambda row: row.day).rate)
