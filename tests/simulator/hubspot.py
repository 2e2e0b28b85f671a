"""HubSpot's side of the wire: webhook events of one property each, and the v3 signature.

Only what HubSpot's own documentation promises: an array of at most 100 events, all values text,
order and single delivery not promised. Splits, overlays and signing instants are not in its
webhooks; they travel as CloudEvents about the same deal.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from datetime import date, time
from typing import Any

from tests.simulator.history import Change, Deal, History
from tests.simulator.people import PORTAL
from tests.simulator.worktime import from_ms, instant_text, local_ms

EVENTS_PER_REQUEST = 100
APP_ID = 2_209_114
FIRST_SUBSCRIPTION_ID = 771_001
FIRST_EVENT_ID = 3_304_000_000
EVENT_ID_REPEATS_EVERY = 4_001
"""HubSpot says that event ids are not unique: now and then one stands for two events."""

PROPERTIES = {
    "stage": "dealstage",
    "amount": "amount",
    "currency": "deal_currency_code",
    "close_date": "closedate",
    "owner": "hubspot_owner_id",
    "pipeline": "pipeline",
    "name": "dealname",
    "type": "dealtype",
    "created_at": "createdate",
    "lost_reason": "closed_lost_reason",
    "next_step": "hs_next_step",
}
DEAL_TYPES = {"new": "newbusiness", "expansion": "existingbusiness"}
SUBSCRIPTIONS = (*PROPERTIES.values(), "creation", "deletion", "restore", "merge")

_DECODED = {
    "%3A": ":",
    "%2F": "/",
    "%3F": "?",
    "%40": "@",
    "%21": "!",
    "%24": "$",
    "%27": "'",
    "%28": "(",
    "%29": ")",
    "%2A": "*",
    "%2C": ",",
    "%3B": ";",
}


def signature_v3(secret: str, method: str, uri: str, body: bytes, timestamp_ms: int) -> str:
    """`X-HubSpot-Signature-v3`: base64 of HMAC-SHA256 over method, URI, body and time.

    uri: the public address with its query, in which only the characters that HubSpot lists are
    decoded; everything else that is percent-encoded stays so.
    """
    for encoded, plain in _DECODED.items():
        uri = uri.replace(encoded, plain).replace(encoded.lower(), plain)
    signed = method.encode() + uri.encode() + body + str(timestamp_ms).encode()
    return base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()


def signed_headers(secret: str, url: str, body: bytes, timestamp_ms: int) -> dict[str, str]:
    """The headers of a webhook POST to `url`, signed at `timestamp_ms`."""
    return {
        "Content-Type": "application/json",
        "X-HubSpot-Signature-v3": signature_v3(secret, "POST", url, body, timestamp_ms),
        "X-HubSpot-Request-Timestamp": str(timestamp_ms),
    }


def webhook_events(history: History) -> Iterator[tuple[int, dict[str, Any]]]:
    """(instant, event) of everything that HubSpot tells about the deals, deal by deal."""
    number = 0
    merges: dict[tuple[str, int], list[str]] = {}
    for deal in history.deals:
        for at_ms, event in _deal_events(deal, merges):
            yield at_ms, _numbered(event, at_ms, number)
            number += 1
    for (survivor, at_ms), merged in sorted(merges.items()):
        yield at_ms, _numbered(_merge(survivor, sorted(merged)), at_ms, number)
        number += 1


def _deal_events(
    deal: Deal, merges: dict[tuple[str, int], list[str]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    object_id = external_id(deal.id)
    created_ms = deal.changes[0].at_ms
    yield created_ms, _event("creation", object_id) | {"changeFlag": "NEW"}
    for change in deal.changes:
        if change.field in PROPERTIES:
            name = PROPERTIES[change.field]
            said = {"propertyName": name, "propertyValue": _text(change)}
            yield change.at_ms, _event("propertyChange", object_id, name) | said
        elif change.field == "deleted":
            yield change.at_ms, _event("deletion" if change.value else "restore", object_id)
        elif change.field == "merged_into":
            merges.setdefault((str(change.value), change.at_ms), []).append(deal.id)


def external_id(deal_id: str) -> int:
    """HubSpot's own number of a deal."""
    return int(deal_id.rpartition(":")[2])


def _event(happened: str, object_id: int, subscribed: str | None = None) -> dict[str, Any]:
    subscription = FIRST_SUBSCRIPTION_ID + SUBSCRIPTIONS.index(subscribed or happened)
    return {
        "subscriptionId": subscription,
        "subscriptionType": f"deal.{happened}",
        "objectId": object_id,
    }


def _numbered(event: dict[str, Any], at_ms: int, number: int) -> dict[str, Any]:
    repeated = number > 0 and number % EVENT_ID_REPEATS_EVERY == 0
    return {
        "eventId": FIRST_EVENT_ID + number * 7 - (7 if repeated else 0),
        "portalId": int(PORTAL),
        "appId": APP_ID,
        "occurredAt": at_ms,
        "attemptNumber": 0,
        "changeSource": "CRM_UI",
        **event,
    }


def _merge(survivor: str, merged: list[str]) -> dict[str, Any]:
    """One deal stays, or both become a third: then the first of them is called the primary."""
    survivor_id = external_id(survivor)
    ids = [external_id(deal_id) for deal_id in merged]
    primary, others = (survivor_id, ids) if len(ids) == 1 else (ids[0], ids[1:])
    return _event("merge", primary) | {
        "primaryObjectId": primary,
        "mergedObjectIds": others,
        "newObjectId": survivor_id,
        "numberOfPropertiesMoved": 12,
    }


def _text(change: Change) -> str:
    """The value as HubSpot writes it: always text, empty when cleared."""
    value = change.value
    match change.field:
        case _ if value is None:
            return ""
        case "close_date":
            return _close_date(date.fromisoformat(str(value)), change.at_ms)
        case "created_at":
            return str(value) if change.at_ms % 2 else instant_text(int(str(value)))
        case "owner":
            return str(value).rpartition(":")[2]
        case "type":
            return DEAL_TYPES[str(value)]
    return str(value)


def _close_date(day: date, at_ms: int) -> str:
    """Milliseconds or ISO 8601, both occur. The hour is one at which it is that day everywhere."""
    noon_ms = local_ms(day, time(12), "UTC")
    return str(noon_ms) if at_ms % 2 else f"{from_ms(noon_ms):%Y-%m-%dT%H:%M:%SZ}"
