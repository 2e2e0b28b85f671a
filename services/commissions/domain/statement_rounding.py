"""Rounding a statement once, where the plan does not round each line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from services.commissions.domain.lines import Line, LineKind, money
from services.commissions.domain.plan import RoundAt
from services.commissions.domain.rates import ZERO
from services.commissions.domain.work import Work
from shared.money import EXACT, exact_sum, quantise, round_to_minor, to_text


@dataclass(frozen=True, slots=True)
class RoundedOnce:
    """The lines' exact sum and what rounding it changes."""

    exact: Decimal

    @property
    def to_held(self) -> Decimal:
        """Nothing is held."""
        return ZERO

    def tree(self) -> Mapping[str, object]:
        """The exact sum."""
        return {"exact": to_text(self.exact)}

    def sentence(self, amount: Decimal, currency: str) -> str:
        """What happened."""
        return (
            f"The lines sum to {money(self.exact, currency)}; the plan rounds the statement once, "
            f"which changes it by {money(amount, currency)}."
        )


def round_statements(work: Work) -> None:
    """A line for what rounding once changes."""
    for period in list(work.lines):
        version = work.version(period)
        if version.rounding.at is not RoundAt.STATEMENT:
            continue
        total = work.sum_of(period)
        exact = quantise(exact_sum(line.exact for line in work.lines[period]))
        changed = EXACT.subtract(
            round_to_minor(exact, version.currency, version.rounding.mode), total
        )
        if changed:
            work.put(
                Line(
                    key=f"{LineKind.ROUNDING}:{version.id}/{period.label}",
                    kind=LineKind.ROUNDING,
                    component_id="",
                    version_hash=version.hash,
                    statement=period,
                    measure=None,
                    amount=changed,
                    exact=changed,
                    basis=RoundedOnce(exact),
                )
            )
