"""The explanation of a credit line: credit, conversion, measure, and how it earns."""

from __future__ import annotations

from decimal import Decimal

from services.commissions.domain.credit import Credit
from services.commissions.domain.credit_rows import rate_as_row
from services.commissions.domain.lines import Line, money
from services.commissions.domain.objective import weight_of
from services.commissions.domain.plan import PlanVersion
from services.commissions.domain.proration import Prorated
from services.commissions.domain.rates import Priced, Pricing, Slice
from services.commissions.domain.rating import Rater
from services.commissions.domain.terms import Component, CreditTo, Method, Over, Pays, RateTable
from shared.clock import to_text as instant_text
from shared.money import EXACT, to_text

Tree = dict[str, object]

_PERCENT = Decimal(100)


def explain_credit(line: Line, credit: Credit, rater: Rater, version: PlanVersion) -> Tree:
    """From the events to the exact amount, as data and in one sentence."""
    component = rater.component_of(line)
    tree: Tree = {
        "credit": _credit(credit, component),
        "conversion": _conversion(credit, version),
    }
    if component.rates is not None:
        pricing = rater.pricing_of(line)
        tree |= _by_rates(component.rates, component, pricing, line)
        said = _said_by_rates(line, pricing)
    elif component.pays is not None:
        tree["pays"] = _by_pays(component.pays, line)
        said = f"it is credit number {line.count + 1} of {component.id}"
    else:
        tree["objective"] = _by_objective(component, credit, line.target_pay)
        said = f"objective {credit.objective} counts for its weight in target pay"
    tree["exact"] = to_text(line.exact)
    what = _said_credited(credit, version, component)
    earned = money(line.amount, version.currency)
    return tree | {"sentence": f"{what}; {said}, and the line earns {earned}."}


def _credit(credit: Credit, component: Component) -> Tree:
    when = component.credit.when
    tree: Tree = {
        "events": list(credit.source_ids),
        "deal": credit.deal_id,
        "instant": instant_text(credit.instant),
        "day": credit.day.isoformat(),
        "when": when.text if when else None,
        "formula": component.credit.amount.text,
        "to": credit.to.value,
        "basis": to_text(credit.basis),
        "member": credit.payee,
        "share": str(credit.share),
        "shares": {member: str(share) for member, share in credit.shares},
        "amount": to_text(credit.original),
        "currency": credit.currency,
    }
    if credit.to is CreditTo.MANAGER:
        tree["overlays"] = {member: str(share) for member, share in credit.overlays}
        tree["reports"] = list(credit.reports)
    if credit.inputs:
        tree["inputs"] = {name: text for name, _, text in credit.inputs}
    if credit.cancelled_at is not None:
        tree["cancelled_at"] = instant_text(credit.cancelled_at)
    return tree


def _conversion(credit: Credit, version: PlanVersion) -> Tree:
    return {
        "from": credit.currency,
        "to": version.currency,
        "rate": rate_as_row(credit.rate) if credit.rate else None,
        "amount": to_text(credit.converted or Decimal(0)),
    }


def _by_rates(table: RateTable, component: Component, pricing: Priced, line: Line) -> Tree:
    count = line.count if table.over is Over.COUNT else None
    measure: Tree = {
        "period": line.measure.label if line.measure else None,
        "quota": None if line.quota is None else to_text(line.quota),
        "before": to_text(line.before),
        "after": to_text(line.after),
    }
    if count is not None:
        measure |= {"count_before": count, "count_after": count + 1}
    pay = None if line.target_pay is None else line.target_pay.tree()
    if isinstance(pricing, Pricing):
        return {"measure": measure, "rates": _tiers(table, component, pricing, line, count, pay)}
    return {"measure": measure, "rates": _curve(table, pricing, line, pay)}


def _tiers(  # noqa: PLR0913, PLR0917 - a table and where the line is in it
    table: RateTable,
    component: Component,
    pricing: Pricing,
    line: Line,
    count: int | None,
    pay: Tree | None,
) -> Tree:
    """The table over the quota, and the slices whose difference the line earns."""
    threshold = component.threshold
    before, after = _slices(pricing, line, count)
    return {
        "method": table.method.value,
        "over": table.over.value,
        "tiers": [
            {"from": to_text(tier.lower), "at": to_text(bound), "rate": to_text(tier.rate)}
            for tier, bound in zip(table.tiers, pricing.bounds, strict=True)
        ],
        "target_pay": pay,
        "threshold": None
        if threshold is None
        else {"attainment": to_text(threshold.attainment), "pays": threshold.pays.value},
        "slices_before": before,
        "slices_after": after,
        "true_up": _true_up(pricing, line, count),
    }


def _curve(table: RateTable, pricing: Priced, line: Line, pay: Tree | None) -> Tree:
    """The points over the quota, and what the curve earns without and with the line."""
    return {
        "method": table.method.value,
        "over": table.over.value,
        "points": [
            {"attainment": to_text(p.attainment), "at": to_text(bound), "pays": to_text(p.pays)}
            for p, bound in zip(table.points, pricing.bounds, strict=True)
        ],
        "target_pay": pay,
        "earned_before": to_text(pricing.earned(line.before)),
        "earned_after": to_text(pricing.earned(line.after)),
    }


def _true_up(pricing: Pricing, line: Line, count: int | None) -> str | None:
    """What a retroactive line earns on the deals before it, because it reached a higher tier."""
    if pricing.method is not Method.RETROACTIVE or line.target_pay is not None:
        return None
    axis = line.after if count is None else Decimal(count + 1)
    own = EXACT.multiply(
        EXACT.subtract(line.after, line.before), pricing.rates[pricing.tier_at(axis)]
    )
    return to_text(EXACT.subtract(line.exact, own))


def _slices(pricing: Pricing, line: Line, count: int | None) -> tuple[list[Tree], list[Tree]]:
    if count is not None and pricing.counts_each:
        index = pricing.tier_at(Decimal(count))
        own = Slice(index, EXACT.subtract(line.after, line.before), pricing.rates[index])
        return [], [_slice(own)]
    place = count or 0
    before = [_slice(part) for part in pricing.slices(line.before, place)]
    after = [_slice(part) for part in pricing.slices(line.after, place + (count is not None))]
    return before, after


def _slice(part: Slice) -> Tree:
    return {"tier": part.tier, "amount": to_text(part.amount), "rate": to_text(part.rate)}


def _by_pays(pays: Pays, line: Line) -> Tree:
    """Each * share, for the first ones; `place` counts from 0."""
    return {
        "each": to_text(pays.each),
        "first": pays.first,
        "place": line.count,
        "gives_back": bool(line.credit and (line.credit.converted or 0) < 0),
    }


def _by_objective(component: Component, credit: Credit, pay: Prorated | None) -> Tree:
    """Target pay * weight * score, the score being the credited amount."""
    return {
        "id": credit.objective,
        "weight": to_text(weight_of(component, credit.objective)),
        "score": to_text(credit.converted or Decimal(0)),
        "target_pay": None if pay is None else pay.tree(),
    }


def _said_credited(credit: Credit, version: PlanVersion, component: Component) -> str:
    if component.objectives:
        score = to_text(EXACT.multiply(credit.converted or Decimal(0), _PERCENT))
        return f"Objective {credit.objective} is scored {score} %"
    event = f"Deal {credit.deal_id}" if credit.deal_id else f"Event {credit.event_key}"
    what = f"{event} credits {money(credit.converted or Decimal(0), version.currency)}"
    if credit.rate is not None:
        what += f" ({to_text(credit.original)} {credit.currency} at {to_text(credit.rate.rate)})"
    return what


def _said_by_rates(line: Line, pricing: Priced) -> str:
    moved = f"the measure goes from {to_text(line.before)} to {to_text(line.after)}"
    if line.quota is not None:
        moved += f" of {to_text(line.quota)}"
    if not isinstance(pricing, Pricing):
        return f"{moved} along the curve"
    top = pricing.tier_at(line.after if pricing.over is not Over.COUNT else Decimal(line.count))
    rate = pricing.rates[top]
    if line.target_pay is not None:
        return f"{moved}, up to {to_text(rate)} times target pay ÷ quota"
    return f"{moved}, up to {to_text(EXACT.multiply(rate, _PERCENT))} %"
