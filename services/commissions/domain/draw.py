"""Draws: in each of its periods a payee is paid at least the draw.

Not recoverable: a top-up, a line of the statement's own pay. Recoverable: an advance, kept as a
balance that later pay above the draw gives back:
recovered = min(balance, max(0, earned - draw)); advance = max(0, draw - earned);
paid = earned + advance - recovered; balance += advance - recovered.
A carried difference goes into the balance, without a limit; a balance below 0 is paid at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from services.commissions.domain.floor import TopUp
from services.commissions.domain.lines import LineKind, line_of_basis
from services.commissions.domain.periods import Period, following
from services.commissions.domain.plan import Draw, PlanVersion
from services.commissions.domain.proration import Prorated
from services.commissions.domain.rates import ZERO
from services.commissions.domain.work import Work
from shared.money import EXACT, round_to_minor, to_text

_add, _subtract = EXACT.add, EXACT.subtract


@dataclass(frozen=True, slots=True)
class DrawStanding:
    """A recoverable draw in one period.

    stated: the draw as stated, for the days assigned; amount: rounded. owed: difference and carry
    that go into the balance, below 0 when the payee has been overpaid.
    """

    stated: Prorated
    amount: Decimal
    balance_in: Decimal
    owed: Decimal
    earned: Decimal

    @property
    def advance(self) -> Decimal:
        """max(0, draw - earned)."""
        return max(ZERO, _subtract(self.amount, self.earned))

    @property
    def recovered(self) -> Decimal:
        """min(balance, max(0, earned - draw)); below 0 what is paid out of a balance below 0."""
        balance = _subtract(self.balance_in, self.owed)
        return min(balance, max(ZERO, _subtract(self.earned, self.amount)))

    @property
    def balance_out(self) -> Decimal:
        """Still to be recovered, 0 or more."""
        balance = _subtract(self.balance_in, self.owed)
        return _add(balance, _subtract(self.advance, self.recovered))

    @property
    def payable(self) -> Decimal:
        """Earned + advance - recovered."""
        return _subtract(_add(self.earned, self.advance), self.recovered)

    def tree(self) -> Mapping[str, object]:
        """The draw, the balance before and after, and what moved."""
        return {
            "draw": {**self.stated.tree(), "rounded": to_text(self.amount)},
            "earned": to_text(self.earned),
            "balance_in": to_text(self.balance_in),
            "owed": to_text(self.owed),
            "advance": to_text(self.advance),
            "recovered": to_text(self.recovered),
            "balance_out": to_text(self.balance_out),
        }


def draw_of(work: Work, period: Period, version: PlanVersion) -> Prorated | None:
    """The draw of a period for the days assigned; None where none is in force."""
    draw = version.draw
    if draw is None or not _in_force(work, draw, period):
        return None
    stated = work.prorated(period, version, draw.amount)
    return stated if stated.parts else None


def _in_force(work: Work, draw: Draw, period: Period) -> bool:
    versions = work.given.plan.versions
    begins = draw.first or versions[0].effective.first or period.start
    first = work.period(begins)
    if period < first:
        return False
    if draw.periods is None:
        return True
    end = first
    for _ in range(draw.periods):
        if end == period:
            return True
        end = following(end, work.given.fiscal_start_month)
    return False


def standing(
    work: Work, period: Period, earned: Decimal, balance: Decimal, owed: Decimal
) -> DrawStanding | None:
    """How a recoverable draw stands in a period; None where there is neither draw nor balance."""
    version = work.version(period)
    stated = draw_of(work, period, version)
    if version.draw is not None and not version.draw.recoverable:
        stated = None
    if stated is None and balance == ZERO:
        return None
    found = stated or Prorated(ZERO, ())
    amount = round_to_minor(found.amount, version.currency, version.rounding.mode)
    return DrawStanding(found, amount, balance, owed, earned)


def guarantee_draws(work: Work) -> None:
    """The top-up of a draw that is not recoverable, a line of the statement."""
    for period in work.periods():
        version = work.version(period)
        if version.draw is None or version.draw.recoverable:
            continue
        stated = draw_of(work, period, version)
        if stated is None:
            continue
        least = round_to_minor(stated.amount, version.currency, version.rounding.mode)
        basis = TopUp("draw", stated, least, work.sum_of(period))
        if basis.amount:
            key = f"{version.id}/{period.label}"
            work.put(line_of_basis(LineKind.DRAW, key, "", version.hash, period, basis))
