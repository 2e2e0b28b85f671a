"""Goals: feasibility among like people, windows before, progress; and targets handed down."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest

from services.metrics.allocations import same_period_last_year
from services.metrics.domain.allocation import gap_between, handed_out, over_assigned
from services.metrics.domain.goals import (
    check_goal,
    doubts,
    feasibility,
    progress,
    reaches,
    windows_before,
)
from shared.errors import InvalidValue
from shared.org.calendar import FiscalCalendar

ONE, TWO = Decimal(1), Decimal(2)


def test_feasibility_needs_ten_periods_of_five_people() -> None:
    values = {f"p{n}": [ONE, TWO] for n in range(5)}
    found = feasibility(values, "at_least", TWO)
    assert (found.people, found.sample, found.share) == (5, 10, Decimal("0.5"))
    assert feasibility(values, "at_most", ONE).share == Decimal("0.5")
    few = feasibility({"p0": [ONE] * 20}, "at_least", ONE)
    assert (few.people, few.sample, few.share) == (1, 20, None)
    gaps: dict[str, list[Decimal | None]] = {**{f"p{n}": [ONE, TWO] for n in range(4)}}
    gaps["p4"] = [None, ONE]
    assert feasibility(gaps, "at_least", ONE).share is None


def test_windows_before_are_months_where_the_goal_is_of_months() -> None:
    march = windows_before(date(2026, 3, 1), date(2026, 4, 1), date(2026, 3, 1))
    assert march[0] == (date(2026, 2, 1), date(2026, 3, 1))
    assert march[3] == (date(2025, 11, 1), date(2025, 12, 1))
    ten_days = windows_before(date(2026, 3, 11), date(2026, 3, 21), date(2026, 3, 5))
    assert ten_days[0] == (date(2026, 2, 19), date(2026, 3, 1))
    assert len(ten_days) == 3, "the one that is not over is left out"


def test_progress_and_reaching() -> None:
    assert progress("at_least", Decimal(30), Decimal(40)) == Decimal("0.75")
    assert progress("at_most", Decimal(30), Decimal(40)) is None
    assert progress("at_least", None, Decimal(40)) is None
    assert reaches("at_most", TWO, TWO)
    assert not reaches("at_least", ONE, TWO)


def test_a_goal_ends_and_serves_no_ring() -> None:
    check_goal("g", date(2026, 1, 1), date(2026, 4, 1), ["up"])
    for start, end, above in (
        (date(2026, 1, 1), date(2026, 1, 1), []),
        (date(2026, 1, 1), date(2030, 1, 1), []),
        (date(2026, 1, 1), date(2026, 4, 1), ["up", "g"]),
    ):
        with pytest.raises(InvalidValue):
            check_goal("g", start, end, above)


def test_doubts_name_what_a_good_goal_would_not_have() -> None:
    sure = feasibility({f"p{n}": [ONE, TWO] for n in range(5)}, "at_least", TWO)
    assert list(doubts(sure, has_parent=True, days=90)) == []
    never = feasibility({f"p{n}": [ONE, ONE] for n in range(5)}, "at_least", TWO)
    assert len(list(doubts(never, has_parent=False, days=400))) == 3
    assert len(list(doubts(None, has_parent=True, days=90))) == 1


def test_a_target_is_handed_down_by_largest_remainder() -> None:
    parts = handed_out(Decimal(1000), "USD", dict.fromkeys("cab", ONE))
    assert [(p.person, p.amount) for p in parts] == [
        ("a", Decimal("333.34")),
        ("b", Decimal("333.33")),
        ("c", Decimal("333.33")),
    ]
    counts = handed_out(Decimal(10), None, {"a": ONE, "b": TWO, "c": Decimal(-5)})
    assert [p.amount for p in counts] == [3, 7, 0]
    with pytest.raises(InvalidValue):
        handed_out(Decimal(10), "USD", {"a": Decimal(0), "b": Decimal(-1)})


def test_on_top_of_a_target_and_what_people_miss_of_it() -> None:
    assert over_assigned(Decimal("100.05"), Fraction(1, 10), "USD") == Decimal("110.06")
    short = gap_between(Decimal(100), [Decimal(30), Decimal(50)])
    assert (short.assigned, short.gap, short.over_assignment) == (
        Decimal(80),
        Decimal(20),
        Decimal(0),
    )
    over = gap_between(Decimal(100), [Decimal(60), Decimal(50)])
    assert (over.gap, over.over_assignment) == (Decimal(0), Decimal("0.1"))
    assert gap_between(None, [ONE]).gap is None
    assert gap_between(Decimal(0), [ONE]).over_assignment is None


def test_the_same_period_of_last_year() -> None:
    calendar = FiscalCalendar(fiscal_start_month=4)
    quarter = same_period_last_year(calendar.period("2026-Q1"), calendar)
    assert (quarter.id, quarter.start_day) == ("2025-Q1", date(2024, 4, 1))
    leap = same_period_last_year(calendar.period("2024-02-29..2024-03-05"), calendar)
    assert leap.start_day == date(2023, 2, 28)
