"""`parse_component`: from one component of a plan document to its terms."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from services.commissions.domain.check_component import check_component
from services.commissions.domain.documents import Reader
from services.commissions.domain.expressions import (
    Expression,
    ExpressionInvalid,
    ValueKind,
    compile_expression,
)
from services.commissions.domain.periods import PeriodKind
from services.commissions.domain.terms import (
    Cap,
    CapScope,
    ClawbackBasis,
    ClawbackTerms,
    Component,
    CreditOn,
    CreditRule,
    CreditTo,
    CurvePoint,
    DayRange,
    Gate,
    GateMiss,
    Kind,
    Method,
    Objective,
    Over,
    Pays,
    QuotaReference,
    RateTable,
    ReleaseTerms,
    Threshold,
    ThresholdPays,
    Tier,
)
from services.commissions.domain.vocabulary import DEFAULT_AMOUNT, amount_symbols, when_symbols
from shared.money import to_text

COMPONENT_KEYS = (
    "id",
    "kind",
    "credit",
    "quota",
    "rates",
    "pays",
    "objectives",
    "threshold",
    "cap",
    "floor",
    "release",
    "clawback",
    "gate",
    "capitalise",
    "effective",
)
"""Every key of a component."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MAX_TIERS = 100
MAX_OBJECTIVES = 50
MAX_WINDOW_DAYS = 3660
MAX_FIRST = 1_000_000
MAX_CAPITALISED_MONTHS = 240


class Excess(StrEnum):
    """What happens to what a cap takes."""

    LOST = "lost"
    CARRY = "carry"


class ReleaseAt(StrEnum):
    """When a share of a line is released."""

    BOOKING = "booking"
    PAYMENT = "payment"


class Linear(StrEnum):
    """How a clawback declines."""

    LINEAR = "linear"


class FloorPer(StrEnum):
    """What one floor is for."""

    STATEMENT = "statement"


@dataclass(frozen=True, slots=True)
class Known:
    """What exists where the plan is saved; None leaves that check to the caller."""

    measures: frozenset[str] | None = None
    rate_tables: frozenset[str] | None = None
    kpis: frozenset[str] | None = None


def identifier(reader: Reader) -> str:
    """The `id` of a plan, component or objective."""
    text = reader.text("id")
    if not _ID.fullmatch(text) and text != "?":
        reader.refuse("id", "id has letters, digits, dots, dashes and underscores, at most 100")
    return text


def effective_days(reader: Reader, *, required: bool = False) -> DayRange:
    """`effective: {from, to}`, both days included."""
    if not reader.has("effective") and not required:
        return DayRange()
    child = reader.child("effective")
    child.keys(("from", "to"))
    days = DayRange(child.day("from", required=required), child.day("to"))
    if days.first and days.last and days.last < days.first:
        child.refuse("to", "to lies before from")
    return days


def cap_of(reader: Reader, scopes: tuple[CapScope, ...]) -> Cap | None:
    """`cap: {amount, per, excess}`; None where there is none, or one by attainment."""
    if not reader.has("cap"):
        return None
    child = reader.child("cap")
    if child.has("attainment") and CapScope.DEAL in scopes:
        return None
    child.keys(("amount", "per", "excess"))
    carry = child.choice("excess", Excess, Excess.LOST) is Excess.CARRY
    per = child.choice("per", CapScope, None)
    if per not in scopes:
        child.refuse("per", f"per must be one of {', '.join(scopes)} here")
    if carry and per is CapScope.DEAL:
        child.refuse("excess", "a cap per deal has no later deal to carry to; its excess is lost")
    return Cap(child.amount("amount"), per, carry)


def readable_components(readers: Sequence[Reader]) -> dict[str, bool]:
    """The components that others may read: id → whether it has a quota."""
    return {reader.text("id", default="?"): reader.has("quota") for reader in readers}


def parse_component(reader: Reader, known: Known, readable: Mapping[str, bool]) -> Component:
    """One component; problems are noted with the reader.

    readable: components of the plan, id → whether it has a quota.
    """
    reader.keys(COMPONENT_KEYS)
    component_id = identifier(reader)
    others = {name: quota for name, quota in readable.items() if name != component_id}
    component = Component(
        id=component_id,
        credit=_credit(reader, others),
        rates=_rates(reader) if reader.has("rates") else None,
        quota=_quota(reader, known),
        threshold=_threshold(reader),
        cap=cap_of(reader, (CapScope.DEAL, CapScope.STATEMENT, CapScope.MEASURE)),
        effective=effective_days(reader),
        kind=reader.choice("kind", Kind, Kind.COMMISSION),
        pays=_pays(reader),
        objectives=_objectives(reader),
        attainment_cap=_attainment_cap(reader),
        floor=_floor(reader),
        release=_release(reader),
        clawback=_clawback(reader),
        gate=_gate(reader, known),
        capitalised_months=_capitalised_months(reader),
    )
    check_component(reader, component)
    return component


def _credit(reader: Reader, others: Mapping[str, bool]) -> CreditRule:
    child = reader.child("credit")
    child.keys(("on", "when", "amount", "to"))
    on = child.choice("on", CreditOn, None)
    to = child.choice("to", CreditTo, CreditTo.OWNER)
    amount = _expression(child, "amount", on, ValueKind.NUMBER, {})
    when = _expression(child, "when", on, ValueKind.FLAG, others) if child.has("when") else None
    return CreditRule(on, to, amount, when)


def _expression(
    reader: Reader, key: str, on: CreditOn, kind: ValueKind, others: Mapping[str, bool]
) -> Expression:
    is_amount = kind is ValueKind.NUMBER
    symbols = amount_symbols(on) if is_amount else when_symbols(on, others)
    fallback = DEFAULT_AMOUNT[on] if is_amount else "true"
    try:
        return compile_expression(reader.text(key, default=fallback), symbols, kind)
    except ExpressionInvalid as error:
        reader.refuse(key, error.message)
        return compile_expression("0" if is_amount else "true", {}, kind)


def _quota(reader: Reader, known: Known) -> QuotaReference | None:
    if not reader.has("quota"):
        return None
    child = reader.child("quota")
    child.keys(("measure", "period"))
    measure = child.text("measure")
    if known.measures is not None and measure not in known.measures:
        child.refuse("measure", f"there is no measure {measure}; set a quota for it first")
    return QuotaReference(measure, child.choice("period", PeriodKind, None))


def _threshold(reader: Reader) -> Threshold | None:
    if not reader.has("threshold"):
        return None
    child = reader.child("threshold")
    child.keys(("attainment", "pays"))
    attainment = child.percent("attainment")
    if attainment < 0:
        child.refuse("attainment", "attainment cannot be negative")
    return Threshold(attainment, child.choice("pays", ThresholdPays, None))


def _rates(reader: Reader) -> RateTable:
    child = reader.child("rates")
    method = child.choice("method", Method, None)
    if method is Method.FLAT:
        child.keys(("method", "rate"))
        tier = Tier(Decimal(0), child.percent_or_multiple("rate"))
        return RateTable(method, Over.AMOUNT, (tier,), child.is_multiple("rate"))
    if method is Method.CURVE:
        return _curve(child)
    child.keys(("method", "over", "tiers"))
    over = child.choice("over", Over, None)
    tiers = child.children("tiers")
    if len(tiers) > MAX_TIERS:
        child.refuse("tiers", f"a table has at most {MAX_TIERS} tiers")
        tiers = tiers[:1]
    multiples = [tier.is_multiple("rate") for tier in tiers]
    if any(multiples) and not all(multiples):
        child.refuse("tiers", "rates are all percentages or all multiples (1.5x), not both")
    return RateTable(method, over, tuple(_tiers(tiers, over)), any(multiples))


def _tiers(readers: list[Reader], over: Over) -> list[Tier]:
    tiers: list[Tier] = []
    for reader in readers:
        reader.keys(("from", "rate"))
        lower = reader.percent("from") if over is Over.ATTAINMENT else reader.amount("from")
        if over is Over.COUNT and lower != lower.to_integral_value():
            reader.refuse("from", "from counts deals: a whole number")
        if not tiers and lower != 0:
            reader.refuse("from", "the first tier must begin at 0")
        if tiers and lower <= tiers[-1].lower:
            reader.refuse("from", "tiers must rise: from is not above the tier before")
        tiers.append(Tier(lower, reader.percent_or_multiple("rate")))
    return tiers


def _curve(reader: Reader) -> RateTable:
    reader.keys(("method", "over", "points"))
    over = reader.choice("over", Over, None)
    if over is not Over.ATTAINMENT:
        reader.refuse("over", "a curve goes over attainment")
    readers = reader.children("points")
    if len(readers) > MAX_TIERS:
        reader.refuse("points", f"a curve has at most {MAX_TIERS} points")
        readers = readers[:1]
    points: list[CurvePoint] = []
    for child in readers:
        child.keys(("at", "pays"))
        point = CurvePoint(child.percent("at"), child.percent("pays"))
        if point.attainment < 0 or point.pays < 0:
            child.refuse("", "a point has neither a negative attainment nor negative pay")
        if points and point.attainment <= points[-1].attainment:
            child.refuse("at", "points must rise: at is not above the point before")
        if point.attainment == 0 and point.pays != 0:
            child.refuse("pays", "what is paid without any attainment is a floor; begin at pays 0%")
        points.append(point)
    return RateTable(Method.CURVE, over, points=tuple(points))


def _pays(reader: Reader) -> Pays | None:
    if not reader.has("pays"):
        return None
    child = reader.child("pays")
    child.keys(("each", "first", "budget"))
    return Pays(
        each=child.amount("each"),
        first=child.whole("first", 1, MAX_FIRST) if child.has("first") else None,
        budget=child.amount("budget") if child.has("budget") else None,
    )


def _objectives(reader: Reader) -> tuple[Objective, ...]:
    if not reader.has("objectives"):
        return ()
    readers = reader.children("objectives")
    if len(readers) > MAX_OBJECTIVES:
        reader.refuse("objectives", f"a component has at most {MAX_OBJECTIVES} objectives")
        return ()
    found = []
    for child in readers:
        child.keys(("id", "weight"))
        found.append(Objective(identifier(child), child.percent("weight")))
    if len({objective.id for objective in found}) < len(found):
        reader.refuse("objectives", "each objective is named once")
    total = sum((objective.weight for objective in found), Decimal(0))
    if total != 1:
        percent = to_text(total * 100)
        reader.refuse("objectives", f"the weights sum to {percent}%, not 100%")
    return tuple(found)


def _attainment_cap(reader: Reader) -> Decimal | None:
    if not reader.has("cap"):
        return None
    child = reader.child("cap")
    if not child.has("attainment"):
        return None
    child.keys(("attainment",))
    attainment = child.percent("attainment")
    if attainment <= 0:
        child.refuse("attainment", "attainment must be above 0%")
    return attainment


def _floor(reader: Reader) -> Decimal | None:
    if not reader.has("floor"):
        return None
    child = reader.child("floor")
    child.keys(("amount", "per"))
    child.choice("per", FloorPer, FloorPer.STATEMENT)
    return child.amount("amount")


def _release(reader: Reader) -> ReleaseTerms | None:
    if not reader.has("release"):
        return None
    shares: dict[ReleaseAt, Decimal] = {}
    for child in reader.children("release"):
        child.keys(("at", "share"))
        at = child.choice("at", ReleaseAt, None)
        if at in shares:
            child.refuse("at", f"{at.value} is named once")
        shares[at] = child.percent("share")
        if shares[at] < 0:
            child.refuse("share", "a share cannot be negative")
    total = sum(shares.values(), Decimal(0))
    if shares and total != 1:
        reader.refuse("release", f"the shares sum to {to_text(total * 100)}%, not 100%")
    return ReleaseTerms(shares.get(ReleaseAt.BOOKING, Decimal(0)))


def _clawback(reader: Reader) -> ClawbackTerms | None:
    if not reader.has("clawback"):
        return None
    child = reader.child("clawback")
    child.keys(("window_days", "method", "basis"))
    child.choice("method", Linear, Linear.LINEAR)
    days = child.whole("window_days", 1, MAX_WINDOW_DAYS)
    return ClawbackTerms(days, child.choice("basis", ClawbackBasis, None))


def _gate(reader: Reader, known: Known) -> Gate | None:
    if not reader.has("gate"):
        return None
    child = reader.child("gate")
    child.keys(("kpi", "at_least", "otherwise"))
    kpi = child.text("kpi")
    if known.kpis is not None and kpi not in known.kpis:
        child.refuse("kpi", f"there is no KPI {kpi}")
    return Gate(kpi, child.number("at_least"), child.choice("otherwise", GateMiss, None))


def _capitalised_months(reader: Reader) -> int | None:
    if not reader.has("capitalise"):
        return None
    child = reader.child("capitalise")
    child.keys(("over_months",))
    return child.whole("over_months", 2, MAX_CAPITALISED_MONTHS)
