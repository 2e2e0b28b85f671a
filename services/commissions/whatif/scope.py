"""What a change of reference data can touch: which plans, from when, whether credits too. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from services.commissions.domain.plan import Assignment, DayRange, Plan, PlanVersion
from services.commissions.domain.terms import CreditOn
from services.commissions.reference import Reference

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Scope:
    """One plan whose accounts may earn otherwise.

    recredit: its credits may be others; where only rates, caps and the like change they are not.
    since: no day before it is touched.
    """

    plan_id: str
    recredit: bool
    since: date


def scopes(
    changed: Reference, present: Reference | None, plans: Collection[str] | None
) -> list[Scope]:
    """The plans to look at, by id: those named, else all that the change may touch.

    present: what `changed` was made from by replacing parts; a part that is the same object is
    taken to be the same. None: everything may be different.
    """
    known = {*changed.plans, *(present.plans if present is not None else ())}
    chosen = sorted(known if plans is None else known.intersection(plans))
    if present is None:
        return [Scope(plan_id, recredit=True, since=date.min) for plan_id in chosen]
    found = (_scope(plan_id, changed, present) for plan_id in chosen)
    return [scope for scope in found if scope is not None]


def _scope(plan_id: str, changed: Reference, present: Reference) -> Scope | None:
    before, after = present.plans.get(plan_id), changed.plans.get(plan_id)
    was, is_ = present.assignments.get(plan_id, ()), changed.assignments.get(plan_id, ())
    read_by = changed.org is not present.org or changed.stage_maps is not present.stage_maps
    rates = changed.rates is not present.rates
    versions = () if before is None else before.versions
    drafts = () if after is None else after.versions
    if not read_by and not rates and list(was) == list(is_) and versions == drafts:
        return None
    recredit = (
        read_by
        or (rates and any(v.fx_credit is not None for v in (*versions, *drafts)))
        or _on_plan(was) != _on_plan(is_)
        or credit_terms(before) != credit_terms(after)
    )
    if read_by or rates or list(was) != list(is_):
        return Scope(plan_id, recredit, date.min)
    return Scope(plan_id, recredit, _first_difference(versions, drafts))


def _on_plan(assigned: Sequence[Assignment]) -> list[tuple[str, date, date]]:
    """Who may be credited, and when; quotas and target pay are rating's."""
    return sorted((a.payee, a.days.first or date.min, a.days.last or date.max) for a in assigned)


def _first_difference(before: Sequence[PlanVersion], after: Sequence[PlanVersion]) -> date:
    differing = [v for v in before if v not in after] + [v for v in after if v not in before]
    days = [v.effective.first or date.min for v in differing]
    # Pay is prorated by the days on which the plan has any version.
    days += [v.effective.last for v in differing if v.effective.last is not None]
    ends = [versions[-1].effective.last for versions in (before, after) if versions]
    if len(set(ends)) > 1:
        days += [end for end in ends if end is not None]
    return min(days, default=date.min)


CreditTerms = tuple[object, ...]


def credit_terms(plan: Plan | None) -> list[tuple[date, date, CreditTerms]]:
    """What credits depend on, by the days on which it is in force; equal neighbours are one."""
    found: list[tuple[date, date, CreditTerms]] = []
    for first, last, version in _in_force(plan):
        terms = _terms(version)
        if found and found[-1][2] == terms and found[-1][1] + DAY == first:
            found[-1] = (found[-1][0], last, terms)
        else:
            found.append((first, last, terms))
    return found


def _in_force(plan: Plan | None) -> Iterator[tuple[date, date, PlanVersion]]:
    versions = () if plan is None else plan.versions
    for place, version in enumerate(versions):
        first, last = version.effective.first or date.min, version.effective.last or date.max
        if place + 1 < len(versions):
            following = versions[place + 1].effective.first or date.min
            last = min(last, following - DAY)
        yield first, last, version


def _terms(version: PlanVersion) -> CreditTerms:
    """Everything of a version that credits_for and the deal's events read."""
    components = [
        (
            component.id,
            component.credit,
            component.effective,
            component.earns_by,
            [objective.id for objective in component.objectives],
            component.release is None,
            component.clawback is None,
        )
        for component in version.components
    ]
    return (
        version.currency,
        version.zone.key,
        version.credit_date,
        version.reopen_grace,
        version.fx_credit,
        sorted(components, key=lambda part: part[0]),
    )


ROOTS_OF: Mapping[CreditOn, Sequence[str]] = {
    CreditOn.DEAL_WON: ("deal",),
    CreditOn.INVOICE_ISSUED: ("deal",),
    CreditOn.PAYMENT_RECEIVED: ("deal",),
    CreditOn.ACTIVITY_COMPLETED: ("deal", "activity"),
    CreditOn.OBJECTIVE_SCORED: ("objective_score",),
}
"""Event → the kinds of roots that may give it."""


def root_kinds(plans: Sequence[Plan]) -> list[str]:
    """The kinds of roots that plans credit, in the order of locks."""
    asked = {
        kind
        for plan in plans
        for version in plan.versions
        for component in version.components
        for kind in ROOTS_OF[component.credit.on]
    }
    return [kind for kind in ("deal", "activity", "objective_score") if kind in asked]


def with_drafts(
    reference: Reference, drafts: Sequence[PlanVersion], in_force_from: date | None
) -> Reference:
    """See `whatif.with_versions`."""
    plans = dict(reference.plans)
    for said in drafts:
        draft = said
        versions = list(plans[draft.id].versions) if draft.id in plans else []
        if in_force_from is not None:
            draft = _in_force_from(said, in_force_from)
            versions = [v for v in versions if (v.effective.first or date.min) < in_force_from]
            if any(v.hash == draft.hash for v in versions):
                draft = replace(draft, hash=f"{draft.hash}@{in_force_from}")
        else:
            versions = [v for v in versions if not _same_place(v, draft)]
        plans[draft.id] = Plan(draft.id, (*versions, draft))
    return replace(reference, plans=dict(sorted(plans.items())))


def _same_place(version: PlanVersion, draft: PlanVersion) -> bool:
    return version.hash == draft.hash or version.effective.first == draft.effective.first


def _in_force_from(draft: PlanVersion, day: date) -> PlanVersion:
    last = draft.effective.last
    return replace(draft, effective=DayRange(day, last if last and last >= day else None))
