"""A question: one KPI asked for, and what every formula reads of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from services.metrics import quotas, reading, rowreads
from services.metrics.domain import kpis
from services.metrics.domain.contributions import WON_DEALS
from services.metrics.domain.hygiene import HygieneRules
from services.metrics.domain.kpis import KpiValue, OpenDeal, QuotaRow, WonDeal
from services.metrics.lookups import Converted, World
from services.metrics.quotas import Quota
from services.metrics.reading import Scope, Sum
from services.metrics.rowreads import ALL, Slice
from shared.errors import InvalidValue
from shared.money import EXACT
from shared.org.calendar import FiscalCalendar, Period

if TYPE_CHECKING:
    from shared.db.pool import Connection

Held = dict[tuple[date, str], Decimal]


DEFAULT_LAG_DAYS = 30
DEFAULT_TOUCHED_DAYS = 14


@dataclass(slots=True)
class Question:
    """One KPI asked for. as_of_ms: an instant of the past, None for now, which is `now_ms`.

    period None: no window. currency: wanted; otherwise the quota's or the organisation's.
    held: what was found to have no exchange rate. which: of the scope's deals. since_ms: the first
    of two instants, None for the period's beginning. stage: of a conversion, by its label.
    lag_days: how long what was begun may take. touched_days: how far back an activity counts.
    """

    tx: Connection
    world: World
    scope: Scope
    period: Period | None
    now_ms: int
    as_of_ms: int | None = None
    wanted_currency: str | None = None
    variant: str | None = None
    held: Held = field(default_factory=dict)
    quotas: Sequence[Quota] | None = None
    which: Slice = ALL
    since_ms: int | None = None
    stage: str | None = None
    lag_days: int = DEFAULT_LAG_DAYS
    touched_days: int = DEFAULT_TOUCHED_DAYS
    hygiene: HygieneRules = field(default_factory=HygieneRules)

    @property
    def calendar(self) -> FiscalCalendar:
        """The organisation's."""
        return self.world.org.calendar

    @property
    def moment_ms(self) -> int:
        """The instant as of which is answered."""
        return self.now_ms if self.as_of_ms is None else self.as_of_ms

    @property
    def day(self) -> date:
        """The day as of which is answered."""
        return self.calendar.day_of_ms(self.moment_ms)

    @property
    def window(self) -> Period:
        """The period. Raises InvalidValue where the KPI needs one and none was given."""
        if self.period is None:
            msg = "this KPI needs a `period`, such as 2025-Q1"
            raise InvalidValue(msg, pointer="#query/period")
        return self.period

    @property
    def people(self) -> list[str] | None:
        """Who belongs to the scope on the as-of day; None for everybody."""
        return self.scope.people_on(self.day)

    @property
    def currency(self) -> str:
        """The currency of the answer."""
        if self.wanted_currency is not None:
            return self.wanted_currency
        stated = {quota.currency for quota in self.quotas or ()} - {None}
        return str(stated.pop()) if len(stated) == 1 else self.world.currency

    async def sums(self, measures: Sequence[str]) -> list[Sum]:
        """Sums of the period for the scope."""
        return await reading.sums(
            self.tx,
            self.scope,
            measures,
            self.window,
            calendar=self.calendar,
            as_of_ms=self.as_of_ms,
        )

    def converted(self, sums: Iterable[Sum]) -> Decimal:
        """Amounts in the answer's currency, each at its credit day's rate; others are held."""
        found: Converted = self.world.rates.total(reading.by_day_and_currency(sums), self.currency)
        self.held.update(found.held)
        return found.amount

    async def booked(self) -> Decimal:
        """Bookings of the period."""
        return self.converted(await self.sums([reading.BOOKINGS_OF[self.scope.by_share]]))

    async def quota(self) -> Decimal | None:
        """The quota in force for the scope, prorated to the period."""
        period = self.window
        if self.quotas is None:
            found = await quotas.quotas_overlapping(
                self.tx, quotas.BOOKINGS, period.start_day, period.end_day
            )
            self.quotas = [quota for quota in found if quota.subject == _subject(self.scope)]
        rows = []
        for quota in self.quotas:
            amount = self.world.rates.convert(
                quota.amount, quota.currency or self.currency, self.currency, quota.start_day
            )
            if amount is None:
                self.held[quota.start_day, str(quota.currency)] = quota.amount
            else:
                rows.append(QuotaRow(quota.id, quota.start_day, quota.end_day, amount))
        return kpis.quota_in_force(rows, period, self.calendar)

    def elapsed(self) -> tuple[int, int]:
        """Working days of the period: over before the as-of day, and in all."""
        period = self.window
        total = self.calendar.working_days(period.start_day, period.end_day)
        return self.calendar.elapsed(period, self.day), total

    async def open_deals(self, window: tuple[date, date] | None) -> tuple[list[OpenDeal], Counts]:
        """Open deals as groups of one currency and probability, and how many they are."""
        groups = await rowreads.open_groups(self.tx, self.people, window, self.as_of_ms, self.which)
        deals = []
        counts = Counts()
        for row in groups:
            if row["category"] == kpis.OMITTED_CATEGORY:
                continue
            number = row["number"]
            counts.deals += number
            if not row["priced"]:
                counts.without_amount += number
                continue
            if row["probability"] is None:
                counts.without_probability += number
            amount = None
            if row["currency"] is not None:
                amount = self.world.rates.convert(
                    row["amount"], row["currency"], self.currency, self.day
                )
            if amount is None:
                self._hold(row["currency"], row["amount"])
            else:
                deals.append(OpenDeal(amount, row["probability"], row["category"]))
        return deals, counts

    def _hold(self, currency: str | None, amount: Decimal) -> None:
        place = (self.day, currency or "")
        self.held[place] = EXACT.add(self.held.get(place, Decimal(0)), amount)

    async def won_deals(self) -> list[WonDeal]:
        """Deals won in the period, of whoever owned them at the win."""
        rows = await rowreads.closed_rows(
            self.tx,
            rowreads.members_of(self.scope, self.calendar),
            [WON_DEALS],
            self.window,
            self.calendar,
            self.as_of_ms,
            by_share=False,
            columns=rowreads.WON_COLUMNS,
            which=self.which,
        )
        deals = []
        for owner, amount, currency, deal_type, created_ms, closed_ms in rows:
            if owner is None:
                continue
            if amount is None or currency == self.currency:
                counted = amount
            else:
                counted = self.at_rate(amount, currency, self.calendar.day_of_ms(closed_ms))
            deals.append(WonDeal(counted, deal_type, created_ms, closed_ms))
        return deals

    def at_rate(self, amount: Decimal, currency: str | None, day: date) -> Decimal | None:
        """An amount in the answer's currency at a day's rate; without one None, and held."""
        converted = None
        if currency is not None:
            converted = self.world.rates.convert(amount, currency, self.currency, day)
        if converted is None:
            place = (day, currency or "")
            self.held[place] = EXACT.add(self.held.get(place, Decimal(0)), amount)
        return converted


@dataclass(slots=True)
class Counts:
    """Numbers of deals behind groups."""

    deals: int = 0
    without_amount: int = 0
    without_probability: int = 0

    def over(self, value: KpiValue, *names: str) -> KpiValue:
        """`value`, made from groups, with the numbers of deals behind them."""
        counted = {name: str(getattr(self, name)) for name in names}
        return replace(value, parts={**value.parts, **counted})


def _subject(scope: Scope) -> tuple[str | None, str | None]:
    if scope.kind == "rep":
        return (scope.id, None)
    if scope.kind == "team":
        return (None, scope.id)
    # What a caller sees of the organisation is not what its quota is for.
    return (None, None) if scope.kind == "organisation" else ("", "")
