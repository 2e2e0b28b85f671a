"""Time as the company lives it: holidays, working hours, and instants in milliseconds."""

from __future__ import annotations

import calendar
from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
OPENS = time(9)
WORKING_DAY_MS = 8 * HOUR_MS + HOUR_MS // 2
"""From nine to half past five."""

FAR_MS = 1 << 46
"""Later than any year that is simulated: what would happen then never happens."""

ORG_ZONE = "America/New_York"


def to_ms(instant: datetime) -> int:
    """Milliseconds since 1970, exactly."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def from_ms(at_ms: int) -> datetime:
    """The instant, in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)


def instant_text(at_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    instant = from_ms(at_ms)
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def local_ms(day: date, at: time, zone: str = ORG_ZONE) -> int:
    """The instant of a wall-clock time in a zone."""
    return to_ms(datetime.combine(day, at, ZoneInfo(zone)))


def local_day(at_ms: int, zone: str = ORG_ZONE) -> date:
    """The calendar day of an instant in a zone."""
    return from_ms(at_ms).astimezone(ZoneInfo(zone)).date()


def holidays(year: int) -> dict[date, str]:
    """The days on which this company does not work."""
    return {
        date(year, 1, 1): "New Year's Day",
        _nth_weekday(year, 5, calendar.MONDAY, -1): "Memorial Day",
        date(year, 7, 4): "Independence Day",
        _nth_weekday(year, 9, calendar.MONDAY, 0): "Labor Day",
        _nth_weekday(year, 11, calendar.THURSDAY, 3): "Thanksgiving",
        date(year, 12, 25): "Christmas Day",
    }


def _nth_weekday(year: int, month: int, weekday: int, n: int) -> date:
    last = calendar.monthrange(year, month)[1]
    days = [date(year, month, day) for day in range(1, last + 1)]
    return [day for day in days if day.weekday() == weekday][n]


class WorkClock:
    """Adds working hours to instants, in one zone, around one year."""

    def __init__(self, year: int, zone: str) -> None:
        free = {day for y in (year - 1, year, year + 1) for day in holidays(y)}
        first, last = date(year - 1, 9, 1), date(year + 1, 12, 31)
        days = [first + timedelta(days=n) for n in range((last - first).days)]
        self.starts_ms = [
            local_ms(day, OPENS, zone)
            for day in days
            if day.weekday() < calendar.SATURDAY and day not in free
        ]

    def later(self, at_ms: int, hours: float) -> int:
        """The working instant `hours` working hours after `at_ms`."""
        place = max(bisect_right(self.starts_ms, at_ms) - 1, 0)
        worked = min(max(at_ms - self.starts_ms[place], 0), WORKING_DAY_MS - 1)
        days, rest = divmod(worked + int(hours * HOUR_MS), WORKING_DAY_MS)
        if place + days >= len(self.starts_ms):
            return FAR_MS
        return self.starts_ms[place + days] + rest


@cache
def work_clock(year: int, zone: str) -> WorkClock:
    """The clock of a zone, made once."""
    return WorkClock(year, zone)
