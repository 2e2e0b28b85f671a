"""Credits and what they earn: measures, rate tables, thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from itertools import pairwise
from typing import Any

from tests.oracle.commissions import allocated, rounded
from tests.oracle.plans.calendar import Span, day_in, presence, ramped, share, span_of
from tests.oracle.plans.case import Assigned, Case, Deal, Document


@dataclass(frozen=True)
class Credit:
    """What one payee is credited for one event, in plan currency; score: of an objective."""

    payee: str
    at: datetime
    day: date
    deal: Deal | None
    amount: Fraction
    key: str
    score: Fraction | None = None
    objective: str = ""


def version_on(case: Case, day: date) -> Document | None:
    """The plan document in force on a day."""
    begun = [p for p in case.plans if date.fromisoformat(str(p["effective"]["from"])) <= day]
    if not begun:
        return None
    newest = max(begun, key=lambda p: str(p["effective"]["from"]))
    last = newest["effective"].get("to")
    return None if last is not None and day > date.fromisoformat(str(last)) else newest


def component_of(plan: Document, component_id: str) -> Document | None:
    """A component as a version has it."""
    return next((c for c in plan["components"] if c["id"] == component_id), None)


def assignment_on(case: Case, payee: str, day: date) -> Assigned | None:
    """The assignment of a payee that a day lies in."""
    for entry in case.assigned:
        if (
            entry.payee == payee
            and entry.first <= day
            and (entry.last is None or day <= entry.last)
        ):
            return entry
    return None


def converted(case: Case, plan: Document, deal: Deal, day: date) -> Fraction | None:
    """One unit of the deal's currency in plan currency; None where no rate is known."""
    if deal.currency == plan["currency"]:
        return Fraction(1)
    return rate_on(case, plan["fx"]["credit"]["table"], deal.currency, plan["currency"], day)


def rate_on(case: Case, table: str, source: str, target: str, day: date) -> Fraction | None:
    """The newest row not later than the day."""
    if source == target:
        return Fraction(1)
    rows = [
        row
        for row in case.rates
        if (row.table, row.source, row.target) == (table, source, target) and row.day <= day
    ]
    return Fraction(max(rows, key=lambda row: row.day).rate) if rows else None


def credits_of(case: Case, component_id: str) -> list[Credit]:
    """All payees' credits of one component, in the order in which lines earn."""
    found = [*_deal_credits(case, component_id), *_score_credits(case, component_id)]
    return sorted(found, key=lambda c: (c.at, c.deal.id if c.deal else "", c.key))


def _deal_credits(case: Case, component_id: str) -> Iterator[Credit]:
    for deal in case.deals:
        day = day_in(deal.won_at, case.plans[0]["time_zone"])
        for plan, component in _in_force(case, component_id, day):
            if component["credit"]["on"] != "deal.won" or not _wanted(component, deal):
                continue
            if deal.cancelled_at is not None and "clawback" not in component:
                continue
            rate = converted(case, plan, deal, day)
            if rate is None:
                continue
            for payee, amount in _credited(case, component, deal).items():
                if assignment_on(case, payee, day) is not None:
                    yield Credit(payee, deal.won_at, day, deal, amount * rate, deal.id)


def _score_credits(case: Case, component_id: str) -> Iterator[Credit]:
    for score in case.scores:
        day = day_in(score.at, case.plans[0]["time_zone"])
        for _, component in _in_force(case, component_id, day):
            ids = [entry["id"] for entry in component.get("objectives", ())]
            if score.objective in ids and assignment_on(case, score.payee, day):
                value, name = Fraction(score.score), score.objective
                yield Credit(score.payee, score.at, day, None, value, name, value, name)


def _in_force(case: Case, component_id: str, day: date) -> Iterator[tuple[Document, Document]]:
    plan = version_on(case, day)
    component = None if plan is None else component_of(plan, component_id)
    if plan is None or component is None:
        return
    effective = component.get("effective", {})
    if (
        str(effective.get("from", "0001-01-01"))
        <= day.isoformat()
        <= str(effective.get("to", "9999-12-31"))
    ):
        yield plan, component


def _wanted(component: Document, deal: Deal) -> bool:
    """`when`: here only `deal.type == "…"` and `deal.amount > …`, joined by `and`."""
    condition = component["credit"].get("when")
    for term in condition.split(" and ") if condition else ():
        name, sign, value = term.split(" ", 2)
        if (name, sign) == ("deal.type", "=="):
            if deal.type != value.strip('"'):
                return False
        elif (name, sign) == ("deal.amount", ">"):
            if Fraction(deal.amount) <= Fraction(value):
                return False
        else:
            raise ValueError(term)
    return True


def _credited(case: Case, component: Document, deal: Deal) -> dict[str, Fraction]:
    """Payee → amount in the deal's currency."""
    amount = Fraction(deal.amount)
    inside = {deal.owner: amount}
    if deal.splits:
        inside = allocated(amount, {who: share(text) for who, text in deal.splits.items()})
    beside = {who: rounded(amount * share(text), "half_up") for who, text in deal.overlays.items()}
    match component["credit"]["to"]:
        case "owner":
            return {deal.owner: amount}
        case "splits":
            return inside
        case "overlays":
            return beside
        case "manager":
            above: dict[str, Fraction] = {}
            for who, part in [*inside.items(), *beside.items()]:
                if who in case.managers:
                    manager = case.managers[who]
                    above[manager] = above.get(manager, Fraction(0)) + part
            return {manager: min(amount, total) for manager, total in above.items()}
    raise ValueError(component["credit"]["to"])


# ---- what a measure earns -----------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """What a rate table is laid over: quota and target pay of one measure period, if any."""

    quota: Fraction | None
    target_pay: Fraction | None


def axis_of(case: Case, plan: Document, component: Document, payee: str, day: date) -> Axis:
    """Quota as stated on the assignment; target pay for the measure period, prorated and ramped."""
    assigned = assignment_on(case, payee, day)
    if assigned is None:
        return Axis(None, None)
    name = component.get("quota", {}).get("measure")
    quota = assigned.quota.get(name) if name else None
    target = None
    if assigned.target_pay is not None:
        span = measure_span(plan, component, day)
        method = plan.get("proration", "calendar_days")
        there = presence(assigned, span, method) * ramped(assigned, span)
        target = Fraction(assigned.target_pay) * there
    return Axis(None if quota is None else Fraction(quota), target)


def measure_span(plan: Document, component: Document, day: date) -> Span:
    """The period over which a component's measure runs."""
    return span_of(day, component.get("quota", {}).get("period", plan["period"]))


def earned(component: Document, axis: Axis, credits_: Sequence[Credit]) -> Fraction:
    """What these credits, in order, earn together, unrounded."""
    match component["kind"]:
        case "objective":
            return _scored(component, axis, credits_)
        case "spiff":
            pays = component["pays"]
            counted = min(len(credits_), int(pays.get("first", len(credits_))))
            return Fraction(pays["each"]) * counted
    rates = component["rates"]
    if rates.get("over") == "count":
        return _by_count(rates, [c.amount for c in credits_])
    measure = sum((c.amount for c in credits_), Fraction(0))
    limit = component.get("cap", {}).get("attainment")
    if limit is not None:
        assert axis.quota is not None
        measure = min(measure, share(limit) * axis.quota)
    full = _rated(rates, axis, measure)
    threshold = component.get("threshold")
    return full if threshold is None else _above(threshold, rates, axis, measure, full)


def _scored(component: Document, axis: Axis, credits_: Sequence[Credit]) -> Fraction:
    weights = {entry["id"]: share(entry["weight"]) for entry in component["objectives"]}
    assert axis.target_pay is not None
    parts = (axis.target_pay * weights[c.objective] * (c.score or 0) for c in credits_)
    return sum(parts, Fraction(0))


def _above(
    threshold: Document, rates: Document, axis: Axis, measure: Fraction, full: Fraction
) -> Fraction:
    """What is left of `full` by the threshold."""
    assert axis.quota is not None
    bound = share(threshold["attainment"]) * axis.quota
    if measure < bound:
        return Fraction(0)
    if threshold["pays"] == "first_dollar":
        return full
    if rates["method"] == "retroactive":
        return full * (measure - bound) / measure
    return full - _rated(rates, axis, bound)


def _rated(rates: Document, axis: Axis, measure: Fraction) -> Fraction:
    method = rates["method"]
    if method == "flat":
        return measure * _rate(rates["rate"], axis)
    if method == "curve":
        assert axis.quota is not None
        assert axis.target_pay is not None
        return axis.target_pay * _on_curve(rates["points"], measure / axis.quota)
    tiers = [(_bound(rates, tier, axis), _rate(tier["rate"], axis)) for tier in rates["tiers"]]
    if method == "retroactive":
        reached = [rate for bound, rate in tiers if measure >= bound]
        return measure * (reached[-1] if reached else tiers[0][1])
    total = Fraction(0)
    for place, (bound, rate) in enumerate(tiers):
        top = min(measure, tiers[place + 1][0]) if place + 1 < len(tiers) else measure
        total += max(top - bound, Fraction(0)) * rate
    return total


def _by_count(rates: Document, amounts: Sequence[Fraction]) -> Fraction:
    tiers = [(int(tier["from"]), share(tier["rate"])) for tier in rates["tiers"]]

    def at(number: int) -> Fraction:
        return [rate for bound, rate in tiers if number >= bound][-1]

    if rates["method"] == "retroactive":
        return sum(amounts, Fraction(0)) * at(len(amounts))
    return sum((a * at(place) for place, a in enumerate(amounts)), Fraction(0))


def _rate(text: Any, axis: Axis) -> Fraction:  # noqa: ANN401 - as the document has it
    if str(text).endswith("x"):
        assert axis.quota is not None
        assert axis.target_pay is not None
        return share(text) * axis.target_pay / axis.quota
    return share(text)


def _bound(rates: Document, tier: Document, axis: Axis) -> Fraction:
    if rates["over"] == "amount":
        return Fraction(str(tier["from"]))
    assert axis.quota is not None
    return share(tier["from"]) * axis.quota


def _on_curve(points: Sequence[Document], attainment: Fraction) -> Fraction:
    """Straight between points, nothing below the first, flat above the last."""
    laid = [(share(point["at"]), share(point["pays"])) for point in points]
    if attainment < laid[0][0]:
        return Fraction(0)
    for (low, pays_low), (high, pays_high) in pairwise(laid):
        if attainment <= high:
            return pays_low + (attainment - low) / (high - low) * (pays_high - pays_low)
    return laid[-1][1]
