"""How HubSpot signs its requests (developers.hubspot.com, "Validating requests")."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache

from services.ingest.domain.translation import Connection, NotAuthentic, RawRequest
from shared.clock import to_epoch_ms

SIGNATURE_V3 = "x-hubspot-signature-v3"
TIMESTAMP = "x-hubspot-request-timestamp"
SIGNATURE = "x-hubspot-signature"
VERSION = "x-hubspot-signature-version"

WINDOW = timedelta(minutes=5)
"""How far a request's timestamp may lie from now, in either direction."""

_WINDOW_MS = WINDOW // timedelta(milliseconds=1)
_TIMESTAMP = re.compile(r"[0-9]{1,15}")

LEGACY_OPTION = "legacy_signatures"
"""Option of a connection; `accept` takes v1 and v2, which hold no time: they can be replayed."""

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
_ENCODED = re.compile("|".join(_DECODED), re.IGNORECASE)


@lru_cache(maxsize=1_024)
def signed_uri(url: str) -> str:
    """`url` as v3 signs it: twelve escapes decoded once, every other one left as it is."""
    return _ENCODED.sub(lambda escape: _DECODED[escape[0].upper()], url)


def sign_v3(secret: str, method: str, url: str, body: bytes, timestamp: str) -> str:
    """Base64 of HMAC-SHA256 over method, URI, body and timestamp, without separators."""
    signed = method.encode() + signed_uri(url).encode() + body + timestamp.encode()
    return base64.b64encode(hmac.digest(secret.encode(), signed, "sha256")).decode("ascii")


def sign_v1(secret: str, body: bytes) -> str:
    """Hexadecimal SHA-256 over secret and body: older CRM subscriptions."""
    return hashlib.sha256(secret.encode() + body).hexdigest()


def sign_v2(secret: str, method: str, url: str, body: bytes) -> str:
    """Hexadecimal SHA-256 over secret, method, URI and body: workflow actions and cards."""
    return hashlib.sha256(secret.encode() + (method + url).encode() + body).hexdigest()


def verify(request: RawRequest, connection: Connection, now: datetime) -> None:
    """Raise NotAuthentic unless one of the connection's live secrets signed `request`.

    Where a header of v3 is present only v3 counts: a failed one does not fall back to older forms.
    """
    headers = request.headers
    if SIGNATURE_V3 in headers or TIMESTAMP in headers:
        _verify_v3(request, connection, now)
        return
    if SIGNATURE not in headers:
        msg = "the request is not signed; HubSpot sends X-HubSpot-Signature-v3"
        raise NotAuthentic("signature-missing", msg)
    if connection.options.get(LEGACY_OPTION) != "accept":
        msg = "signatures older than v3 are not accepted on this connection"
        raise NotAuthentic("signature-version", msg)
    version = headers.get(VERSION, "v1").strip().lower()
    if version == "v1":
        _compare(headers[SIGNATURE], connection, lambda secret: sign_v1(secret, request.body))
    elif version == "v2":
        _compare(
            headers[SIGNATURE],
            connection,
            lambda secret: sign_v2(secret, request.method, connection.public_url, request.body),
        )
    else:
        msg = "the signature's version is none of v1, v2 and v3"
        raise NotAuthentic("signature-version", msg)


def _verify_v3(request: RawRequest, connection: Connection, now: datetime) -> None:
    given = request.headers.get(SIGNATURE_V3)
    timestamp = request.headers.get(TIMESTAMP)
    if given is None or timestamp is None:
        msg = "X-HubSpot-Signature-v3 and X-HubSpot-Request-Timestamp come together"
        raise NotAuthentic("signature-missing", msg)
    if not _TIMESTAMP.fullmatch(timestamp):
        msg = "the request's timestamp is not milliseconds in digits"
        raise NotAuthentic("timestamp-invalid", msg)
    if abs(to_epoch_ms(now) - int(timestamp)) > _WINDOW_MS:
        msg = "the request's timestamp is more than five minutes from now"
        raise NotAuthentic("timestamp-stale", msg)
    _compare(
        given,
        connection,
        lambda secret: sign_v3(
            secret, request.method, connection.public_url, request.body, timestamp
        ),
    )


def _compare(given: str, connection: Connection, sign: Callable[[str], str]) -> None:
    """Every secret is tried, whichever matches: the time taken tells nothing."""
    matched = False
    for secret in connection.secrets:
        matched |= hmac.compare_digest(sign(secret).encode(), given.strip().encode())
    if not matched:
        msg = "the signature is not one of this connection's secrets over its configured address"
        raise NotAuthentic("signature-invalid", msg)
