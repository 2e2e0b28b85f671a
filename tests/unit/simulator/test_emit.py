"""What travels: nothing lost, as often repeated and late as asked, signed as HubSpot signs."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.simulator import Company, Delivery, deliveries
from tests.simulator.emit import MAX_LATENESS_MS, RETRY_WITHIN_MS, cloud_events
from tests.simulator.hubspot import (
    EVENTS_PER_REQUEST,
    PROPERTIES,
    external_id,
    signature_v3,
    webhook_events,
)

LATE_MS = 60_000


@pytest.fixture(scope="module")
def company() -> Company:
    """A company of a few thousand facts."""
    return Company.generate(11, 0.1)


def events_of(sent: list[Delivery], kind: str) -> list[tuple[Delivery, dict[str, Any]]]:
    """(delivery, event) of one kind."""
    return [(one, event) for one in sent if one.kind == kind for event in json.loads(one.body)]


@pytest.mark.parametrize(
    ("secret", "url", "body", "timestamp_ms", "signature"),
    [
        (
            "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy",
            "https://www.example.com/webhook_uri",
            b"{'example_field':'example_value'}",
            1693657560000,
            "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y=",
        ),
        (
            "demo-secret",
            "https://x.test/h?a=b%2Fc%20d",
            b"[]",
            1767225600000,
            "FPgJm1KBU544QSo+YRUO7xZfOYOWRUGvbKirnMq8L2w=",
        ),
    ],
)
def test_signature(secret: str, url: str, body: bytes, timestamp_ms: int, signature: str) -> None:
    assert signature_v3(secret, "POST", url, body, timestamp_ms) == signature


def test_without_trouble_each_event_is_sent_once(company: Company) -> None:
    sent = list(deliveries(company, duplicates=0, disorder=0))
    told = [event for _, event in events_of(sent, "hubspot")]
    assert sorted(map(json.dumps, told)) == sorted(
        json.dumps(event) for _, event in webhook_events(company.history)
    )
    told = [event for _, event in events_of(sent, "events")]
    assert sorted(event["id"] for event in told) == sorted(
        event["id"] for _, event in cloud_events(company.history)
    )
    assert len({event["id"] for event in told}) == len(told)


def test_every_change_is_told(company: Company) -> None:
    by_property = Counter(
        event.get("propertyName", event["subscriptionType"])
        for _, event in webhook_events(company.history)
    )
    changes = [change for deal in company.history.deals for change in deal.changes]
    intended = Counter(change.field for change in changes)
    for field, name in PROPERTIES.items():
        assert by_property[name] == intended[field]
    assert by_property["deal.creation"] == len(company.history.deals)
    flags = Counter(change.value for change in changes if change.field == "deleted")
    assert by_property["deal.deletion"] == flags[True]
    assert by_property["deal.restore"] == flags[False]


def test_merges_name_the_survivor(company: Company) -> None:
    intended = {
        (external_id(deal.id), external_id(str(change.value)))
        for deal in company.history.deals
        for change in deal.changes
        if change.field == "merged_into"
    }
    told, thirds = set(), 0
    for _, event in webhook_events(company.history):
        if event["subscriptionType"] == "deal.merge":
            survivor = event["newObjectId"]
            gone = {event["primaryObjectId"], *event["mergedObjectIds"]} - {survivor}
            told |= {(old, survivor) for old in gone}
            thirds += event["primaryObjectId"] != survivor
    assert told == intended
    assert thirds >= 1


def test_trouble_comes_at_the_rates_asked_for(company: Company) -> None:
    sent = list(deliveries(company, duplicates=0.2, disorder=0.3, seed=1))
    assert sent == list(deliveries(company, duplicates=0.2, disorder=0.3, seed=1))
    assert [one.at_ms for one in sent] == sorted(one.at_ms for one in sent)
    told = events_of(sent, "hubspot")
    intended = sum(1 for _ in webhook_events(company.history))
    assert 0.14 < len(told) / intended - 1 < 0.26
    assert all(one.events <= EVENTS_PER_REQUEST for one, _ in told)
    assert {event["attemptNumber"] for _, event in told} >= {0, 1}
    latest = {0: 0}
    behind = 0
    for one, event in told:
        occurred = event["occurredAt"]
        assert -1 < one.at_ms - occurred < MAX_LATENESS_MS + 2 * RETRY_WITHIN_MS + 6 * 3_600_000
        seen = latest.setdefault(event["objectId"], 0)
        behind += occurred < seen - LATE_MS
        latest[event["objectId"]] = max(seen, occurred)
    assert behind / len(told) > 0.02


def test_headers(company: Company) -> None:
    sent = list(deliveries(company, duplicates=0, disorder=0))
    url = "https://attain.acme.example/v1/hooks/hubspot-4821"
    for kind in ("hubspot", "events"):
        one = next(delivery for delivery in sent if delivery.kind == kind)
        headers = one.headers(secret="demo-secret", url=url, now_ms=1767225600000, token="t")
        if kind == "hubspot":
            signed = signature_v3("demo-secret", "POST", url, one.body, 1767225600000)
            assert headers["X-HubSpot-Signature-v3"] == signed
            assert headers["X-HubSpot-Request-Timestamp"] == "1767225600000"
        else:
            assert headers["Authorization"] == "Bearer t"
            assert headers["Content-Type"] == "application/cloudevents-batch+json"
