"""Lines: what each credit earns, in order of credit instant and deal id, and what caps take."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from itertools import groupby

from services.commissions.domain.credits import Credit
from services.commissions.domain.periods import Period, period_of
from services.commissions.domain.plan import Cap, CapScope, Component, PlanVersion, RoundAt
from services.commissions.domain.rates import ZERO, Pricing
from shared.money import EXACT, ROUNDING_MODES, minor_unit_exponent, quantise

_ROUND = decimal.Context(prec=60)
_add, _subtract = EXACT.add, EXACT.subtract


class LineKind(StrEnum):
    """What a line is, in the fixed order of operations."""

    CREDIT = "credit"
    DEAL_CAP = "deal_cap"
    COMPONENT_CAP = "component_cap"
    ROUNDING = "rounding"
    PLAN_CAP = "plan_cap"


@dataclass(slots=True)
class Line:
    """One amount on a statement, with the numbers its explanation is built from.

    Treated as immutable; a dataclass that is frozen would cost a third of rating.
    before, after: the measure (credit lines) or the capped sum (cap lines) without and with it.
    count: deals in the measure before this one. exact: before rounding. cap: the limit applied.
    """

    key: str
    kind: LineKind
    component_id: str
    version_hash: str
    statement: Period
    measure: Period | None
    amount: Decimal
    exact: Decimal
    before: Decimal
    after: Decimal
    credit: Credit | None = None
    quota: Decimal | None = None
    count: int = 0
    cap: Cap | None = None

    @property
    def deal_id(self) -> str | None:
        """The deal a line is about; None for lines about a whole statement."""
        return self.credit.deal_id if self.credit else None


@dataclass(frozen=True, slots=True)
class QuotaMissing:
    """Credits of a component that cannot be rated: the measure period has no quota above zero."""

    credit: Credit
    measure_name: str
    measure: Period


def credit_order(credit: Credit) -> tuple[object, ...]:
    """The order in which lines earn: credit instant, deal id; the key settles the rest."""
    return (credit.instant, credit.deal_id, credit.key)


class Rater:
    """Rates the credits of one payee under one plan's versions.

    quota_on: (measure name, measure period, day) → quota, or None where none is set.
    """

    def __init__(
        self,
        versions: Sequence[PlanVersion],
        quota_on: Callable[[str, Period, date], Decimal | None],
        fiscal_start_month: int = 1,
    ) -> None:
        self._versions = {version.hash: version for version in versions}
        self._quota_on = quota_on
        self._fiscal_start = fiscal_start_month
        self._pricings: dict[tuple[str, str, Decimal | None], Pricing] = {}
        self._components = {
            (version.hash, component.id): component
            for version in versions
            for component in version.components
        }

    def component_of(self, line_or_credit: Line | Credit) -> Component:
        """The component, as its version has it, that made a credit or line."""
        return self._components[line_or_credit.version_hash, line_or_credit.component_id]

    def version_of(self, line_or_credit: Line | Credit) -> PlanVersion:
        """The plan version that made a credit or line."""
        return self._versions[line_or_credit.version_hash]

    def measure_of(self, credit: Credit) -> Period:
        """The measure period in which a credit counts."""
        kind = self.component_of(credit).measure_period(self.version_of(credit).period)
        return period_of(credit.day, kind, self._fiscal_start)

    def rate_component(self, credits_: Iterable[Credit]) -> tuple[list[Line], list[QuotaMissing]]:
        """Credit lines, deal caps and component caps of one component's credits, in order.

        Credits in a foreign currency without a rate are not to be passed: they are held.
        """
        ordered = sorted(credits_, key=credit_order)
        lines: list[Line] = []
        missing: list[QuotaMissing] = []
        measures: dict[Period, list[Credit]] = {}
        for credit in ordered:
            measures.setdefault(self.measure_of(credit), []).append(credit)
        for measure, members in measures.items():
            rated, unrated = self._rate_measure(measure, members)
            lines.extend(rated)
            missing.extend(unrated)
        caps = list(self._deal_caps(lines))
        caps.extend(self._component_caps(lines, caps))
        return lines + caps, missing

    def _rate_measure(
        self, measure: Period, members: Sequence[Credit]
    ) -> tuple[list[Line], list[QuotaMissing]]:
        lines: list[Line] = []
        missing: list[QuotaMissing] = []
        running, count, earned = ZERO, 0, ZERO
        pricing: Pricing | None = None
        for (version_hash, day), same_day in groupby(members, _version_and_day):
            component = self._components[version_hash, members[0].component_id]
            version = self._versions[version_hash]
            statement = period_of(day, version.period, self._fiscal_start)
            quota = self._quota(component, measure, day)
            if component.quota is not None and quota is None:
                missing.extend(
                    QuotaMissing(credit, component.quota.measure, measure) for credit in same_day
                )
                continue
            priced = self._pricing(version, component, quota)
            if priced is not pricing:
                pricing, earned = priced, priced.earned(running, count)
            step, mode = _rounding(version)
            for credit in same_day:
                before = running
                running = _add(running, credit.converted or ZERO)
                exact, earned = priced.line(before, running, earned, count)
                amount = (
                    quantise(exact) if step is None else exact.quantize(step, mode, context=_ROUND)
                )
                lines.append(
                    Line(
                        credit.key,
                        LineKind.CREDIT,
                        credit.component_id,
                        version_hash,
                        statement,
                        measure,
                        amount,
                        exact,
                        before,
                        running,
                        credit,
                        quota,
                        count,
                    )
                )
                count += 1
        return lines, missing

    def _quota(self, component: Component, measure: Period, day: date) -> Decimal | None:
        """The quota of a measure period; zero is none, since no share of it can be taken."""
        if component.quota is None:
            return None
        quota = self._quota_on(component.quota.measure, measure, day)
        return quota if quota is not None and quota > 0 else None

    def _pricing(
        self, version: PlanVersion, component: Component, quota: Decimal | None
    ) -> Pricing:
        key = (version.hash, component.id, quota)
        found = self._pricings.get(key)
        if found is None:
            found = Pricing(component.rates, quota, component.threshold)
            self._pricings[key] = found
        return found

    def pricing_of(self, line: Line) -> Pricing:
        """The laid-out table that made a credit line."""
        return self._pricing(self.version_of(line), self.component_of(line), line.quota)

    def _deal_caps(self, lines: Sequence[Line]) -> Iterator[Line]:
        """What the cap per deal takes from each line, counted over the deal's lines in order."""
        sums: dict[str, Decimal] = {}
        for line in lines:
            cap = self.component_of(line).cap
            if line.credit is None or cap is None or cap.per is not CapScope.DEAL:
                continue
            before = sums.get(line.credit.deal_id, ZERO)
            after = _add(before, line.amount)
            sums[line.credit.deal_id] = after
            taken = over_cap(before, after, cap.amount)
            if taken:
                yield _cap_line(line, LineKind.DEAL_CAP, line.key, cap, before, after, taken)

    def _component_caps(self, lines: Sequence[Line], deal_caps: Iterable[Line]) -> Iterator[Line]:
        """One line for each statement, scope and version in which the component's cap takes."""
        taken_of = {cap.credit.key: cap.amount for cap in deal_caps if cap.credit}
        runs: dict[tuple[Period, Period, str], tuple[Line, Cap, Decimal, Decimal]] = {}
        sums: dict[Period, Decimal] = {}
        for line in lines:
            cap = self.component_of(line).cap
            scope = line.measure if cap and cap.per is CapScope.MEASURE else line.statement
            if cap is None or scope is None or cap.per is CapScope.DEAL:
                continue
            before = sums.get(scope, ZERO)
            after = _add(_add(before, line.amount), taken_of.get(line.key, ZERO))
            sums[scope] = after
            run = (line.statement, scope, line.version_hash)
            first = runs[run][2] if run in runs else before
            runs[run] = (line, cap, first, after)
        for (statement, scope, version_hash), (line, cap, before, after) in runs.items():
            taken = over_cap(before, after, cap.amount)
            if taken:
                key = f"{line.component_id}/{scope.label}/{statement.label}/{version_hash[:12]}"
                found = _cap_line(line, LineKind.COMPONENT_CAP, key, cap, before, after, taken)
                found.credit = None
                yield found


def over_cap(before: Decimal, after: Decimal, limit: Decimal) -> Decimal:
    """What a cap changes, 0 or less, when the sum it limits goes from `before` to `after`.

    More than 0 where a reversal gives back something of what the cap had taken.
    """
    allowed = _subtract(min(after, limit), min(before, limit))
    return _subtract(allowed, _subtract(after, before))


def _cap_line(  # noqa: PLR0913, PLR0917 - a line's numbers
    line: Line,
    kind: LineKind,
    key: str,
    cap: Cap,
    before: Decimal,
    after: Decimal,
    taken: Decimal,
) -> Line:
    return Line(
        key=f"{kind}:{key}",
        kind=kind,
        component_id=line.component_id,
        version_hash=line.version_hash,
        statement=line.statement,
        measure=line.measure,
        amount=taken,
        exact=taken,
        before=before,
        after=after,
        credit=line.credit,
        cap=cap,
    )


def _version_and_day(credit: Credit) -> tuple[str, date]:
    return credit.version_hash, credit.day


def _rounding(version: PlanVersion) -> tuple[Decimal | None, str]:
    """The step lines are rounded to, None where the plan rounds the statement instead."""
    if version.rounding.at is RoundAt.STATEMENT:
        return None, ROUNDING_MODES[version.rounding.mode]
    step = Decimal(1).scaleb(-minor_unit_exponent(version.currency))
    return step, ROUNDING_MODES[version.rounding.mode]
