"""People, teams, calendars, rates and stage maps as facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.ingest.domain.cloudevents import EventsRefused
from services.ingest.domain.reference import MAX_RATES, rate_facts, reference_fact
from shared.errors import Refused
from shared.facts.fact import read_fact

NOW = datetime(2026, 3, 31, 9, 30, 0, 412007, tzinfo=UTC)


def fields(kind: str, record_id: str, body: dict[str, Any]) -> dict[str, Any]:
    envelope = reference_fact(kind, record_id, msgspec.json.encode(body), now=NOW)
    assert envelope.source == "/attain/api"
    assert envelope.subject == f"{kind}/{record_id}"
    return dict(read_fact(envelope).fields)


def test_a_person_holds_from_a_day() -> None:
    body = {
        "effective_from": "2026-01-01",
        "name": "Ana Ruiz",
        "manager": "acme-bo",
        "teams": {"emea": True},
        "identities": {"hubspot:4821:55": True},
    }
    assert fields("person", "acme-ana", body) == {
        "name@2026-01-01": "Ana Ruiz",
        "manager@2026-01-01": "acme-bo",
        "teams:emea@2026-01-01": True,
        "identities:hubspot:4821:55@2026-01-01": True,
    }


def test_without_a_day_it_holds_from_now() -> None:
    assert fields("team", "emea", {"manager": None}) == {"manager@2026-03-31T09:30:00.412Z": None}


def test_calendars_and_stage_maps() -> None:
    body = {
        "time_zone": "Europe/Berlin",
        "fiscal_start_month": 2,
        "weekdays": [1, 2, 3, 4, 5],
        "holidays": {"2026-05-01": "Labour Day"},
        "effective_from": "2020-01-01",
    }
    assert fields("calendar", "org", body)["holidays:2026-05-01@2020-01-01"] == "Labour Day"
    stages = {"closedwon": {"order": 5, "status": "won", "probability": "1"}}
    stated = fields("stage_map", "hubspot:4821:default", {"stages": stages})
    assert stated["stages@2026-03-31T09:30:00.412Z"]["closedwon"]["status"] == "won"


def test_a_later_statement_orders_after_an_earlier_one() -> None:
    body = b'{"name": "Ana"}'
    first = reference_fact("person", "ana", body, now=NOW)
    second = reference_fact("person", "ana", body, now=NOW + timedelta(microseconds=1))
    assert first.sequence < second.sequence
    assert first.id != second.id


@pytest.mark.parametrize(
    ("kind", "body", "pointer"),
    [
        ("person", {"manager": "x"}, "/manager"),
        ("person", {"email": "nobody"}, "/email"),
        ("person", {"timezone": "Mars/Olympus"}, "/timezone"),
        ("person", {"timezone": "../etc"}, "/timezone"),
        ("person", {"currency": "XYZ"}, "/currency"),
        ("person", {"name": 5}, "/name"),
        ("person", {"name": "x", "effective_from": "2026-02-30"}, "/effective_from"),
        ("person", {"hired_on": "2026-13-01"}, "/hired_on"),
        ("person", {"effective_from": "2026-01-01"}, ""),
        ("person", {}, ""),
        ("team", {"parent": "x"}, "/parent"),
        ("calendar", {"weekdays": [5, 1]}, "/weekdays"),
        ("calendar", {"weekdays": []}, "/weekdays"),
        ("calendar", {"fiscal_start_month": 13}, "/fiscal_start_month"),
        ("calendar", {"time_zone": "Europe"}, "/time_zone"),
        ("calendar", {"country": "germany"}, "/country"),
        ("calendar", {"holidays": {"2026-02-30": "x"}}, "/holidays/2026-02-30"),
        ("stage_map", {"stages": {"a": {"status": "won"}}}, "/stages"),
    ],
)
def test_what_cannot_be_stated(kind: str, body: dict[str, Any], pointer: str) -> None:
    with pytest.raises(EventsRefused) as refused:
        reference_fact(kind, "x", msgspec.json.encode(body), now=NOW)
    assert refused.value.problems[0].pointer == pointer


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"NaN", b"\xff"])
def test_a_body_that_is_no_object(body: bytes) -> None:
    with pytest.raises(Refused):
        reference_fact("person", "x", body, now=NOW)
    with pytest.raises(Refused):
        rate_facts("org", body, now=NOW)


def rates(*rows: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"rates": rows})


def row(**changed: object) -> dict[str, Any]:
    return {"from": "EUR", "to": "USD", "day": "2026-03-31", "rate": "1.0825"} | changed


def test_each_rate_is_a_record_of_its_own() -> None:
    first, second = rate_facts("org", rates(row(), row(day="2026-04-01", rate=None)), now=NOW)
    assert first.subject == "rate/org:EUR:USD:2026-03-31"
    assert dict(read_fact(first).fields) == {
        "table": "org",
        "from": "EUR",
        "to": "USD",
        "day": "2026-03-31",
        "rate": "1.0825",
    }
    assert read_fact(second).fields["rate"] is None


def test_every_bad_rate_is_named() -> None:
    body = rates(
        row(),
        row(rate=1.08),
        row(rate="0"),
        row(rate="-1"),
        row(to="EUR"),
        row(to="XYZ"),
        row(day="2026-02-30"),
        {"from": "EUR"},
        row(note="x"),
    )
    with pytest.raises(EventsRefused) as refused:
        rate_facts("org", body, now=NOW)
    assert [problem.pointer for problem in refused.value.problems] == [
        "/rates/1/rate",
        "/rates/2/rate",
        "/rates/3/rate",
        "/rates/4/to",
        "/rates/5/to",
        "/rates/6/day",
        "/rates/7/to",
        "/rates/8",
    ]


def test_too_many_rates() -> None:
    with pytest.raises(Refused) as refused:
        rate_facts("org", rates(*[row()] * (MAX_RATES + 1)), now=NOW)
    assert refused.value.status == 413
