"""People, calendar and exchange rates, remembered by version: a cheap question a request."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from services.metrics.domain.kpis import to_decimal
from services.metrics.store import LOOKUP_ORG, LOOKUP_RATES, lookup_versions
from shared.facts.record import Record
from shared.facts.store import load_kind
from shared.money import EXACT, parse_decimal
from shared.org.people import Org

if TYPE_CHECKING:
    from shared.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Converted:
    """A sum in one currency. held: (day, currency) → amount that has no rate and is left out."""

    amount: Decimal
    held: Mapping[tuple[date, str], Decimal]


class Rates:
    """One table of exchange rates: the newest row not later than the day; no inverse, no chain."""

    def __init__(self, records: Iterable[Record], table: str) -> None:
        rows: dict[tuple[str, str], list[tuple[date, Decimal]]] = {}
        for record in records:
            value = record.value
            if value("table") == table and value("rate") is not None:
                pair = (value("from"), value("to"))
                row = (date.fromisoformat(value("day")), parse_decimal(value("rate")))
                rows.setdefault(pair, []).append(row)
        self._rows = {pair: sorted(found) for pair, found in rows.items()}
        self._days = {pair: [day for day, _ in found] for pair, found in self._rows.items()}

    def on(self, source: str, target: str, day: date) -> Decimal | None:
        """How many units of `target` one of `source` is on `day`; None when no row is that old."""
        if source == target:
            return Decimal(1)
        place = bisect_right(self._days.get((source, target), []), day)
        return self._rows[source, target][place - 1][1] if place else None

    def convert(self, amount: Decimal, source: str, target: str, day: date) -> Decimal | None:
        """`amount` in `target` at the stored step; None without a rate."""
        if source == target:
            return amount
        rate = self.on(source, target, day)
        return None if rate is None else to_decimal(Fraction(amount) * Fraction(rate))

    def total(self, sums: Mapping[tuple[date, str], Decimal], target: str) -> Converted:
        """Sums by day and currency, each at its own day's rate."""
        total = Decimal(0)
        held = {}
        for (day, currency), amount in sums.items():
            if not amount:
                continue
            converted = self.convert(amount, currency, target, day)
            if converted is None:
                held[day, currency] = amount
            else:
                total = EXACT.add(total, converted)
        return Converted(total, held)


@dataclass(frozen=True, slots=True)
class World:
    """What everything is read by. currency: of reports, the organisation's."""

    org: Org
    rates: Rates
    currency: str


@dataclass(slots=True)
class Lookups:
    """The world of the newest version. One for each process."""

    default_currency: str
    rate_table: str
    _org: Org | None = None
    _rates: Rates | None = None
    _known: dict[str, int] = field(default_factory=dict)

    async def current(self, tx: Connection) -> World:
        """The world as of now. Versions are read first: at worst it is read once too often."""
        versions = await lookup_versions(tx)
        org_version = versions.get(LOOKUP_ORG, 0)
        if self._org is None or self._known.get(LOOKUP_ORG) != org_version:
            kinds = [await load_kind(tx, kind) for kind in ("person", "team", "calendar")]
            self._org = Org.build(*kinds)
            self._known[LOOKUP_ORG] = org_version
        rates_version = versions.get(LOOKUP_RATES, 0)
        if self._rates is None or self._known.get(LOOKUP_RATES) != rates_version:
            self._rates = Rates((await load_kind(tx, "rate")).values(), self.rate_table)
            self._known[LOOKUP_RATES] = rates_version
        return World(self._org, self._rates, self._org.calendar.currency or self.default_currency)
