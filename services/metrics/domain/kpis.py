"""The KPI formulas, as pure functions of what was read.

A formula is given sums or rows that are already filtered (period, people, currency converted) and
returns a value, or no value with the reason why there is none. Ratios are fractions (0.8 is 80 %).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from shared.money import EXACT, exact_sum, to_text
from shared.org.calendar import FiscalCalendar, Period

ZERO = Decimal(0)
MIN_ELAPSED_FOR_PACE = Fraction(1, 10)
"""Pace says nothing in the first tenth of a period's working days."""

DAY_MS = 86_400_000


class Reason(StrEnum):
    """Why there is no value, in a stable form."""

    NO_QUOTA = "no_quota"
    TOO_EARLY = "too_early"
    NOTHING_CLOSED = "nothing_closed"
    NO_WON = "no_won_deals"
    NO_VALUE = "no_value"
    MET = "met"
    UNKNOWN_ENTRY = "unknown_entry"
    UNKNOWN_CREATION = "unknown_creation"
    NO_DEALS = "no_deals"
    NO_WORKING_DAYS = "no_working_days"
    MISSING_RATE = "missing_rate"
    NO_DAYS_LEFT = "no_days_left"
    NO_CYCLE = "no_cycle"
    TOO_FEW = "too_few"
    NOTHING_ENTERED = "nothing_entered"
    NO_SUCH_STAGE = "no_such_stage"
    NOTHING_DUE = "nothing_due"
    NOT_OVER = "not_over"
    NOTHING_DONE = "nothing_done"
    ONE_PERSON_ONLY = "one_person_only"
    UNKNOWN_HIRING = "unknown_hiring"
    NOT_RAMPED = "not_ramped"


@dataclass(frozen=True, slots=True)
class KpiValue:
    """A value and what it was made of; without a value, the reason.

    parts: named pieces in JSON-ready text (decimals plain), such as numerator and denominator.
    sample: how many records it rests on; None where a definition's minimum does not apply.
    """

    value: Decimal | None
    reason: str | None = None
    parts: Mapping[str, str | None] = field(default_factory=dict)
    sample: int | None = None


@dataclass(frozen=True, slots=True)
class QuotaRow:
    """One quota in force for the people and measure asked about. amount: in one currency."""

    quota: str
    start_day: date
    end_day: date
    amount: Decimal


def quota_in_force(
    quotas: Sequence[QuotaRow], period: Period, calendar: FiscalCalendar
) -> Decimal | None:
    """The quota of `period`: each working day has the quota of the shortest period covering it.

    A quota counts by the share of its own working days that it covers, so a quarter's quota is
    prorated to a month, three monthly ones make a quarter, and one stated for exactly the period
    counts whole. Of equal periods the smaller quota id holds. None when no quota covers any day.
    """
    ranked = sorted(quotas, key=lambda q: (q.end_day - q.start_day, q.quota))
    exact = [q for q in ranked if (q.start_day, q.end_day) == (period.start_day, period.end_day)]
    if exact:
        return exact[0].amount
    free: list[tuple[date, date]] = [(period.start_day, period.end_day)]
    total = Fraction(0)
    found = False
    for quota in ranked:
        whole = calendar.working_days(quota.start_day, quota.end_day)
        rest: list[tuple[date, date]] = []
        for start, end in free:
            first, last = max(start, quota.start_day), min(end, quota.end_day)
            if first >= last:
                rest.append((start, end))
                continue
            found = True
            if whole:
                total += Fraction(quota.amount) * calendar.working_days(first, last) / whole
            rest += [(a, b) for a, b in ((start, first), (last, end)) if a < b]
        free = rest
    return to_decimal(total) if found else None


def attainment(booked: Decimal, quota: Decimal | None) -> KpiValue:
    """K1. May be negative when reversals exceed bookings."""
    parts = {"booked": to_text(booked), "quota": None if quota is None else to_text(quota)}
    if not quota:
        return KpiValue(None, Reason.NO_QUOTA, parts)
    return KpiValue(ratio(booked, quota), None, parts)


def pace(booked: Decimal, quota: Decimal | None, elapsed: int, total: int) -> KpiValue:
    """K2: above 1 is ahead. elapsed, total: working days over before the as-of day, and in all."""
    parts = {
        "booked": to_text(booked),
        "quota": None if quota is None else to_text(quota),
        "working_days_elapsed": str(elapsed),
        "working_days": str(total),
    }
    if not quota:
        return KpiValue(None, Reason.NO_QUOTA, parts)
    if not total:
        return KpiValue(None, Reason.NO_WORKING_DAYS, parts)
    if Fraction(elapsed, total) < MIN_ELAPSED_FOR_PACE or not elapsed:
        return KpiValue(None, Reason.TOO_EARLY, parts)
    value = Fraction(booked) / Fraction(quota) / Fraction(elapsed, total)
    return KpiValue(to_decimal(value), None, parts)


def projected(
    closed: Decimal, weighted: Decimal, quota: Decimal | None, elapsed: int, total: int
) -> KpiValue:
    """K3, from the pipeline; `run_rate` in the parts is the second form, null while too early.

    weighted: Σ amount * probability of open deals that close in the rest of the period.
    """
    run_rate = pace(closed, quota, elapsed, total)
    parts = {
        "closed": to_text(closed),
        "weighted_pipeline": to_text(weighted),
        "quota": None if quota is None else to_text(quota),
        "run_rate": None if run_rate.value is None else to_text(run_rate.value),
        "run_rate_reason": run_rate.reason,
    }
    if not quota:
        return KpiValue(None, Reason.NO_QUOTA, parts)
    return KpiValue(ratio(EXACT.add(closed, weighted), quota), None, parts)


def required_rate(closed: Decimal, quota: Decimal | None, elapsed: int, total: int) -> KpiValue:
    """K4: what each working day that is left has to bring. A quota that is met needs nothing."""
    parts = {
        "closed": to_text(closed),
        "quota": None if quota is None else to_text(quota),
        "working_days_left": str(total - elapsed),
    }
    if not quota:
        return KpiValue(None, Reason.NO_QUOTA, parts)
    gap = EXACT.subtract(quota, closed)
    if gap <= 0:
        return KpiValue(ZERO, None, parts)
    if elapsed >= total:
        return KpiValue(None, Reason.NO_DAYS_LEFT, parts)
    return KpiValue(ratio(gap, Decimal(total - elapsed)), None, parts)


def win_rate(won: int, lost: int, no_decision: int = 0) -> KpiValue:
    """K5. `strict` in the parts counts no-decision as lost; each variant is null on its own."""
    strict = won + lost + no_decision
    parts = {
        "won": str(won),
        "lost": str(lost),
        "no_decision": str(no_decision),
        "strict": to_text(ratio(Decimal(won), Decimal(strict))) if strict else None,
    }
    if not won + lost:
        return KpiValue(None, Reason.NOTHING_CLOSED, parts)
    return KpiValue(ratio(Decimal(won), Decimal(won + lost)), None, parts)


def win_rate_cohort(won: int, lost: int, still_open: int) -> KpiValue:
    """K5 over the deals created in the period; those still open are shown apart."""
    parts = {"won": str(won), "lost": str(lost), "open": str(still_open), "variant": "cohort"}
    if not won + lost:
        return KpiValue(None, Reason.NOTHING_CLOSED, parts)
    return KpiValue(ratio(Decimal(won), Decimal(won + lost)), None, parts)


def win_rate_value(won: Decimal, lost: Decimal) -> KpiValue:
    """K6. lost: last amounts before the loss."""
    parts = {"won": to_text(won), "lost": to_text(lost)}
    total = EXACT.add(won, lost)
    if not total:
        return KpiValue(None, Reason.NO_VALUE, parts)
    return KpiValue(ratio(won, total), None, parts)


OMITTED_CATEGORY = "omitted"


@dataclass(frozen=True, slots=True)
class OpenDeal:
    """An open deal in the window, in the asked currency. amount None: not stated."""

    amount: Decimal | None
    probability: Decimal | None
    category: str | None = None


def pipeline_value(deals: Iterable[OpenDeal]) -> KpiValue:
    """K9. Deals without an amount are counted in the parts, never taken as 0."""
    counted = [d for d in deals if d.category != OMITTED_CATEGORY]
    amounts = [d.amount for d in counted if d.amount is not None]
    parts = {
        "deals": str(len(counted)),
        "without_amount": str(len(counted) - len(amounts)),
    }
    return KpiValue(exact_sum(amounts), None, parts)


def weighted_pipeline(deals: Iterable[OpenDeal]) -> KpiValue:
    """K10. Each product is quantised, so that sums do not depend on order."""
    counted = [d for d in deals if d.category != OMITTED_CATEGORY]
    products = [
        to_decimal(Fraction(d.amount) * Fraction(d.probability))
        for d in counted
        if d.amount is not None and d.probability is not None
    ]
    parts = {
        "deals": str(len(counted)),
        "without_amount": str(sum(d.amount is None for d in counted)),
        "without_probability": str(
            sum(d.probability is None for d in counted if d.amount is not None)
        ),
    }
    return KpiValue(exact_sum(products), None, parts)


def coverage(
    pipeline: Decimal, quota: Decimal | None, closed: Decimal, value_win_rate: Decimal | None
) -> KpiValue:
    """K11. `needed` in the parts is 1 ÷ win rate by value, null while that is unknown or 0."""
    needed = to_text(ratio(Decimal(1), value_win_rate)) if value_win_rate else None
    parts = {
        "pipeline": to_text(pipeline),
        "quota": None if quota is None else to_text(quota),
        "closed": to_text(closed),
        "needed": needed,
    }
    if not quota:
        return KpiValue(None, Reason.NO_QUOTA, parts)
    gap = EXACT.subtract(quota, closed)
    if gap <= 0:
        return KpiValue(None, Reason.MET, parts)
    return KpiValue(ratio(pipeline, gap), None, {**parts, "gap": to_text(gap)})


@dataclass(frozen=True, slots=True)
class WonDeal:
    """A deal won in the period. amount: in the asked currency, None when unknown."""

    amount: Decimal | None
    deal_type: str | None
    created_ms: int | None
    credit_ms: int


RENEWAL = "renewal"


def deal_size(deals: Iterable[WonDeal]) -> KpiValue:
    """K12: the mean over deals that are no renewals; median and renewals' mean in the parts."""
    priced = [(d.amount, d.deal_type) for d in deals if d.amount is not None]
    fresh = [amount for amount, deal_type in priced if deal_type != RENEWAL]
    renewals = [amount for amount, deal_type in priced if deal_type == RENEWAL]
    parts = {
        "deals": str(len(fresh)),
        "median": to_text(median(fresh)) if fresh else None,
        "zero_value_deals": str(sum(not amount for amount in fresh)),
        "renewals": str(len(renewals)),
        "renewal_mean": to_text(mean(renewals)) if renewals else None,
    }
    if not fresh:
        return KpiValue(None, Reason.NO_WON, parts)
    return KpiValue(mean(fresh), None, parts)


def sales_cycle(deals: Iterable[WonDeal]) -> KpiValue:
    """K13, in days of 24 hours. Unknown creation is left out; won before created is a data error.

    Both are counted in the parts, and neither enters the mean or the median.
    """
    known = list(deals)
    cycles = [d.credit_ms - d.created_ms for d in known if d.created_ms is not None]
    valid = [Decimal(ms) for ms in cycles if ms >= 0]
    parts = {
        "deals": str(len(valid)),
        "median": to_text(days(median(valid))) if valid else None,
        "without_creation": str(len(known) - len(cycles)),
        "data_errors": str(len(cycles) - len(valid)),
    }
    if not valid:
        return KpiValue(None, Reason.NO_WON, parts)
    average = Fraction(exact_sum(valid)) / len(valid)
    return KpiValue(to_decimal(average / DAY_MS), None, parts)


def deal_age(as_of_ms: int, created_ms: int | None, closed_ms: int | None) -> KpiValue:
    """K15, in days: until the close of a closed deal, else until now."""
    if created_ms is None:
        return KpiValue(None, Reason.UNKNOWN_CREATION)
    end_ms = as_of_ms if closed_ms is None else closed_ms
    return KpiValue(days(Decimal(end_ms - created_ms)))


def stage_age(as_of_ms: int, stage_entered_ms: int | None) -> KpiValue:
    """K16, in days."""
    if stage_entered_ms is None:
        return KpiValue(None, Reason.UNKNOWN_ENTRY)
    return KpiValue(days(Decimal(as_of_ms - stage_entered_ms)))


def mean_age(ages: Iterable[KpiValue]) -> KpiValue:
    """K15 or K16 over many deals: the mean of the known ones, the median and unknown beside it."""
    listed = list(ages)
    known = [age.value for age in listed if age.value is not None]
    parts = {
        "deals": str(len(known)),
        "unknown": str(len(listed) - len(known)),
        "median": to_text(median(known)) if known else None,
    }
    if not known:
        return KpiValue(None, Reason.NO_DEALS, parts)
    return KpiValue(mean(known), None, parts)


def stalled_count(stalled: int, still_open: int) -> KpiValue:
    """K17, with the open deals it is out of."""
    return KpiValue(Decimal(stalled), None, {"open": str(still_open)})


def activity_count(by_kind: Mapping[str, int]) -> KpiValue:
    """K24 over kinds; each kind is a part."""
    parts = {kind: str(number) for kind, number in sorted(by_kind.items())}
    return KpiValue(Decimal(sum(by_kind.values())), None, parts)


def to_decimal(value: Fraction) -> Decimal:
    """A fraction at the stored step, half-even."""
    scaled = round(value * 10**10)
    return EXACT.scaleb(Decimal(scaled), -10)


def ratio(numerator: Decimal, denominator: Decimal) -> Decimal:
    """The quotient at the stored step; the denominator is not 0."""
    return to_decimal(Fraction(numerator) / Fraction(denominator))


def mean(numbers: Sequence[Decimal]) -> Decimal:
    """Of at least one number, at the stored step."""
    return to_decimal(Fraction(exact_sum(numbers)) / len(numbers))


def median(numbers: Sequence[Decimal]) -> Decimal:
    """Of at least one number; of an even count the mean of the middle two."""
    ordered = sorted(numbers)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return to_decimal((Fraction(low) + Fraction(high)) / 2)


def days(milliseconds: Decimal) -> Decimal:
    """Milliseconds as days of 24 hours."""
    return to_decimal(Fraction(milliseconds) / DAY_MS)
