"""Dated exchange rates by table: the newest row not later than the day, one hop, no inverse."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from shared.money import EXACT, quantise


@dataclass(frozen=True, slots=True)
class RateRow:
    """One published rate: an amount in `from_currency` times `rate` is one in `to_currency`."""

    id: str
    table: str
    from_currency: str
    to_currency: str
    day: date
    rate: Decimal
    source: str = ""


class RateBook:
    """All rate rows that are known; equal days keep the row with the greatest id."""

    def __init__(self, rows: Iterable[RateRow] = ()) -> None:
        newest: dict[tuple[str, str, str], dict[date, RateRow]] = {}
        for row in rows:
            days = newest.setdefault((row.table, row.from_currency, row.to_currency), {})
            if row.day not in days or days[row.day].id < row.id:
                days[row.day] = row
        self._rows = {pair: [days[day] for day in sorted(days)] for pair, days in newest.items()}
        self._days = {pair: [row.day for row in rows] for pair, rows in self._rows.items()}

    @property
    def pairs(self) -> frozenset[tuple[str, str, str]]:
        """(table, from, to) of which there is any rate."""
        return frozenset(self._rows)

    def on(self, table: str, from_currency: str, to_currency: str, day: date) -> RateRow | None:
        """The row in force on `day`; None when the table has none by then."""
        pair = (table, from_currency, to_currency)
        index = bisect_right(self._days.get(pair, []), day)
        return self._rows[pair][index - 1] if index else None


def converted(amount: Decimal, row: RateRow) -> Decimal:
    """`amount` by `row`, at the stored step; it is rounded later, once, where the plan says."""
    return quantise(EXACT.multiply(amount, row.rate))
