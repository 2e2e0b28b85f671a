"""The first step of rating: credit lines, component by component."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from services.commissions.domain.conditions import (
    as_name,
    components_read,
    holds,
)
from services.commissions.domain.credit import Credit, ExceptionKind
from services.commissions.domain.lines import Line
from services.commissions.domain.objective import rate_objectives
from services.commissions.domain.periods import Period, period_of
from services.commissions.domain.plan import reads_of
from services.commissions.domain.proration import as_decimal
from services.commissions.domain.rates import ZERO
from services.commissions.domain.spiff import rate_pays
from services.commissions.domain.terms import Component
from services.commissions.domain.work import Work
from shared.money import EXACT

_FIGURES_AT_NOTHING = ("attainment", "credited", "earned")


def rate_credits(work: Work) -> None:
    """Lines of all credits, a component after those that its conditions read."""
    by_component: dict[str, list[Credit]] = {}
    for credit in work.given.credits:
        if credit.converted is None:
            work.held.append(credit)
        else:
            by_component.setdefault(credit.component_id, []).append(credit)
    seen: dict[str, _Figures] = {}
    for component_id in _in_reading_order(work):
        credits_ = by_component.get(component_id, [])
        if credits_:
            if any(c.credit.reads_components for c in work.terms(component_id)):
                credits_ = _that_hold(work, credits_, seen)
            _rate(work, component_id, credits_)


def _in_reading_order(work: Work) -> list[str]:
    """Component ids, each after those it reads; a plan has no circles."""
    reads = reads_of(work.given.plan.versions)
    ordered: list[str] = []
    while waiting := sorted(set(reads) - {*ordered}):
        ordered.extend(c for c in waiting if reads[c] <= {*ordered})
    return ordered


def _rate(work: Work, component_id: str, credits_: Sequence[Credit]) -> None:
    """What a component earns by is the same in all versions."""
    component = work.terms(component_id)[0]
    if component.pays is not None:
        rate_pays(work, component_id, credits_)
    elif component.objectives:
        rate_objectives(work, component_id, credits_)
    else:
        lines, missing = work.rater.rate_component(credits_)
        work.credit_lines[component_id] = lines
        work.put_own(lines)
        for entry in missing:
            work.held.append(entry.credit)
            work.wait(entry.kind, entry.credit, entry.credit.day, entry.message)


def _that_hold(work: Work, credits_: Sequence[Credit], seen: dict[str, _Figures]) -> list[Credit]:
    """Credits whose condition on other components holds; those that wait are put on hold."""
    found = []
    for credit in credits_:
        rule = work.rater.component_of(credit).credit
        when = rule.when
        if when is None or not rule.reads_components:
            found.append(credit)
            continue
        version = work.rater.version_of(credit)
        ids = {c.id: c.quota is not None for c in version.components}
        figures: dict[str, Decimal] = {}
        for component_id in components_read(when, ids):
            if component_id not in seen:
                seen[component_id] = _Figures(work, component_id)
            figures |= seen[component_id].at(credit, version.component(component_id))
        answer = holds(when, credit.inputs, figures)
        if answer is None:
            work.held.append(credit)
            msg = f"a field that the condition {when.text!r} needs is not known; state it"
            work.wait(ExceptionKind.AMOUNT, credit, credit.day, msg)
        elif answer:
            found.append(credit)
    return found


class _Figures:
    """A component's figures at any place in the order of its credit lines."""

    def __init__(self, work: Work, component_id: str) -> None:
        self._work = work
        self._lines = work.credit_lines.get(component_id, [])
        self._places = [_place(line) for line in self._lines]
        self._earned: list[Decimal] = []
        sums: dict[Period | None, Decimal] = {}
        for line in self._lines:
            sums[line.measure] = EXACT.add(sums.get(line.measure, ZERO), line.amount)
            self._earned.append(sums[line.measure])

    def at(self, credit: Credit, component: Component) -> dict[str, Decimal]:
        """The figures up to and with a credit's place, in the component's own measure period."""
        index = bisect_right(self._places, (credit.instant, credit.deal_id)) - 1
        values = dict.fromkeys(_FIGURES_AT_NOTHING, ZERO)
        kind = component.measure_period(self._work.kind)
        measure = period_of(credit.day, kind, self._work.given.fiscal_start_month)
        if index >= 0 and self._lines[index].measure == measure:
            line = self._lines[index]
            values["credited"], values["earned"] = line.after, self._earned[index]
            if line.quota is not None:
                values["attainment"] = as_decimal(Fraction(line.after) / Fraction(line.quota))
        name = as_name(component.id)
        return {f"{name}.{figure}": value for figure, value in values.items()}


def _place(line: Line) -> tuple[object, ...]:
    credit = line.credit
    return (credit.instant, credit.deal_id) if credit is not None else ()
