from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from shared.errors import InvalidValue
from shared.org.calendar import FiscalCalendar
from tests.support.facts import org

PLAIN = FiscalCalendar()
APRIL = FiscalCalendar(fiscal_start_month=4)


@pytest.mark.parametrize(
    ("calendar", "text", "start", "end"),
    [
        (PLAIN, "2025", date(2025, 1, 1), date(2026, 1, 1)),
        (PLAIN, "2025-H2", date(2025, 7, 1), date(2026, 1, 1)),
        (PLAIN, "2025-Q1", date(2025, 1, 1), date(2025, 4, 1)),
        (PLAIN, "2025-12", date(2025, 12, 1), date(2026, 1, 1)),
        (PLAIN, "2025-01-15..2025-02-01", date(2025, 1, 15), date(2025, 2, 1)),
        (APRIL, "2025", date(2024, 4, 1), date(2025, 4, 1)),
        (APRIL, "2025-Q4", date(2025, 1, 1), date(2025, 4, 1)),
        (APRIL, "2025-H1", date(2024, 4, 1), date(2024, 10, 1)),
        (APRIL, "2025-03", date(2025, 3, 1), date(2025, 4, 1)),
    ],
)
def test_periods_by_name(calendar: FiscalCalendar, text: str, start: date, end: date) -> None:
    period = calendar.period(text)
    assert (period.id, period.start_day, period.end_day) == (text, start, end)
    assert start in period
    assert end not in period


@pytest.mark.parametrize(
    "text", ["", "2025-Q5", "2025-H3", "2025-13", "2025-00", "25", "2025-02-30..2025-03-01", "0000"]
)
def test_what_is_no_period_says_what_is(text: str) -> None:
    with pytest.raises(InvalidValue, match="2025-Q1"):
        PLAIN.period(text)


def test_a_custom_period_must_end_after_it_begins() -> None:
    with pytest.raises(InvalidValue, match="ends before"):
        PLAIN.period("2025-02-01..2025-02-01")


@pytest.mark.parametrize("calendar", [PLAIN, APRIL])
@pytest.mark.parametrize("kind", ["month", "quarter", "half", "year"])
def test_every_day_is_in_the_period_that_contains_it(calendar: FiscalCalendar, kind: str) -> None:
    for day in (date(2025, 1, 1), date(2025, 3, 31), date(2025, 4, 1), date(2025, 12, 31)):
        assert day in calendar.period_containing(day, kind)


def test_working_days_leave_out_weekends_public_and_stated_holidays() -> None:
    swiss = FiscalCalendar(country="CH", stated_holidays={date(2026, 12, 24): "Christmas Eve"})
    assert PLAIN.working_days(date(2026, 12, 21), date(2026, 12, 28)) == 5
    assert swiss.working_days(date(2026, 12, 21), date(2026, 12, 28)) == 3
    assert not swiss.is_working_day(date(2026, 12, 24))
    assert PLAIN.working_days(date(2025, 12, 1), date(2026, 2, 1)) == 23 + 22
    assert PLAIN.working_days(date(2026, 1, 2), date(2026, 1, 1)) == 0


def test_elapsed_counts_days_that_are_over() -> None:
    month = PLAIN.period("2026-06")
    assert PLAIN.elapsed(month, date(2026, 6, 1)) == 0
    assert PLAIN.elapsed(month, date(2026, 6, 2)) == 1
    assert PLAIN.elapsed(month, date(2027, 1, 1)) == 22
    assert PLAIN.elapsed(month, date(2026, 1, 1)) == 0


def test_nth_working_day_crosses_years() -> None:
    assert PLAIN.nth_working_day(date(2025, 12, 31), 1) == date(2025, 12, 31)
    assert PLAIN.nth_working_day(date(2025, 12, 31), 2) == date(2026, 1, 1)
    assert PLAIN.nth_working_day(date(2026, 1, 3), 1) == date(2026, 1, 5)


def test_days_and_bounds_are_in_the_zone_also_when_clocks_change() -> None:
    zurich = FiscalCalendar(ZoneInfo("Europe/Zurich"))
    assert zurich.day_of(datetime(2026, 3, 28, 23, 30, tzinfo=UTC)) == date(2026, 3, 29)
    start, end = zurich.bounds_ms(zurich.period("2026-03-29..2026-03-30"))
    assert end - start == 23 * 3_600_000


def test_the_organisation_s_calendar_is_read_from_its_record() -> None:
    calendar = org(
        calendar={
            "time_zone": "Asia/Tokyo",
            "fiscal_start_month": 4,
            "weekdays": [1, 2, 3, 4],
            "holidays": {"2026-01-05": "Founding day"},
            "currency": "JPY",
        }
    ).calendar
    assert calendar.zone == ZoneInfo("Asia/Tokyo")
    assert calendar.fiscal_start_month == 4
    assert calendar.currency == "JPY"
    assert not calendar.is_working_day(date(2026, 1, 5))
    assert not calendar.is_working_day(date(2026, 1, 9))


def test_impossible_calendars_are_refused() -> None:
    with pytest.raises(InvalidValue, match="1 to 12"):
        FiscalCalendar(fiscal_start_month=13)
    with pytest.raises(InvalidValue, match="at least one day"):
        FiscalCalendar(weekdays=frozenset())
    with pytest.raises(InvalidValue, match="no public holidays"):
        FiscalCalendar(country="XX")
    with pytest.raises(InvalidValue, match="IANA"):
        org(calendar={"time_zone": "Mars/Olympus"})
