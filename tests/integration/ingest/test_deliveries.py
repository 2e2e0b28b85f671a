"""What comes in over HTTP lies in Kafka; what cannot be taken is told exactly."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import httpx
import pytest

from services.ingest.handlers import KEPT_WHOLE_BYTES
from shared.events.deliveries import read_delivery
from shared.events.envelope import decode
from shared.http.auth import Role
from tests.integration.ingest.conftest import BATCH_TYPE, Inlet, change, deal


def problem_of(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem."""
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("urn:attain:problem:")


async def test_a_batch_of_events_is_kept_byte_for_byte_and_published(inlet: Inlet) -> None:
    body = json.dumps([deal("1"), deal("2")], indent=3).encode()
    answer = await inlet.raw_events(body)
    assert answer.status_code == 202
    accepted = answer.json()
    assert accepted["accepted"] == 2
    facts = await inlet.on_kafka("crm.deals", set(accepted["ids"]))
    mine = {fact["id"]: fact for fact in facts if fact["id"] in accepted["ids"]}
    raw_id = mine[accepted["ids"][0]]["rawid"]
    assert mine[accepted["ids"][1]]["rawid"] == raw_id
    (kept,) = [
        read_delivery(decode(value))
        for _, value in await inlet.topic("crm.raw")
        if json.loads(value)["id"] == raw_id
    ]
    assert kept.body == body
    assert kept.connection == "events"
    keys = {key for key, value in await inlet.topic("crm.deals") if json.loads(value)["id"] in mine}
    assert keys == {b"deal/acme:main:1", b"deal/acme:main:2"}


async def test_the_same_events_again_have_the_same_ids(inlet: Inlet) -> None:
    event = deal("again")
    first, second = await inlet.events(event), await inlet.events(event)
    assert first.json() == second.json()


async def test_a_webhook_is_kept_and_translated_and_its_bad_events_are_listed(inlet: Inlet) -> None:
    body = json.dumps(
        [
            change(700, "dealstage", "closedwon"),
            change(701, "amount", "NaN"),
            change(702, "amount", "1e400"),
            change(703, "deal_currency_code", "XYZ"),
            change(704, "dealstage", "x", occurredAt=32503680000000),
            change(705, "amount", "19.90", unknown="kept by nobody"),
        ]
    ).encode()
    assert (await inlet.hook(body)).status_code == 204
    raw = [read_delivery(decode(value)) for _, value in await inlet.topic("crm.raw")]
    (kept,) = [delivery for delivery in raw if delivery.body == body]
    assert "x-hubspot-signature-v3" not in kept.headers
    facts = [json.loads(value) for _, value in await inlet.topic("crm.deals")]
    mine = [fact for fact in facts if fact.get("rawid") == kept.id]
    assert sorted(fact["subject"] for fact in mine) == [
        "deal/hubspot:4821:700",
        "deal/hubspot:4821:705",
    ]
    listed = await inlet.client.get("/v1/rejects?state=open", headers=inlet.admin)
    causes = {row["pointer"].split("/")[1]: row["cause"] for row in listed.json()["data"]}
    assert causes == {
        "1": "invalid-value",
        "2": "invalid-value",
        "3": "unknown-currency",
        "4": "future-dated",
    }
    metrics = (await inlet.client.get("/metrics")).text
    assert 'attain_facts_rejected_total{cause="unknown-currency"} 1.0' in metrics


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"amount": 12.5}, "number-not-text"),
        ({"amount": "NaN"}, "invalid-value"),
        ({"amount": "1e400"}, "invalid-value"),
        ({"currency": "XYZ"}, "unknown-currency"),
        ({"stages": "x"}, "invalid-value"),
        ({}, "nothing-stated"),
    ],
)
async def test_bad_values_are_told_with_their_place(
    inlet: Inlet, fault: dict[str, Any], expected: str
) -> None:
    bad = deal("bad", name="x") | {"data": fault}
    answer = await inlet.events(deal("good"), bad)
    assert problem_of(answer) == (422, expected)
    (named,) = answer.json()["errors"]
    assert named["pointer"].startswith("/1/data")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"amount": NaN}', (400, "malformed-json")),
        (b'{"amount": 1e400}', (422, "number-not-text")),
        (b'{"amount": "1",', (400, "malformed-json")),
    ],
)
async def test_json_that_is_none(inlet: Inlet, data: bytes, expected: tuple[int, str]) -> None:
    event = json.dumps(deal("raw", name="@")).encode().replace(b'{"name": "@"}', data)
    assert problem_of(await inlet.raw_events(b"[" + event + b"]")) == expected


async def test_a_fact_from_next_year_is_refused(inlet: Inlet) -> None:
    future = deal("future") | {"time": "2999-01-01T00:00:00Z"}
    assert problem_of(await inlet.events(future)) == (422, "future-dated")


async def test_events_need_a_token_with_the_scope(inlet: Inlet) -> None:
    async def post(headers: dict[str, str]) -> tuple[int, str]:
        return problem_of(
            await inlet.client.post("/v1/events", content=b"[]", headers=BATCH_TYPE | headers)
        )

    assert await post({}) == (401, "unauthenticated")
    assert await post(inlet.keys.bearer(Role.SERVICE, scopes=("reference:write",))) == (
        403,
        "forbidden",
    )
    assert await post(inlet.keys.bearer(Role.COMP_ADMIN)) == (403, "forbidden")


async def test_bodies_that_are_too_large(inlet: Inlet) -> None:
    huge = b"[" + b" " * 60_000_000 + b"]"
    assert problem_of(await inlet.raw_events(huge)) == (413, "body-too-large")
    assert problem_of(await inlet.hook(huge)) == (413, "body-too-large")
    padded = b"[" + b" " * 1_100_000 + b"]"
    assert problem_of(await inlet.hook(padded)) == (413, "body-too-large")
    many = json.dumps([{}] * 1001).encode()
    assert problem_of(await inlet.raw_events(many)) == (413, "batch-too-large")


async def test_a_batch_larger_than_a_record_is_kept_in_parts(inlet: Inlet) -> None:
    """Four MiB of events: more than one Kafka record holds; each event's bytes stay."""
    events = [json.dumps(deal(f"wide-{n}", name="é" * 3_900)).encode() for n in range(150)]
    body = b"[" + b",\n ".join(events) + b"]"
    assert KEPT_WHOLE_BYTES < len(body) < 4_194_304
    answer = await inlet.raw_events(body)
    assert answer.status_code == 202
    ids = answer.json()["ids"]
    assert len(ids) == 150
    facts = {fact["id"]: fact for fact in await inlet.on_kafka("crm.deals", set(ids))}
    raw = {json.loads(value)["id"]: value for _, value in await inlet.topic("crm.raw")}
    parts = list(dict.fromkeys(facts[fact_id]["rawid"] for fact_id in ids))
    assert len(parts) > 1
    bodies = [read_delivery(decode(raw[part])).body for part in parts]
    assert b",".join(part[1:-1] for part in bodies) == b",".join(events)


async def test_a_full_size_webhook_fits_a_record(inlet: Inlet) -> None:
    body = json.dumps([change(800, "dealname", "x", filler="y" * 1_000_000)]).encode()
    assert (await inlet.hook(body)).status_code == 204
    raw = [read_delivery(decode(value)).body for _, value in await inlet.topic("crm.raw")]
    assert body in raw


async def test_what_proves_no_origin_is_refused(inlet: Inlet) -> None:
    body = json.dumps([change(900, "amount", "1")]).encode()
    assert problem_of(await inlet.hook(body, secret="wrong")) == (401, "signature-invalid")
    assert problem_of(await inlet.hook(body, late_s=301)) == (401, "timestamp-stale")
    assert problem_of(await inlet.hook(body, late_s=-301)) == (401, "timestamp-stale")
    unsigned = await inlet.client.post("/v1/hooks/hubspot-main", content=body)
    assert problem_of(unsigned) == (401, "signature-missing")
    assert problem_of(await inlet.hook(body, source="nobody")) == (404, "unknown-source")
    raw = [read_delivery(decode(value)).body for _, value in await inlet.topic("crm.raw")]
    assert body not in raw


@pytest.mark.parametrize("body", [b"{", b"{}", b"[NaN]", b"\xff\xfe", b"", gzip.compress(b"[]")])
async def test_an_unreadable_webhook_is_refused(inlet: Inlet, body: bytes) -> None:
    assert problem_of(await inlet.hook(body)) == (400, "malformed-json")


async def test_binary_and_structured_modes(inlet: Inlet) -> None:
    event = deal("modes")
    bearer = inlet.admin
    structured = await inlet.client.post(
        "/v1/events",
        content=json.dumps(event),
        headers=bearer | {"Content-Type": "application/cloudevents+json"},
    )
    attributes = {f"ce-{name}": value for name, value in event.items() if name != "data"}
    binary = await inlet.client.post("/v1/events", json=event["data"], headers=bearer | attributes)
    assert structured.status_code == binary.status_code == 202
    assert structured.json()["ids"] == binary.json()["ids"]
    other = await inlet.client.post("/v1/events", json=event, headers=bearer)
    assert problem_of(other) == (415, "unsupported-media-type")


async def test_the_body_on_the_topic_is_base64_of_what_came(inlet: Inlet) -> None:
    body = json.dumps([deal("plain")]).encode()
    await inlet.raw_events(body)
    bodies = [
        base64.b64decode(json.loads(value)["data"]["body"])
        for _, value in await inlet.topic("crm.raw")
    ]
    assert body in bodies
