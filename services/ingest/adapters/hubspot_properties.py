"""HubSpot's properties: which field each one is, and how its text is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from services.ingest.domain.checks import Unacceptable
from services.ingest.domain.translation import Connection, record_id
from shared.clock import from_epoch_ms, parse_instant, to_text
from shared.errors import InvalidValue
from shared.money import parse_decimal
from shared.money import to_text as decimal_text

DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "deal": {
        "dealname": "name",
        "amount": "amount",
        "deal_currency_code": "currency",
        "dealstage": "stage",
        "pipeline": "pipeline",
        "closedate": "close_date",
        "createdate": "created_at",
        "hubspot_owner_id": "owner",
        "dealtype": "type",
        "hs_next_step": "next_step",
        "closed_lost_reason": "lost_reason",
    },
    "account": {"name": "name", "hubspot_owner_id": "owner"},
    "contact": {"email": "email", "hubspot_owner_id": "owner"},
}
"""Record kind → property → field. `hs_is_closed_won` has none: stage maps decide what is won."""

CUSTOM = "custom."
"""Prefix of a mapping's target that keeps a deal's property as a custom value, as text."""

_DEAL_TYPES = {"newbusiness": "new", "existingbusiness": "expansion", "renewal": "renewal"}
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
_EPOCH_MS = re.compile(r"-?[0-9]{1,15}")
_CALENDAR_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def patch_of(
    *, connection: Connection, portal: str, kind: str, property_name: str, text: str
) -> dict[str, Any] | None:
    """The patch that one property states, or None for a property that is not mapped.

    text: the value as HubSpot sent it; empty is cleared. Raises Unacceptable.
    """
    target = effective_mapping(connection, kind).get(property_name)
    if not target:
        return None
    if target.startswith(CUSTOM):
        return {"custom": {target.removeprefix(CUSTOM): text or None}}
    if not text:
        return {target: None}
    if target == "owner":
        return {target: record_id(connection, portal, text)}
    return {target: _READERS.get(target, str)(text)}


def effective_mapping(connection: Connection, kind: str) -> dict[str, str]:
    """Property → field. A field that the connection maps anew is filled by that property alone."""
    overrides = connection.mapping.get(kind, {})
    taken = set(overrides.values())
    defaults = {name: to for name, to in DEFAULTS[kind].items() if to not in taken}
    return {**defaults, **overrides}


def check_mapping(connection: Connection) -> None:
    """Raise InvalidValue, with a pointer, for a mapping onto what does not exist."""
    for kind, mapping in connection.mapping.items():
        if kind not in DEFAULTS:
            msg = f"HubSpot connections map {', '.join(DEFAULTS)}; not {kind[:40]!r}"
            raise InvalidValue(msg, pointer=f"/mapping/{kind}")
        for name, target in mapping.items():
            custom = kind == "deal" and target.startswith(CUSTOM) and len(target) > len(CUSTOM)
            if target and not custom and target not in MAPPABLE[kind]:
                known = ", ".join(sorted(MAPPABLE[kind]))
                msg = f"{target[:40]!r} is no field to map to; use {known}"
                msg += ", custom.<key>" if kind == "deal" else ""
                raise InvalidValue(msg, pointer=f"/mapping/{kind}/{name}")


MAPPABLE: Mapping[str, frozenset[str]] = {
    "deal": frozenset(DEFAULTS["deal"].values())
    | {
        "amount_period",
        "closed_at",
        "forecast_category",
        "next_step_at",
        "probability",
        "product",
        "status",
        "test",
    },
    "account": frozenset({"name", "owner", "segment"}),
    "contact": frozenset({"email", "name", "owner"}),
}
"""Fields that a property can fill, by kind."""


def _amount(text: str) -> str:
    if not _DECIMAL.fullmatch(text):
        msg = f"{text[:40]!r} is not a decimal number"
        raise Unacceptable("invalid-value", msg)
    return decimal_text(parse_decimal(text))


def _instant_of(text: str) -> datetime:
    try:
        return from_epoch_ms(int(text)) if _EPOCH_MS.fullmatch(text) else parse_instant(text)
    except (ValueError, OverflowError, OSError):
        msg = f"{text[:40]!r} is neither milliseconds since 1970 nor an RFC 3339 instant"
        raise Unacceptable("invalid-value", msg) from None


def _day(text: str) -> str:
    """A calendar date: as written, or that of the instant in UTC, where HubSpot keeps midnight."""
    if _CALENDAR_DATE.fullmatch(text):
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            msg = f"{text!r} is no calendar date"
            raise Unacceptable("invalid-value", msg) from None
    return _instant_of(text).astimezone(UTC).date().isoformat()


def _instant(text: str) -> str:
    return to_text(_instant_of(text))


def _deal_type(text: str) -> str:
    if text not in _DEAL_TYPES:
        msg = f"deal type {text[:40]!r} is none of {', '.join(_DEAL_TYPES)}; map it to custom.<key>"
        raise Unacceptable("invalid-value", msg)
    return _DEAL_TYPES[text]


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        msg = f"{text[:40]!r} is neither true nor false"
        raise Unacceptable("invalid-value", msg)
    return text == "true"


_READERS: Mapping[str, Callable[[str], str | bool]] = {
    "amount": _amount,
    "probability": _amount,
    "currency": str.upper,
    "close_date": _day,
    "created_at": _instant,
    "closed_at": _instant,
    "next_step_at": _instant,
    "type": _deal_type,
    "test": _flag,
}
"""How a field's text is read; the others are taken as they are, and the model judges them."""
