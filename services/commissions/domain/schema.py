"""The JSON Schema of a plan document, generated from the same closed sets that reading uses.

It tells an editor what may be written where. What keys must be to one another only reading checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from services.commissions.domain.parse import PLAN_KEYS, Mode, PayoutDay, RateDay
from services.commissions.domain.parse_component import (
    COMPONENT_KEYS,
    MAX_CAPITALISED_MONTHS,
    MAX_FIRST,
    MAX_OBJECTIVES,
    MAX_TIERS,
    MAX_WINDOW_DAYS,
    Excess,
    FloorPer,
    Linear,
    ReleaseAt,
)
from services.commissions.domain.periods import PeriodKind
from services.commissions.domain.plan import CreditDate, Proration, RoundAt
from services.commissions.domain.terms import (
    CapScope,
    ClawbackBasis,
    CreditOn,
    CreditTo,
    GateMiss,
    Kind,
    Method,
    Over,
    ThresholdPays,
)

Schema = dict[str, object]

_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 4096}
_ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"}
_DAY: Schema = {"type": "string", "format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
_AMOUNT: Schema = {
    "description": "An amount in plan currency: text or a whole number, 0 or more.",
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^\d{1,18}(\.\d{1,10})?$"},
    ],
}
_NUMBER: Schema = {
    "anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^-?\d{1,18}(\.\d{1,10})?$"}]
}
_PERCENT: Schema = {"type": "string", "pattern": r"^\s*-?\d{1,7}(\.\d{1,8})?\s*%\s*$"}
_RATE: Schema = {
    "description": "A percentage (8%), or a multiple (1.5x) of target pay ÷ quota.",
    "type": "string",
    "pattern": r"^\s*(-?\d{1,7}(\.\d{1,8})?\s*%|\d{1,7}(\.\d{1,8})?\s*x)\s*$",
}
_FORMULA: Schema = {
    "description": "A formula over deal, invoice, payment, activity, objective, payee, component.",
    "type": "string",
    "minLength": 1,
    "maxLength": 2048,
}


def _one_of(members: Iterable[StrEnum]) -> Schema:
    return {"enum": [member.value for member in members]}


def _object(properties: Mapping[str, object], required: Iterable[str] = ()) -> Schema:
    found: Schema = {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
    }
    wanted = list(required)
    return found | {"required": wanted} if wanted else found


def _list(items: Schema, most: int) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def _days(*, required: bool) -> Schema:
    return _object({"from": _DAY, "to": _DAY}, ["from"] if required else [])


def _whole(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _cap(scopes: Iterable[CapScope]) -> Schema:
    return _object(
        {"amount": _AMOUNT, "per": _one_of(scopes), "excess": _one_of(Excess)}, ["amount", "per"]
    )


def _rates() -> Schema:
    tier = _object({"from": {"anyOf": [_PERCENT, _AMOUNT]}, "rate": _RATE}, ["from", "rate"])
    point = _object({"at": _PERCENT, "pays": _PERCENT}, ["at", "pays"])
    tables = [Method.MARGINAL, Method.RETROACTIVE]
    return {
        "oneOf": [
            _object({"method": _one_of([Method.FLAT]), "rate": _RATE}, ["method", "rate"]),
            _object(
                {
                    "method": _one_of(tables),
                    "over": _one_of(Over),
                    "tiers": _list(tier, MAX_TIERS),
                },
                ["method", "over", "tiers"],
            ),
            _object(
                {
                    "method": _one_of([Method.CURVE]),
                    "over": _one_of([Over.ATTAINMENT]),
                    "points": _list(point, MAX_TIERS),
                },
                ["method", "over", "points"],
            ),
        ]
    }


def _component() -> Schema:
    attainment_cap = _object({"attainment": _PERCENT}, ["attainment"])
    properties: dict[str, object] = {
        "id": _ID,
        "kind": _one_of(Kind),
        "credit": _object(
            {
                "on": _one_of(CreditOn),
                "when": _FORMULA,
                "amount": _FORMULA,
                "to": _one_of(CreditTo),
            },
            ["on"],
        ),
        "quota": _object({"measure": _TEXT, "period": _one_of(PeriodKind)}, ["measure", "period"]),
        "rates": _rates(),
        "pays": _object(
            {"each": _AMOUNT, "first": _whole(1, MAX_FIRST), "budget": _AMOUNT}, ["each"]
        ),
        "objectives": _list(
            _object({"id": _ID, "weight": _PERCENT}, ["id", "weight"]), MAX_OBJECTIVES
        ),
        "threshold": _object(
            {"attainment": _PERCENT, "pays": _one_of(ThresholdPays)}, ["attainment", "pays"]
        ),
        "cap": {
            "oneOf": [_cap([CapScope.DEAL, CapScope.STATEMENT, CapScope.MEASURE]), attainment_cap]
        },
        "floor": _object({"amount": _AMOUNT, "per": _one_of(FloorPer)}, ["amount"]),
        "release": _list(
            _object({"at": _one_of(ReleaseAt), "share": _PERCENT}, ["at", "share"]),
            len(ReleaseAt),
        ),
        "clawback": _object(
            {
                "window_days": _whole(1, MAX_WINDOW_DAYS),
                "method": _one_of(Linear),
                "basis": _one_of(ClawbackBasis),
            },
            ["window_days", "basis"],
        ),
        "gate": _object(
            {"kpi": _TEXT, "at_least": _NUMBER, "otherwise": _one_of(GateMiss)},
            ["kpi", "at_least", "otherwise"],
        ),
        "capitalise": _object({"over_months": _whole(2, MAX_CAPITALISED_MONTHS)}, ["over_months"]),
        "effective": _days(required=False),
    }
    return _object({key: properties[key] for key in COMPONENT_KEYS}, ["id", "credit"])


def plan_schema() -> Schema:
    """The whole schema, JSON Schema 2020-12."""
    fx = _object(
        {
            "credit": _object({"table": _TEXT, "date": _one_of(RateDay)}, ["table"]),
            "payout": _object({"table": _TEXT, "date": _one_of(PayoutDay)}, ["table"]),
        }
    )
    month_or_day: Schema = {"type": "string", "pattern": r"^\d{4}-\d{2}(-\d{2})?$"}
    properties: dict[str, object] = {
        "id": _ID,
        "name": _TEXT,
        "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "time_zone": _TEXT,
        "effective": _days(required=True),
        "period": _one_of(PeriodKind),
        "rounding": _object({"mode": _one_of(Mode), "at": _one_of(RoundAt)}),
        "credit_date": _one_of(CreditDate),
        "reopen_grace": {"type": "string", "pattern": r"^\d{1,4}[mhd]$"},
        "fx": fx,
        "cap": _cap([CapScope.STATEMENT, CapScope.MEASURE, CapScope.YEAR]),
        "max_recovery_pct": _PERCENT,
        "draw": _object(
            {
                "amount": _AMOUNT,
                "recoverable": {"type": "boolean"},
                "from": month_or_day,
                "periods": _whole(1, 1200),
            },
            ["amount", "recoverable"],
        ),
        "proration": _one_of(Proration),
        "components": _list({"$ref": "#/$defs/component"}, 50),
    }
    whole = _object(
        {key: properties[key] for key in PLAN_KEYS},
        ["id", "currency", "time_zone", "effective", "period", "components"],
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Commission plan",
        "description": "One version of a commission plan.",
        **whole,
        "$defs": {"component": _component()},
    }
