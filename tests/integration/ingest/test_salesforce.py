"""Salesforce's outbound messages through the same routes as every other source."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import httpx

from services.ingest.adapters.salesforce_fields import id_18
from tests.integration.ingest.conftest import Inlet
from tests.unit.ingest.salesforce_messages import (
    DEAL_18,
    ORG_15,
    ORG_18,
    SALESFORCE,
    SECRET,
    SESSION,
    message,
    notification,
)

SOURCE = "salesforce-main"
CHANGED = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 60))


async def connect(inlet: Inlet) -> None:
    body = {"adapter": "salesforce", "tenant": ORG_15, "secret": SECRET}
    answer = await inlet.client.put(f"/v1/sources/{SOURCE}", json=body, headers=inlet.admin)
    assert answer.status_code in {200, 201}, answer.text
    assert SECRET not in answer.text


async def send(inlet: Inlet, body: bytes, query: str = f"?secret={SECRET}") -> httpx.Response:
    headers = {"Content-Type": "text/xml; charset=UTF-8", "SOAPAction": '""'}
    return await inlet.client.post(f"/v1/hooks/{SOURCE}{query}", content=body, headers=headers)


async def told(inlet: Inlet, times: int) -> list[dict[str, Any]]:
    """Facts about the deal, as soon as there are that many: some may come by the outbox."""
    key = f"deal/salesforce:{ORG_18}:{DEAL_18}".encode()
    deadline = time.monotonic() + 20
    while True:
        topic = await inlet.topic("crm.deals")
        facts = [json.loads(value) for subject, value in topic if subject == key]
        if len(facts) >= times or time.monotonic() > deadline:
            return facts
        await asyncio.sleep(0.1)


async def test_a_message_is_kept_before_it_is_acknowledged(inlet: Inlet) -> None:
    await connect(inlet)
    body = message(
        notification({"StageName": "Closed Won", "Amount": "9.5", "LastModifiedDate": CHANGED}),
        notification({"Amount": "x", "LastModifiedDate": CHANGED}, id_=id_18("04l5g000009QwEs")),
    )
    answer = await send(inlet, body)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/xml")
    assert answer.content == SALESFORCE.acknowledge().body
    (fact,) = await told(inlet, 1)
    assert fact["data"] == {"deleted": False, "stage": "Closed Won", "amount": "9.5"}
    listed = await inlet.client.get(f"/v1/rejects?source={SOURCE}", headers=inlet.admin)
    (reject,) = listed.json()["data"]
    assert reject["pointer"] == "/notifications/1/sObject/Amount"
    assert (await send(inlet, body)).status_code == 200
    again = await told(inlet, 2)
    assert [one["id"] for one in again] == [fact["id"]] * 2
    redrive = f"/v1/rejects/{reject['id']}/redrive"
    headers = {**inlet.admin, "Idempotency-Key": "salesforce-redrive"}
    redriven = await inlet.client.post(redrive, headers=headers)
    assert (redriven.status_code, redriven.json()["state"]) == (200, "open")


async def test_what_is_not_the_organisations_or_no_message_is_refused(inlet: Inlet) -> None:
    await connect(inlet)
    body = message(notification({"LastModifiedDate": CHANGED}))
    for sent, query, status in (
        (body, "", 401),
        (body, "?secret=another-secret-of-24-letters", 401),
        (message(notification({}), org=id_18("00D5g000004Kq7t")), f"?secret={SECRET}", 401),
        (body.replace(b"?>", b"?><!DOCTYPE x>"), f"?secret={SECRET}", 400),
        (body[:-1], f"?secret={SECRET}", 400),
    ):
        answer = await send(inlet, sent, query)
        assert answer.status_code == status
        assert SECRET not in answer.text


async def test_the_session_id_is_kept_nowhere(inlet: Inlet) -> None:
    await connect(inlet)
    bad = notification({"Amount": "y", "LastModifiedDate": CHANGED})
    assert (await send(inlet, message(bad, session=SESSION))).status_code == 200
    raw = [json.loads(value)["data"] for _, value in await inlet.topic("crm.raw")]
    bodies = [base64.b64decode(kept["body"]) for kept in raw if kept["connection"] == SOURCE]
    assert bodies
    rows = await inlet.sql("SELECT body, excerpt FROM reject WHERE source = $1", SOURCE)
    assert rows
    assert SESSION.encode() not in b"".join([*bodies, *(row["body"] for row in rows)])
