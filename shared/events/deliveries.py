"""The raw delivery: what a source sent, byte for byte, kept so that it can be read again."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from shared.clock import to_text
from shared.errors import InvalidValue
from shared.events.catalogue import CRM_RAW, EventType
from shared.events.envelope import (
    Envelope,
    Instant,
    encode_data,
    invalid_from_msgspec,
    sequence_of,
)
from shared.ids import derived_id

KEPT_HEADERS = frozenset(
    {
        "content-encoding",
        "content-type",
        "idempotency-key",
        "traceparent",
        "user-agent",
        "webhook-id",
        "webhook-timestamp",
        "x-hubspot-request-timestamp",
        "x-hubspot-signature-version",
        "x-request-id",
    }
)
"""Headers that are kept, besides `ce-…`. Signatures, tokens and cookies never are."""


class DeliveryData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One HTTP delivery.

    connection: the source's id, or `events` for what was posted as CloudEvents. headers: names in
    lower case, by the allow-list. body: base64. body_sha256: hexadecimal, of the body's bytes.
    The request's target is left out, since some sources carry their secret in it.
    """

    connection: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    provider: Annotated[str, msgspec.Meta(min_length=1, max_length=50)]
    received_at: Instant
    method: Annotated[str, msgspec.Meta(min_length=1, max_length=10)]
    headers: dict[str, str]
    body: str
    body_sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


DELIVERY = EventType("attain.delivery.v1", CRM_RAW, DeliveryData)
"""On `crm.raw`; its subject, `delivery/<id>`, spreads deliveries over all partitions."""


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """A delivery read back. body: the very bytes that came."""

    id: str
    connection: str
    provider: str
    received_at: str
    headers: Mapping[str, str]
    body: bytes


def delivery_envelope(  # noqa: PLR0913 - one request, named at each call
    *,
    connection: str,
    provider: str,
    method: str,
    headers: Mapping[str, str],
    body: bytes,
    received_at: datetime,
) -> Envelope:
    """The event that keeps one delivery; its `id` is what facts name as `rawid`.

    The id derives from the source, the instant of arrival in microseconds and the body, so that
    every delivery is kept, a retry of the same body included.
    """
    fingerprint = hashlib.sha256(body).hexdigest()
    arrival = received_at.astimezone(UTC).isoformat(timespec="microseconds")
    delivery_id = derived_id("delivery", connection, arrival, fingerprint)
    received = to_text(received_at)
    return Envelope(
        id=delivery_id,
        source=f"/attain/ingest/{connection}",
        type=DELIVERY.type,
        subject=f"delivery/{delivery_id}",
        time=received,
        recordedtime=received,
        sequence=sequence_of(received_at, received_at.microsecond % 1000),
        data=encode_data(
            DeliveryData(
                connection=connection,
                provider=provider,
                received_at=received,
                method=method,
                headers=kept_headers(headers),
                body=base64.b64encode(body).decode("ascii"),
                body_sha256=fingerprint,
            )
        ),
    )


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of `headers` that may be stored, names in lower case, in name order."""
    lowered = {name.lower(): value for name, value in headers.items()}
    return {
        name: lowered[name]
        for name in sorted(lowered)
        if name in KEPT_HEADERS or name.startswith("ce-")
    }


def read_delivery(envelope: Envelope) -> StoredDelivery:
    """The delivery that `envelope` keeps.

    Raises InvalidValue for another type, a malformed document, or bytes that are not those of its
    fingerprint.
    """
    if envelope.type != DELIVERY.type:
        msg = f"expected {DELIVERY.type}, got {envelope.type!r}"
        raise InvalidValue(msg, pointer="/type")
    try:
        kept = msgspec.json.decode(envelope.data, type=DeliveryData)
        body = base64.b64decode(kept.body, validate=True)
    except msgspec.DecodeError as error:
        raise invalid_from_msgspec(error).at("/data") from None
    except (binascii.Error, ValueError):
        msg = "the body is not base64"
        raise InvalidValue(msg, pointer="/data/body") from None
    if hashlib.sha256(body).hexdigest() != kept.body_sha256:
        msg = "the body is not the one that came: its fingerprint differs"
        raise InvalidValue(msg, pointer="/data/body")
    return StoredDelivery(
        id=envelope.id,
        connection=kept.connection,
        provider=kept.provider,
        received_at=kept.received_at,
        headers=kept.headers,
        body=body,
    )
