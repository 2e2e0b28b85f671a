"""A statement: lines, carried difference, recoverable draw, and last the payout currency."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain

from services.commissions.domain.closes import Correction, FixedStatement, Settled
from services.commissions.domain.credit import Credit, CreditException
from services.commissions.domain.draw import DrawStanding
from services.commissions.domain.exchange import RateRow
from services.commissions.domain.lines import Line, LineKind, credit_order
from services.commissions.domain.periods import Period
from services.commissions.domain.rates import ZERO
from shared.money import exact_sum, to_text

_KIND_ORDER = {kind: place for place, kind in enumerate(LineKind)}


@dataclass(frozen=True, slots=True)
class Payout:
    """The payable in the currency it is paid in; no amount while its rate is missing."""

    currency: str
    amount: Decimal | None
    rate: RateRow | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """What one payee earns under one plan in one period.

    own: sum of `lines`. difference: carried from closed periods: the sum of `corrections` less
    `landed`, what earlier closes have already fixed of them.
    held: credits that cannot be rated yet; they are in no total.
    draw: a recoverable draw that is in force or has a balance; it settles the period then.
    fixed: what the close fixed, for a closed period; everything else is as of today.
    rounding_mode, max_recovery: of the version that decides on the whole statement.
    """

    payee: str
    plan_id: str
    period: Period
    currency: str
    lines: tuple[Line, ...]
    own: Decimal
    difference: Decimal
    corrections: tuple[Correction, ...]
    landed: Decimal
    carry_in: Decimal
    carry_out: Decimal
    taken: Decimal
    payable: Decimal
    payout: Payout
    held: tuple[Credit, ...]
    exceptions: tuple[CreditException, ...]
    hash: str
    fixed: FixedStatement | None = None
    draw: DrawStanding | None = None
    rounding_mode: str = "half_up"
    max_recovery: Decimal = Decimal(1)

    @property
    def held_pay(self) -> Decimal:
        """What the lines put on hold, less what they release."""
        return exact_sum(line.basis.to_held for line in self.lines if line.basis is not None)

    @property
    def closed(self) -> bool:
        """Whether the period is closed for this payee."""
        return self.fixed is not None


def in_statement_order(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Lines by component, then in order of earning, each cap after what it limits."""

    def place(line: Line) -> tuple[object, ...]:
        whole = line.component_id == ""
        if line.credit is not None:
            inner: tuple[object, ...] = (0, *credit_order(line.credit))
        else:
            inner = (1, line.key)
        return (whole, line.component_id, inner, _KIND_ORDER[line.kind], line.key)

    return tuple(sorted(lines, key=place))


def statement_hash(  # noqa: PLR0913, PLR0917 - what a statement comes to
    lines: Iterable[Line],
    difference: Decimal,
    carry_in: Decimal,
    settled: Settled,
    payout: Payout,
    draw: DrawStanding | None = None,
) -> str:
    """SHA-256 over the canonical lines and totals: a replay of all events gives the same."""
    rows = sorted(f"{line.key}\t{line.version_hash}\t{to_text(line.amount)}" for line in lines)
    paid = "held" if payout.amount is None else to_text(payout.amount)
    totals = [
        f"difference\t{to_text(difference)}",
        f"carry\t{to_text(carry_in)}\t{to_text(settled.carry_out)}",
        f"payable\t{to_text(settled.payable)}\t{paid}\t{payout.currency}",
    ]
    if draw is not None:
        totals.append(f"draw\t{to_text(draw.balance_in)}\t{to_text(draw.balance_out)}")
    return hashlib.sha256("\n".join(chain(rows, totals)).encode()).hexdigest()


def line_amounts(lines: Iterable[Line]) -> Mapping[str, Decimal]:
    """Key → amount, what a close fixes."""
    return {line.key: line.amount for line in lines}


def fixed_by(statement: Statement) -> FixedStatement:
    """What closing `statement` as it stands fixes."""
    return FixedStatement(
        period=statement.period,
        lines=line_amounts(statement.lines),
        difference=statement.difference,
        carry_in=statement.carry_in,
        carry_out=statement.carry_out,
        payable=statement.payable,
        hash=statement.hash,
        draw_in=statement.draw.balance_in if statement.draw else ZERO,
        draw_out=statement.draw.balance_out if statement.draw else ZERO,
    )
