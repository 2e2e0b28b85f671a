"""What `lint` is told of a plan's surroundings, read from the service's own tables.

What the company has none of yet is not known, and not checked: before the first quota is published
no measure is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from statistics import median_low
from typing import TYPE_CHECKING

from services.commissions.domain.lint import LintContext, paid_for
from services.commissions.domain.periods import MONTHS, Period, PeriodKind, period_of
from services.commissions.domain.plan import Assignment, Plan, PlanVersion
from services.commissions.domain.terms import Cap, CapScope
from services.commissions.reference import Reference
from shared.money import EXACT, quantise

if TYPE_CHECKING:
    from shared.db.pool import Connection

LAST_YEAR = timedelta(days=365)

_BEFORE_DEAL_CAP = ("credit", "override")
_BEFORE_CAP = (*_BEFORE_DEAL_CAP, "budget_cap", "deal_cap", "attainment_cap", "rounding")
_BEFORE_PLAN_CAP = (*_BEFORE_CAP, "component_cap", "floor", "gate")
"""Kinds of lines that are made before a cap of a deal, of a component, of the plan."""


async def lint_context(
    tx: Connection,
    version: PlanVersion,
    reference: Reference,
    *,
    today: date,
    border_difference: Decimal | None = None,
) -> LintContext:
    """The surroundings of `version` as of `tx`, which is a snapshot that `reference` is of.

    border_difference: what the version would change in closed periods, where that is known.
    Last year is the one before the version's first day, or before today where that lies ahead.
    """
    assigned = reference.assignments.get(version.id, ())
    closed_until: date = await tx.fetchval("SELECT day FROM closed_until")
    measures = await _measures(tx, reference)
    goals = measures | frozenset(await _column(tx, _OBJECTIVES))
    until = min(version.effective.first or today, today)
    currencies = await tx.fetch(_CURRENCIES, version.id, until - LAST_YEAR)
    return LintContext(
        measures=measures or None,
        kpis=frozenset(await _column(tx, _KPIS)) or None,
        goals=(goals - _paid_elsewhere(version, reference)) if goals else None,
        rate_pairs=reference.rates.pairs or None,
        currencies=frozenset(row["currency"] for row in currencies),
        payout_currencies=frozenset(a.payout_currency for a in assigned if a.payout_currency),
        quotas=await _typical_quotas(tx, version, assigned),
        target_pay=_typical([a.target_pay for a in assigned if a.target_pay is not None]),
        previous=version_before(version, reference.plans.get(version.id)),
        closed_before=closed_until,
        border_difference=border_difference,
        last_year=await _last_year(tx, version, reference, until),
    )


def version_before(version: PlanVersion, plan: Plan | None) -> PlanVersion | None:
    """The version that is in force on the day before `version` begins, or was last."""
    first = version.effective.first or date.min
    earlier = [
        other
        for other in (plan.versions if plan is not None else ())
        if (other.effective.first or date.min) < first
    ]
    return earlier[-1] if earlier else None


_OBJECTIVES = "SELECT DISTINCT objective FROM objective_score WHERE NOT deleted"
_KPIS = "SELECT DISTINCT kpi FROM kpi_fact WHERE NOT deleted"
_MEASURES = "SELECT DISTINCT measure FROM quota_target WHERE NOT deleted"
_CURRENCIES = (
    "SELECT DISTINCT c.currency FROM (SELECT DISTINCT payee, plan_id FROM assignment "
    "WHERE plan_id = $1) a JOIN credit c USING (payee, plan_id) WHERE c.day >= $2"
)


async def _column(tx: Connection, query: str) -> list[str]:
    return [row[0] for row in await tx.fetch(query)]


async def _measures(tx: Connection, reference: Reference) -> frozenset[str]:
    """Measures with a quota, published or in an assignment."""
    assigned = {
        measure
        for assignments in reference.assignments.values()
        for assignment in assignments
        for measure, _ in assignment.quota
    }
    return frozenset(assigned.union(await _column(tx, _MEASURES)))


def _paid_elsewhere(version: PlanVersion, reference: Reference) -> frozenset[str]:
    """What other plans, in the version in force last, pay for."""
    return frozenset(
        name
        for plan in reference.plans.values()
        if plan.id != version.id
        for name in paid_for(plan.versions[-1])
    )


async def _typical_quotas(
    tx: Connection, version: PlanVersion, assigned: Sequence[Assignment]
) -> dict[str, Decimal]:
    """Measure → the middle one of the payees' quotas, else of everybody's, of its period."""
    found: dict[str, Decimal] = {}
    payees = sorted({assignment.payee for assignment in assigned})
    for component in version.components:
        wanted = component.quota
        if wanted is None or wanted.measure in found:
            continue
        own = [
            amount
            for assignment in assigned
            if (amount := assignment.quota_for(wanted.measure)) is not None
        ]
        typical = _typical(own)
        if typical is None:
            typical = await tx.fetchval(
                _TYPICAL_QUOTA, wanted.measure, MONTHS[wanted.period], payees
            )
        if typical is not None:
            found[wanted.measure] = quantise(typical)
    return found


_TYPICAL_QUOTA = (
    "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY amount) FROM quota_target "
    "WHERE measure = $1 AND NOT deleted AND amount > 0 AND end_day = (start_day "
    "+ make_interval(months => $2))::date GROUP BY person = ANY($3::text[]) "
    "ORDER BY person = ANY($3::text[]) DESC NULLS LAST LIMIT 1"
)


def _typical(amounts: Sequence[Decimal]) -> Decimal | None:
    return median_low(amounts) if amounts else None


# ---- last year, before caps --------------------------------------------------------------------


async def _last_year(
    tx: Connection, version: PlanVersion, reference: Reference, until: date
) -> Mapping[str, Sequence[Decimal]]:
    """Component (empty: the plan) → sums of the year before `until`, by payee and scope of cap."""
    found: dict[str, Sequence[Decimal]] = {}
    for component in version.components:
        if component.cap is not None:
            kinds = _BEFORE_DEAL_CAP if component.cap.per is CapScope.DEAL else _BEFORE_CAP
            measure = component.measure_period(version.period)
            found[component.id] = await _sums(
                tx, version.id, component.id, component.cap, kinds, measure, reference, until
            )
    if version.cap is not None:
        longest = max(
            (part.measure_period(version.period) for part in version.components),
            key=lambda kind: MONTHS[kind],
        )
        found[""] = await _sums(
            tx, version.id, None, version.cap, _BEFORE_PLAN_CAP, longest, reference, until
        )
    return found


async def _sums(  # noqa: PLR0913, PLR0917 - one cap and where it stands
    tx: Connection,
    plan_id: str,
    component_id: str | None,
    cap: Cap,
    kinds: Iterable[str],
    measure: PeriodKind,
    reference: Reference,
    until: date,
) -> list[Decimal]:
    rows = await tx.fetch(
        "SELECT s.payee, s.start_day, CASE WHEN $5 THEN l->>'deal' END AS deal, "
        "sum((l->>'amount')::numeric) AS amount FROM statement s, "
        "json_array_elements(s.document->'lines') l WHERE s.plan_id = $1 AND s.end_day > $2 "
        "AND s.start_day < $3 AND l->>'kind' = ANY($4::text[]) "
        "AND ($6::text IS NULL OR l->>'component' = $6) GROUP BY 1, 2, 3",
        plan_id,
        until - LAST_YEAR,
        until,
        list(kinds),
        cap.per is CapScope.DEAL,
        component_id,
    )
    sums: dict[tuple[str, object], Decimal] = {}
    for row in rows:
        scope = row["deal"] or _scope(cap.per, row["start_day"], measure, reference)
        key = (row["payee"], scope)
        sums[key] = EXACT.add(sums.get(key, Decimal(0)), quantise(row["amount"]))
    return [sums[key] for key in sorted(sums, key=str)]


def _scope(per: CapScope, start: date, measure: PeriodKind, reference: Reference) -> Period | date:
    if per is CapScope.YEAR:
        return reference.year_of(start)
    if per is CapScope.MEASURE:
        return period_of(start, measure, reference.fiscal_start_month)
    return start
