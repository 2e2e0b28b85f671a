"""Connections and rejects: secrets go in and never come out; what was rejected is redriven once."""

from __future__ import annotations

import json

from services.ingest.cipher import SecretCipher
from shared.http.auth import Role
from tests.integration.ingest.conftest import (
    PORTAL,
    SECRET,
    SECRETS_KEY,
    SOURCE,
    Inlet,
    change,
)
from tests.integration.ingest.test_deliveries import problem_of

OTHER = f"/v1/sources/{SOURCE}-2"
BODY = {"adapter": "hubspot", "tenants": [PORTAL], "secrets": ["first-secret"]}


async def test_secrets_go_in_and_never_come_out(inlet: Inlet) -> None:
    made = await inlet.client.put(OTHER, json=BODY, headers=inlet.admin)
    assert made.status_code == 201
    shown = await inlet.client.get(OTHER, headers=inlet.admin)
    listed = await inlet.client.get("/v1/sources", headers=inlet.keys.bearer(Role.AUDITOR))
    assert {row["id"] for row in listed.json()["data"]} >= {SOURCE, f"{SOURCE}-2"}
    for answer in (made, shown, listed):
        assert "first-secret" not in answer.text
        assert SECRET not in answer.text
    assert len(shown.json()["secret_fingerprints"]) == 1
    stored = await inlet.sql("SELECT secrets, to_jsonb(s)::text AS row FROM source s")
    audited = await inlet.sql("SELECT actor, document::text AS row FROM source_change")
    assert {row["actor"] for row in audited} == {"tester"}
    assert all('secret"' not in row["row"] and SECRET not in row["row"] for row in audited)
    assert all(SECRET.encode() not in row["secrets"] for row in stored)
    opened = {SecretCipher(SECRETS_KEY).open(row["secrets"]) for row in stored}
    assert (SECRET,) in opened


async def test_a_change_needs_the_version_that_was_seen(inlet: Inlet) -> None:
    await inlet.client.put(OTHER, json=BODY, headers=inlet.admin)
    same = await inlet.client.put(OTHER, json=BODY, headers=inlet.admin)
    assert same.status_code == 200
    mapped = BODY | {"mapping": {"deal": {"region": "custom.region"}}}
    blind = await inlet.client.put(OTHER, json=mapped, headers=inlet.admin)
    assert problem_of(blind) == (428, "precondition-required")
    seen = {"If-Match": same.headers["etag"]}
    changed = await inlet.client.put(OTHER, json=mapped, headers=inlet.admin | seen)
    assert changed.status_code == 200
    assert changed.json()["revision"] == same.json()["revision"] + 1
    stale = await inlet.client.put(OTHER, json=BODY, headers=inlet.admin | seen)
    assert problem_of(stale) == (412, "precondition-failed")
    kept = {name: value for name, value in mapped.items() if name != "secrets"}
    seen = {"If-Match": changed.headers["etag"]}
    renamed = await inlet.client.put(
        OTHER, json=kept | {"public_url": "https://a.example/h"}, headers=inlet.admin | seen
    )
    assert renamed.json()["secret_fingerprints"] == same.json()["secret_fingerprints"]
    unmodified = {"If-None-Match": renamed.headers["etag"]}
    assert (await inlet.client.get(OTHER, headers=inlet.admin | unmodified)).status_code == 304


async def test_connections_that_could_not_work_are_refused(inlet: Inlet) -> None:
    async def put(**changed: object) -> tuple[int, str, str]:
        answer = await inlet.client.put(
            "/v1/sources/broken", json=BODY | changed, headers=inlet.admin
        )
        return (*problem_of(answer), answer.json()["errors"][0]["pointer"])

    assert await put(adapter="fax") == (422, "invalid-value", "/adapter")
    assert await put(secrets=[]) == (422, "invalid-value", "/secrets")
    assert await put(tenants=["abc"]) == (422, "invalid-value", "/tenants")
    assert await put(colour="red") == (422, "invalid-value", "/colour")
    forbidden = await inlet.client.put(OTHER, json=BODY, headers=inlet.keys.bearer(Role.COMP_ADMIN))
    assert problem_of(forbidden) == (403, "forbidden")
    missing = await inlet.client.get("/v1/sources/none", headers=inlet.admin)
    assert problem_of(missing) == (404, "not-found")
    taken = await inlet.client.put("/v1/sources/events", json=BODY, headers=inlet.admin)
    assert problem_of(taken) == (409, "source-name-taken")


async def open_reject(inlet: Inlet, number: int, value: str) -> str:
    """Id of the reject of a delivery with one bad amount."""
    body = json.dumps([change(number, "amount", value, note="a@example.com")]).encode()
    assert (await inlet.hook(body)).status_code == 204
    (row, *_) = await inlet.sql("SELECT id FROM reject ORDER BY number DESC LIMIT 1")
    return str(row["id"])


async def test_a_reject_is_redriven_once_with_todays_mapping(inlet: Inlet) -> None:
    reject_id = await open_reject(inlet, 3001, "many")
    shown = await inlet.client.get(f"/v1/rejects/{reject_id}", headers=inlet.admin)
    assert "a@example.com" not in shown.text
    path = f"/v1/rejects/{reject_id}/redrive"
    unkeyed = await inlet.client.post(path, headers=inlet.admin)
    assert problem_of(unkeyed) == (400, "idempotency-key-missing")
    keyed = inlet.admin | {"Idempotency-Key": "k1"}
    still = await inlet.client.post(path, headers=keyed)
    assert still.json()["state"] == "open"
    assert still.json()["cause"] == "invalid-value"
    source = await inlet.client.get(f"/v1/sources/{SOURCE}", headers=inlet.admin)
    body = {
        "adapter": "hubspot",
        "tenant": PORTAL,
        "public_url": source.json()["public_url"],
        "mapping": {"deal": {"amount": "custom.amount_text"}},
    }
    seen = inlet.admin | {"If-Match": source.headers["etag"]}
    changed = await inlet.client.put(f"/v1/sources/{SOURCE}", json=body, headers=seen)
    assert changed.status_code == 200
    keyed = inlet.admin | {"Idempotency-Key": "k2"}
    done = await inlet.client.post(path, headers=keyed)
    assert done.json()["state"] == "redriven"
    replayed = await inlet.client.post(path, headers=keyed)
    assert replayed.json() == done.json()
    (fact,) = done.json()["resolution"]["facts"]
    found = {row["id"]: row for row in await inlet.on_kafka("crm.deals", {fact})}
    assert found[fact]["data"] == {"custom": {"amount_text": "many"}}
    assert found[fact]["rawid"] == shown.json()["raw_id"]
    assert found[fact]["revision"] == 1
    again = await inlet.client.post(path, headers=inlet.admin | {"Idempotency-Key": "k3"})
    assert problem_of(again) == (409, "reject-not-open")
    back = inlet.admin | {"If-Match": changed.headers["etag"]}
    body["mapping"] = {}
    assert (await inlet.client.put(f"/v1/sources/{SOURCE}", json=body, headers=back)).is_success


async def test_a_reject_is_discarded_with_a_reason(inlet: Inlet) -> None:
    reject_id = await open_reject(inlet, 3002, "12,5")
    path = f"/v1/rejects/{reject_id}/discard"
    keyed = inlet.admin | {"Idempotency-Key": "d1"}
    assert problem_of(await inlet.client.post(path, json={"reason": ""}, headers=keyed))[0] == 422
    done = await inlet.client.post(path, json={"reason": "a typing test"}, headers=keyed)
    assert done.json()["resolution"]["reason"] == "a typing test"
    other = inlet.admin | {"Idempotency-Key": "d2"}
    missing = await inlet.client.post(
        "/v1/rejects/none/discard", json={"reason": "why"}, headers=other
    )
    assert problem_of(missing) == (404, "not-found")


async def test_rejects_are_paged_and_filtered(inlet: Inlet) -> None:
    for number in range(3):
        await open_reject(inlet, 3100 + number, f"bad-{number}")
    path = f"/v1/rejects?state=open&source={SOURCE}&cause=invalid-value&limit=2"
    first = (await inlet.client.get(path, headers=inlet.admin)).json()
    assert len(first["data"]) == 2
    second = await inlet.client.get(f"{path}&cursor={first['next_cursor']}", headers=inlet.admin)
    ids = [row["id"] for row in (*first["data"], *second.json()["data"])]
    assert len(ids) == len(set(ids)) >= 3
    table = await inlet.client.get(path, headers=inlet.admin | {"Accept": "text/csv"})
    assert table.text.startswith("id,source,cause")
    rep = await inlet.client.get(path, headers=inlet.keys.bearer(Role.REP))
    assert problem_of(rep) == (403, "forbidden")
