"""How a rate table rises and falls along its axis: jumps, falls, and its steepest difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from services.commissions.domain.proration import as_decimal
from services.commissions.domain.rates import ZERO
from services.commissions.domain.terms import Component, Method, Over, RateTable, ThresholdPays
from shared.money import to_text

_NO_TABLE = "only components that earn by rates have a table"


@dataclass(frozen=True, slots=True)
class Jump:
    """Pay changes by `size` at one place of the axis, at once."""

    at: str
    pointer: str
    size: Decimal


@dataclass(frozen=True, slots=True)
class Fall:
    """The rate is lower by `size` (a fraction) from a place on. pays_less: a sale may take pay."""

    at: str
    pointer: str
    size: Decimal
    pays_less: bool
    why: str


class Steepness:
    """A component's table with its rates as fractions of the credited amount.

    quota, target_pay: typical ones; without them a share of quota is measured as such, and target
    pay counts as one quota.
    """

    def __init__(
        self, component: Component, quota: Decimal | None, target_pay: Decimal | None
    ) -> None:
        if component.rates is None:
            raise TypeError(_NO_TABLE)
        self.component = component
        self.table: RateTable = component.rates
        self.in_money = quota is not None or self.table.over is Over.AMOUNT
        self.quota = Fraction(quota) if quota is not None else Fraction(1)
        pay = Fraction(target_pay) if target_pay is not None and quota else self.quota
        self.base = pay / self.quota if self.table.of_target_pay and self.quota else Fraction(1)

    def axis(self, lower: Decimal) -> Fraction:
        """A bound in credited amount."""
        return Fraction(lower) * (self.quota if self.table.over is Over.ATTAINMENT else 1)

    def rates(self) -> list[tuple[Decimal, Fraction]]:
        """(bound, marginal rate from there on), in order; a flat rate is one entry."""
        if self.table.method is not Method.CURVE:
            return [(tier.lower, Fraction(tier.rate) * self.base) for tier in self.table.tiers]
        found = [(ZERO, Fraction(0))]
        for low, high in pairwise(self.table.points):
            climb = Fraction(high.pays - low.pays) / Fraction(high.attainment - low.attainment)
            found.append((low.attainment, climb * self.base))
        return [*found, (self.table.points[-1].attainment, Fraction(0))]

    def rate_at(self, bound: Decimal) -> Fraction:
        """The marginal rate at a place."""
        return [rate for lower, rate in self.rates() if lower <= bound][-1]

    def above(self, other: Steepness) -> Decimal:
        """By how much at most this table's rate is above the other's, at one place of the axis.

        A flat rate is the same everywhere; of two axes no place is the same, so that the highest
        is compared with the lowest.
        """
        flat = Method.FLAT in {self.table.method, other.table.method}
        if self.table.over is not other.table.over and not flat:
            highest = max(rate for _, rate in self.rates())
            return as_decimal(max(Fraction(0), highest - min(rate for _, rate in other.rates())))
        bounds = {lower for side in (self, other) for lower, _ in side.rates()}
        drops = [self.rate_at(bound) - other.rate_at(bound) for bound in bounds]
        return as_decimal(max(Fraction(0), *drops))


def _at(over: Over, bound: Decimal) -> str:
    if over is Over.ATTAINMENT:
        return f"{to_text(bound * 100)} % of quota"
    return f"{to_text(bound)} deals" if over is Over.COUNT else to_text(bound)


def jumps(of: Steepness) -> Iterator[Jump]:
    """Where pay changes at once: retroactive bounds, thresholds, the first point of a curve."""
    table, threshold = of.table, of.component.threshold
    if table.method is Method.RETROACTIVE:
        for index, (low, high) in enumerate(pairwise(of.rates()), start=1):
            whole = Fraction(1) if table.over is Over.COUNT else of.axis(high[0])
            size = as_decimal(whole * (high[1] - low[1]))
            if size:
                yield Jump(_at(table.over, high[0]), f"rates/tiers/{index}", size)
    if table.points and table.points[0].pays:
        first = table.points[0]
        size = as_decimal(Fraction(first.pays) * of.base * of.quota)
        yield Jump(_at(table.over, first.attainment), "rates/points/0", size)
    if threshold is not None and threshold.pays is ThresholdPays.FIRST_DOLLAR:
        size = as_decimal(_earned(of, Fraction(threshold.attainment) * of.quota))
        if size:
            yield Jump(_at(Over.ATTAINMENT, threshold.attainment), "threshold", size)


def _earned(of: Steepness, credited: Fraction) -> Fraction:
    """What the tiers earn on an amount, without threshold."""
    tiers = [(of.axis(lower), rate) for lower, rate in of.rates()]
    reached = [rate for lower, rate in tiers if lower <= credited]
    if of.table.method is not Method.MARGINAL:
        return credited * reached[-1]
    uppers = [lower for lower, _ in tiers[1:]]
    total = Fraction(0)
    for (lower, rate), upper in zip(tiers, [*uppers, credited], strict=True):
        total += max(Fraction(0), min(upper, credited) - lower) * rate
    return total


def falls(of: Steepness) -> Iterator[Fall]:
    """Where the rate is lower than before; negative rates themselves."""
    table = of.table
    name = "points" if table.points else "tiers"
    counts_each = table.over is Over.COUNT and table.method is Method.MARGINAL
    for index, (low, high) in enumerate(pairwise(of.rates()), start=1):
        is_end = bool(table.points) and index == len(table.points)
        if high[1] >= low[1] or is_end:
            continue
        less = counts_each or high[1] < 0
        why = "each sale adds less"
        if counts_each:
            why = "a small deal can take the better place of a large one"
        elif high[1] < 0:
            why = "more sales pay less"
        place = f"rates/{name}/{index - 1 if table.points else index}"
        yield Fall(_at(table.over, high[0]), place, as_decimal(low[1] - high[1]), less, why)
    first_bound, first_rate = of.rates()[0]
    if first_rate < 0:
        size = as_decimal(-first_rate)
        place = "rates/rate" if table.method is Method.FLAT else "rates/tiers/0"
        yield Fall(_at(table.over, first_bound), place, size, True, "more sales pay less")


def spread(of: Steepness) -> Decimal:
    """The difference of the highest and lowest rate a deal can have, what caps make of it too."""
    rates = [rate for _, rate in of.rates()]
    cap = of.component.cap
    capped = of.component.attainment_cap is not None or (cap is not None and not cap.carry)
    below = of.component.threshold is not None
    if capped or below:
        rates.append(Fraction(0))
    return as_decimal(max(rates) - min(rates))
