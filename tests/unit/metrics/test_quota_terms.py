"""Figures of quotas in force, to the cent: parts of a period, ramp, leave, changes and reliefs."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest

from services.metrics.domain.quota_terms import (
    Change,
    Days,
    Method,
    Relief,
    Terms,
    check_terms,
    figure_in_force,
)
from shared.errors import InvalidValue
from shared.org.calendar import FiscalCalendar

CALENDAR = FiscalCalendar()
HIRED = Days(date(2025, 5, 16))
QUARTER = Decimal(300_000)
QUARTERS = (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))


def figure(
    terms: Terms,
    period: str = "2025-Q2",
    *reliefs: Relief,
    currency: str | None = "USD",
    calendar: FiscalCalendar = CALENDAR,
) -> Decimal:
    return figure_in_force(terms, reliefs, calendar.period(period), calendar, currency).amount


@pytest.mark.parametrize(
    ("method", "amount"),
    [
        (Method.CALENDAR_DAYS, "151648.35"),
        (Method.MONTHS, "151612.90"),
        (Method.WORKING_DAYS, "147692.31"),
    ],
)
def test_hired_on_16_may_of_a_quarter_of_300_000(method: Method, amount: str) -> None:
    assert figure(Terms(QUARTER, method, HIRED)) == Decimal(amount)


@pytest.mark.parametrize("method", [Method.CALENDAR_DAYS, Method.MONTHS])
def test_a_ramp_of_25_50_75_percent_of_100_000_a_month(method: Method) -> None:
    assert figure(Terms(QUARTER, method, ramp=QUARTERS)) == 150_000


def test_a_ramp_goes_on_in_the_next_period_and_ends() -> None:
    ramp = (*QUARTERS, Fraction(9, 10))
    terms = Terms(QUARTER, Method.MONTHS, ramp=ramp, ramp_from=date(2025, 4, 9))
    assert figure(terms, "2025-Q3") == 290_000
    assert figure(terms, "2025-Q4") == 300_000


def test_leave_of_20_of_92_days() -> None:
    leave = (Days(date(2025, 7, 1), date(2025, 7, 20)), Days(date(2025, 7, 10), date(2025, 7, 15)))
    terms = Terms(QUARTER, Method.CALENDAR_DAYS, leave=leave)
    assert figure(terms, "2025-Q3") == Decimal("234782.61")


def test_working_days_are_the_organisations() -> None:
    germany = FiscalCalendar(country="DE")
    terms = Terms(QUARTER, Method.WORKING_DAYS, HIRED)
    # Of 65 weekdays 5 are free, of the 32 from 16 May on two: Ascension Day and Whit Monday.
    assert figure(terms, calendar=germany) == 150_000


def test_an_amount_that_changes_within_the_period() -> None:
    terms = Terms(
        Decimal(91), Method.CALENDAR_DAYS, changes=(Change(date(2025, 5, 16), Decimal(182)),)
    )
    assert figure(terms) == 45 + 2 * 46


def test_who_was_never_there_has_a_quota_of_nothing() -> None:
    assert figure(Terms(QUARTER, Method.MONTHS, Days(date(2025, 7, 1)))) == 0
    assert figure(Terms(QUARTER, Method.MONTHS, Days(None, date(2025, 3, 31)))) == 0


def test_reliefs_follow_one_another_and_each_is_rounded() -> None:
    period = CALENDAR.period("2025-Q2")
    terms = Terms(Decimal("100.01"), Method.STATED)
    reliefs = [Relief(share=Fraction(1, 10)), Relief(amount=Decimal("40.01"))]
    found = figure_in_force(terms, reliefs, period, CALENDAR, "USD")
    assert [(s.before, s.after) for s in found.steps] == [
        (Decimal("100.01"), Decimal("90.01")),
        (Decimal("90.01"), Decimal("50.00")),
    ]
    assert found.amount == 50
    with pytest.raises(InvalidValue, match="more than"):
        figure_in_force(terms, [Relief(amount=Decimal("100.02"))], period, CALENDAR, "USD")


def test_a_stated_quota_is_not_rounded_and_a_count_to_hundredths() -> None:
    assert figure(Terms(Decimal("0.1234567"))) == Decimal("0.1234567")
    counted = Terms(Decimal(10), Method.CALENDAR_DAYS, HIRED)
    assert figure(counted, currency=None) == Decimal("5.05")
    assert figure(Terms(QUARTER, Method.CALENDAR_DAYS, HIRED), currency="JPY") == 151_648


def test_a_period_of_parts_of_months_weighs_them_by_their_days() -> None:
    terms = Terms(Decimal(48), Method.MONTHS, Days(date(2025, 2, 1)))
    # 16 of 31 days of January and all of February: 28/28 of 16/31 + 1.
    expected = (Fraction(48) / (Fraction(16, 31) + 1)).limit_denominator(1000)
    found = figure(terms, "2025-01-16..2025-03-01")
    assert found == round(Decimal(expected.numerator) / expected.denominator, 2)


@pytest.mark.parametrize(
    ("terms", "pointer"),
    [
        (Terms(QUARTER, Method.STATED, HIRED), "/method"),
        (Terms(QUARTER, Method.STATED, ramp=QUARTERS), "/method"),
        (Terms(QUARTER, Method.MONTHS, Days(date(2025, 5, 2), date(2025, 5, 1))), "/to"),
        (
            Terms(QUARTER, Method.MONTHS, leave=(Days(date(2025, 5, 2), date(2025, 5, 1)),)),
            "/leave/0",
        ),
        (
            Terms(QUARTER, Method.MONTHS, changes=(Change(date(2025, 4, 1), QUARTER),)),
            "/changes/0/from",
        ),
        (
            Terms(
                QUARTER,
                Method.MONTHS,
                changes=(Change(date(2025, 5, 2), QUARTER), Change(date(2025, 5, 1), QUARTER)),
            ),
            "/changes",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_is(terms: Terms, pointer: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        check_terms(terms, CALENDAR.period("2025-Q2"))
    assert refused.value.pointer == pointer
