"""From the top down: a target in exact parts; from the bottom up: what they miss of it.

Even: everybody the same. Prior year: by what each booked in the same period of last year; who
booked nothing, or less than nothing, gets nothing. Weighted: by given weights. The parts sum to the
whole: what remains after rounding down goes, one minor unit each, to the largest remainders, ties
to the smaller id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from services.metrics.domain.kpis import to_decimal
from shared.errors import InvalidValue
from shared.money import EXACT, allocate, exact_sum, round_to_minor

WHOLE = "JPY"
"""A currency without decimals: a measure that counts is handed out in whole things."""


class Split(StrEnum):
    """How a target is handed down."""

    EVEN = "even"
    PRIOR_YEAR = "prior_year"
    WEIGHTED = "weighted"


@dataclass(frozen=True, slots=True)
class Part:
    """One person's part of a target. share: exact, of the whole that is handed out."""

    person: str
    share: Fraction
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Gap:
    """A target against the sum of the quotas under it.

    gap: what they leave uncovered, never below 0. over_assignment: by what fraction they exceed
    the target, never below 0; None without a target above 0.
    """

    target: Decimal | None
    assigned: Decimal
    gap: Decimal | None
    over_assignment: Decimal | None


def handed_out(amount: Decimal, currency: str | None, weights: Mapping[str, Decimal]) -> list[Part]:
    """`amount` in parts by weight, in the order of ids, exact to the minor unit.

    weights: by person; those below 0 count as 0. Raises InvalidValue where nobody weighs anything.
    """
    counted = {person: max(Fraction(weight), Fraction(0)) for person, weight in weights.items()}
    total = sum(counted.values(), Fraction(0))
    if not total:
        msg = "nobody among these people has a weight above 0; split it another way"
        raise InvalidValue(msg, pointer="/split")
    shares = {person: weight / total for person, weight in sorted(counted.items())}
    amounts = allocate(amount, shares, currency or WHOLE)
    return [Part(person, share, amounts[person]) for person, share in shares.items()]


def over_assigned(amount: Decimal, over: Fraction, currency: str | None) -> Decimal:
    """The whole that is handed out: the target and, on top of it, a fraction of it.

    What is on top is rounded half-up to the minor unit, of a count to whole things.
    """
    return EXACT.add(amount, round_to_minor(to_decimal(Fraction(amount) * over), currency or WHOLE))


def gap_between(target: Decimal | None, quotas: Sequence[Decimal]) -> Gap:
    """What the quotas under a target sum to, and how that compares; one of gap and over is 0."""
    assigned = exact_sum(quotas)
    if target is None:
        return Gap(None, assigned, None, None)
    difference = EXACT.subtract(target, assigned)
    over = None
    if target > 0:
        over = to_decimal(max(Fraction(assigned) / Fraction(target) - 1, Fraction(0)))
    return Gap(target, assigned, max(difference, Decimal(0)), over)
