"""HubSpot's properties: which field each one is, and how its text is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from services.ingest.adapters.mapping import CUSTOM, effective_mapping
from services.ingest.adapters.values import calendar_date, decimal, flag, is_calendar_date
from services.ingest.domain.checks import Unacceptable
from services.ingest.domain.translation import Connection, record_id
from shared.clock import from_epoch_ms, parse_instant, to_text

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

_DEAL_TYPES = {"newbusiness": "new", "existingbusiness": "expansion", "renewal": "renewal"}
_EPOCH_MS = re.compile(r"-?[0-9]{1,15}")


def patch_of(
    *, connection: Connection, portal: str, kind: str, property_name: str, text: str
) -> dict[str, Any] | None:
    """The patch that one property states, or None for a property that is not mapped.

    text: the value as HubSpot sent it; empty is cleared. Raises Unacceptable.
    """
    mapping = effective_mapping(DEFAULTS[kind], connection.mapping.get(kind, {}))
    target = mapping.get(property_name)
    if not target:
        return None
    if target.startswith(CUSTOM):
        return {"custom": {target.removeprefix(CUSTOM): text or None}}
    if not text:
        return {target: None}
    if target == "owner":
        return {target: record_id(connection, portal, text)}
    return {target: _READERS.get(target, str)(text)}


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


def _instant_of(text: str) -> datetime:
    try:
        return from_epoch_ms(int(text)) if _EPOCH_MS.fullmatch(text) else parse_instant(text)
    except (ValueError, OverflowError, OSError):
        msg = f"{text[:40]!r} is neither milliseconds since 1970 nor an RFC 3339 instant"
        raise Unacceptable("invalid-value", msg) from None


def _day(text: str) -> str:
    """A calendar date: as written, or that of the instant in UTC, where HubSpot keeps midnight."""
    if is_calendar_date(text):
        return calendar_date(text)
    return _instant_of(text).astimezone(UTC).date().isoformat()


def _instant(text: str) -> str:
    return to_text(_instant_of(text))


def _deal_type(text: str) -> str:
    if text not in _DEAL_TYPES:
        msg = f"deal type {text[:40]!r} is none of {', '.join(_DEAL_TYPES)}; map it to custom.<key>"
        raise Unacceptable("invalid-value", msg)
    return _DEAL_TYPES[text]


_READERS: Mapping[str, Callable[[str], str | bool]] = {
    "amount": decimal,
    "probability": decimal,
    "currency": str.upper,
    "close_date": _day,
    "created_at": _instant,
    "closed_at": _instant,
    "next_step_at": _instant,
    "type": _deal_type,
    "test": flag,
}
"""How a field's text is read; the others are taken as they are, and the model judges them."""
