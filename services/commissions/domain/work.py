"""The workspace of one sheet: what the steps of rating read and add to, in their fixed order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby

from services.commissions.domain.closes import CarriedExcess
from services.commissions.domain.credit import Credit, CreditException, ExceptionKind
from services.commissions.domain.given import SheetInput
from services.commissions.domain.later import line_from_row
from services.commissions.domain.lines import Line
from services.commissions.domain.periods import Period, following, period_of
from services.commissions.domain.plan import PlanVersion
from services.commissions.domain.proration import Prorated, prorated
from services.commissions.domain.rating import Rater
from services.commissions.domain.terms import Component, DayRange
from shared.money import exact_sum


class Work:
    """Lines by statement period, credit lines by component, and what is carried on.

    credit_lines: component → its credit lines, in order of earning. later: lines dated in a later
    fiscal year. tracks_net: later steps ask what caps leave of each single line.
    excess: component (empty: the plan) → carried over its cap. counts: component → credits paid.
    overridden: credit line → what was agreed in place of what it came to.
    """

    def __init__(self, given: SheetInput) -> None:
        self.given = given
        self.kind = given.plan.versions[0].period
        self.currency = given.plan.versions[0].currency
        self.rater = Rater(
            given.plan.versions, given.quota_on, self._target_pay, given.fiscal_start_month
        )
        self.lines: dict[Period, list[Line]] = {}
        self.credit_lines: dict[str, list[Line]] = {}
        self.later: list[Line] = []
        self.tracks_net = any(
            component.release is not None or component.clawback is not None
            for version in given.plan.versions
            for component in version.components
        )
        self.held: list[Credit] = []
        self.waiting: list[CreditException] = list(given.exceptions)
        left = given.brought_forward
        self.excess: dict[str, CarriedExcess] = {e.component_id: e for e in left.excess}
        self.counts: dict[str, int] = dict(left.counts)
        self.overridden: dict[str, Decimal] = {}
        self._assignments = given.own_assignments
        self._target_pays: dict[tuple[str, str, Period], Prorated | None] = {}
        for row in left.lines:
            self.put(line_from_row(row, given.fiscal_start_month))

    def terms(self, component_id: str) -> list[Component]:
        """A component as each version that has it has it."""
        return [c for v in self.given.plan.versions for c in v.components if c.id == component_id]

    def put(self, line: Line) -> None:
        """Add a line to its statement, in this year or a later one."""
        if line.statement.start in self.given.year:
            self.lines.setdefault(line.statement, []).append(line)
        else:
            self.later.append(line)

    def put_own(self, lines: Iterable[Line]) -> None:
        """Add credit lines, in order of earning, to their statements of this year."""
        for statement, own in groupby(lines, key=_statement):
            self.lines.setdefault(statement, []).extend(own)

    def wait(self, kind: ExceptionKind, line: Line | Credit, day: date, message: str) -> None:
        """Tell what somebody has to do before the period can close."""
        credit = line.credit if isinstance(line, Line) else line
        self.waiting.append(
            CreditException(
                kind=kind,
                event_key=credit.event_key if credit else "",
                deal_id=credit.deal_id if credit else "",
                plan_id=self.given.plan.id,
                component_id=line.component_id,
                payee=self.given.payee,
                day=day,
                message=message,
            )
        )

    def period(self, day: date) -> Period:
        """The statement period of a day."""
        return period_of(day, self.kind, self.given.fiscal_start_month)

    def periods(self) -> list[Period]:
        """Statement periods of the year that have begun or have lines, in order."""
        until = max(self.given.until or date.min, self.given.closed_before or date.min)
        found = set(self.lines)
        begun = self.period(self.given.year.start)
        while begun.start < min(until, self.given.year.end):
            found.add(begun)
            begun = following(begun, self.given.fiscal_start_month)
        return sorted(found)

    def version(self, period: Period) -> PlanVersion:
        """The version that decides on a whole statement."""
        return self.given.plan.nearest(period.last_day)

    def sum_of(self, period: Period, component_id: str | None = None) -> Decimal:
        """The sum of a statement's lines so far, all or one component's."""
        return exact_sum(
            line.amount
            for line in self.lines.get(period, ())
            if component_id is None or line.component_id == component_id
        )

    def prorated(
        self, period: Period, version: PlanVersion, amount: Decimal, within: Sequence[DayRange] = ()
    ) -> Prorated:
        """An amount for a whole period, for the days on which the payee is assigned."""
        stated = [(amount, assignment) for assignment in self._assignments]
        days = (*within, self._in_force())
        return prorated(period, stated, days, version.proration, self.given.working_days)

    def _in_force(self) -> DayRange:
        """The days on which the plan has a version, from its first to its last."""
        versions = self.given.plan.versions
        return DayRange(versions[0].effective.first, versions[-1].effective.last)

    def _target_pay(
        self, version: PlanVersion, component: Component, period: Period
    ) -> Prorated | None:
        key = (version.hash, component.id, period)
        if key not in self._target_pays:
            self._target_pays[key] = self._target_pay_of(version, component, period)
        return self._target_pays[key]

    def _target_pay_of(
        self, version: PlanVersion, component: Component, period: Period
    ) -> Prorated | None:
        stated = [
            (pay, assignment)
            for assignment in self._assignments
            if (pay := assignment.target_pay_for(component.id)) is not None
        ]
        days = (self._in_force(),)
        found = prorated(period, stated, days, version.proration, self.given.working_days)
        return found if found.parts else None


def _statement(line: Line) -> Period:
    return line.statement
