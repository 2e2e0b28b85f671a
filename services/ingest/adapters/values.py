"""Texts as CRMs write them, read into the forms of canonical fields. All raise Unacceptable."""

from __future__ import annotations

import re
from datetime import date, datetime

from services.ingest.domain.checks import Unacceptable
from shared.clock import parse_instant
from shared.errors import InvalidValue
from shared.money import parse_decimal
from shared.money import to_text as decimal_text

_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
_CALENDAR_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def decimal(text: str) -> str:
    """An exact decimal: plain digits, whatever exponent it came with."""
    if not _DECIMAL.fullmatch(text):
        msg = f"{text[:40]!r} is not a decimal number"
        raise Unacceptable("invalid-value", msg)
    try:
        return decimal_text(parse_decimal(text))
    except InvalidValue as error:
        raise Unacceptable("invalid-value", error.message) from None


def is_calendar_date(text: str) -> bool:
    """Whether `text` has the form of a bare date."""
    return _CALENDAR_DATE.fullmatch(text) is not None


def calendar_date(text: str) -> str:
    """A bare date, as it is written: it belongs to no zone and is never shifted."""
    try:
        if is_calendar_date(text):
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    msg = f"{text[:40]!r} is no calendar date; it is written like 2026-03-31"
    raise Unacceptable("invalid-value", msg)


def instant(text: str) -> datetime:
    """An RFC 3339 instant, in UTC."""
    try:
        return parse_instant(text)
    except (ValueError, OverflowError):
        msg = f"{text[:40]!r} is no RFC 3339 instant"
        raise Unacceptable("invalid-value", msg) from None


def flag(text: str) -> bool:
    """`true` or `false`."""
    if text not in {"true", "false"}:
        msg = f"{text[:40]!r} is neither true nor false"
        raise Unacceptable("invalid-value", msg)
    return text == "true"
