"""Tier arithmetic: what is earned to date on what is credited to date, exact and unrounded.

Marginal: each slice at its own tier's rate. Retroactive: the highest tier reached rates all of
it. Below zero (more credit notes than invoices) the first tier's rate goes on, so that a full
reversal takes back what was given.
"""

from __future__ import annotations

import decimal
from bisect import bisect_right
from decimal import Decimal
from typing import NamedTuple, Protocol

from services.commissions.domain.terms import Method, Over, RateTable, Threshold, ThresholdPays
from shared.money import EXACT, quantise

ZERO = Decimal(0)
_WIDE = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN)
_add, _subtract, _multiply = EXACT.add, EXACT.subtract, EXACT.multiply


class Slice(NamedTuple):
    """A part of the credited amount at one rate: `amount` times `rate`."""

    tier: int
    amount: Decimal
    rate: Decimal


class Base(NamedTuple):
    """The base rate that multiples stand for: target pay ÷ quota."""

    target_pay: Decimal
    quota: Decimal


class Priced(Protocol):
    """A rate table or curve laid over one quota: what is earned on what is credited, to date."""

    over: Over
    bounds: list[Decimal]
    rates: list[Decimal]

    def tier_at(self, measure: Decimal) -> int:
        """Index of the bound at or below `measure`; 0 below all."""

    def earned(self, credited: Decimal, count: int = 0) -> Decimal:
        """Everything earned on `credited`, of `count` deals, in one measure period."""

    def line(
        self, before: Decimal, after: Decimal, earned_before: Decimal, count: int
    ) -> tuple[Decimal, Decimal]:
        """(what a line earns, earned to date after it); `count` deals came before."""


class Pricing:
    """A rate table laid over one quota, with what is earned at each bound computed once.

    base: what multiples (`1.5x`) are of. Divided once, at the end, so that no digit is lost on the
    way: the result is at the stored step.
    """

    __slots__ = ("_base", "_earned_at", "_excess_only", "_floor", "bounds", "method", "over",
                 "rates")  # fmt: skip

    def __init__(
        self,
        table: RateTable,
        quota: Decimal | None,
        threshold: Threshold | None = None,
        base: Base | None = None,
    ) -> None:
        self.method, self.over = table.method, table.over
        self._base = base
        self.rates = [tier.rate for tier in table.tiers]
        scale = quota if table.over is Over.ATTAINMENT else None
        self.bounds = [
            tier.lower if scale is None else _multiply(tier.lower, scale) for tier in table.tiers
        ]
        self._earned_at = [ZERO]
        for index in range(1, len(self.bounds)):
            width = _subtract(self.bounds[index], self.bounds[index - 1])
            slice_earned = _multiply(width, self.rates[index - 1])
            self._earned_at.append(_add(self._earned_at[-1], slice_earned))
        self._floor: Decimal | None = None
        self._excess_only = False
        if threshold is not None and quota is not None:
            self._floor = _multiply(threshold.attainment, quota)
            self._excess_only = threshold.pays is ThresholdPays.EXCESS_ONLY

    @property
    def counts_each(self) -> bool:
        """Whether a line is priced by its own place among the deals, not by what came before."""
        return self.over is Over.COUNT and self.method is Method.MARGINAL

    def tier_at(self, measure: Decimal) -> int:
        """Index of the tier in which `measure` lies; bounds belong to the tier they open."""
        index = bisect_right(self.bounds, measure) - 1
        return max(0, index)

    def earned(self, credited: Decimal, count: int = 0) -> Decimal:
        """Everything earned on `credited`, of `count` deals, in one measure period."""
        if self._floor is None:
            weighted = self._priced(credited, count)
        elif credited < self._floor:
            return ZERO
        elif self._excess_only:
            weighted = self._above(credited, self._floor)
        else:
            weighted = self._priced(credited, count)
        return weighted if self._base is None else self._of_base(weighted)

    def _of_base(self, weighted: Decimal) -> Decimal:
        """A credited amount times multiples, in pay."""
        if self._base is None:
            return weighted
        return quantise(_WIDE.divide(_multiply(weighted, self._base.target_pay), self._base.quota))

    def line(
        self, before: Decimal, after: Decimal, earned_before: Decimal, count: int
    ) -> tuple[Decimal, Decimal]:
        """(what the line earns, earned to date after it); `count` deals came before.

        Marginal over count, the line is its own amount at the rate of its place.
        """
        if self.counts_each:
            rate = self.rates[self.tier_at(Decimal(count))]
            return self._of_base(_multiply(_subtract(after, before), rate)), ZERO
        earned_after = self.earned(after, count + 1)
        return _subtract(earned_after, earned_before), earned_after

    def slices(self, credited: Decimal, count: int = 0) -> list[Slice]:
        """The parts that make up `earned(credited, count)`, for the explanation."""
        start = ZERO
        if self._floor is not None:
            if credited < self._floor:
                return []
            start = self._floor if self._excess_only else ZERO
        if self.method is not Method.MARGINAL:
            index = self.tier_at(self._axis(credited, count))
            return [Slice(index, _subtract(credited, start), self.rates[index])]
        if credited < self.bounds[0]:
            return [Slice(0, credited, self.rates[0])]
        found = []
        for index, lower in enumerate(self.bounds):
            upper = self.bounds[index + 1] if index + 1 < len(self.bounds) else credited
            bottom, top = max(lower, start), min(upper, credited)
            if top > bottom:
                found.append(Slice(index, _subtract(top, bottom), self.rates[index]))
        return found

    def _axis(self, credited: Decimal, count: int) -> Decimal:
        return Decimal(count) if self.over is Over.COUNT else credited

    def _priced(self, credited: Decimal, count: int) -> Decimal:
        index = self.tier_at(self._axis(credited, count))
        if self.method is not Method.MARGINAL:
            return _multiply(credited, self.rates[index])
        above = _subtract(credited, self.bounds[index])
        return _add(self._earned_at[index], _multiply(above, self.rates[index]))

    def _above(self, credited: Decimal, floor: Decimal) -> Decimal:
        if self.method is not Method.MARGINAL:
            rate = self.rates[self.tier_at(credited)]
            return _multiply(_subtract(credited, floor), rate)
        return _subtract(self._priced(credited, 0), self._priced(floor, 0))
