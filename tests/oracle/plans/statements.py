"""Statements: lines of all components, limits, gates, cash, clawback, draws, payout.

The order is the plan language's: lines → agreed terms → deal cap → component cap → floor → gate →
plan cap → release → clawback → adjustments → draw → payout. Nothing is ever closed here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

from tests.oracle.commissions import rounded
from tests.oracle.plans.calendar import (
    MONTHS,
    Span,
    day_in,
    label_of,
    presence,
    share,
    span_of,
    spans,
)
from tests.oracle.plans.case import Assigned, Case, Document
from tests.oracle.plans.rating import (
    Credit,
    axis_of,
    component_of,
    credits_of,
    earned,
    measure_span,
    rate_on,
    version_on,
)

ZERO = Fraction(0)
ALWAYS = (date.min, date.max)


@dataclass
class Line:
    """An amount on a statement. kind: what made it."""

    component: str
    kind: str
    day: date
    amount: Fraction
    credit: Credit | None = None
    by_agreement: bool = False


@dataclass
class Result:
    """One statement. own: Σ lines. payout: None where a rate is missing. balance: of the draw."""

    own: Fraction
    payable: Fraction
    payout: Fraction | None
    balance: Fraction
    lines: list[Line]


Key = tuple[str, str]
"""Payee, label of the statement's period."""


def statements(case: Case) -> dict[Key, Result]:
    """Every statement with a line, a floor or a draw, by payee and period."""
    kind = case.plans[0]["period"]
    component_ids = sorted({c["id"] for plan in case.plans for c in plan["components"]})
    found: dict[str, list[Line]] = defaultdict(list)
    for component_id in component_ids:
        credited = credits_of(case, component_id)
        granted = _granted(case, component_id, credited)
        for payee in sorted({entry.payee for entry in case.assigned}):
            mine = [c for c in credited if c.payee == payee]
            found[payee] += _component_lines(case, component_id, payee, mine, granted)
    results: dict[Key, Result] = {}
    for payee, lines in found.items():
        for label, result in _settled(case, payee, lines, kind).items():
            results[payee, label] = result
    return results


def _agree(case: Case, payee: str, lines: list[Line]) -> None:
    """Agreed terms, those of a deal before those of the component; an amount only once."""
    paid: set[int] = set()
    for line in lines:
        credit = line.credit
        assert credit is not None
        deal = credit.deal.id if credit.deal else None
        mine = [
            (place, terms)
            for place, terms in enumerate(case.agreed)
            if (terms.payee, terms.component) == (payee, line.component)
            and terms.first <= line.day <= terms.last
            and terms.deal in {None, deal}
        ]
        if not mine:
            continue
        place, terms = min(mine, key=lambda pair: pair[1].deal is None)
        plan, _ = _made_by(case, line)
        if terms.rate is not None:
            line.amount = rounded(credit.amount * share(terms.rate), _mode(plan))
        else:
            line.amount = ZERO if place in paid else Fraction(str(terms.amount))
        paid.add(place)
        line.by_agreement = True


# ---- one component ------------------------------------------------------------------------------


def _component_lines(
    case: Case,
    component_id: str,
    payee: str,
    credited: list[Credit],
    granted: dict[tuple[str, str], Fraction] | None,
) -> list[Line]:
    lines = _earning_lines(case, component_id, credited)
    if granted is not None:
        for line in lines:
            assert line.credit is not None
            line.amount = granted[payee, line.credit.key]
    _agree(case, payee, lines)
    lines += _deal_caps(case, lines)
    lines += _component_caps(case, lines)
    lines += _floors(case, component_id, payee, lines)
    lines += _gated(case, payee, lines)
    lines += _cash_lines(case, lines)
    return lines + _clawbacks(case, component_id, lines, credited)


def _mode(plan: Document) -> str:
    return str(plan.get("rounding", {}).get("mode", "half_up"))


def _made_by(case: Case, line: Line) -> tuple[Document, Document]:
    plan = version_on(case, line.day)
    assert plan is not None
    component = component_of(plan, line.component)
    assert component is not None
    return plan, component


def _earning_lines(case: Case, component_id: str, credited: list[Credit]) -> list[Line]:
    lines: list[Line] = []
    before: dict[Span, list[Credit]] = defaultdict(list)
    for credit in credited:
        plan = version_on(case, credit.day)
        assert plan is not None
        component = component_of(plan, component_id)
        assert component is not None
        # What a SPIFF counts is its whole time.
        span = ALWAYS if component["kind"] == "spiff" else measure_span(plan, component, credit.day)
        counted = before[span]
        # What was taken back by recomputation is out of the measure for whoever comes later.
        counted = [c for c in counted if not _left(component, c, credit)]
        axis = axis_of(case, plan, component, credit.payee, credit.day)
        exact = earned(component, axis, [*counted, credit]) - earned(component, axis, counted)
        before[span].append(credit)
        amount = exact
        if plan.get("rounding", {}).get("at", "line") == "line":
            amount = rounded(exact, _mode(plan))
        lines.append(Line(component_id, "credit", credit.day, amount, credit))
    return lines


def _left(component: Document, earlier: Credit, later: Credit) -> bool:
    deal = earlier.deal
    return (
        component.get("clawback", {}).get("basis") == "recompute"
        and deal is not None
        and deal.cancelled_at is not None
        and deal.cancelled_at <= later.at
    )


def _granted(
    case: Case, component_id: str, credited: list[Credit]
) -> dict[tuple[str, str], Fraction] | None:
    """What a SPIFF with a budget pays for each credit: in credit order, the last one in part."""
    first = next((c for p in case.plans if (c := component_of(p, component_id))), None)
    if first is None or "budget" not in first.get("pays", {}):
        return None
    left = Fraction(first["pays"]["budget"])
    paid: dict[str, int] = defaultdict(int)
    granted = {}
    for credit in credited:
        wanted = Fraction(first["pays"]["each"])
        if paid[credit.payee] >= int(first["pays"].get("first", len(credited))):
            wanted = ZERO
        paid[credit.payee] += 1
        granted[credit.payee, credit.key] = min(wanted, left)
        left -= granted[credit.payee, credit.key]
    return granted


def _deal_caps(case: Case, lines: list[Line]) -> list[Line]:
    made = []
    for line in lines:
        _, component = _made_by(case, line)
        cap = component.get("cap", {})
        if cap.get("per") == "deal" and line.amount > Fraction(cap["amount"]):
            excess = line.amount - Fraction(cap["amount"])
            made.append(Line(line.component, "deal_cap", line.day, -excess, line.credit))
    return made


def _component_caps(case: Case, lines: list[Line]) -> list[Line]:
    """Per statement, where the excess may be carried; or per measure, where it is lost."""
    groups: dict[Span, Fraction] = defaultdict(Fraction)
    cap, made = None, []
    for line in lines:
        plan, component = _made_by(case, line)
        cap = component.get("cap", {})
        if cap.get("per") == "measure":
            made.append(_over_measure(plan, component, line, groups))
        elif cap.get("per") == "statement":
            groups[span_of(line.day, plan["period"])] += line.amount
    if cap and cap.get("per") == "statement":
        kind = case.plans[0]["period"]
        return _capped(groups, cap, case, lines[0].component, "component_cap", kind)
    return made


def _over_measure(
    plan: Document, component: Document, line: Line, sums: dict[Span, Fraction]
) -> Line:
    """What a line adds above the cap of its measure is taken in the line's own statement."""
    span, limit = measure_span(plan, component, line.day), Fraction(component["cap"]["amount"])
    before = sums[span]
    sums[span] = after = before + line.amount
    taken = min(after, limit) - min(before, limit) - line.amount
    return Line(line.component, "component_cap", line.day, taken)


def _capped(  # noqa: PLR0913, PLR0917 - one rule and what it is applied to
    groups: dict[Span, Fraction], cap: Document, case: Case, component: str, kind: str, scope: str
) -> list[Line]:
    limit, carried, made = Fraction(cap["amount"]), ZERO, []
    if not groups:
        return []
    for span in spans(min(groups)[0], case.until, scope):
        total = groups.get(span, ZERO)
        allowed = min(total + carried, limit)
        if allowed != total:
            last = span[1] - timedelta(days=1)
            made.append(Line(component, kind, last, allowed - total))
        if cap.get("excess", "lost") == "carry":
            carried = total + carried - allowed
    return made


def _floors(case: Case, component_id: str, payee: str, lines: list[Line]) -> list[Line]:
    made = []
    for span, assigned in _assigned_periods(case, payee):
        plan = version_on(case, span[1] - timedelta(days=1))
        component = None if plan is None else component_of(plan, component_id)
        if plan is None or component is None or "floor" not in component:
            continue
        there = presence(assigned, span, plan.get("proration", "calendar_days"))
        floor = rounded(Fraction(component["floor"]["amount"]) * there, _mode(plan))
        have = sum((line.amount for line in lines if _within(line.day, span)), ZERO)
        if have < floor:
            made.append(Line(component_id, "floor", span[1] - timedelta(days=1), floor - have))
    return made


def _assigned_periods(case: Case, payee: str) -> list[tuple[Span, Assigned]]:
    kind = case.plans[0]["period"]
    return [
        (span, entry)
        for entry in case.assigned
        if entry.payee == payee
        for span in spans(entry.first, min(case.until, _end_of(entry, case.until)), kind)
    ]


def _end_of(entry: Assigned, until: date) -> date:
    return until if entry.last is None else entry.last + timedelta(days=1)


def _within(day: date, span: Span) -> bool:
    return span[0] <= day < span[1]


def _gated(case: Case, payee: str, lines: list[Line]) -> list[Line]:
    """Pay of a statement whose KPI is below the gate, or unknown, is taken off it."""
    by_span: dict[Span, Fraction] = defaultdict(Fraction)
    for line in lines:
        by_span[span_of(line.day, case.plans[0]["period"])] += line.amount
    made = []
    for span, total in by_span.items():
        last = span[1] - timedelta(days=1)
        plan = version_on(case, last)
        component = None if plan is None else component_of(plan, lines[0].component)
        gate = None if component is None else component.get("gate")
        if gate is None or not total:
            continue
        known = [
            fact
            for fact in case.kpis
            if (fact.payee, fact.kpi) == (payee, gate["kpi"]) and fact.day <= last
        ]
        value = Fraction(max(known, key=lambda fact: fact.day).value) if known else None
        if value is None or value < Fraction(str(gate["at_least"])):
            made.append(Line(lines[0].component, "gate", last, -total))
    return made


def _cash_lines(case: Case, lines: list[Line]) -> list[Line]:
    """With `release`: what is not paid at booking is held, and paid pro rata to cash received."""
    made: list[Line] = []
    for line in lines:
        plan, component = _made_by(case, line)
        if line.kind != "credit" or "release" not in component or line.credit is None:
            continue
        parts = {entry["at"]: share(entry["share"]) for entry in component["release"]}
        booked, at_cash = parts.get("booking", ZERO), parts.get("payment", ZERO)
        deal = line.credit.deal
        assert deal is not None
        released = rounded(line.amount * booked, _mode(plan))
        made.append(Line(line.component, "hold", line.day, released - line.amount, line.credit))
        received = ZERO
        for cash in sorted(deal.cash, key=lambda cash: (cash.at, cash.id)):
            received += Fraction(cash.amount)
            part = min(max(received / Fraction(deal.amount), ZERO), Fraction(1))
            so_far = rounded(line.amount * (booked + at_cash * part), _mode(plan))
            day = max(day_in(cash.at, plan["time_zone"]), line.day)
            if so_far != released:
                made.append(Line(line.component, "release", day, so_far - released, line.credit))
                released = so_far
    return made


def _clawbacks(
    case: Case, component_id: str, lines: list[Line], credited: list[Credit]
) -> list[Line]:
    made = []
    for line in lines:
        plan, component = _made_by(case, line)
        terms, credit = component.get("clawback"), line.credit
        if terms is None or credit is None or credit.deal is None or line.kind != "credit":
            continue
        if credit.deal.cancelled_at is None:
            continue
        cancelled = day_in(credit.deal.cancelled_at, plan["time_zone"])
        window, kept = int(terms["window_days"]), (cancelled - credit.day).days
        if kept >= window:
            continue
        taken = line.amount
        if terms["basis"] == "recompute" and not line.by_agreement:
            taken = _worth(case, component_id, credit, credited)
        amount = rounded(taken * Fraction(window - kept, window), _mode(plan))
        made.append(Line(component_id, "clawback", cancelled, -amount, credit))
    return made


def _worth(case: Case, component_id: str, gone: Credit, credited: list[Credit]) -> Fraction:
    """f(with) - f(without) of the measure as it stands when the deal is cancelled."""
    plan = version_on(case, gone.day)
    assert plan is not None
    component = component_of(plan, component_id)
    assert component is not None
    assert gone.deal is not None
    at = gone.deal.cancelled_at
    assert at is not None
    span = measure_span(plan, component, gone.day)
    counted = [
        c
        for c in credited
        if c.at <= at
        and _within(c.day, span)
        and not (
            c is not gone
            and c.deal is not None
            and c.deal.cancelled_at is not None
            and (c.deal.cancelled_at, c.deal.id) < (at, gone.deal.id)
        )
    ]
    axis = axis_of(case, plan, component, gone.payee, gone.day)
    without = [c for c in counted if c is not gone]
    return earned(component, axis, counted) - earned(component, axis, without)


# ---- the whole statement ------------------------------------------------------------------------


def _settled(case: Case, payee: str, lines: list[Line], kind: str) -> dict[str, Result]:
    lines = [*lines, *_plan_caps(case, lines, kind)]
    lines += [
        Line("", "adjustment", entry.day, Fraction(entry.amount))
        for entry in case.adjusted
        if entry.payee == payee
    ]
    by_span: dict[Span, list[Line]] = defaultdict(list)
    for line in lines:
        by_span[span_of(line.day, kind)].append(line)
    for span, _ in _assigned_periods(case, payee):
        if _draw_in(case, payee, span) is not None:
            by_span.setdefault(span, [])
    results: dict[str, Result] = {}
    balance = carry = ZERO
    for span in sorted(by_span):
        plan = version_on(case, span[1] - timedelta(days=1))
        assert plan is not None
        own = sum((line.amount for line in by_span[span]), ZERO)
        if plan.get("rounding", {}).get("at") == "statement":
            own = rounded(own, _mode(plan))
        draw = _draw_in(case, payee, span)
        advance = ZERO if draw is None else draw[1]
        if draw is not None and not draw[0]:
            own = max(own, advance)
            advance = ZERO
        # A period below zero pays nothing and is made good by the next ones.
        recovered = min(balance, max(ZERO, own - advance)) if _recovers(case) else ZERO
        paid = max(own, advance) - recovered if _recovers(case) else own
        balance += max(ZERO, advance - own) - recovered if _recovers(case) else ZERO
        if not _recovers(case):
            paid, carry = max(own + carry, ZERO), min(own + carry, ZERO)
        results[label_of(span)] = Result(
            own, paid, _payout(case, plan, payee, span, paid), balance, by_span[span]
        )
    return results


def _recovers(case: Case) -> bool:
    return any(plan.get("draw", {}).get("recoverable") for plan in case.plans)


def _plan_caps(case: Case, lines: list[Line], kind: str) -> list[Line]:
    cap: Any = case.plans[0].get("cap")
    if cap is None:
        return []
    scope = kind if cap["per"] == "statement" else cap["per"]
    groups: dict[Span, Fraction] = defaultdict(Fraction)
    if scope == kind:
        for line in lines:
            groups[span_of(line.day, kind)] += line.amount
        return _capped(groups, cap, case, "", "plan_cap", scope)
    paid: dict[Span, Fraction] = defaultdict(Fraction)
    by_span: dict[Span, Fraction] = defaultdict(Fraction)
    for line in lines:
        by_span[span_of(line.day, kind)] += line.amount
    made = []
    for span in sorted(by_span):
        wide = span_of(span[0], scope)
        room = Fraction(cap["amount"]) - paid[wide]
        allowed = min(by_span[span], room)
        paid[wide] += allowed
        if allowed != by_span[span]:
            last = span[1] - timedelta(days=1)
            made.append(Line("", "plan_cap", last, allowed - by_span[span]))
    return made


def _draw_in(case: Case, payee: str, span: Span) -> tuple[bool, Fraction] | None:
    """(recoverable, the period's advance) while the draw lasts and somebody is there."""
    plan = version_on(case, span[1] - timedelta(days=1))
    draw = None if plan is None else plan.get("draw")
    if plan is None or draw is None:
        return None
    first = date.fromisoformat(f"{draw['from']}-01")
    months = (span[0].year - first.year) * 12 + span[0].month - first.month
    place = months // MONTHS[plan["period"]]
    if months < 0 or place >= int(draw.get("periods", 10**6)):
        return None
    there = sum(
        (
            presence(entry, span, plan.get("proration", "calendar_days"))
            for entry in case.assigned
            if entry.payee == payee
        ),
        ZERO,
    )
    if not there:
        return None
    return bool(draw["recoverable"]), rounded(Fraction(str(draw["amount"])) * there, _mode(plan))


def _payout(case: Case, plan: Document, payee: str, span: Span, paid: Fraction) -> Fraction | None:
    last = span[1] - timedelta(days=1)
    entries = [entry for entry in case.assigned if entry.payee == payee]
    wanted = next((e.payout_currency for e in entries if e.payout_currency), None)
    payout = plan.get("fx", {}).get("payout")
    if wanted is None or wanted == plan["currency"]:
        return paid
    if payout is None:
        return None
    rate = rate_on(case, payout["table"], plan["currency"], wanted, last)
    return None if rate is None else rounded(paid * rate, _mode(plan))
