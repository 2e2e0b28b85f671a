"""Base of wire models, and values that JSON cannot carry safely by itself."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from shared.clock import parse_instant, to_text
from shared.errors import InvalidValue
from shared.money import parse_decimal
from shared.money import to_text as decimal_to_text


class WireModel(BaseModel):
    """A request or response body: unknown fields are refused, NaN and infinities too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _decimal(value: object) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str):
        msg = 'write numbers as text, such as "1200.50": a JSON number loses cents'
        raise InvalidValue(msg)
    return parse_decimal(value)


def _instant(value: object) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    if not isinstance(value, str):
        msg = "write an instant as text in RFC 3339, such as 2026-01-31T09:30:00Z"
        raise InvalidValue(msg)
    try:
        return parse_instant(value)
    except ValueError:
        msg = "not an instant in RFC 3339 with Z or an offset, such as 2026-01-31T09:30:00Z"
        raise InvalidValue(msg) from None


DecimalText = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    PlainSerializer(decimal_to_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]{1,18}(\.[0-9]+)?$"}),
]
"""An exact number, as text in JSON."""

Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    PlainSerializer(to_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""An aware instant, in UTC and with milliseconds when written."""
