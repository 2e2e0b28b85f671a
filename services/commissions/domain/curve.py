"""Attainment curves: pay as a share of target pay, linear between points.

Below the first point nothing is earned, above the last nothing more. With b and c the measures at
two neighbouring points that pay the shares p and q, a measure m between them earns
target pay * (p * (c - b) + (m - b) * (q - p)) ÷ (c - b), divided once and kept at the stored step.
"""

from __future__ import annotations

import decimal
from bisect import bisect_right
from decimal import Decimal

from services.commissions.domain.rates import ZERO
from services.commissions.domain.terms import Over, RateTable
from shared.money import EXACT, quantise

_WIDE = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN)
_add, _subtract, _multiply = EXACT.add, EXACT.subtract, EXACT.multiply


class Curve:
    """A curve laid over one quota and target pay. `rates` are the points' shares of target pay."""

    __slots__ = ("bounds", "over", "rates", "target_pay")

    def __init__(self, table: RateTable, quota: Decimal, target_pay: Decimal) -> None:
        self.over: Over = table.over
        self.bounds = [_multiply(point.attainment, quota) for point in table.points]
        self.rates = [point.pays for point in table.points]
        self.target_pay = target_pay

    def tier_at(self, measure: Decimal) -> int:
        """Index of the last point at or below `measure`; 0 below all."""
        return max(0, bisect_right(self.bounds, measure) - 1)

    def earned(self, credited: Decimal, count: int = 0) -> Decimal:  # noqa: ARG002 - as Priced
        """Everything earned on `credited` in one measure period."""
        if credited < self.bounds[0]:
            return ZERO
        index = self.tier_at(credited)
        if index == len(self.bounds) - 1:
            return quantise(_multiply(self.target_pay, self.rates[-1]))
        bottom, share = self.bounds[index], self.rates[index]
        width = _subtract(self.bounds[index + 1], bottom)
        climb = _multiply(_subtract(credited, bottom), _subtract(self.rates[index + 1], share))
        weighted = _add(_multiply(share, width), climb)
        return quantise(_WIDE.divide(_multiply(self.target_pay, weighted), width))

    def line(
        self,
        before: Decimal,  # noqa: ARG002 - as Priced
        after: Decimal,
        earned_before: Decimal,
        count: int,
    ) -> tuple[Decimal, Decimal]:
        """(what a line earns, earned to date after it)."""
        earned_after = self.earned(after, count + 1)
        return _subtract(earned_after, earned_before), earned_after
