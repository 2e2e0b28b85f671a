"""`parse_plan`: from a plan document to a PlanVersion, refusing whatever it would not honour.

A key or value of the plan language that is not built yet is refused with a sentence; nothing a
document says is ever ignored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

from services.commissions.domain.documents import Reader
from services.commissions.domain.expressions import (
    Expression,
    ExpressionInvalid,
    ValueKind,
    compile_expression,
)
from services.commissions.domain.periods import MONTHS, PeriodKind
from services.commissions.domain.plan import (
    Cap,
    CapScope,
    Component,
    CreditDate,
    CreditOn,
    CreditRule,
    CreditTo,
    DayRange,
    Method,
    Over,
    PlanInvalid,
    PlanVersion,
    Problem,
    QuotaReference,
    RateTable,
    RoundAt,
    Rounding,
    Threshold,
    ThresholdPays,
    Tier,
)
from services.commissions.domain.vocabulary import amount_symbols, when_symbols
from shared.money import to_text

_PLAN_KEYS = (
    "id",
    "name",
    "currency",
    "time_zone",
    "effective",
    "period",
    "rounding",
    "credit_date",
    "reopen_grace",
    "fx",
    "cap",
    "max_recovery_pct",
    "components",
)
_PLAN_LATER = {
    "draw": "draws are not supported yet; remove draw",
    "proration": "proration concerns draws and target pay, which are not supported yet",
}
_COMPONENT_KEYS = ("id", "kind", "credit", "quota", "rates", "threshold", "cap", "effective")
_COMPONENT_LATER = {
    "floor": "floors are not supported yet; remove floor",
    "release": "release in steps is not supported yet; remove release",
    "clawback": "clawback windows are not supported yet; a cancellation is recomputed",
    "gate": "gates are not supported yet; remove gate",
    "pays": "spiffs are not supported yet; remove pays",
    "objectives": "objectives are not supported yet; remove objectives",
}
_CURRENCY = re.compile(r"[A-Z]{3}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_GRACE = re.compile(r"(\d{1,4})([mhd])")
_GRACE_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_UTC = "UTC"
MAX_COMPONENTS = 50
MAX_TIERS = 100


class _Kind(StrEnum):
    COMMISSION = "commission"


class _Mode(StrEnum):
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"


class _Excess(StrEnum):
    LOST = "lost"


class _RateDay(StrEnum):
    CREDIT = "credit"


class _PayoutDay(StrEnum):
    PERIOD_END = "period_end"


@dataclass(frozen=True, slots=True)
class Known:
    """What exists where the plan is saved; None leaves that check to the caller."""

    measures: frozenset[str] | None = None
    rate_tables: frozenset[str] | None = None


def plan_hash(document: Mapping[str, object]) -> str:
    """SHA-256 of the document's canonical text: key order and number spelling do not matter."""
    canonical = json.dumps(
        _canonical(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _canonical(node: object) -> object:
    if isinstance(node, Mapping):
        return {str(key): _canonical(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_canonical(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, int | Decimal):
        return to_text(Decimal(node))
    return node.isoformat() if isinstance(node, date) else str(node)


def parse_plan(document: Mapping[str, object], known: Known | None = None) -> PlanVersion:
    """The version that `document` describes.

    Raises PlanInvalid with every problem found, each at its JSON pointer.
    """
    problems: list[Problem] = []
    reader = Reader(document, "", problems)
    reader.keys(_PLAN_KEYS, _PLAN_LATER)
    period = reader.choice("period", PeriodKind, None)
    version = PlanVersion(
        id=_identifier(reader),
        name=reader.text("name", default=str(document.get("id"))),
        hash=plan_hash(document),
        currency=_currency(reader),
        zone=_zone(reader),
        effective=_effective(reader, required=True),
        period=period,
        components=_components(reader, known or Known()),
        rounding=_rounding(reader),
        credit_date=reader.choice("credit_date", CreditDate, CreditDate.CLOSED_AT),
        reopen_grace=_grace(reader),
        fx_credit=_fx(reader, "credit", _RateDay, known or Known()),
        fx_payout=_fx(reader, "payout", _PayoutDay, known or Known(), later="pay"),
        cap=_cap(reader, (CapScope.STATEMENT, CapScope.MEASURE, CapScope.YEAR)),
        max_recovery=_recovery(reader),
    )
    _check_whole(reader, version)
    if problems:
        raise PlanInvalid(tuple(problems))
    return version


def _identifier(reader: Reader) -> str:
    text = reader.text("id")
    if not _ID.fullmatch(text) and text != "?":
        reader.refuse("id", "id has letters, digits, dots, dashes and underscores, at most 100")
    return text


def _currency(reader: Reader) -> str:
    text = reader.text("currency")
    if not _CURRENCY.fullmatch(text) and text != "?":
        reader.refuse("currency", "currency must be an ISO 4217 code such as USD")
    return text


def _zone(reader: Reader) -> ZoneInfo:
    name = reader.text("time_zone")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        reader.refuse("time_zone", f"unknown time zone {name}; use a name such as Europe/Berlin")
        return ZoneInfo(_UTC)


def _effective(reader: Reader, *, required: bool = False) -> DayRange:
    if not reader.has("effective") and not required:
        return DayRange()
    child = reader.child("effective")
    child.keys(("from", "to"))
    days = DayRange(child.day("from", required=required), child.day("to"))
    if days.first and days.last and days.last < days.first:
        child.refuse("to", "to lies before from")
    return days


def _rounding(reader: Reader) -> Rounding:
    if not reader.has("rounding"):
        return Rounding()
    child = reader.child("rounding")
    child.keys(("mode", "at"))
    mode = child.choice("mode", _Mode, _Mode.HALF_UP)
    return Rounding(mode.value, child.choice("at", RoundAt, RoundAt.LINE))


def _grace(reader: Reader) -> timedelta:
    match = _GRACE.fullmatch(reader.text("reopen_grace", default="24h"))
    if match is None:
        reader.refuse("reopen_grace", "reopen_grace is a whole number of m, h or d, such as 24h")
        return timedelta(0)
    return timedelta(**{_GRACE_UNITS[match[2]]: int(match[1])})


def _fx(reader: Reader, key: str, days: type[StrEnum], known: Known, later: str = "") -> str | None:
    if not reader.has("fx"):
        return None
    fx = reader.child("fx")
    if key == "credit":
        fx.keys(("credit", "payout"))
    if not fx.has(key):
        return None
    child = fx.child(key)
    child.keys(("table", "date"))
    child.choice("date", days, next(iter(days)), later=later)
    table = child.text("table")
    if known.rate_tables is not None and table not in known.rate_tables:
        child.refuse("table", f"there is no rate table {table}; load its rates first")
    return table


def _recovery(reader: Reader) -> Decimal:
    if not reader.has("max_recovery_pct"):
        return Decimal(1)
    share = reader.percent("max_recovery_pct")
    if not 0 <= share <= 1:
        reader.refuse("max_recovery_pct", "max_recovery_pct lies between 0% and 100%")
    return share


def _cap(reader: Reader, scopes: tuple[CapScope, ...]) -> Cap | None:
    if not reader.has("cap"):
        return None
    child = reader.child("cap")
    child.keys(
        ("amount", "per", "excess"),
        {"attainment": "caps on attainment are not supported yet; use an amount"},
    )
    child.choice("excess", _Excess, _Excess.LOST, later="carry")
    per = child.choice("per", CapScope, None)
    if per not in scopes:
        child.refuse("per", f"per must be one of {', '.join(scopes)} here")
    return Cap(child.amount("amount"), per)


def _components(reader: Reader, known: Known) -> tuple[Component, ...]:
    children = reader.children("components")
    if len(children) > MAX_COMPONENTS:
        reader.refuse("components", f"a plan has at most {MAX_COMPONENTS} components")
        return ()
    components = []
    seen: set[str] = set()
    for child in children:
        component = _component(child, known)
        if component.id in seen:
            child.refuse("id", f"another component is already called {component.id}")
        seen.add(component.id)
        components.append(component)
    return tuple(components)


def _component(reader: Reader, known: Known) -> Component:
    reader.keys(_COMPONENT_KEYS, _COMPONENT_LATER)
    reader.choice("kind", _Kind, _Kind.COMMISSION, later="bonus spiff objective override")
    component = Component(
        id=_identifier(reader),
        credit=_credit(reader),
        rates=_rates(reader),
        quota=_quota(reader, known),
        threshold=_threshold(reader),
        cap=_cap(reader, (CapScope.DEAL, CapScope.STATEMENT, CapScope.MEASURE)),
        effective=_effective(reader),
    )
    _check_component(reader, component)
    return component


def _check_component(reader: Reader, component: Component) -> None:
    over = component.rates.over
    if component.quota is None and over is Over.ATTAINMENT:
        reader.refuse("quota", "rates over attainment need a quota: {measure, period}")
    if component.quota is None and component.threshold is not None:
        reader.refuse("quota", "a threshold on attainment needs a quota: {measure, period}")
    if over is Over.COUNT and component.credit.on is not CreditOn.DEAL_WON:
        reader.refuse("rates/over", "count counts won deals; credit on deal.won, or use amount")
    if over is Over.COUNT and component.threshold is not None:
        reader.refuse("threshold", "a threshold on attainment does not go with rates over count")


def _credit(reader: Reader) -> CreditRule:
    child = reader.child("credit")
    child.keys(("on", "when", "amount", "to"))
    on = child.choice(
        "on", CreditOn, None, later="payment.received activity.completed objective.scored"
    )
    to = child.choice("to", CreditTo, CreditTo.OWNER, later="manager")
    fallback = "deal.amount" if on is CreditOn.DEAL_WON else "invoice.amount"
    amount = _expression(child, "amount", on, ValueKind.NUMBER, fallback)
    when = _expression(child, "when", on, ValueKind.FLAG, "true") if child.has("when") else None
    return CreditRule(on, to, amount, when)


def _expression(
    reader: Reader, key: str, on: CreditOn, kind: ValueKind, fallback: str
) -> Expression:
    symbols = amount_symbols(on) if kind is ValueKind.NUMBER else when_symbols(on)
    try:
        return compile_expression(reader.text(key, default=fallback), symbols, kind)
    except ExpressionInvalid as error:
        reader.refuse(key, error.message)
        return compile_expression("0" if kind is ValueKind.NUMBER else "true", {}, kind)


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
    method = child.choice("method", Method, None, later="curve")
    if method is Method.FLAT:
        child.keys(("method", "rate"))
        return RateTable(method, Over.AMOUNT, (Tier(Decimal(0), child.percent("rate")),))
    child.keys(("method", "over", "tiers"), {"points": "curves are not supported yet; use tiers"})
    over = child.choice("over", Over, None)
    tiers = child.children("tiers")
    if len(tiers) > MAX_TIERS:
        child.refuse("tiers", f"a table has at most {MAX_TIERS} tiers")
        tiers = tiers[:1]
    return RateTable(method, over, tuple(_tiers(tiers, over)))


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
        tiers.append(Tier(lower, reader.percent("rate")))
    return tiers


def _check_whole(reader: Reader, version: PlanVersion) -> None:
    """What only the whole document shows."""
    statement_months = MONTHS[version.period]
    measures = [MONTHS[part.measure_period(version.period)] for part in version.components]
    uneven = len(set(measures)) > 1 or any(months < statement_months for months in measures)
    if version.cap is not None and version.cap.per is CapScope.MEASURE and uneven:
        msg = (
            "a plan cap per measure needs one measure period in all components, "
            "at least as long as the statement's"
        )
        reader.refuse("cap/per", msg)
    if version.rounding.at is not RoundAt.STATEMENT:
        return
    for index, part in enumerate(version.components):
        per_measure = part.cap is not None and part.cap.per is CapScope.MEASURE
        if per_measure and measures[index] > statement_months:
            msg = (
                "a cap over several statements works on rounded lines; "
                "use rounding at line, or cap per statement"
            )
            reader.refuse(f"components/{index}/cap/per", msg)
