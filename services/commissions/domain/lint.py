"""`lint`: what is wrong with a plan where it is saved, and what its author should know of it.

What a document says by itself is refused when it is read (parse.py: first tier not at 0, tiers that
do not rise, weights and shares that are not 100 %, circles, unknown names and time zones). Here
come what only the surroundings show, and warnings. Every finding has a figure.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

from services.commissions.domain.lint_rates import Steepness, falls, jumps, spread
from services.commissions.domain.plan import PlanVersion
from services.commissions.domain.rates import ZERO
from services.commissions.domain.terms import Component
from shared.money import exact_sum, to_text


class Severity(StrEnum):
    """A refused plan is not saved; a warned one is, by somebody who has read the warning."""

    REFUSED = "refused"
    WARNED = "warned"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    code: names the rule for ever. pointer: where in the document. figure: how much, in `unit`: the
    plan's currency, `share` (1 is 100 %), `days` or `count`.
    """

    code: str
    severity: Severity
    pointer: str
    message: str
    figure: Decimal
    unit: str


@dataclass(frozen=True, slots=True)
class LintContext:
    """What is known where the plan is saved; None: not known, and not checked.

    measures: with a quota. kpis: with a figure. goals: measures and objectives that are somebody's
    goal, without those that other plans pay for. rate_pairs: (table, from, to) with a rate.
    currencies: of deals credited so far; payout_currencies: of assignments.
    quotas: measure → a typical quota, for figures. target_pay: a typical one.
    previous: the version in force before. closed_before: every earlier day is closed;
    border_difference: recomputed - fixed over closed periods, in plan currency.
    last_year: component id (empty: the whole plan) → last year's sums, one for each payee and scope
    of its cap, before caps.
    """

    measures: frozenset[str] | None = None
    kpis: frozenset[str] | None = None
    goals: frozenset[str] | None = None
    rate_pairs: frozenset[tuple[str, str, str]] | None = None
    currencies: frozenset[str] = frozenset()
    payout_currencies: frozenset[str] = frozenset()
    quotas: Mapping[str, Decimal] = field(default_factory=dict)
    target_pay: Decimal | None = None
    previous: PlanVersion | None = None
    closed_before: date | None = None
    border_difference: Decimal | None = None
    last_year: Mapping[str, Sequence[Decimal]] = field(default_factory=dict)


def lint(version: PlanVersion, context: LintContext) -> tuple[Finding, ...]:
    """All findings, refusals first. Pure: the same plan and context give the same findings."""
    rules: tuple[Callable[[PlanVersion, LintContext], Iterator[Finding]], ...] = (
        _unknown_names,
        _currencies_without_rates,
        _closed_border,
        _steps,
        _falling_border,
        _goals,
        _period_border,
        _caps,
    )
    found = [finding for rule in rules for finding in rule(version, context)]
    return tuple(sorted(found, key=lambda f: (f.severity is not Severity.REFUSED, f.pointer)))


def _components(version: PlanVersion) -> Iterator[tuple[str, Component]]:
    for index, component in enumerate(version.components):
        yield f"/components/{index}", component


def _unknown_names(version: PlanVersion, context: LintContext) -> Iterator[Finding]:
    for place, component in _components(version):
        measure = component.quota.measure if component.quota else None
        if context.measures is not None and measure and measure not in context.measures:
            hint = _near(measure, context.measures, "set a quota for it first")
            msg = f"there is no measure {measure}; {hint}"
            yield _refused("unknown_measure", f"{place}/quota/measure", msg)
        kpi = component.gate.kpi if component.gate else None
        if context.kpis is not None and kpi and kpi not in context.kpis:
            hint = _near(kpi, context.kpis, "publish a figure of it first")
            yield _refused("unknown_kpi", f"{place}/gate/kpi", f"there is no KPI {kpi}; {hint}")


def _near(name: str, known: Iterable[str], otherwise: str) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def _refused(code: str, pointer: str, message: str) -> Finding:
    return Finding(code, Severity.REFUSED, pointer, message, Decimal(1), "count")


def _currencies_without_rates(version: PlanVersion, context: LintContext) -> Iterator[Finding]:
    pairs = context.rate_pairs
    own = version.currency
    for key, table, wanted in (
        ("credit", version.fx_credit, [(c, own) for c in sorted(context.currencies)]),
        ("payout", version.fx_payout, [(own, c) for c in sorted(context.payout_currencies)]),
    ):
        for origin, target in wanted:
            if origin == target:
                continue
            if table is None:
                msg = f"{origin} to {target} is needed and the plan names no table: add fx.{key}"
                yield _refused("currency_without_rates", "/fx", msg)
            elif pairs is not None and (table, origin, target) not in pairs:
                msg = f"table {table} has no rate {origin} to {target}; load one"
                yield _refused("currency_without_rates", f"/fx/{key}/table", msg)


def _closed_border(version: PlanVersion, context: LintContext) -> Iterator[Finding]:
    first, closed = version.effective.first, context.closed_before
    if first is None or closed is None or first >= closed:
        return
    days = (closed - first).days
    if context.border_difference is None:
        msg = f"{days} days of this version are closed; a second person has to sign it"
        yield _warned("closed_border", "/effective/from", msg, Decimal(days), "days")
        return
    moved = to_text(context.border_difference)
    msg = (
        f"{days} days of this version are closed: it changes what was fixed by {moved} "
        f"{version.currency}, and a second person has to sign it"
    )
    figure = context.border_difference
    yield _warned("closed_border", "/effective/from", msg, figure, version.currency)


def _warned(code: str, pointer: str, message: str, figure: Decimal, unit: str) -> Finding:
    return Finding(code, Severity.WARNED, pointer, message, figure, unit)


def _steepness(component: Component, context: LintContext) -> Steepness:
    """A table over a typical quota, or over one of 1: figures are shares of quota then."""
    quota = context.quotas.get(component.quota.measure) if component.quota else None
    return Steepness(component, quota, context.target_pay)


def _steps(version: PlanVersion, context: LintContext) -> Iterator[Finding]:
    """Cliffs, and places where more sales pay less."""
    for place, component in _components(version):
        if component.rates is None:
            continue
        over = _steepness(component, context)
        for jump in jumps(over):
            unit = version.currency if over.in_money else "share"
            if jump.size > 0:
                msg = f"at {jump.at} pay jumps by {to_text(jump.size)} at once"
                yield _warned("cliff", f"{place}/{jump.pointer}", msg, jump.size, unit)
            else:
                msg = f"at {jump.at} pay falls by {to_text(-jump.size)}: more sales pay less"
                yield _warned("negative_rate", f"{place}/{jump.pointer}", msg, -jump.size, unit)
        for fall in falls(over):
            msg = f"from {fall.at} on the rate is lower by {to_text(fall.size)}: {fall.why}"
            code = "negative_rate" if fall.pays_less else "falling_rate"
            yield _warned(code, f"{place}/{fall.pointer}", msg, fall.size, "share")


def _falling_border(version: PlanVersion, context: LintContext) -> Iterator[Finding]:
    """A running measure whose next deals earn less than under the version before."""
    before = {c.id: c for c in context.previous.components} if context.previous else {}
    for place, component in _components(version):
        earlier = before.get(component.id)
        if earlier is None or earlier.rates is None or component.rates is None:
            continue
        drop = _steepness(earlier, context).above(_steepness(component, context))
        if drop > 0:
            msg = (
                f"somewhere along the table the rate falls by {to_text(drop)} against the version "
                "before: a deal closed before the border pays more, and may take from later ones"
            )
            yield _warned("falling_border", f"{place}/rates", msg, drop, "share")


def paid_for(version: PlanVersion) -> dict[str, str]:
    """Measures, KPIs and objectives that decide on its pay → where the document first says so."""
    paid: dict[str, str] = {}
    for place, component in _components(version):
        if component.quota is not None:
            paid.setdefault(component.quota.measure, f"{place}/quota/measure")
        if component.gate is not None:
            paid.setdefault(component.gate.kpi, f"{place}/gate/kpi")
        for index, objective in enumerate(component.objectives):
            paid.setdefault(objective.id, f"{place}/objectives/{index}/id")
    return paid


def _goals(version: PlanVersion, context: LintContext) -> Iterator[Finding]:
    if context.goals is None:
        return
    paid = paid_for(version)
    for name, pointer in paid.items():
        if name not in context.goals:
            msg = f"{name} decides on pay and is nobody's goal"
            yield _warned("paid_without_goal", pointer, msg, Decimal(1), "count")
    for name in sorted(context.goals - set(paid)):
        msg = f"{name} is a goal and decides on no pay"
        yield _warned("goal_without_pay", "/components", msg, Decimal(1), "count")


def _period_border(version: PlanVersion, context: LintContext) -> Iterator[Finding]:
    for place, component in _components(version):
        if component.rates is None:
            continue
        gain = spread(_steepness(component, context))
        if gain > 0:
            length = component.measure_period(version.period).value
            msg = (
                f"each {length} begins at the bottom of the table: moving a deal over its border "
                f"changes its rate by up to {to_text(gain)}"
            )
            yield _warned("period_border", f"{place}/rates", msg, gain, "share")


def _caps(version: PlanVersion, context: LintContext) -> Iterator[Finding]:
    """Caps that last year's data would have hit."""
    limits = [(f"{place}/cap", part.id, part.cap) for place, part in _components(version)]
    for pointer, name, cap in [*limits, ("/cap", "", version.cap)]:
        if cap is None:
            continue
        above = [total - cap.amount for total in context.last_year.get(name, ())]
        hit = [excess for excess in above if excess > ZERO]
        if hit:
            whole = exact_sum(hit)
            msg = (
                f"last year {len(hit)} of {len(above)} would have reached the cap, "
                f"by {to_text(whole)} {version.currency} together"
            )
            yield _warned("cap_reached", pointer, msg, whole, version.currency)
