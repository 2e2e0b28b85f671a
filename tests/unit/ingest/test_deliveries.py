"""Raw deliveries: every one kept, byte for byte, without secrets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from shared.errors import InvalidValue
from shared.events.deliveries import DELIVERY, delivery_envelope, read_delivery
from shared.events.envelope import Envelope, decode, encode

NOW = datetime(2026, 3, 31, 9, 30, 0, 412007, tzinfo=UTC)
BODY = bytes(range(256))
HEADERS = {
    "Content-Type": "application/json",
    "Authorization": "Bearer hidden",
    "Cookie": "hidden",
    "X-HubSpot-Signature-v3": "hidden",
    "X-HubSpot-Request-Timestamp": "1767225600000",
    "CE-Id": "e-1",
}


def kept(*, body: bytes = BODY, at: datetime = NOW, connection: str = "hs") -> Envelope:
    return delivery_envelope(
        connection=connection,
        provider="hubspot",
        method="POST",
        headers=HEADERS,
        body=body,
        received_at=at,
    )


def test_the_bytes_come_back_as_they_came() -> None:
    envelope = kept()
    wire = encode(envelope)
    assert b"hidden" not in wire
    stored = read_delivery(decode(wire))
    assert stored.body == BODY
    assert (stored.id, stored.connection, stored.provider) == (envelope.id, "hs", "hubspot")
    assert stored.received_at == "2026-03-31T09:30:00.412Z"
    assert stored.headers == {
        "ce-id": "e-1",
        "content-type": "application/json",
        "x-hubspot-request-timestamp": "1767225600000",
    }
    assert envelope.type == DELIVERY.type
    assert envelope.subject == f"delivery/{envelope.id}"


def test_every_delivery_has_an_id_of_its_own() -> None:
    ids = {
        kept().id,
        kept(at=NOW + timedelta(microseconds=1)).id,
        kept(body=b"").id,
        kept(connection="other").id,
    }
    assert len(ids) == 4
    assert kept().id == kept().id


def test_changed_bytes_are_noticed() -> None:
    data = msgspec.json.decode(kept().data)
    for change in ({"body": "AAAA"}, {"body": "not base64!"}, {"unknown": 1}):
        tampered = msgspec.structs.replace(
            kept(), data=msgspec.Raw(msgspec.json.encode(data | change))
        )
        with pytest.raises(InvalidValue):
            read_delivery(tampered)
    with pytest.raises(InvalidValue):
        read_delivery(msgspec.structs.replace(kept(), type="attain.deal.v1"))
