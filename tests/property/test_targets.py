"""Parts of quotas sum to the whole, by every method; a target handed down loses nothing."""

from __future__ import annotations

from calendar import monthrange
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from services.metrics.domain.allocation import handed_out
from services.metrics.domain.quota_terms import (
    PRORATING,
    Change,
    Days,
    Method,
    Terms,
    figure_in_force,
    part_in_force,
)
from shared.money import exact_sum, minor_unit_exponent
from shared.org.calendar import FiscalCalendar, Period

CALENDAR = FiscalCalendar(country="US")
PERIODS = st.sampled_from(
    ["2025-Q2", "2025-02", "2024", "2025-H2", "2025-01-15..2025-03-10", "2024-02-28..2024-03-02"]
).map(CALENDAR.period)
SHARES = st.fractions(min_value=0, max_value=1, max_denominator=20)


def days_around(period: Period) -> st.SearchStrategy[date]:
    edge = timedelta(days=40)
    return st.dates(period.start_day - edge, period.end_day + edge)


@st.composite
def ranges(draw: st.DrawFn, period: Period) -> Days:
    first, last = sorted((draw(days_around(period)), draw(days_around(period))))
    return Days(first, last)


@st.composite
def terms_in(draw: st.DrawFn, period: Period) -> Terms:
    """Any terms that prorate, within and around a period."""
    inside = st.dates(period.start_day + timedelta(days=1), period.end_day - timedelta(days=1))
    changes = sorted(draw(st.sets(inside, max_size=2)))
    return Terms(
        amount=Decimal(draw(st.integers(0, 10**9))),
        method=draw(st.sampled_from(PRORATING)),
        present=draw(st.one_of(st.just(Days()), ranges(period))),
        changes=tuple(Change(day, Decimal(draw(st.integers(0, 10**6)))) for day in changes),
        ramp=tuple(draw(st.lists(SHARES, max_size=4))),
        ramp_from=draw(st.none() | days_around(period)),
        leave=tuple(draw(st.lists(ranges(period), max_size=3))),
    )


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_adjacent_parts_of_a_period_make_the_whole(data: st.DataObject) -> None:
    period = data.draw(PERIODS)
    terms = data.draw(terms_in(period))
    borders = data.draw(st.sets(days_around(period), max_size=4))
    cuts = [date.min, *sorted(borders), date.max]
    parts = [part_in_force(terms, period, CALENDAR, (first, end)) for first, end in pairwise(cuts)]
    whole = part_in_force(terms, period, CALENDAR, (period.start_day, period.end_day))
    assert sum(parts, Fraction(0)) == whole
    assert all(part >= 0 for part in parts)


def day_by_day(terms: Terms, period: Period) -> Fraction:
    """The same quota, a day at a time: each weighs the same, within its month, or if worked."""
    length = (period.end_day - period.start_day).days
    days = [period.start_day + timedelta(days=n) for n in range(length)]
    weights = {day: _weight(terms.method, day) for day in days}
    begun = terms.ramp_from or terms.present.first or period.start_day
    asked = Fraction(0)
    for day in days:
        here = (terms.present.first or day) <= day <= (terms.present.last or day)
        away = any((one.first or day) <= day <= (one.last or day) for one in terms.leave)
        if here and not away:
            amount = [terms.amount, *(c.amount for c in terms.changes if c.from_day <= day)][-1]
            month = max((day.year - begun.year) * 12 + day.month - begun.month, 0)
            ramp = [*terms.ramp, Fraction(1)][min(month, len(terms.ramp))]
            asked += Fraction(amount) * weights[day] * ramp
    whole = sum(weights.values(), Fraction(0))
    return asked / whole if whole else Fraction(0)


def _weight(method: Method, day: date) -> Fraction:
    if method is Method.MONTHS:
        return Fraction(1, monthrange(day.year, day.month)[1])
    return Fraction(method is Method.CALENDAR_DAYS or CALENDAR.is_working_day(day))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_the_figure_is_that_of_its_days_one_by_one(data: st.DataObject) -> None:
    period = data.draw(PERIODS)
    terms = data.draw(terms_in(period))
    whole = part_in_force(terms, period, CALENDAR, (period.start_day, period.end_day))
    assert whole == day_by_day(terms, period)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_two_people_who_follow_one_another_share_one_quota(data: st.DataObject) -> None:
    """By calendar days: independent of the code, the days of each over those of the period."""
    period = data.draw(PERIODS)
    day = data.draw(st.dates(period.start_day, period.end_day - timedelta(days=1)))
    amount = Decimal(data.draw(st.integers(1, 10**9)))
    first = Terms(amount, Method.CALENDAR_DAYS, Days(None, day))
    second = Terms(amount, Method.CALENDAR_DAYS, Days(day + timedelta(days=1), None))
    found = [
        figure_in_force(terms, [], period, CALENDAR, "USD").amount for terms in (first, second)
    ]
    assert abs(exact_sum(found) - amount) <= Decimal("0.01")
    length = (period.end_day - period.start_day).days
    exact = Fraction(amount) * ((day - period.start_day).days + 1) / length
    assert abs(Fraction(found[0]) - exact) <= Fraction(1, 200)


@given(
    amount=st.integers(0, 10**12),
    currency=st.sampled_from(["USD", "JPY", "KWD", None]),
    weights=st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=3), st.integers(0, 10**6), min_size=1
    ).filter(lambda found: any(found.values())),
)
@settings(max_examples=100, deadline=None)
def test_what_is_handed_down_sums_to_the_target_and_is_fair(
    amount: int, currency: str | None, weights: dict[str, int]
) -> None:
    step = Decimal(1).scaleb(-(0 if currency is None else minor_unit_exponent(currency)))
    whole = amount * step
    parts = handed_out(whole, currency, {p: Decimal(w) for p, w in weights.items()})
    assert exact_sum(part.amount for part in parts) == whole
    assert {part.person for part in parts} == set(weights)
    total = sum(weights.values())
    for part in parts:
        exact = Fraction(whole) * weights[part.person] / total
        assert abs(Fraction(part.amount) - exact) < Fraction(step)
