"""Pay: credits of won deals, rated by the plan documents, month by month.

Order: credit (owner, splits or overlays, to the cent by largest remainder) → plan currency by the
dated table on the credit day → measure of the period → rate and threshold → line, rounded → cap of
the component → cap of the plan → payout currency, rounded once. Lines within (payee, component,
measure period) are ordered by (credit instant, deal id); a line earns E(with it) - E(before it) and
belongs to the statement of its credit day. No period is ever closed here: statements are what they
would be if everything had been known.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.oracle.dates import day_of, last_day_of_month, month_of, quarter_of, rate_on
from tests.oracle.deals import DealView, overlays_at, person_of, share_of, shares_at
from tests.simulator.history import Assignment, History

CENTS = Fraction(1, 100)
"""The plans pay in dollars and euros; both have two decimals."""

HALF = Fraction(1, 2)


class NotSupported(ValueError):
    """The plan uses what this second opinion does not know."""


@dataclass(frozen=True, slots=True)
class Credit:
    """What one payee is credited for one deal, in the deal's currency and in the plan's."""

    deal: str
    payee: str
    at_ms: int
    day: date
    amount: Fraction
    currency: str
    credited: Fraction


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a statement. deal: None for a cap. amount: rounded if the plan rounds lines."""

    component: str
    deal: str | None
    day: date
    amount: Fraction


@dataclass(slots=True)
class Statement:
    """One payee's month. earned: in plan currency, after caps. payable: in `payout_currency`."""

    payee: str
    plan: str
    month: str
    currency: str
    payout_currency: str
    lines: list[Line] = field(default_factory=list)
    earned: Decimal = Decimal(0)
    payable: Decimal = Decimal(0)


def statements(history: History, deals: list[DealView]) -> dict[tuple[str, str], Statement]:
    """(payee, month) → statement, where there is any line."""
    result: dict[tuple[str, str], Statement] = {}
    for assignment in history.assignments:
        plan = history.plans[assignment.plan]
        made: dict[str, Statement] = {}
        for component in plan["components"]:
            credited = _credits(history, deals, plan, component, assignment)
            for line in _lines(history, plan, component, assignment.payee, credited):
                month = month_of(line.day)
                statement = made.setdefault(
                    month,
                    Statement(
                        assignment.payee,
                        assignment.plan,
                        month,
                        plan["currency"],
                        assignment.payout_currency,
                    ),
                )
                statement.lines.append(line)
        _finish(history, plan, made)
        for month, statement in made.items():
            result[assignment.payee, month] = statement
    return result


def _finish(history: History, plan: dict[str, Any], made: dict[str, Statement]) -> None:
    """Cap the plan, add up, convert: month by month."""
    mode = plan["rounding"]["mode"]
    cap = plan.get("cap")
    paid_by_year: dict[str, Fraction] = defaultdict(Fraction)
    for month, statement in sorted(made.items()):
        total = sum((line.amount for line in statement.lines), Fraction(0))
        total = rounded(total, mode)
        if cap is not None:
            room = _room(cap, paid_by_year[month[:4]])
            if total > room:
                last = last_day_of_month(month)
                statement.lines.append(Line("cap", None, last, room - total))
                total = room
        paid_by_year[month[:4]] += total
        statement.earned = as_decimal(total)
        payout = plan.get("fx", {}).get("payout")
        rate = Fraction(1)
        if payout is not None:
            last = last_day_of_month(month)
            target = statement.payout_currency
            rate = rate_on(history.rates, payout["table"], plan["currency"], target, last)
        statement.payable = as_decimal(rounded(total * rate, mode))


def _room(cap: dict[str, Any], paid: Fraction) -> Fraction:
    match cap["per"]:
        case "statement":
            return Fraction(cap["amount"])
        case "year":
            return Fraction(cap["amount"]) - paid
    msg = f"plan cap per {cap['per']}"
    raise NotSupported(msg)


def _credits(
    history: History,
    deals: list[DealView],
    plan: dict[str, Any],
    component: dict[str, Any],
    assignment: Assignment,
) -> list[Credit]:
    """The payee's credits within the assignment, in the order in which lines are made."""
    found = []
    for deal in deals:
        if deal.gone or deal.credit_ms is None or deal.latest("amount") is None:
            continue
        day = day_of(deal.credit_ms, plan["time_zone"])
        if day.isoformat() < max(assignment.start, str(plan["effective"]["from"])):
            continue
        if assignment.to is not None and day.isoformat() > assignment.to:
            continue
        amounts = _credited(history, deal, component["credit"]["to"])
        amount = amounts.get(assignment.payee)
        if amount is None:
            continue
        currency = deal.latest("currency")
        table = plan.get("fx", {}).get("credit", {}).get("table", "")
        rate = rate_on(history.rates, table, currency, plan["currency"], day)
        found.append(
            Credit(deal.id, assignment.payee, deal.credit_ms, day, amount, currency, amount * rate)
        )
    return sorted(found, key=lambda credit: (credit.at_ms, credit.deal))


def _credited(history: History, deal: DealView, to: str) -> dict[str, Fraction]:
    """Payee → amount in the deal's currency. Splits and the owner conserve it, overlays add."""
    at_ms = deal.credit_ms or 0
    amount = Fraction(deal.latest("amount"))
    match to:
        case "owner":
            return {person_of(history, deal.in_force("owner", at_ms)): amount}
        case "splits":
            return allocated(amount, shares_at(deal, history, at_ms))
        case "overlays":
            shares = overlays_at(deal, history, at_ms)
            return {who: rounded(amount * share, "half_up") for who, share in shares.items()}
    msg = f"credit to {to}"
    raise NotSupported(msg)


def allocated(amount: Fraction, shares: dict[str, Fraction]) -> dict[str, Fraction]:
    """Parts in whole cents that sum to the amount: largest remainder, ties by member id.

    Raises NotSupported where the shares do not sum to 1: such credits wait.
    """
    if sum(shares.values(), Fraction(0)) != 1:
        msg = f"shares sum to {sum(shares.values(), Fraction(0))}"
        raise NotSupported(msg)
    exact = {who: amount * share / CENTS for who, share in shares.items()}
    cents = {who: int(value) for who, value in exact.items()}
    missing = int(amount / CENTS) - sum(cents.values())
    by_remainder = sorted(exact, key=lambda who: (cents[who] - exact[who], who))
    for who in by_remainder[:missing]:
        cents[who] += 1
    return {who: count * CENTS for who, count in cents.items()}


def _lines(
    history: History,
    plan: dict[str, Any],
    component: dict[str, Any],
    payee: str,
    credited: list[Credit],
) -> list[Line]:
    """The component's lines over all measure periods, caps included."""
    by_period: dict[str, list[Credit]] = defaultdict(list)
    for credit in credited:
        by_period[_measure_period(component, credit.day)].append(credit)
    lines: list[Line] = []
    for period, ordered in sorted(by_period.items()):
        quota = _quota(history, component, payee, period)
        made = []
        before = Fraction(0)
        for credit in ordered:
            after = before + credit.credited
            amount = earned(component, after, quota) - earned(component, before, quota)
            if plan["rounding"]["at"] == "line":
                amount = rounded(amount, plan["rounding"]["mode"])
            made.append(Line(component["id"], credit.deal, credit.day, amount))
            before = after
        lines.extend(_capped(component, made))
    return lines


def _measure_period(component: dict[str, Any], day: date) -> str:
    match component.get("quota", {}).get("period", "month"):
        case "month":
            return month_of(day)
        case "quarter":
            return quarter_of(day)
        case "year":
            return str(day.year)
        case other:
            msg = f"measure period {other}"
            raise NotSupported(msg)


def _quota(history: History, component: dict[str, Any], payee: str, period: str) -> Fraction | None:
    measure = component.get("quota", {}).get("measure")
    for quota in history.quotas:
        if (quota.person, quota.measure, quota.period) == (payee, measure, period):
            return Fraction(quota.amount)
    return None


def earned(component: dict[str, Any], measure: Fraction, quota: Fraction | None) -> Fraction:
    """E: what a measure of that size earns, unrounded."""
    rates = component["rates"]
    full = _rated(rates, measure, quota)
    threshold = component.get("threshold")
    if threshold is None:
        return full
    if quota is None:
        msg = "a threshold needs a quota"
        raise NotSupported(msg)
    bound = share_of(threshold["attainment"]) * quota
    if measure < bound:
        return Fraction(0)
    if threshold["pays"] == "first_dollar":
        return full
    if rates["method"] == "retroactive":
        return full * (measure - bound) / measure
    return full - _rated(rates, bound, quota)


def _rated(rates: dict[str, Any], measure: Fraction, quota: Fraction | None) -> Fraction:
    if rates["method"] == "flat":
        return measure * share_of(rates["rate"])
    tiers = [(_bound(rates, tier, quota), share_of(tier["rate"])) for tier in rates["tiers"]]
    match rates["method"]:
        case "retroactive":
            rate = tiers[0][1]
            for bound, above in tiers:
                if measure >= bound:
                    rate = above
            return measure * rate
        case "marginal":
            total = Fraction(0)
            for place, (bound, rate) in enumerate(tiers):
                upper = tiers[place + 1][0] if place + 1 < len(tiers) else None
                top = measure if upper is None else min(measure, upper)
                if top > bound:
                    total += (top - bound) * rate
            return total
    msg = f"method {rates['method']}"
    raise NotSupported(msg)


def _bound(rates: dict[str, Any], tier: dict[str, Any], quota: Fraction | None) -> Fraction:
    if rates["over"] == "amount":
        return Fraction(str(tier["from"]))
    if rates["over"] != "attainment" or quota is None:
        msg = f"tiers over {rates['over']}, quota {quota}"
        raise NotSupported(msg)
    return share_of(tier["from"]) * quota


def _capped(component: dict[str, Any], lines: list[Line]) -> list[Line]:
    """The lines, and after a line that is over the cap one that takes the excess off."""
    cap = component.get("cap")
    if cap is None:
        return lines
    limit = Fraction(cap["amount"])
    result: list[Line] = []
    uncapped: dict[str, Fraction] = defaultdict(Fraction)
    for line in lines:
        match cap["per"]:
            case "deal":
                group = str(line.deal)
            case "measure":
                group = ""
            case "statement":
                group = month_of(line.day)
            case other:
                msg = f"component cap per {other}"
                raise NotSupported(msg)
        before = uncapped[group]
        after = uncapped[group] = before + line.amount
        excess = line.amount - (min(after, limit) - min(before, limit))
        result.append(line)
        if excess:
            result.append(Line(line.component + ":cap", line.deal, line.day, -excess))
    return result


def rounded(value: Fraction, mode: str) -> Fraction:
    """To the cent; halves away from zero (`half_up`) or to the even cent (`half_even`)."""
    exact = abs(value) / CENTS
    cents, rest = int(exact), exact - int(exact)
    if rest > HALF or (rest == HALF and (mode == "half_up" or cents % 2)):
        cents += 1
    return (cents if value >= 0 else -cents) * CENTS


def as_decimal(value: Fraction) -> Decimal:
    """A whole number of cents as a decimal."""
    return (Decimal(int(value / CENTS)) / 100).quantize(Decimal("0.01"))
