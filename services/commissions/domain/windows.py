"""Windows: the stretches of a fiscal year that can be rated one after the other.

A change then concerns its own window, and later ones only as far as they are given something else
(chain.py). Rating windows in their order gives what rating the whole year gives, since nothing but
what is brought forward connects them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import date

from services.commissions.domain.credit import Credit
from services.commissions.domain.periods import MONTHS, Period, PeriodKind, period_of
from services.commissions.domain.plan import Plan, PlanVersion
from services.commissions.domain.terms import CapScope


def window_kind(plan: Plan) -> PeriodKind:
    """How long a plan's windows are: as long as its longest measure, and at least a statement.

    The whole year where lines follow from credits long before them: release by cash, clawback, a
    cap over the year.
    """
    return max((_kind_of(version) for version in plan.versions), key=MONTHS.__getitem__)


def _kind_of(version: PlanVersion) -> PeriodKind:
    kinds = [version.period]
    if version.cap is not None and version.cap.per is CapScope.YEAR:
        return PeriodKind.YEAR
    for component in version.components:
        if component.release is not None or component.clawback is not None:
            return PeriodKind.YEAR
        if component.cap is not None and component.cap.per is CapScope.YEAR:
            return PeriodKind.YEAR
        kinds.append(component.measure_period(version.period))
    return max(kinds, key=MONTHS.__getitem__)


def deal_capped(plan: Plan) -> frozenset[str]:
    """Components with a cap per deal: it goes on over windows, as far as a deal does."""
    return frozenset(
        component.id
        for version in plan.versions
        for component in version.components
        if component.cap is not None and component.cap.per is CapScope.DEAL
    )


def linked_years(
    credits_: Iterable[Credit],
    capped: Collection[str],
    year_of: Callable[[date], Period],
    window_of: Callable[[date], Period],
) -> set[Period]:
    """Years in which one deal has credits under one such cap in several windows."""
    first: dict[tuple[str, str, Period], Period] = {}
    found: set[Period] = set()
    for credit in credits_:
        if credit.component_id in capped:
            year, window = year_of(credit.day), window_of(credit.day)
            if first.setdefault((credit.component_id, credit.deal_id, year), window) != window:
                found.add(year)
    return found


@dataclass(frozen=True, slots=True)
class Windows:
    """An account's windows. whole: years that are rated in one, whatever the plan's kind."""

    kind: PeriodKind
    fiscal_start_month: int
    whole: frozenset[Period] = frozenset()

    def at(self, day: date) -> Period:
        """The window in which a day lies."""
        year = period_of(day, PeriodKind.YEAR, self.fiscal_start_month)
        if self.kind is PeriodKind.YEAR or year in self.whole:
            return year
        return period_of(day, self.kind, self.fiscal_start_month)

    def after(self, window: Period) -> Period:
        """The window that begins where another one ends."""
        return self.at(window.end)

    def holds(self, window: Period) -> bool:
        """Whether it is one of these windows."""
        return self.at(window.start) == window


def meet(one: Period, other: Period) -> bool:
    """Whether two stretches have a day in common."""
    return one.start < other.end and other.start < one.end
