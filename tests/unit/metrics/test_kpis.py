from __future__ import annotations

from datetime import date
from decimal import Decimal

from services.metrics.domain.kpis import QuotaRow, quota_in_force, win_rate_cohort
from shared.org.calendar import FiscalCalendar

CALENDAR = FiscalCalendar()
QUARTER = QuotaRow("q", date(2026, 1, 1), date(2026, 4, 1), Decimal(640))
MONTHS = [
    QuotaRow("m1", date(2026, 1, 1), date(2026, 2, 1), Decimal(100)),
    QuotaRow("m2", date(2026, 2, 1), date(2026, 3, 1), Decimal(120)),
    QuotaRow("m3", date(2026, 3, 1), date(2026, 4, 1), Decimal(140)),
]


def quota(rows: list[QuotaRow], period: str) -> Decimal | None:
    return quota_in_force(rows, CALENDAR.period(period), CALENDAR)


def test_a_quota_for_exactly_the_period_counts_whole() -> None:
    assert quota([*MONTHS, QUARTER], "2026-Q1") == 640
    assert quota([*MONTHS, QUARTER], "2026-02") == 120


def test_shorter_quotas_add_up_and_longer_ones_are_prorated_by_working_days() -> None:
    assert quota(MONTHS, "2026-Q1") == 360
    assert quota([QUARTER], "2026-02") == 200  # 20 of 64 working days
    assert quota([MONTHS[0], QUARTER], "2026-01-01..2026-03-01") == 300


def test_two_quotas_of_one_period_count_once() -> None:
    twice = [QUARTER, QuotaRow("z", QUARTER.start_day, QUARTER.end_day, Decimal(999))]
    assert quota(twice, "2026-Q1") == 640
    assert quota(twice, "2026-02") == 200


def test_no_quota_is_none_and_not_0() -> None:
    assert quota([], "2026-Q1") is None
    assert quota([QUARTER], "2026-Q2") is None


def test_cohort_win_rate_shows_the_open_ones_apart() -> None:
    value = win_rate_cohort(won=2, lost=2, still_open=6)
    assert value.value == Decimal("0.5")
    assert value.parts["open"] == "6"
    assert win_rate_cohort(0, 0, 3).reason == "nothing_closed"
