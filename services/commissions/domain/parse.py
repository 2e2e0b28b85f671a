"""`parse_plan`: from a plan document to a PlanVersion, refusing whatever it would not honour.

What the engine would not honour is refused with a sentence; nothing a document says is ever
ignored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

from services.commissions.domain.documents import Reader
from services.commissions.domain.parse_component import (
    Known,
    cap_of,
    effective_days,
    identifier,
    parse_component,
    readable_components,
)
from services.commissions.domain.periods import MONTHS, PeriodKind
from services.commissions.domain.plan import (
    CreditDate,
    Draw,
    PlanInvalid,
    PlanVersion,
    Problem,
    Proration,
    RoundAt,
    Rounding,
    circular,
)
from services.commissions.domain.terms import CapScope, ClawbackBasis, Component
from shared.money import to_text

__all__ = ["Known", "parse_plan", "plan_hash"]

PLAN_KEYS = (
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
    "draw",
    "proration",
    "components",
)
"""Every key of a plan document."""

_CURRENCY = re.compile(r"[A-Z]{3}")
_GRACE = re.compile(r"(\d{1,4})([mhd])")
_GRACE_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_UTC = "UTC"
MAX_COMPONENTS = 50
MAX_DRAW_PERIODS = 1200


class Mode(StrEnum):
    """Rounding modes of a plan."""

    HALF_UP = "half_up"
    HALF_EVEN = "half_even"


class RateDay(StrEnum):
    """Which day's rate converts a credit."""

    CREDIT = "credit"


class PayoutDay(StrEnum):
    """Which day's rate converts a payable."""

    PERIOD_END = "period_end"


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
    reader.keys(PLAN_KEYS)
    period = reader.choice("period", PeriodKind, None)
    version = PlanVersion(
        id=identifier(reader),
        name=reader.text("name", default=str(document.get("id"))),
        hash=plan_hash(document),
        currency=_currency(reader),
        zone=_zone(reader),
        effective=effective_days(reader, required=True),
        period=period,
        components=_components(reader, known or Known()),
        rounding=_rounding(reader),
        credit_date=reader.choice("credit_date", CreditDate, CreditDate.CLOSED_AT),
        reopen_grace=_grace(reader),
        fx_credit=_fx(reader, "credit", RateDay, known or Known()),
        fx_payout=_fx(reader, "payout", PayoutDay, known or Known(), later="pay"),
        cap=cap_of(reader, (CapScope.STATEMENT, CapScope.MEASURE, CapScope.YEAR)),
        max_recovery=_recovery(reader),
        draw=_draw(reader),
        proration=reader.choice("proration", Proration, Proration.CALENDAR_DAYS),
    )
    _check_whole(reader, version)
    if problems:
        raise PlanInvalid(tuple(problems))
    return version


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


def _rounding(reader: Reader) -> Rounding:
    if not reader.has("rounding"):
        return Rounding()
    child = reader.child("rounding")
    child.keys(("mode", "at"))
    mode = child.choice("mode", Mode, Mode.HALF_UP)
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


def _draw(reader: Reader) -> Draw | None:
    if not reader.has("draw"):
        return None
    child = reader.child("draw")
    child.keys(("amount", "recoverable", "from", "periods"))
    periods = child.whole("periods", 1, MAX_DRAW_PERIODS) if child.has("periods") else None
    return Draw(
        amount=child.amount("amount"),
        recoverable=child.flag("recoverable"),
        first=child.day_or_month("from"),
        periods=periods,
    )


def _components(reader: Reader, known: Known) -> tuple[Component, ...]:
    children = reader.children("components")
    if len(children) > MAX_COMPONENTS:
        reader.refuse("components", f"a plan has at most {MAX_COMPONENTS} components")
        return ()
    quotas = readable_components(children)
    components = []
    seen: set[str] = set()
    for child in children:
        component = parse_component(child, known, quotas)
        if component.id in seen:
            child.refuse("id", f"another component is already called {component.id}")
        seen.add(component.id)
        components.append(component)
    return tuple(components)


def _check_whole(reader: Reader, version: PlanVersion) -> None:
    """What only the whole document shows."""
    turning = circular([version])
    for index, part in enumerate(version.components):
        if part.id in turning:
            msg = "components read one another in a circle; let one of them stand alone"
            reader.refuse(f"components/{index}/credit/when", msg)
    statement_months = MONTHS[version.period]
    measures = [MONTHS[part.measure_period(version.period)] for part in version.components]
    uneven = len(set(measures)) > 1 or any(months < statement_months for months in measures)
    if version.cap is not None and version.cap.per is CapScope.MEASURE and uneven:
        msg = (
            "a plan cap per measure needs one measure period in all components, "
            "at least as long as the statement's"
        )
        reader.refuse("cap/per", msg)
    for index, part in enumerate(version.components):
        place = f"components/{index}"
        if version.rounding.at is RoundAt.STATEMENT:
            for key, message in _needs_rounded_lines(part, measures[index] > statement_months):
                reader.refuse(f"{place}/{key}", message)
        recomputes = part.clawback and part.clawback.basis is ClawbackBasis.RECOMPUTE
        per_statement = part.cap is not None and part.cap.per is CapScope.STATEMENT
        if recomputes and per_statement and measures[index] != statement_months:
            msg = "recompute with a cap per statement needs a measure as long as the statement"
            reader.refuse(f"{place}/clawback/basis", f"{msg}; cap per measure, or use basis line")


def _needs_rounded_lines(part: Component, longer: bool) -> list[tuple[str, str]]:  # noqa: FBT001 - whether the measure is longer than a statement
    """(key, why) of what a plan that rounds the statement once cannot have."""
    found = []
    if part.cap is not None and (part.cap.carry or (longer and part.cap.per is CapScope.MEASURE)):
        msg = (
            "a cap over several statements works on rounded lines; "
            "use rounding at line, or cap per statement"
        )
        found.append(("cap/excess" if part.cap.carry else "cap/per", msg))
    for key, term in (("release", part.release), ("clawback", part.clawback)):
        if term is not None:
            found.append((key, f"{key} works on rounded lines; use rounding at line"))
    return found
