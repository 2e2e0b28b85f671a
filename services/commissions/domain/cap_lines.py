"""What caps take: per deal, attainment, statement, measure or year; excess lost or carried.

A cap lets a running sum of rounded lines pay up to its limit and no further, so a capped period
pays exactly the cap; a reversal gives back what the cap had taken. An excess that is carried is
paid in later scopes, each up to its own limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from services.commissions.domain.lines import money
from services.commissions.domain.rates import ZERO
from shared.money import EXACT, to_text

_add, _subtract = EXACT.add, EXACT.subtract


@dataclass(frozen=True, slots=True)
class CapTaken:
    """What a cap changes when the sum it limits goes from `before` to `after`.

    carried_in: excess of earlier scopes, paid within this one as far as the limit allows. opens:
    the first change in its scope, from where nothing is paid yet.
    """

    limit: Decimal | None
    per: str
    carry: bool
    before: Decimal
    after: Decimal
    carried_in: Decimal = ZERO
    opens: bool = True

    def paid(self, total: Decimal) -> Decimal:
        """What is paid in the scope once the sum is `total`."""
        due = _add(total, self.carried_in)
        return due if self.limit is None else min(due, self.limit)

    @property
    def amount(self) -> Decimal:
        """(paid after - paid before) - (after - before); where the scope opens nothing is paid."""
        paid_before = ZERO if self.opens else self.paid(self.before)
        return _subtract(
            _subtract(self.paid(self.after), paid_before), _subtract(self.after, self.before)
        )

    @property
    def carried_out(self) -> Decimal:
        """What is left above the limit, where it is carried."""
        if not self.carry or self.limit is None:
            return ZERO
        return max(ZERO, _subtract(_add(self.after, self.carried_in), self.limit))

    @property
    def to_held(self) -> Decimal:
        """Nothing is held."""
        return ZERO

    def tree(self) -> Mapping[str, object]:
        """The limit, the sums, and what is carried."""
        return {
            "cap": {
                "amount": None if self.limit is None else to_text(self.limit),
                "per": self.per,
                "excess": "carry" if self.carry else "lost",
            },
            "carried_in": to_text(self.carried_in),
            "opens": self.opens,
            "sum_before": to_text(self.before),
            "sum_after": to_text(self.after),
            "carried_out": to_text(self.carried_out),
        }

    def sentence(self, amount: Decimal, currency: str) -> str:
        """What happened."""
        if self.limit is None:
            return f"{money(amount, currency)} carried over an earlier cap is paid."
        verb = "takes" if amount < 0 else "gives back"
        said = (
            f"Capped: {money(self.after, currency)} earned per {self.per}, at most "
            f"{money(self.limit, currency)} is paid, which {verb} {money(abs(amount), currency)}"
        )
        if self.carried_in:
            said += f" ({money(self.carried_in, currency)} was carried in)"
        return f"{said}; {money(self.carried_out, currency)} is carried on." if self.carry else (
            f"{said}."
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class AttainmentCapTaken:
    """What a cap by attainment takes: from `limit_measure` on, exactly `limit` is paid."""

    attainment: Decimal
    quota: Decimal
    limit: Decimal
    limit_measure: Decimal
    measure_before: Decimal
    measure_after: Decimal
    before: Decimal
    after: Decimal

    def paid(self, measure: Decimal, total: Decimal) -> Decimal:
        """What is paid once the measure and the sum of lines are these."""
        return self.limit if measure >= self.limit_measure else total

    @property
    def amount(self) -> Decimal:
        """(paid after - paid before) - (after - before)."""
        paid = _subtract(
            self.paid(self.measure_after, self.after), self.paid(self.measure_before, self.before)
        )
        return _subtract(paid, _subtract(self.after, self.before))

    @property
    def to_held(self) -> Decimal:
        """Nothing is held."""
        return ZERO

    def tree(self) -> Mapping[str, object]:
        """The limit as a measure and as pay, and both sums."""
        return {
            "cap": {
                "attainment": to_text(self.attainment),
                "quota": to_text(self.quota),
                "measure": to_text(self.limit_measure),
                "amount": to_text(self.limit),
            },
            "measure_before": to_text(self.measure_before),
            "measure_after": to_text(self.measure_after),
            "sum_before": to_text(self.before),
            "sum_after": to_text(self.after),
        }

    def sentence(self, amount: Decimal, currency: str) -> str:
        """What happened."""
        percent = to_text(EXACT.multiply(self.attainment, Decimal(100)))
        return (
            f"Capped at {percent} % of quota, which earns {money(self.limit, currency)}: "
            f"{money(abs(amount), currency)} {'less' if amount < 0 else 'more'}."
        )
