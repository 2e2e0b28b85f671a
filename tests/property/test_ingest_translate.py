"""HubSpot's translation over any deliveries: nothing lost, nothing twice, no digit changed."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.adapters import ADAPTERS
from services.ingest.domain.translation import Connection, Delivery, Translation
from shared.clock import to_epoch_ms
from shared.facts.fact import read_fact
from shared.facts.record import Record, canonical

HUBSPOT = ADAPTERS["hubspot"]
CONNECTION = Connection(id="hs", provider="hubspot", secrets=("x",), public_url="https://x.test/h")
RECEIVED = datetime(2026, 3, 31, 12, tzinfo=UTC)
START_MS = to_epoch_ms(RECEIVED) - 3_600_000

AMOUNTS = st.integers(-(10**28) + 1, 10**28 - 1).map(lambda units: Decimal(units).scaleb(-10))
"""Eighteen digits before the point and ten after it: more than a double holds."""

INSTANTS_MS = st.integers(START_MS, START_MS + 2)
IDS = st.integers(1, 2)


def values() -> st.SearchStrategy[dict[str, str]]:
    """One property and its value, as HubSpot writes it."""
    pairs = st.one_of(
        st.tuples(st.just("amount"), AMOUNTS.map("{:f}".format) | st.just("")),
        st.tuples(st.just("dealstage"), st.sampled_from(["open", "closedwon", "17"])),
        st.tuples(st.just("deal_currency_code"), st.sampled_from(["EUR", "usd", ""])),
        st.tuples(st.just("hubspot_owner_id"), st.sampled_from(["5", "6", ""])),
        st.tuples(st.just("description"), st.text(max_size=5)),
    )
    return pairs.map(lambda pair: {"propertyName": pair[0], "propertyValue": pair[1]})


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """One event that HubSpot could send about one of two deals."""
    told: dict[str, Any] = {"portalId": 7, "occurredAt": draw(INSTANTS_MS)}
    kind = draw(st.sampled_from(["propertyChange"] * 5 + ["creation", "deletion", "restore"]))
    if draw(st.integers(0, 2)) == 0:
        source, target = draw(IDS), draw(IDS)
        told |= {
            "subscriptionType": "deal.associationChange",
            "associationType": "DEAL_TO_COMPANY",
            "fromObjectId": source,
            "toObjectId": 100 + target,
            "associationRemoved": draw(st.booleans()),
            "isPrimaryAssociation": True,
        }
        return told
    told |= {"subscriptionType": f"deal.{kind}", "objectId": draw(IDS)}
    if kind == "propertyChange":
        told |= draw(values())
    return told


def turned(told: dict[str, Any]) -> dict[str, Any]:
    """The same change as another subscription of another form tells it."""
    again = dict(told)
    change = again.pop("subscriptionType").partition(".")[2]
    if change == "associationChange":
        again["subscriptionType"] = "company.associationChange"
        again["associationType"] = "COMPANY_TO_DEAL"
        again["fromObjectId"], again["toObjectId"] = told["toObjectId"], told["fromObjectId"]
    else:
        again |= {"eventType": f"object.{change}", "objectTypeId": "0-3"}
    return again


def translate(events: list[dict[str, Any]], *, at: datetime = RECEIVED) -> Translation:
    body = msgspec.json.encode(events)
    return HUBSPOT.translate(Delivery(at.isoformat(), at, {}, body), CONNECTION)


def folded(translations: list[Translation]) -> dict[str, Any]:
    records: dict[str, Record] = {}
    for translation in translations:
        assert translation.rejects == ()
        for envelope in translation.facts:
            records.setdefault(envelope.subject, Record()).fold(read_fact(envelope))
    return {subject: canonical(record) for subject, record in sorted(records.items())}


@settings(max_examples=60, deadline=None)
@given(st.lists(changes(), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_retries_disorder_and_second_subscriptions_change_nothing(
    told: list[dict[str, Any]], chance: random.Random
) -> None:
    """As told once, in one delivery; and told twice, in both forms, shuffled, one by one."""
    again = [{**change, "attemptNumber": 2, "eventId": index} for index, change in enumerate(told)]
    again += [turned(change) | {"subscriptionId": 9} for change in told]
    chance.shuffle(again)
    later = [
        translate([change], at=RECEIVED + timedelta(seconds=index))
        for index, change in enumerate(again)
    ]
    once = translate(told)
    ids = [fact.id for fact in once.facts]
    assert len(set(ids)) == len(ids)
    assert {fact.id for translation in later for fact in translation.facts} == set(ids)
    assert folded([once]) == folded(later)
    note(f"distinct facts: {min(len(ids), 5)}")


@settings(max_examples=60, deadline=None)
@given(st.lists(changes(), max_size=12))
def test_different_changes_are_different_facts(told: list[dict[str, Any]]) -> None:
    """As many facts as there are changes that differ, leaving out what is not mapped."""
    expected = {
        tuple(sorted((name, str(value)) for name, value in change.items()))
        for change in told
        if change.get("propertyName") != "description"
    }
    assert len(translate(told).facts) == len(expected)


@settings(max_examples=200, deadline=None)
@given(AMOUNTS, st.booleans())
def test_no_digit_of_an_amount_changes(amount: Decimal, as_number: bool) -> None:  # noqa: FBT001
    told = {
        "portalId": 7,
        "occurredAt": START_MS,
        "subscriptionType": "deal.propertyChange",
        "objectId": 1,
        "propertyName": "amount",
        "propertyValue": f"{amount:f}",
    }
    body = msgspec.json.encode([told])
    if as_number:
        body = body.replace(f'"{amount:f}"'.encode(), f"{amount:f}".encode())
    (fact,) = HUBSPOT.translate(Delivery("raw", RECEIVED, {}, body), CONNECTION).facts
    stated = msgspec.json.decode(fact.data)["amount"]
    assert isinstance(stated, str)
    assert Decimal(stated) == amount


@settings(max_examples=100, deadline=None)
@given(st.dates(date(1980, 1, 1), date(2100, 1, 1)), st.integers(0, 86_399_999))
def test_a_close_date_is_the_day_of_its_instant_in_utc(day: date, into_the_day_ms: int) -> None:
    midnight_ms = (day - date(1970, 1, 1)).days * 86_400_000
    told = {
        "portalId": 7,
        "occurredAt": START_MS,
        "subscriptionType": "deal.propertyChange",
        "objectId": 1,
        "propertyName": "closedate",
        "propertyValue": str(midnight_ms + into_the_day_ms),
    }
    (fact,) = translate([told]).facts
    assert msgspec.json.decode(fact.data) == {"close_date": day.isoformat()}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
NAMES = [
    "subscriptionType",
    "portalId",
    "occurredAt",
    "objectId",
    "propertyName",
    "propertyValue",
    "mergedObjectIds",
    "newObjectId",
    "primaryObjectId",
    "fromObjectId",
    "associationType",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(changes(), st.sampled_from(NAMES), JSON), max_size=6))
def test_every_event_has_exactly_one_fate(spoilt: list[tuple[dict[str, Any], str, Any]]) -> None:
    """Whatever an event holds: it is a fact, a reject or passed over, and never silently gone."""
    told = [change | {name: value} for change, name, value in spoilt]
    fates: Counter[str] = Counter()
    for change in told:
        alone = translate([change])
        assert len(alone.rejects) + len(alone.skipped) + bool(alone.facts) == 1
        fates["rejects"] += len(alone.rejects)
        fates["skipped"] += len(alone.skipped)
    together = translate(told)
    assert len(together.rejects) == fates["rejects"]
    assert len(together.skipped) == fates["skipped"]
    for reject in together.rejects:
        assert reject.pointer.startswith("/")
        assert reject.message
