"""People, teams, calendars, stage maps and rates: stated once, told to everybody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.http.auth import Role
from tests.integration.ingest.conftest import Inlet
from tests.integration.ingest.test_deliveries import problem_of
from tests.simulator.company import Company
from tests.simulator.setup import setup_calls

ANA = {"effective_from": "2025-01-01", "name": "Ana", "role": "rep", "teams": {"north": True}}


async def test_what_is_stated_is_shown_and_published(inlet: Inlet) -> None:
    made = await inlet.client.put("/v1/people/ana", json=ANA, headers=inlet.admin)
    assert made.status_code == 200
    moved = {"effective_from": "2025-07-01", "manager": "bea", "teams": {"north": False}}
    later = await inlet.client.put("/v1/people/ana", json=moved, headers=inlet.admin)
    shown = await inlet.client.get("/v1/people/ana", headers=inlet.admin)
    assert shown.headers["etag"] == later.headers["etag"]
    values = {
        (row["field"], row["member"], row["from"]): row["value"] for row in shown.json()["values"]
    }
    assert values == {
        ("manager", None, "2025-07-01"): "bea",
        ("name", None, "2025-01-01"): "Ana",
        ("role", None, "2025-01-01"): "rep",
        ("teams", "north", "2025-01-01"): True,
        ("teams", "north", "2025-07-01"): False,
    }
    ids = {made.json()["fact"], later.json()["fact"]}
    facts = [row for row in await inlet.on_kafka("crm.people", ids) if row["id"] in ids]
    assert [row["data"] for row in sorted(facts, key=lambda row: row["sequence"])] == [ANA, moved]
    assert {row["subject"] for row in facts} == {"person/ana"}
    listed = await inlet.client.get("/v1/people", headers=inlet.keys.bearer(Role.FINANCE))
    assert [row["id"] for row in listed.json()["data"]] == ["ana"]


async def test_a_statement_may_insist_on_the_version_it_saw(inlet: Inlet) -> None:
    first = await inlet.client.put("/v1/teams/east", json={"name": "East"}, headers=inlet.admin)
    seen = inlet.admin | {"If-Match": first.headers["etag"]}
    assert (await inlet.client.put("/v1/teams/east", json={"name": "E"}, headers=seen)).is_success
    stale = await inlet.client.put("/v1/teams/east", json={"name": "F"}, headers=seen)
    assert problem_of(stale) == (412, "precondition-failed")
    creating = inlet.admin | {"If-None-Match": "*"}
    there = await inlet.client.put("/v1/teams/east", json={"name": "G"}, headers=creating)
    assert problem_of(there) == (412, "precondition-failed")
    new = await inlet.client.put("/v1/teams/west", json={"name": "W"}, headers=creating)
    assert new.json()["version"] == 1


async def test_statements_at_once_are_all_kept(inlet: Inlet) -> None:
    answers = await asyncio.gather(
        *(
            inlet.client.put(
                "/v1/people/many",
                json={"identities": {f"hubspot:1:{n}": True}},
                headers=inlet.admin,
            )
            for n in range(20)
        )
    )
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 21))
    shown = (await inlet.client.get("/v1/people/many", headers=inlet.admin)).json()
    assert len({row["member"] for row in shown["values"]}) == 20
    await inlet.on_kafka("crm.people", {answer.json()["fact"] for answer in answers})


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("people/x", b'{"manager": "x"}', (422, "invalid-value", "/manager")),
        ("people/x", b'{"salary": "1"}', (422, "invalid-value", "")),
        ("people/x", b"{}", (422, "nothing-stated", "")),
        ("people/x", b"[", (400, "malformed-json", None)),
        ("people/a@b", b'{"name": "x"}', (422, "unknown-subject", "/subject")),
        ("calendars/org", b'{"time_zone": "Mars"}', (422, "invalid-value", "/time_zone")),
        ("stage-maps/a:b:c", b'{"stages": {"x": {"order": "1"}}}', (422, "invalid-value", None)),
        ("rates", b'{"rows": [{"from":"EUR","to":"XXX","day":"2025-01-01","rate":"1"}]}',
         (422, "unknown-currency", "/rows/0/to")),
        ("rates", b'{"rows": [{"from":"EUR","to":"USD","day":"2025-01-01","rate":1.1}]}',
         (422, "number-not-text", "/rows/0/rate")),
        ("rates", b'{"rows": []}', (422, "nothing-stated", "/rows")),
        ("rates", b'{"rows": [NaN]}', (400, "malformed-json", None)),
    ],
)  # fmt: skip
async def test_what_cannot_be_stated(
    inlet: Inlet, path: str, body: bytes, expected: tuple[int, str, str | None]
) -> None:
    method = "POST" if path == "rates" else "PUT"
    answer = await inlet.client.request(method, f"/v1/{path}", content=body, headers=inlet.admin)
    assert problem_of(answer) == expected[:2]
    if expected[2] is not None:
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [expected[2]]
    rep = await inlet.client.request(
        method, f"/v1/{path}", content=body, headers=inlet.keys.bearer(Role.REP)
    )
    assert problem_of(rep) == (403, "forbidden")


async def test_rates_of_several_tables(inlet: Inlet) -> None:
    row: dict[str, Any] = {"from": "GBP", "to": "USD", "day": "2024-03-01", "rate": "1.25"}
    answer = await inlet.client.post(
        "/v1/rates",
        json={"rows": [row, row | {"table": "tax", "rate": "1.3"}]},
        headers=inlet.admin,
    )
    assert answer.json()["accepted"] == 2
    facts = await inlet.on_kafka("crm.reference", set(answer.json()["ids"]))
    assert {fact["subject"] for fact in facts if fact["id"] in answer.json()["ids"]} == {
        "rate/org:GBP:USD:2024-03-01",
        "rate/tax:GBP:USD:2024-03-01",
    }
    listed = await inlet.client.get("/v1/rates?table=tax", headers=inlet.admin)
    assert listed.json()["data"] == [row | {"table": "tax", "rate": "1.3"}]


async def test_a_whole_company_is_set_up(inlet: Inlet) -> None:
    """Every call that the simulator makes to ingest is understood."""
    calls = [
        call
        for call in setup_calls(Company.generate(3), secret="made-up-secret")
        if call.service == "ingest"
    ]
    for call in calls:
        answer = await inlet.client.request(
            call.method, call.path, json=call.body, headers=inlet.admin
        )
        assert answer.is_success, (call.path, answer.text)
    stated = await inlet.sql("SELECT kind, count(*) AS n FROM reference_document GROUP BY kind")
    assert {row["kind"] for row in stated} == {"person", "team", "calendar", "rate", "stage_map"}
