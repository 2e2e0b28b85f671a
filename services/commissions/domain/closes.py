"""Closed periods: what a close fixed, what it would be today, and how the difference lands.

Nothing is posted for a closed period. The first open period has one carried difference: the sum
over closed periods of (earnings recomputed from everything known) less (all that closes fixed).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from services.commissions.domain.periods import Period
from services.commissions.domain.rates import ZERO
from shared.money import EXACT, exact_sum, round_to_minor


@dataclass(frozen=True, slots=True)
class FixedStatement:
    """What a close fixed for one payee, plan and period, in plan currency.

    lines: key → amount of every line of the period's own pay.
    difference: the carried difference that this statement took over from earlier periods, whole.
    carry_out: what it left to be recovered later, 0 or less.
    draw_in, draw_out: what a recoverable draw had to get back, before and after; 0 or more.
    """

    period: Period
    lines: Mapping[str, Decimal]
    difference: Decimal = ZERO
    carry_in: Decimal = ZERO
    carry_out: Decimal = ZERO
    payable: Decimal = ZERO
    hash: str = ""
    draw_in: Decimal = ZERO
    draw_out: Decimal = ZERO

    @property
    def own(self) -> Decimal:
        """The period's own pay as it was fixed."""
        return exact_sum(self.lines.values())


@dataclass(frozen=True, slots=True)
class Correction:
    """One line of a closed period that would be another amount today."""

    period: str
    line_key: str
    fixed: Decimal
    recomputed: Decimal

    @property
    def amount(self) -> Decimal:
        """What the correction adds, or takes when below 0."""
        return EXACT.subtract(self.recomputed, self.fixed)


@dataclass(frozen=True, slots=True)
class CarriedExcess:
    """Earned above a cap and still to be paid. component_id: empty for the plan's own cap.

    version_hash: the version whose cap it was.
    """

    component_id: str
    amount: Decimal
    version_hash: str


@dataclass(frozen=True, slots=True)
class BroughtForward:
    """What earlier years leave to this one: differences not yet fixed, and a carry, 0 or less.

    corrections: the lines behind the difference; `already` what later closes have fixed of them.
    excess: carried over caps. draw_balance: what a recoverable draw still has to get back.
    counts: component → credits paid so far, where only the first ones are.
    lines: finished lines that fall into this year or a later one, as rows (see later.py).
    """

    corrections: tuple[Correction, ...] = ()
    already: Decimal = ZERO
    carry: Decimal = ZERO
    excess: tuple[CarriedExcess, ...] = ()
    draw_balance: Decimal = ZERO
    counts: tuple[tuple[str, int], ...] = ()
    lines: tuple[Mapping[str, object], ...] = ()

    @property
    def difference(self) -> Decimal:
        """What has still to land in an open period."""
        total = exact_sum(correction.amount for correction in self.corrections)
        return EXACT.subtract(total, self.already)


def corrections(
    period: Period, fixed: Mapping[str, Decimal], recomputed: Mapping[str, Decimal]
) -> tuple[Correction, ...]:
    """The lines of a closed period that differ, by key."""
    return tuple(
        Correction(period.label, key, fixed.get(key, ZERO), recomputed.get(key, ZERO))
        for key in sorted({*fixed, *recomputed})
        if fixed.get(key, ZERO) != recomputed.get(key, ZERO)
    )


def still_to_land(found: Iterable[Correction], fixed_differences: Iterable[Decimal]) -> Decimal:
    """The carried difference of the first open period."""
    owed = exact_sum(correction.amount for correction in found)
    return EXACT.subtract(owed, exact_sum(fixed_differences))


@dataclass(frozen=True, slots=True)
class Settled:
    """How a period's own pay, a difference and a carry become money.

    taken: what of the period's own pay goes to what was overpaid, 0 or more.
    payable: 0 or more. carry_out: 0 or less, recovered later.
    own + difference + carry_in = payable + carry_out, always.
    """

    payable: Decimal
    carry_out: Decimal
    taken: Decimal


def settle(
    own: Decimal, difference: Decimal, carry_in: Decimal, max_recovery: Decimal, currency: str
) -> Settled:
    """Settle one period.

    max_recovery: fraction of the period's own pay, 0 to 1, that may be taken. A period whose own
    pay is negative pays nothing and carries it.
    """
    owed = EXACT.add(difference, carry_in)
    total = EXACT.add(own, owed)
    if own <= 0 or owed >= 0:
        return Settled(max(total, ZERO), min(total, ZERO), ZERO)
    limit = round_to_minor(EXACT.multiply(own, max_recovery), currency)
    taken = min(-owed, limit, own)
    return Settled(EXACT.subtract(own, taken), EXACT.add(owed, taken), taken)
