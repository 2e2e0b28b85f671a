"""Costs of winning contracts, expensed month by month over the time that a contract is of use.

Straight line, from the month of the credit on (ASC 340-40, IFRS 15.91 to 15.104). What changes
later changes the months that are left; what is left of a contract that ended is written off in the
month in which it did.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from services.commissions.domain.rates import ZERO
from shared.money import EXACT, exact_sum, quantise, round_to_minor

MONTHS_A_YEAR = 12
_WIDE = decimal.Context(prec=60)

Month = int
"""Months since the year 0."""


class Layer(NamedTuple):
    """A part of a contract's cost, in the month in which it was earned, or corrected."""

    month: Month
    amount: Decimal


class MonthCost(NamedTuple):
    """What one month bears of a cost."""

    month: Month
    amortised: Decimal
    written_off: Decimal


class MonthTotal(NamedTuple):
    """What one month bears of all costs in one currency, and what is left after it."""

    currency: str
    month: Month
    amortised: Decimal
    written_off: Decimal
    remaining: Decimal


class FixedLine(NamedTuple):
    """A line of a closed statement: as it was fixed, and what later closes fixed of changes to it.

    landed: (month of the statement, recomputed - fixed as it stated), in order.
    """

    amount: Decimal
    landed: Sequence[tuple[Month, Decimal]] = ()


@dataclass(frozen=True, slots=True)
class Contract:
    """One deal's cost by one component, for one payee.

    over_months: 2 or more. ended: the month in which the deal was cancelled, if it was.
    """

    deal_id: str
    component_id: str
    currency: str
    over_months: int
    layers: tuple[Layer, ...]
    ended: Month | None = None

    @property
    def cost(self) -> Decimal:
        """All of it."""
        return exact_sum(layer.amount for layer in self.layers)


def month_of(day: date) -> Month:
    """The month in which a day lies."""
    return day.year * MONTHS_A_YEAR + day.month - 1


def month_label(month: Month) -> str:
    """As `2026-01`."""
    return f"{month // MONTHS_A_YEAR:04d}-{month % MONTHS_A_YEAR + 1:02d}"


def layers_of(
    month: Month, recomputed: Decimal, fixed: FixedLine | None, open_month: Month
) -> list[Layer]:
    """The layers of one line: its own, and each later change in the month that bears it.

    recomputed: what the line comes to by everything known. open_month: the first that is open.
    """
    if fixed is None:
        return [Layer(month, recomputed)] if recomputed else []
    found = [Layer(month, fixed.amount)]
    known = ZERO
    for landed_in, stated in fixed.landed:
        found.append(Layer(landed_in, EXACT.subtract(stated, known)))
        known = stated
    rest = EXACT.subtract(EXACT.subtract(recomputed, fixed.amount), known)
    found.append(Layer(open_month, rest))
    return [layer for layer in found if layer.amount]


def schedule(contract: Contract) -> tuple[MonthCost, ...]:
    """What each month bears, in order; together the cost, to the cent.

    A layer is spread over what is left of the benefit period. One that comes after its end, or
    after the contract's, is borne at once. A cost that came to nothing ended with its last change.
    """
    if not contract.layers:
        return ()
    start = min(layer.month for layer in contract.layers)
    end = start + contract.over_months
    ended = contract.ended
    if not contract.cost:
        last = max(layer.month for layer in contract.layers)
        ended = last if ended is None else min(ended, last)
    borne: dict[Month, list[Decimal]] = {}
    for layer in contract.layers:
        _spread(layer, end, ended, contract.currency, borne)
    return tuple(
        MonthCost(month, amortised, written_off)
        for month, (amortised, written_off) in sorted(borne.items())
        if amortised or written_off
    )


def _spread(
    layer: Layer,
    end: Month,
    ended: Month | None,
    currency: str,
    borne: dict[Month, list[Decimal]],
) -> None:
    months = max(1, end - layer.month)
    stop = layer.month + months if ended is None else min(ended, layer.month + months)
    so_far = ZERO
    for month in range(layer.month, stop):
        share = EXACT.multiply(layer.amount, Decimal(month - layer.month + 1))
        until = round_to_minor(quantise(_WIDE.divide(share, Decimal(months))), currency)
        if month == layer.month + months - 1:
            until = layer.amount
        place = borne.setdefault(month, [ZERO, ZERO])
        place[0] = EXACT.add(place[0], EXACT.subtract(until, so_far))
        so_far = until
    rest = EXACT.subtract(layer.amount, so_far)
    if rest and ended is not None:
        place = borne.setdefault(max(ended, layer.month), [ZERO, ZERO])
        place[1] = EXACT.add(place[1], rest)


def totals(contracts: Iterable[Contract]) -> list[MonthTotal]:
    """What each month bears of all contracts, by currency, and what is left of what had arisen."""
    sums: dict[tuple[str, Month], list[Decimal]] = {}
    for contract in contracts:
        for layer in contract.layers:
            _add(sums, contract.currency, layer.month, 0, layer.amount)
        for one in schedule(contract):
            _add(sums, contract.currency, one.month, 1, one.amortised)
            _add(sums, contract.currency, one.month, 2, one.written_off)
    found: list[MonthTotal] = []
    for (currency, month), (arisen, amortised, written_off) in sorted(sums.items()):
        last = found[-1] if found else None
        before = last.remaining if last is not None and last.currency == currency else ZERO
        borne = EXACT.add(amortised, written_off)
        remaining = EXACT.subtract(EXACT.add(before, arisen), borne)
        found.append(MonthTotal(currency, month, amortised, written_off, remaining))
    return found


def _add(
    sums: dict[tuple[str, Month], list[Decimal]],
    currency: str,
    month: Month,
    place: int,
    amount: Decimal,
) -> None:
    found = sums.setdefault((currency, month), [ZERO, ZERO, ZERO])
    found[place] = EXACT.add(found[place], amount)
