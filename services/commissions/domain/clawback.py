"""Clawbacks: what a cancellation takes back, linear by day within a window.

factor = max(0, window - days kept) ÷ window, days in the plan's zone from the credit's day. By
line: -(line * factor), the credit stays in its measure. By recomputation: -((what the measure pays
with the credit) - (without it)) * factor, and the credit leaves the measure for credits after the
cancellation. Only what was released is taken back; what was held is forfeited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from services.commissions.domain.credit import Credit
from services.commissions.domain.lines import Line, LineKind, money
from services.commissions.domain.proration import as_decimal
from services.commissions.domain.rates import ZERO
from services.commissions.domain.rating import Loss
from services.commissions.domain.release import released_until
from services.commissions.domain.terms import ClawbackBasis, ClawbackTerms
from services.commissions.domain.work import Work
from shared.clock import to_text as instant_text
from shared.money import EXACT, round_to_minor, to_text


@dataclass(frozen=True, slots=True)
class ClawedBack:
    """What a cancellation takes.

    released: of the line, by the cancellation; share: the part of the line that is. loss: what the
    measure loses, by recomputation. currency, mode: how the amount is rounded.
    """

    line_key: str
    cancelled_at: str
    window_days: int
    days_kept: int
    net: Decimal
    released: Decimal
    share: Fraction
    loss: Loss | None
    currency: str
    mode: str

    @property
    def factor(self) -> Fraction:
        """max(0, window - days kept) ÷ window."""
        return Fraction(max(0, self.window_days - self.days_kept), self.window_days)

    @property
    def base(self) -> Fraction:
        """What the factor is taken of."""
        if self.loss is None:
            return Fraction(self.released)
        lost = EXACT.subtract(self.loss.paid_with, self.loss.paid_without)
        return Fraction(lost) * self.share

    @property
    def amount(self) -> Decimal:
        """-(base * factor), rounded once."""
        exact = as_decimal(-self.base * self.factor)
        return round_to_minor(exact, self.currency, self.mode)

    @property
    def forfeited(self) -> Decimal:
        """What was still held and is never released."""
        return EXACT.subtract(self.net, self.released)

    @property
    def to_held(self) -> Decimal:
        """What was held goes back."""
        return -self.forfeited

    def tree(self) -> Mapping[str, object]:
        """The window, the days, and what the factor is taken of."""
        loss = self.loss
        return {
            "line": self.line_key,
            "cancelled_at": self.cancelled_at,
            "window_days": self.window_days,
            "days_kept": self.days_kept,
            "factor": str(self.factor),
            "net": to_text(self.net),
            "released": to_text(self.released),
            "share": str(self.share),
            "basis": "line" if loss is None else "recompute",
            "measure": None
            if loss is None
            else {
                "with": to_text(loss.measure_with),
                "without": to_text(loss.measure_without),
                "paid_with": to_text(loss.paid_with),
                "paid_without": to_text(loss.paid_without),
            },
            "forfeited": to_text(self.forfeited),
            "mode": self.mode,
        }

    def sentence(self, amount: Decimal, currency: str) -> str:
        """What happened."""
        of = money(as_decimal(self.base), currency)
        return (
            f"Cancelled after {self.days_kept} of {self.window_days} days: {self.factor} of {of} "
            f"is taken back, {money(amount, currency)}."
        )


def claw_back(work: Work) -> None:
    """A line on the day of cancellation for each cancelled credit."""
    for component_id, lines in work.credit_lines.items():
        if not any(c.clawback for c in work.terms(component_id)):
            continue
        for line in lines:
            terms = work.rater.component_of(line).clawback
            credit = line.credit
            if terms is not None and credit is not None and credit.cancelled_at is not None:
                _claw(work, line, credit, terms)


def _claw(work: Work, line: Line, credit: Credit, terms: ClawbackTerms) -> None:
    if credit.cancelled_at is None or line.gated:
        return
    version = work.rater.version_of(line)
    day = max(version.day_of(credit.cancelled_at), credit.day)
    released, share = released_until(work, line, credit, credit.cancelled_at)
    # What was agreed in place of the rates is no part of what the measure earns by them.
    recompute = terms.basis is ClawbackBasis.RECOMPUTE and line.key not in work.overridden
    basis = ClawedBack(
        line_key=line.key,
        cancelled_at=instant_text(credit.cancelled_at),
        window_days=terms.window_days,
        days_kept=(day - credit.day).days,
        net=line.net,
        released=released,
        share=share,
        loss=work.rater.losses.get(line.key) if recompute else None,
        currency=version.currency,
        mode=version.rounding.mode,
    )
    if basis.amount == ZERO and basis.forfeited == ZERO:
        return
    work.put(
        Line(
            key=f"{LineKind.CLAWBACK}:{line.key}",
            kind=LineKind.CLAWBACK,
            component_id=line.component_id,
            version_hash=line.version_hash,
            statement=work.rater.statement_of(day, version),
            measure=line.measure,
            amount=basis.amount,
            exact=basis.amount,
            credit=credit,
            basis=basis,
        )
    )
