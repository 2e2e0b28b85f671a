"""What one sheet is rated from: `SheetInput`, and the figures that reach it from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from services.commissions.domain.agreed import Adjustment, Override
from services.commissions.domain.closes import BroughtForward, FixedStatement
from services.commissions.domain.credit import Credit, CreditException
from services.commissions.domain.exchange import RateBook
from services.commissions.domain.periods import Period, PeriodKind
from services.commissions.domain.plan import Assignment, Plan
from services.commissions.domain.proration import WorkingDays, monday_to_friday

QuotaKey = tuple[str, PeriodKind, date]
"""Measure name, length, and first day of the measure period."""


@dataclass(frozen=True, slots=True)
class KpiFact:
    """A published KPI of one payee: its value as of `day`. Of one day the greatest id holds."""

    day: date
    value: Decimal
    id: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a credit gets of a budget that all payees share, in plan currency.

    asked: without the budget. spent_before: asked by all credits before it.
    """

    asked: Decimal
    granted: Decimal
    spent_before: Decimal
    budget: Decimal


@dataclass(frozen=True, slots=True)
class SheetInput:
    """What one sheet is rated from.

    credits: of this payee and plan in the fiscal year, each key once; held ones included.
    exceptions: what waits for this payee under this plan, by the credit's day.
    year: the fiscal year, of kind `year`. quotas: in plan currency.
    closed_before: every period that ends on or before it is closed.
    fixed: what closes fixed, by period; a closed period without one was closed at nothing.
    gates: KPI → dated facts of this payee. grants: credit key → share of a common budget.
    until: assigned periods that begin before it have their floor, draw and carried excess, credits
    or none; None: only periods in which there is something else.
    working_days: of the organisation's calendar.
    adjustments: of this year's statements; overrides: of any days. A second person has approved
    both.
    """

    payee: str
    plan: Plan
    year: Period
    credits: Sequence[Credit]
    assignments: Sequence[Assignment] = ()
    quotas: Mapping[QuotaKey, Decimal] = field(default_factory=dict)
    rates: RateBook = field(default_factory=RateBook)
    exceptions: Sequence[CreditException] = ()
    closed_before: date | None = None
    fixed: Sequence[FixedStatement] = ()
    brought_forward: BroughtForward = field(default_factory=BroughtForward)
    fiscal_start_month: int = 1
    gates: Mapping[str, Sequence[KpiFact]] = field(default_factory=dict)
    grants: Mapping[str, Grant] = field(default_factory=dict)
    until: date | None = None
    working_days: WorkingDays = monday_to_friday
    adjustments: Sequence[Adjustment] = ()
    overrides: Sequence[Override] = ()

    @property
    def own_assignments(self) -> list[Assignment]:
        """This payee's assignments to this plan."""
        return [a for a in self.assignments if (a.payee, a.plan_id) == (self.payee, self.plan.id)]

    def quota_on(self, measure: str, period: Period, day: date) -> Decimal | None:
        """An assignment's own figure on the line's day, else the quota that was published."""
        for assignment in self.own_assignments:
            if day in assignment.days:
                override = assignment.quota_for(measure)
                if override is not None:
                    return override
        return self.quotas.get((measure, period.kind, period.start))
