"""Answers: a KPI's value for a scope and period, made from what is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from services.metrics import effortanswers, pipelineanswers, reading, rowreads
from services.metrics.domain import kpis
from services.metrics.domain.catalogue import BUILT_IN, Kpi, Registry
from services.metrics.domain.contributions import LOST_DEALS, NO_DECISION, WON_DEALS
from services.metrics.domain.kpis import KpiValue, Reason
from services.metrics.question import Question
from shared.org.calendar import Period

__all__ = ["BOOK", "FORMULAS", "Book", "Formula", "Question", "answer"]


async def _attainment(asked: Question) -> KpiValue:
    quota = await asked.quota()
    return kpis.attainment(await asked.booked(), quota)


async def _pace(asked: Question) -> KpiValue:
    quota = await asked.quota()
    return kpis.pace(await asked.booked(), quota, *asked.elapsed())


async def _projected(asked: Question) -> KpiValue:
    quota = await asked.quota()
    period = asked.window
    window = (max(period.start_day, asked.day), period.end_day)
    deals, counts = await asked.open_deals(window)
    weighted = kpis.weighted_pipeline(deals).value or Decimal(0)
    value = kpis.projected(await asked.booked(), weighted, quota, *asked.elapsed())
    return counts.over(value, "without_amount", "without_probability")


async def _required_rate(asked: Question) -> KpiValue:
    quota = await asked.quota()
    return kpis.required_rate(await asked.booked(), quota, *asked.elapsed())


async def _win_rate(asked: Question) -> KpiValue:
    if asked.variant == "cohort":
        found = await rowreads.cohort_counts(
            asked.tx, asked.people, asked.window, asked.calendar, asked.as_of_ms
        )
        lost = found.get(LOST_DEALS, 0)
        return kpis.win_rate_cohort(found.get(WON_DEALS, 0), lost, found.get("open", 0))
    sums = await asked.sums([WON_DEALS, LOST_DEALS, NO_DECISION])
    numbers = {m: sum(s.number for s in sums if s.measure == m) for m in _CLOSED}
    value = kpis.win_rate(numbers[WON_DEALS], numbers[LOST_DEALS], numbers[NO_DECISION])
    if asked.variant == "strict":
        total = sum(numbers.values())
        return kpis.win_rate(numbers[WON_DEALS], total - numbers[WON_DEALS])
    return value


_CLOSED = (WON_DEALS, LOST_DEALS, NO_DECISION)


async def _win_rate_value(asked: Question) -> KpiValue:
    sums = await asked.sums([WON_DEALS, LOST_DEALS])
    won, lost = (
        asked.converted(s for s in sums if s.measure == measure)
        for measure in (WON_DEALS, LOST_DEALS)
    )
    return kpis.win_rate_value(won, lost)


async def _pipeline(asked: Question) -> KpiValue:
    deals, counts = await asked.open_deals(_days(asked.period))
    return counts.over(kpis.pipeline_value(deals), "deals", "without_amount")


async def _weighted(asked: Question) -> KpiValue:
    deals, counts = await asked.open_deals(_days(asked.period))
    return counts.over(
        kpis.weighted_pipeline(deals), "deals", "without_amount", "without_probability"
    )


def _days(period: Period | None) -> tuple[date, date] | None:
    return None if period is None else (period.start_day, period.end_day)


async def _coverage(asked: Question) -> KpiValue:
    quota = await asked.quota()
    deals, counts = await asked.open_deals(_days(asked.window))
    pipeline = kpis.pipeline_value(deals).value or Decimal(0)
    rate = (await _win_rate_value(asked)).value
    value = kpis.coverage(pipeline, quota, await asked.booked(), rate)
    return counts.over(value, "without_amount")


async def _deal_size(asked: Question) -> KpiValue:
    return kpis.deal_size(await asked.won_deals())


async def _sales_cycle(asked: Question) -> KpiValue:
    return kpis.sales_cycle(await asked.won_deals())


async def _deal_age(asked: Question) -> KpiValue:
    rows = await rowreads.open_ages(asked.tx, asked.people, asked.as_of_ms)
    return kpis.mean_age(kpis.deal_age(asked.moment_ms, r["created_ms"], None) for r in rows)


async def _stage_age(asked: Question) -> KpiValue:
    rows = await rowreads.open_ages(asked.tx, asked.people, asked.as_of_ms)
    return kpis.mean_age(kpis.stage_age(asked.moment_ms, r["stage_entered_ms"]) for r in rows)


async def _stalled(asked: Question) -> KpiValue:
    return kpis.stalled_count(
        *await rowreads.stalled_and_open(asked.tx, asked.people, asked.as_of_ms)
    )


async def _activities(asked: Question) -> KpiValue:
    sums = await asked.sums(reading.activity_measures(by_share=asked.scope.by_share))
    by_kind: dict[str, int] = {}
    for one in sums:
        kind = one.measure.partition(":")[2]
        by_kind[kind] = by_kind.get(kind, 0) + one.number
    return kpis.activity_count({kind: n for kind, n in by_kind.items() if n})


Formula = Callable[[Question], Awaitable[KpiValue]]

FORMULAS: Mapping[tuple[str, int], Formula] = {
    ("K1", 1): _attainment,
    ("K2", 1): _pace,
    ("K3", 1): _projected,
    ("K4", 1): _required_rate,
    ("K5", 1): _win_rate,
    ("K6", 1): _win_rate_value,
    ("K9", 1): _pipeline,
    ("K10", 1): _weighted,
    ("K11", 1): _coverage,
    ("K12", 1): _deal_size,
    ("K13", 1): _sales_cycle,
    ("K15", 1): _deal_age,
    ("K16", 1): _stage_age,
    ("K17", 1): _stalled,
    ("K24", 1): _activities,
    **pipelineanswers.FORMULAS,
    **effortanswers.FORMULAS,
}
"""How each version of each KPI is read."""


@dataclass(frozen=True, slots=True)
class Book:
    """Definitions, and how each version of them is read."""

    registry: Registry
    formulas: Mapping[tuple[str, int], Formula]

    def definition(self, asked: Question, kpi: str) -> Kpi:
        """The version in force on the period's first day; without a period, on the as-of day."""
        day = asked.day if asked.period is None else asked.period.start_day
        return self.registry.in_force(kpi, day)


BOOK = Book(BUILT_IN, FORMULAS)
"""What comes with the product."""


async def answer(asked: Question, kpi: str, book: Book = BOOK) -> KpiValue:
    """The value by the version in force.

    Null with `too_few` where fewer records than the definition's minimum are behind it, and with
    `missing_rate` where all of an amount is held for want of a rate.
    """
    definition = book.definition(asked, kpi)
    value = await book.formulas[kpi, definition.version](asked)
    if value.value is None:
        return value
    if value.sample is not None and value.sample < definition.minimum_sample:
        return replace(value, value=None, reason=Reason.TOO_FEW)
    if asked.held and not value.value:
        return replace(value, value=None, reason=Reason.MISSING_RATE)
    return value
