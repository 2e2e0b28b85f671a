"""The organisation's calendar: its zone, fiscal year, working days, and periods by name."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import holidays as public_holidays

from shared.clock import from_epoch_ms
from shared.errors import InvalidValue
from shared.facts.dated import start_of_day_ms
from shared.facts.record import Record

MONTHS_A_YEAR = 12
FULL_WEEK = frozenset(range(1, 8))
MONDAY_TO_FRIDAY = frozenset(range(1, 6))

_NAMED = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?:(?P<part>[QH])(?P<nth>[1-4])|(?P<month>[01][0-9])))?"
)
_CUSTOM = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.\.([0-9]{4}-[0-9]{2}-[0-9]{2})")
_PART_MONTHS = {"Q": 3, "H": 6}


@dataclass(frozen=True, slots=True)
class Period:
    """The days [start_day, end_day). id: `2025`, `2025-H1`, `2025-Q1`, `2025-03` or `start..end`.

    A year, half or quarter is fiscal, and named by the calendar year in which its fiscal year ends.
    """

    id: str
    start_day: date
    end_day: date

    def __contains__(self, day: date) -> bool:
        return self.start_day <= day < self.end_day

    @property
    def last_day(self) -> date:
        """The last day that belongs to it."""
        return self.end_day - timedelta(days=1)


class FiscalCalendar:
    """One calendar of working days and fiscal periods. Immutable once built."""

    def __init__(  # noqa: PLR0913 - a record's fields, each named at the call
        self,
        zone: ZoneInfo | None = None,
        *,
        fiscal_start_month: int = 1,
        weekdays: frozenset[int] = MONDAY_TO_FRIDAY,
        country: str | None = None,
        stated_holidays: Mapping[date, str] | None = None,
        currency: str | None = None,
    ) -> None:
        """fiscal_start_month: 1 to 12. weekdays: working days, 1 Monday to 7 Sunday.

        country: an ISO 3166 code whose public holidays are free, besides `stated_holidays`.
        Raises InvalidValue for a month, weekday or country that does not exist.
        """
        if not 1 <= fiscal_start_month <= MONTHS_A_YEAR:
            msg = f"fiscal_start_month must be 1 to 12, not {fiscal_start_month}"
            raise InvalidValue(msg, pointer="/fiscal_start_month")
        if not weekdays or not weekdays <= FULL_WEEK:
            msg = "weekdays must name at least one day from 1 (Monday) to 7 (Sunday)"
            raise InvalidValue(msg, pointer="/weekdays")
        if country is not None and country not in public_holidays.list_supported_countries():
            msg = f"no public holidays are known for country {country!r}; state them in `holidays`"
            raise InvalidValue(msg, pointer="/country")
        self.zone = ZoneInfo("UTC") if zone is None else zone
        self.fiscal_start_month = fiscal_start_month
        self.weekdays = weekdays
        self.country = country
        self.currency = currency
        self._stated = dict(stated_holidays or {})
        self._years: dict[int, list[date]] = {}

    @classmethod
    def build(cls, calendars: Mapping[str, Record], calendar_id: str) -> FiscalCalendar:
        """From folded calendar records: `calendar_id`, with its country's own stated holidays.

        Of dated values the last stated one holds. An absent record gives UTC, calendar years and
        Monday to Friday.
        """
        record = calendars.get(calendar_id, Record())
        country = _latest(record, "country")
        stated = _stated_holidays(record)
        if isinstance(country, str) and country in calendars:
            stated = {**_stated_holidays(calendars[country]), **stated}
        zone_name = _latest(record, "time_zone")
        weekdays = _latest(record, "weekdays")
        start_month = _latest(record, "fiscal_start_month")
        currency = _latest(record, "currency")
        return cls(
            zone_of(zone_name) if isinstance(zone_name, str) else None,
            fiscal_start_month=start_month if isinstance(start_month, int) else 1,
            weekdays=frozenset(weekdays) if isinstance(weekdays, list) else MONDAY_TO_FRIDAY,
            country=country if isinstance(country, str) else None,
            stated_holidays=stated,
            currency=currency if isinstance(currency, str) else None,
        )

    def period(self, text: str) -> Period:
        """The period that `text` names, or `2025-01-15..2025-02-01` (the end is not in it).

        Raises InvalidValue saying what is accepted.
        """
        if found := _CUSTOM.fullmatch(text):
            return _custom(text, found[1], found[2])
        found = _NAMED.fullmatch(text)
        if found is None:
            raise _no_period()
        year = int(found["year"])
        if not date.min.year < year < date.max.year:
            raise _no_period()
        if found["month"] is not None:
            month = int(found["month"])
            if not 1 <= month <= MONTHS_A_YEAR:
                raise _no_period()
            first, months = year * MONTHS_A_YEAR + month - 1, 1
        else:
            first, months = self._first_month(year), MONTHS_A_YEAR
            if found["part"] is not None:
                months = _PART_MONTHS[found["part"]]
                nth = int(found["nth"])
                if nth * months > MONTHS_A_YEAR:
                    raise _no_period()
                first += (nth - 1) * months
        return Period(text, _first_of(first), _first_of(first + months))

    def period_containing(self, day: date, kind: str) -> Period:
        """The `month`, `quarter`, `half` or `year` in which `day` lies."""
        if kind == "month":
            return self.period(f"{day.year:04d}-{day.month:02d}")
        into_year = (day.month - self.fiscal_start_month) % MONTHS_A_YEAR
        month = day.year * MONTHS_A_YEAR + day.month - 1
        year = (month - into_year + MONTHS_A_YEAR - 1) // MONTHS_A_YEAR
        match kind:
            case "year":
                return self.period(f"{year:04d}")
            case "half":
                return self.period(f"{year:04d}-H{into_year // 6 + 1}")
            case "quarter":
                return self.period(f"{year:04d}-Q{into_year // 3 + 1}")
        msg = f"a period is a month, quarter, half or year, not {kind!r}"
        raise InvalidValue(msg)

    def bounds_ms(self, period: Period) -> tuple[int, int]:
        """The period as instants [start, end), in milliseconds since 1970."""
        return (
            start_of_day_ms(period.start_day, self.zone),
            start_of_day_ms(period.end_day, self.zone),
        )

    def day_of_ms(self, at_ms: int) -> date:
        """The calendar day of an instant in the organisation's zone."""
        return from_epoch_ms(at_ms).astimezone(self.zone).date()

    def day_of(self, instant: datetime) -> date:
        """The calendar day of an aware instant in the organisation's zone."""
        return instant.astimezone(self.zone).date()

    def start_ms(self, day: date) -> int:
        """The first instant of a day, in milliseconds since 1970."""
        return start_of_day_ms(day, self.zone)

    def is_working_day(self, day: date) -> bool:
        """Whether people work on `day`."""
        days = self._working_days_of(day.year)
        place = bisect_left(days, day)
        return place < len(days) and days[place] == day

    def working_days(self, start_day: date, end_day: date) -> int:
        """How many working days lie in [start_day, end_day)."""
        if end_day <= start_day:
            return 0
        return sum(
            bisect_left(days, end_day) - bisect_left(days, start_day)
            for days in map(self._working_days_of, range(start_day.year, end_day.year + 1))
        )

    def elapsed(self, period: Period, as_of: date) -> int:
        """Working days of the period that are over before the day `as_of`."""
        return self.working_days(period.start_day, min(as_of, period.end_day))

    def nth_working_day(self, start_day: date, nth: int) -> date:
        """The `nth` (1, 2, …) working day from `start_day` on, that day included."""
        wanted, year = nth, start_day.year
        while year <= date.max.year:
            days = self._working_days_of(year)
            place = bisect_left(days, start_day) + wanted - 1
            if place < len(days):
                return days[place]
            wanted -= len(days) - bisect_left(days, start_day)
            year += 1
        msg = "no such working day before the year 10000"
        raise InvalidValue(msg)

    def _first_month(self, fiscal_year: int) -> int:
        """The month, counted from year 0, in which the fiscal year that ends in a year begins."""
        started = fiscal_year if self.fiscal_start_month == 1 else fiscal_year - 1
        return started * MONTHS_A_YEAR + self.fiscal_start_month - 1

    def _working_days_of(self, year: int) -> list[date]:
        known = self._years.get(year)
        if known is None:
            free = set(self._stated)
            if self.country is not None:
                free |= set(public_holidays.country_holidays(self.country, years=year))
            first = date(year, 1, 1).toordinal()
            length = 366 if _is_leap(year) else 365
            days = map(date.fromordinal, range(first, first + length))
            known = [d for d in days if d.isoweekday() in self.weekdays and d not in free]
            self._years[year] = known
        return known


def zone_of(name: str) -> ZoneInfo:
    """The IANA time zone of that name. Raises InvalidValue when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        msg = "this is no IANA time zone such as Europe/Zurich"
        raise InvalidValue(msg, pointer="/time_zone") from None


def _custom(text: str, start: str, end: str) -> Period:
    try:
        start_day, end_day = date.fromisoformat(start), date.fromisoformat(end)
    except ValueError:
        raise _no_period() from None
    if start_day >= end_day:
        msg = f"the period {text} ends before it has begun; its end day is not part of it"
        raise InvalidValue(msg)
    return Period(text, start_day, end_day)


def _no_period() -> InvalidValue:
    return InvalidValue(
        "this is no period; write 2025, 2025-H1, 2025-Q1, 2025-03 or 2025-01-15..2025-02-01"
    )


def _first_of(month: int) -> date:
    return date(month // MONTHS_A_YEAR, month % MONTHS_A_YEAR + 1, 1)


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _latest(record: Record, name: str) -> object:
    return max(record.dated(name), key=_since, default=("", None))[1]


def _since(version: tuple[str, object]) -> str:
    return version[0]


def _stated_holidays(record: Record) -> dict[date, str]:
    return {date.fromisoformat(day): name for day, _, name in record.dated_members("holidays")}
