"""How deals come, move and slip: the formulas K8, K14, K18, K19, K23, K25 and K28.

They are given what was read, already grouped: deals that a formula cannot tell apart come as one
row with their number. Amounts are in the asked currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from services.metrics.domain.kpis import KpiValue, Reason, ratio, to_decimal
from shared.money import exact_sum, to_text

WON_RANK = 2**31 - 1
"""Won lies beyond every stage."""


# ---- K8 ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StageStep:
    """An open stage of a pipeline. order: its place; label: as parts name it."""

    place: str
    order: int
    label: str


@dataclass(frozen=True, slots=True)
class StagePath:
    """Deals that took the same way through one pipeline.

    ranks: orders of the stages it came to, in time, won as WON_RANK; only a first visit counts.
    inside: which of these visits began in the period. standing: `open`, `won` or `lost`.
    """

    place: str
    ranks: tuple[int, ...]
    inside: tuple[bool, ...]
    standing: str
    number: int = 1

    def entered(self, order: int) -> bool:
        """Whether the first time at this stage or beyond it lay in the period."""
        for rank, inside in zip(self.ranks, self.inside, strict=True):
            if rank >= order:
                return inside
        return False

    def passed(self, order: int) -> bool:
        """Whether any later stage was ever reached; one that was jumped over counts as passed."""
        return any(rank > order for rank in self.ranks)

    def walked(self, orders: Sequence[int]) -> bool:
        """Whether each of these stages was visited, each for the first time after the former."""
        places = [self.ranks.index(order) for order in orders if order in self.ranks]
        return len(places) == len(orders) and places == sorted(places)

    def visited_inside(self, order: int) -> bool:
        """Whether the first visit to exactly this stage lay in the period."""
        return order in self.ranks and self.inside[self.ranks.index(order)]


@dataclass(frozen=True, slots=True)
class Conversion:
    """Of deals that entered a stage: how many passed it, and how many are still open in it."""

    entered: int
    passed: int
    still_open: int

    @property
    def rate(self) -> Decimal | None:
        """Passed ÷ entered; deals still open stay in the denominator."""
        return ratio(Decimal(self.passed), Decimal(self.entered)) if self.entered else None


def conversion(
    paths: Iterable[StagePath], step: StageStep, steps: Sequence[StageStep], *, strict: bool
) -> Conversion:
    """One stage's conversion. strict: only deals that went through every stage in order count."""
    orders = sorted(one.order for one in steps if one.place == step.place)
    until = orders[: orders.index(step.order) + 1]
    further = [*orders[len(until) :], WON_RANK][0]
    entered = passed = still_open = 0
    for path in paths:
        if path.place != step.place:
            continue
        if strict:
            in_period = path.visited_inside(step.order) and path.walked(until)
            went_on = in_period and path.walked([*until, further])
        else:
            in_period = path.entered(step.order)
            went_on = in_period and path.passed(step.order)
        entered += path.number * in_period
        passed += path.number * went_on
        still_open += path.number * (in_period and not went_on and path.standing == "open")
    return Conversion(entered, passed, still_open)


def stage_conversion(
    paths: Sequence[StagePath],
    steps: Sequence[StageStep],
    stage: str | None = None,
    *,
    strict: bool = False,
) -> KpiValue:
    """K8 of `stage`, by its label; of the first one where none is named. The parts have them all.

    steps: the open stages of every pipeline, in order.
    """
    ordered = sorted(steps, key=lambda one: (one.place, one.order))
    found = {one.label: conversion(paths, one, ordered, strict=strict) for one in ordered}
    parts: dict[str, str | None] = {}
    for label, one in found.items():
        parts[f"{label}.entered"] = str(one.entered)
        parts[f"{label}.passed"] = str(one.passed)
        parts[f"{label}.open"] = str(one.still_open)
        parts[f"{label}.rate"] = None if one.rate is None else to_text(one.rate)
    wanted = stage if stage is not None else next(iter(found), None)
    if wanted is None or wanted not in found:
        return KpiValue(None, Reason.NO_SUCH_STAGE, parts)
    parts["stage"] = wanted
    asked = found[wanted]
    if asked.rate is None:
        return KpiValue(None, Reason.NOTHING_ENTERED, parts)
    return KpiValue(asked.rate, None, parts, sample=asked.entered)


# ---- K14 ---------------------------------------------------------------------------------------


def velocity(
    open_deals: int, size: Decimal | None, win_rate: Decimal | None, cycle_days: Decimal | None
) -> KpiValue:
    """K14, money a day: open qualified deals * average size * win rate ÷ cycle in days."""
    parts = {
        "open_deals": str(open_deals),
        "size": None if size is None else to_text(size),
        "win_rate": None if win_rate is None else to_text(win_rate),
        "cycle_days": None if cycle_days is None else to_text(cycle_days),
    }
    if win_rate is None:
        return KpiValue(None, Reason.NOTHING_CLOSED, parts)
    if size is None:
        return KpiValue(None, Reason.NO_WON, parts)
    if not cycle_days:
        return KpiValue(None, Reason.NO_CYCLE, parts)
    product = open_deals * Fraction(size) * Fraction(win_rate)
    return KpiValue(to_decimal(product / Fraction(cycle_days)), None, parts)


# ---- K18 ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DueDeal:
    """Deals open at a period's start that were to close in it.

    amount: of all of them as of the start, None where not stated. still_open: at its end.
    """

    amount: Decimal | None
    still_open: bool
    number: int = 1


def slip_rate(due: Sequence[DueDeal], *, over: bool = True) -> KpiValue:
    """K18 by count; `value_rate` in the parts by value. over: whether the period is."""
    total = sum(one.number for one in due)
    slipped = sum(one.number for one in due if one.still_open)
    amounts = [(one.amount, one.still_open) for one in due if one.amount is not None]
    value = exact_sum(amount for amount, _ in amounts)
    slipped_value = exact_sum(amount for amount, still_open in amounts if still_open)
    parts = {
        "due": str(total),
        "still_open": str(slipped),
        "due_value": to_text(value),
        "still_open_value": to_text(slipped_value),
        "value_rate": to_text(ratio(slipped_value, value)) if value and over else None,
        "without_amount": str(sum(one.number for one in due if one.amount is None)),
    }
    if not total:
        return KpiValue(None, Reason.NOTHING_DUE, parts)
    if not over:
        return KpiValue(None, Reason.NOT_OVER, parts)
    return KpiValue(ratio(Decimal(slipped), Decimal(total)), None, parts, sample=total)


# ---- K19 ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Push:
    """A move of an open deal's close date to a later day. crosses: into another fiscal quarter."""

    deal: str
    crosses: bool


def push_count(pushes: Sequence[Push]) -> KpiValue:
    """K19 over deals: each move counts, and no move back takes one away."""
    by_deal: dict[str, int] = {}
    for push in pushes:
        by_deal[push.deal] = by_deal.get(push.deal, 0) + 1
    parts = {
        "deals": str(len(by_deal)),
        "into_another_quarter": str(sum(push.crosses for push in pushes)),
        "most_of_one_deal": str(max(by_deal.values(), default=0)),
    }
    return KpiValue(Decimal(len(pushes)), None, parts)


# ---- K23 ---------------------------------------------------------------------------------------


def pipeline_created(amounts: Sequence[Decimal | None]) -> KpiValue:
    """K23: one amount a deal, at its first moment in a qualified stage; None where not stated."""
    stated = [amount for amount in amounts if amount is not None]
    parts = {"deals": str(len(amounts)), "without_amount": str(len(amounts) - len(stated))}
    return KpiValue(exact_sum(stated), None, parts)


# ---- K25 ---------------------------------------------------------------------------------------

WINS_PER_OPPORTUNITY = "wins_per_opportunity"
RATIOS: Mapping[str, tuple[str, str]] = {
    WINS_PER_OPPORTUNITY: ("wins", "opportunities"),
    "meetings_per_call": ("meetings_after", "calls"),
    "opportunities_per_meeting": ("opportunities_after", "meetings"),
}
"""Each ratio's numerator and denominator, as fields of FunnelCounts."""


@dataclass(frozen=True, slots=True)
class FunnelCounts:
    """Counts of one period, and `_after` of the same period moved on by the lag.

    wins: of the opportunities, deals created in the period, those won within the lag.
    """

    calls: int = 0
    meetings: int = 0
    meetings_after: int = 0
    opportunities: int = 0
    opportunities_after: int = 0
    wins: int = 0


def funnel_ratios(
    counts: FunnelCounts, lag_days: int, wanted: str = WINS_PER_OPPORTUNITY, *, over: bool = True
) -> KpiValue:
    """K25: the wanted ratio, with all three in the parts. over: whether the lag is, for all."""
    parts: dict[str, str | None] = {"lag_days": str(lag_days), "lag_over": str(over).lower()}
    found: dict[str, Decimal | None] = {}
    for name, (above, below) in RATIOS.items():
        numerator, denominator = getattr(counts, above), getattr(counts, below)
        value = ratio(Decimal(numerator), Decimal(denominator)) if denominator else None
        found[name] = value
        parts |= {above: str(numerator), below: str(denominator)}
        parts[name] = None if value is None else to_text(value)
    value = found[wanted]
    if value is None:
        return KpiValue(None, Reason.NOTHING_DONE, parts)
    return KpiValue(value, None, parts, sample=getattr(counts, RATIOS[wanted][1]))


# ---- K28 ---------------------------------------------------------------------------------------


def touch_coverage(
    open_deals: int, touched: int, with_next_step: int | None, touched_days: int
) -> KpiValue:
    """K28: the touched share; `next_step_share` in the parts, None as of the past.

    touched: with an activity in the last `touched_days` days. with_next_step: dated and ahead.
    """
    known = with_next_step is not None and open_deals
    parts = {
        "open": str(open_deals),
        "touched": str(touched),
        "touched_days": str(touched_days),
        "with_next_step": None if with_next_step is None else str(with_next_step),
        "next_step_share": to_text(ratio(Decimal(with_next_step or 0), Decimal(open_deals)))
        if known
        else None,
    }
    if not open_deals:
        return KpiValue(None, Reason.NO_DEALS, parts)
    return KpiValue(ratio(Decimal(touched), Decimal(open_deals)), None, parts, sample=open_deals)
