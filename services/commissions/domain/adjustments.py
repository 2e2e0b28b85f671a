"""Adjustments: agreed amounts, each a line of its own on its statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from services.commissions.domain.agreed import Adjustment
from services.commissions.domain.lines import LineKind, line_of_basis, money
from services.commissions.domain.rates import ZERO
from services.commissions.domain.work import Work
from shared.money import to_text


@dataclass(frozen=True, slots=True)
class Adjusted:
    """The adjustment that a line stands on."""

    adjustment: Adjustment

    @property
    def amount(self) -> Decimal:
        """As agreed."""
        return self.adjustment.amount

    @property
    def to_held(self) -> Decimal:
        """Nothing is held."""
        return ZERO

    def tree(self) -> Mapping[str, object]:
        """The amount, and who agreed on it."""
        return {
            "adjustment": {
                "amount": to_text(self.amount),
                **self.adjustment.agreement.tree(),
            }
        }

    def sentence(self, amount: Decimal, currency: str) -> str:
        """What happened."""
        verb = "added" if amount > 0 else "taken"
        return f"{money(abs(amount), currency)} {verb}, {self.adjustment.agreement.said}."


def add_adjustments(work: Work) -> None:
    """A line for each adjustment of the year's statements."""
    for adjustment in work.given.adjustments:
        period = work.period(adjustment.day)
        work.put(
            line_of_basis(
                LineKind.ADJUSTMENT,
                adjustment.agreement.id,
                "",
                work.version(period).hash,
                period,
                Adjusted(adjustment),
            )
        )
