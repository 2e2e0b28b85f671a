"""HubSpot's signatures, with the vectors of its own SDKs and documentation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.ingest.adapters import ADAPTERS
from services.ingest.adapters.hubspot_signature import sign_v1, sign_v2, sign_v3, signed_uri
from services.ingest.domain.translation import Connection, NotAuthentic, RawRequest
from shared.clock import from_epoch_ms, to_epoch_ms

SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
URL = "https://www.example.com/webhook_uri"
CURRENT_SECRET = "demo-secret"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HUBSPOT = ADAPTERS["hubspot"]
BODY = b'[{"eventId":1}]'
CONNECTION = Connection(
    id="hs", provider="hubspot", secrets=("older-secret", "demo-secret"), public_url=URL
)


def signed(
    *,
    secret: str = CURRENT_SECRET,
    at: datetime = NOW,
    body: bytes = BODY,
    url: str = URL,
    method: str = "POST",
) -> RawRequest:
    timestamp = str(to_epoch_ms(at))
    return RawRequest(
        method="POST",
        target="/internal/path?as=rewritten",
        headers={
            "x-hubspot-signature-v3": sign_v3(secret, method, url, body, timestamp),
            "x-hubspot-request-timestamp": timestamp,
        },
        body=body,
    )


def code_of(request: RawRequest, connection: Connection = CONNECTION) -> str:
    with pytest.raises(NotAuthentic) as refusal:
        HUBSPOT.verify(request, connection, NOW)
    assert refusal.value.status == 401
    return refusal.value.code


def test_v3_vector_of_the_python_sdk() -> None:
    body = b"{'example_field':'example_value'}"
    signature = sign_v3(SECRET, "POST", URL, body, "1693657560000")
    assert signature == "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y="
    HUBSPOT.verify(
        RawRequest(
            "POST",
            "/webhook_uri",
            {
                "x-hubspot-signature-v3": signature,
                "x-hubspot-request-timestamp": "1693657560000",
            },
            body,
        ),
        replace(CONNECTION, secrets=(SECRET,)),
        from_epoch_ms(1693657560000),
    )


def test_v3_vector_of_the_decode_rule() -> None:
    signature = sign_v3(
        "demo-secret", "POST", "https://x.test/h?a=b%2Fc%20d", b"[]", "1767225600000"
    )
    assert signature == "FPgJm1KBU544QSo+YRUO7xZfOYOWRUGvbKirnMq8L2w="


def test_v2_vector_of_the_node_sdk() -> None:
    body = b'{"example_field":"example_value"}'
    expected = "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900"
    assert sign_v2(SECRET, "POST", URL, body) == expected


def test_v1_vector_of_the_documentation() -> None:
    body = (
        b'[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,'
        b'"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,'
        b'"changeSource":"CRM","changeFlag":"NEW","appId":54321}]'
    )
    expected = "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de"
    assert sign_v1(SECRET, body) == expected


def test_twelve_escapes_are_decoded_and_no_others() -> None:
    assert signed_uri("%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B") == ":/?@!$'()*,;"
    assert signed_uri("%3a%2f") == ":/"
    assert signed_uri("%20%26%3D%25%252F") == "%20%26%3D%25%252F"


@pytest.mark.parametrize("secret", ["demo-secret", "older-secret"])
def test_every_live_secret_counts_while_one_is_rotated(secret: str) -> None:
    HUBSPOT.verify(signed(secret=secret), CONNECTION, NOW)


@pytest.mark.parametrize("minutes", [-5, 5])
def test_the_window_is_five_minutes_both_ways(minutes: int) -> None:
    edge = NOW + timedelta(minutes=minutes)
    HUBSPOT.verify(signed(at=edge), CONNECTION, NOW)
    beyond = edge + timedelta(milliseconds=1 if minutes > 0 else -1)
    assert code_of(signed(at=beyond)) == "timestamp-stale"


@pytest.mark.parametrize(
    "timestamp",
    ["", "-1767225600000", "1767225600000.0", "\uff11\uff17", "1e12", "9" * 400],
)
def test_a_timestamp_that_is_no_digits_is_refused(timestamp: str) -> None:
    request = signed()
    headers = {**request.headers, "x-hubspot-request-timestamp": timestamp}
    assert code_of(replace(request, headers=headers)) == "timestamp-invalid"


@pytest.mark.parametrize(
    "request_",
    [
        signed(secret="wrong"),
        signed(url="https://elsewhere.example/webhook_uri"),
        signed(method="PUT"),
        replace(signed(), body=BODY + b" "),
    ],
    ids=["secret", "address", "method", "body"],
)
def test_a_signature_over_anything_else_is_refused(request_: RawRequest) -> None:
    assert code_of(request_) == "signature-invalid"


def test_every_flipped_bit_of_the_body_is_noticed() -> None:
    request = signed()
    for bit in range(len(BODY) * 8):
        flipped = bytearray(BODY)
        flipped[bit // 8] ^= 1 << bit % 8
        assert code_of(replace(request, body=bytes(flipped))) == "signature-invalid"


@pytest.mark.parametrize("signature", ["", "é", "AAAA", "x" * 10_000])
def test_a_signature_of_any_form_is_only_compared(signature: str) -> None:
    request = signed()
    headers = {**request.headers, "x-hubspot-signature-v3": signature}
    assert code_of(replace(request, headers=headers)) == "signature-invalid"


def test_without_secrets_nothing_is_authentic() -> None:
    assert code_of(signed(secret=""), replace(CONNECTION, secrets=())) == "signature-invalid"


def test_an_unsigned_request_is_refused() -> None:
    assert code_of(replace(signed(), headers={})) == "signature-missing"


@pytest.mark.parametrize("missing", ["x-hubspot-signature-v3", "x-hubspot-request-timestamp"])
def test_half_of_v3_never_falls_back(missing: str) -> None:
    request = signed()
    headers = {name: value for name, value in request.headers.items() if name != missing}
    headers |= {"x-hubspot-signature": sign_v1("demo-secret", BODY)}
    accepting = replace(CONNECTION, options={"legacy_signatures": "accept"})
    assert code_of(replace(request, headers=headers), accepting) == "signature-missing"


@pytest.mark.parametrize(
    ("version", "signature"),
    [("v1", sign_v1("demo-secret", BODY)), ("v2", sign_v2("demo-secret", "POST", URL, BODY))],
)
def test_older_versions_only_by_choice_and_never_beside_v3(version: str, signature: str) -> None:
    older = {"x-hubspot-signature": signature, "x-hubspot-signature-version": version}
    request = replace(signed(), headers=older)
    accepting = replace(CONNECTION, options={"legacy_signatures": "accept"})
    HUBSPOT.verify(request, accepting, NOW)
    assert code_of(request) == "signature-version"
    failed = {**signed(secret="wrong").headers, **older}
    assert code_of(replace(request, headers=failed), accepting) == "signature-invalid"
    wrong = replace(request, headers={**older, "x-hubspot-signature": "0" * 64})
    assert code_of(wrong, accepting) == "signature-invalid"


def test_secrets_and_signatures_are_not_shown() -> None:
    shown = repr(CONNECTION) + repr(signed())
    assert "demo-secret" not in shown
    assert "signature" not in shown
