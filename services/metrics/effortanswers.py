"""Answers about what people do and how they keep their deals: K25, K28, K35, K36."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from services.metrics import healthreads, reading
from services.metrics.domain import hygiene, kpis, pipeline, trend
from services.metrics.domain.hygiene import OpenDealState
from services.metrics.domain.kpis import DAY_MS, KpiValue
from services.metrics.domain.pipeline import WINS_PER_OPPORTUNITY, FunnelCounts
from services.metrics.domain.trend import Month
from services.metrics.healthreads import CohortAsked, HealthAsked
from services.metrics.question import Question
from services.metrics.reading import BOOKINGS_OF
from shared.org.calendar import Period

if TYPE_CHECKING:
    import asyncpg

MAX_RAMP_MONTHS = 60
"""Who has not reached a full quota in five years is not asked about any longer."""


# ---- K25 ---------------------------------------------------------------------------------------


def cohort_asked(asked: Question, period: Period) -> CohortAsked:
    """The deals created in a period."""
    start_ms, end_ms = asked.calendar.bounds_ms(period)
    lag_ms = asked.lag_days * DAY_MS
    return CohortAsked(asked.people, start_ms, end_ms, asked.as_of_ms, lag_ms, asked.which)


async def _ratios(asked: Question) -> KpiValue:
    """Activities are counted without the deals' filters: they are of no deal type or segment."""
    period, lag = asked.window, timedelta(days=asked.lag_days)
    later = Period(period.id, period.start_day + lag, period.end_day + lag)
    now = await _done(asked, period)
    then = await _done(asked, later)
    opportunities, wins = await healthreads.cohort(asked.tx, cohort_asked(asked, period))
    after, _ = await healthreads.cohort(asked.tx, cohort_asked(asked, later))
    counts = FunnelCounts(
        calls=now.get("call", 0),
        meetings=now.get("meeting", 0),
        meetings_after=then.get("meeting", 0),
        opportunities=opportunities,
        opportunities_after=after,
        wins=wins,
    )
    wanted = asked.variant if asked.variant in pipeline.RATIOS else WINS_PER_OPPORTUNITY
    return pipeline.funnel_ratios(
        counts, asked.lag_days, str(wanted), over=asked.day >= later.end_day
    )


async def _done(asked: Question, period: Period) -> dict[str, int]:
    """Activities done in a period, by kind."""
    measures = reading.activity_measures(by_share=asked.scope.by_share)
    found: dict[str, int] = {}
    for one in await replace(asked, period=period).sums(measures):
        kind = one.measure.partition(":")[2]
        found[kind] = found.get(kind, 0) + one.number
    return found


# ---- K28, K35 ----------------------------------------------------------------------------------


def health_asked(asked: Question, days: int) -> HealthAsked:
    """The open deals; an activity counts for so many days."""
    org = asked.world.org
    known = ((person, org.person(person, asked.day)) for person in org.person_ids)
    active = [person for person, there in known if there is not None and there.active]
    return HealthAsked(
        asked.people, asked.as_of_ms, asked.moment_ms, asked.day, days, active, asked.which
    )


async def _touch_coverage(asked: Question) -> KpiValue:
    days = asked.touched_days
    row = await healthreads.coverage(asked.tx, health_asked(asked, days))
    return pipeline.touch_coverage(row["open"], row["touched"], row["with_next_step"], days)


def state_of(row: asyncpg.Record) -> OpenDealState:
    """Open deals as the rules see them, from what was read."""
    return OpenDealState(
        stage=row["stage"],
        stated=frozenset(row["stated"]),
        priced=row["priced"],
        overdue=row["overdue"],
        next_step=row["next_step"],
        fresh=row["fresh"],
        owner_active=row["owner_active"],
        duplicate=row["duplicate"],
        number=row["number"],
    )


async def _hygiene(asked: Question) -> KpiValue:
    rules = asked.hygiene
    rows = await healthreads.state_groups(asked.tx, health_asked(asked, rules.fresh_days))
    return hygiene.hygiene_score([state_of(row) for row in rows], rules)


# ---- K36 ---------------------------------------------------------------------------------------


def months_between(asked: Question, first: date, end: date) -> list[Period]:
    """The whole calendar months from that of `first` to the last one that is over by `end`."""
    found = []
    month = asked.calendar.period_containing(first, "month")
    while month.end_day <= end:
        found.append(month)
        month = asked.calendar.period_containing(month.end_day, "month")
    return found


async def _ramp(asked: Question) -> KpiValue:
    one_person = asked.scope.kind == "rep"
    person = None
    if one_person:
        person = asked.world.org.person(str(asked.scope.id), asked.day)
    hired_on = None if person is None else person.hired_on
    recent_from = _months_back(asked.day, trend.CONSISTENT_MONTHS)
    recent = months_between(asked, recent_from, asked.day)
    since = recent if hired_on is None else months_between(asked, hired_on, asked.day)
    booked = await _booked_by_month(asked, [*recent, *since])
    months = [
        Month(month.start_day, await _attained(asked, month, booked[month.start_day]))
        for month in (since[:MAX_RAMP_MONTHS] if hired_on is not None else [])
    ]
    values = [
        booked[month.start_day] for month in recent if hired_on is None or month.end_day > hired_on
    ]
    return trend.ramp(hired_on, months, values, one_person=one_person)


def _months_back(day: date, months: int) -> date:
    number = day.year * trend.MONTHS_A_YEAR + day.month - 1 - months
    return date(number // trend.MONTHS_A_YEAR, number % trend.MONTHS_A_YEAR + 1, 1)


async def _booked_by_month(asked: Question, months: list[Period]) -> dict[date, Decimal]:
    """Bookings of each month, read at once."""
    if not months:
        return {}
    start = min(month.start_day for month in months)
    end = max(month.end_day for month in months)
    whole = replace(asked, period=Period("months", start, end))
    sums = await whole.sums([BOOKINGS_OF[asked.scope.by_share]])
    return {month.start_day: asked.converted(s for s in sums if s.day in month) for month in months}


async def _attained(asked: Question, month: Period, booked: Decimal) -> Decimal | None:
    quota = await replace(asked, period=month, quotas=None).quota()
    return kpis.attainment(booked, quota).value


FORMULAS: Mapping[tuple[str, int], Callable[[Question], Awaitable[KpiValue]]] = {
    ("K25", 1): _ratios,
    ("K28", 1): _touch_coverage,
    ("K35", 1): _hygiene,
    ("K36", 1): _ramp,
}
"""How each of them is read."""
