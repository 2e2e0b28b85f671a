"""Floors: at least so much a statement from a component, credits or none; never taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from services.commissions.domain.lines import LineKind, line_of_basis, money
from services.commissions.domain.periods import Period
from services.commissions.domain.plan import PlanVersion
from services.commissions.domain.proration import Prorated
from services.commissions.domain.rates import ZERO
from services.commissions.domain.terms import Component
from services.commissions.domain.work import Work
from shared.money import EXACT, round_to_minor, to_text


@dataclass(frozen=True, slots=True)
class TopUp:
    """What brings `earned` up to `least`, the floor or draw of the days assigned."""

    what: str
    stated: Prorated
    least: Decimal
    earned: Decimal

    @property
    def amount(self) -> Decimal:
        """max(0, least - earned)."""
        return max(ZERO, EXACT.subtract(self.least, self.earned))

    @property
    def to_held(self) -> Decimal:
        """Nothing is held."""
        return ZERO

    def tree(self) -> Mapping[str, object]:
        """The stated amounts and their parts of the period, the rounded sum, what was earned."""
        return {
            self.what: {**self.stated.tree(), "rounded": to_text(self.least)},
            "earned": to_text(self.earned),
        }

    def sentence(self, amount: Decimal, currency: str) -> str:
        """What happened."""
        return (
            f"{money(self.earned, currency)} earned, at least {money(self.least, currency)} is "
            f"paid by the {self.what}: {money(amount, currency)} on top."
        )


def raise_to_floors(work: Work) -> None:
    """A line for each component and statement that stays below its floor."""
    for period in work.periods():
        version = work.version(period)
        for component in version.components:
            if component.floor is not None:
                _raise(work, period, version, component, component.floor)


def _raise(
    work: Work, period: Period, version: PlanVersion, component: Component, floor: Decimal
) -> None:
    stated = work.prorated(period, version, floor, (component.effective,))
    least = round_to_minor(stated.amount, version.currency, version.rounding.mode)
    basis = TopUp("floor", stated, least, work.sum_of(period, component.id))
    if stated.parts and basis.amount:
        key = f"{component.id}/{period.label}"
        work.put(line_of_basis(LineKind.FLOOR, key, component.id, version.hash, period, basis))
