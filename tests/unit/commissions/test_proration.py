"""Parts of a period by the three methods; the figures are those a quota is prorated by."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from services.commissions.domain.periods import parse_period
from services.commissions.domain.plan import Assignment, DayRange, Proration
from services.commissions.domain.proration import Prorated, monday_to_friday, prorated

Q2, Q3 = parse_period("2025-Q2"), parse_period("2025-Q3")
HIRED = DayRange(date(2025, 5, 16))


def part(
    assignment: Assignment, method: Proration = Proration.CALENDAR_DAYS, label: str = "2025-Q2"
) -> Prorated:
    stated = [(Decimal(300_000), assignment)]
    return prorated(parse_period(label), stated, [], method, monday_to_friday)


def cents(found: Prorated) -> str:
    return str(found.amount.quantize(Decimal("0.01")))


@pytest.mark.parametrize(
    ("method", "amount"),
    [
        (Proration.CALENDAR_DAYS, "151648.35"),
        (Proration.MONTHS, "151612.90"),
        (Proration.WORKING_DAYS, "147692.31"),
    ],
)
def test_hired_within_the_quarter(method: Proration, amount: str) -> None:
    assert cents(part(Assignment("ana", "p", HIRED), method)) == amount


def test_a_ramp_multiplies_the_months_of_the_assignment() -> None:
    ramp = (Decimal("0.25"), Decimal("0.5"), Decimal("0.75"))
    new = Assignment("ana", "p", DayRange(date(2025, 4, 1)), ramp=ramp)
    assert cents(part(new, Proration.MONTHS)) == "150000.00"
    assert cents(part(new, Proration.MONTHS, "2025-Q3")) == "300000.00"


def test_days_of_leave_do_not_count_and_overlapping_leave_counts_once() -> None:
    away = DayRange(date(2025, 7, 1), date(2025, 7, 20))
    leave = (away, DayRange(date(2025, 7, 10), date(2025, 7, 15)))
    on_leave = Assignment("ana", "p", DayRange(date(2025, 1, 1)), leave=leave)
    assert cents(part(on_leave, label="2025-Q3")) == "234782.61"


def test_assignments_follow_one_another_and_a_day_counts_once() -> None:
    first = Assignment("ana", "p", DayRange(date(2025, 4, 1), date(2025, 5, 15)))
    second = Assignment("ana", "p", DayRange(date(2025, 5, 1)))
    stated = [(Decimal(91), first), (Decimal(182), second)]
    found = prorated(Q2, stated, [], Proration.CALENDAR_DAYS, monday_to_friday)
    assert found.amount == 45 + 2 * 46


def test_outside_the_terms_nothing_is_left() -> None:
    stated = [(Decimal(100), Assignment("ana", "p", DayRange()))]
    ended = [DayRange(None, date(2025, 6, 30))]
    found = prorated(Q3, stated, ended, Proration.CALENDAR_DAYS, monday_to_friday)
    assert found == Prorated(Decimal("0E-10"), ())
