"""What a HubSpot delivery says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from services.ingest.adapters import ADAPTERS
from services.ingest.domain.translation import (
    Connection,
    Delivery,
    Reject,
    Skipped,
    Translation,
    Why,
)
from shared.errors import InvalidValue
from shared.events.envelope import Envelope

RECEIVED = datetime(2026, 3, 12, 9, 30, 5, tzinfo=UTC)
OCCURRED_MS = 1773307803412
SEQUENCE = "001773307803412" + "0" * 19
HUBSPOT = ADAPTERS["hubspot"]
CONNECTION = Connection(
    id="hs",
    provider="hubspot",
    secrets=("demo-secret",),
    public_url="https://attain.example/v1/hooks/hs",
)


def event(kind: str = "deal.propertyChange", **stated: object) -> dict[str, Any]:
    return {
        "eventId": 3304118842,
        "subscriptionId": 771003,
        "portalId": 48210377,
        "appId": 2209114,
        "occurredAt": OCCURRED_MS,
        "subscriptionType": kind,
        "attemptNumber": 0,
        "objectId": 30714455901,
    } | stated


def property_change(name: str, value: object, **stated: object) -> dict[str, Any]:
    return event() | {"propertyName": name, "propertyValue": value} | stated


def read_body(body: bytes, connection: Connection = CONNECTION) -> Translation:
    return HUBSPOT.translate(Delivery("raw-1", RECEIVED, {}, body), connection)


def read(*events: dict[str, Any], connection: Connection = CONNECTION) -> Translation:
    return read_body(msgspec.json.encode(events), connection)


def only_fact(translation: Translation) -> Envelope:
    assert translation.rejects == ()
    (fact,) = translation.facts
    return fact


def data_of(fact: Envelope) -> Any:  # noqa: ANN401 - a JSON value
    return msgspec.json.decode(fact.data)


def only_reject(translation: Translation) -> Reject:
    assert translation.facts == ()
    (reject,) = translation.rejects
    return reject


def test_a_property_becomes_a_fact_about_one_field() -> None:
    fact = only_fact(read(property_change("dealstage", "closedwon")))
    assert data_of(fact) == {"stage": "closedwon"}
    assert fact.type == "attain.deal.v1"
    assert fact.subject == "deal/hubspot:48210377:30714455901"
    assert fact.source == "/crm/hubspot/48210377/hs"
    assert fact.time == "2026-03-12T09:30:03.412Z"
    assert fact.recordedtime == "2026-03-12T09:30:05.000Z"
    assert fact.sequence == SEQUENCE + "1"
    assert fact.rawid == "raw-1"


@pytest.mark.parametrize(
    ("name", "value", "patch"),
    [
        ("dealname", "Acme, 12 seats", {"name": "Acme, 12 seats"}),
        ("amount", "50000.00", {"amount": "50000"}),
        ("amount", "0.1", {"amount": "0.1"}),
        ("amount", "999999999999999999.0123456789", {"amount": "999999999999999999.0123456789"}),
        ("amount", "1.5E3", {"amount": "1500"}),
        ("amount", "-12.30", {"amount": "-12.3"}),
        ("amount", "", {"amount": None}),
        ("deal_currency_code", "eur", {"currency": "EUR"}),
        ("pipeline", "default", {"pipeline": "default"}),
        ("closedate", "1774915200000", {"close_date": "2026-03-31"}),
        ("closedate", "1775001599999", {"close_date": "2026-03-31"}),
        ("closedate", "2026-03-31T22:15:00.000Z", {"close_date": "2026-03-31"}),
        ("closedate", "2026-03-31", {"close_date": "2026-03-31"}),
        ("closedate", "", {"close_date": None}),
        ("createdate", "1773307803412", {"created_at": "2026-03-12T09:30:03.412Z"}),
        ("createdate", "2026-03-12T10:30:03.412+01:00", {"created_at": "2026-03-12T09:30:03.412Z"}),
        ("hubspot_owner_id", "55120034", {"owner": "hubspot:48210377:55120034"}),
        ("hubspot_owner_id", "", {"owner": None}),
        ("dealtype", "newbusiness", {"type": "new"}),
        ("dealtype", "existingbusiness", {"type": "expansion"}),
        ("hs_next_step", "Call Ana", {"next_step": "Call Ana"}),
        ("closed_lost_reason", "Price", {"lost_reason": "Price"}),
    ],
)
def test_deal_properties(name: str, value: str, patch: dict[str, Any]) -> None:
    assert data_of(only_fact(read(property_change(name, value)))) == patch


def test_a_number_in_place_of_text_keeps_every_digit() -> None:
    document = msgspec.json.encode([property_change("amount", "@")])
    for number in (b"123456789012345678.0123456789", b"0.1", b"9007199254740993"):
        fact = only_fact(read_body(document.replace(b'"@"', number)))
        assert data_of(fact) == {"amount": number.decode()}


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "1e400", "1e9999999999", "1_000", "12,5", "١٢", " 1", "1e18"]
)
def test_an_amount_that_is_no_sound_number_is_rejected_alone(value: str) -> None:
    translation = read(property_change("amount", value), property_change("dealname", "Acme"))
    assert [data_of(fact) for fact in translation.facts] == [{"name": "Acme"}]
    (reject,) = translation.rejects
    assert reject.pointer == "/0/propertyValue"
    assert reject.cause == "invalid-value"
    assert '"amount"' in reject.excerpt


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("deal_currency_code", "XYZ", "unknown-currency"),
        ("deal_currency_code", "euro", "invalid-value"),
        ("closedate", "2026-02-30", "invalid-value"),
        ("closedate", "999999999999999", "invalid-value"),
        ("closedate", "tomorrow", "invalid-value"),
        ("dealtype", "partner", "invalid-value"),
        ("dealname", "nul \x00 character", "invalid-value"),
        ("hubspot_owner_id", "a/b", "invalid-value"),
        ("dealname", {"a": 1}, "invalid-value"),
    ],
)
def test_values_that_no_field_can_hold(name: str, value: object, cause: str) -> None:
    reject = only_reject(read(property_change(name, value)))
    assert (reject.pointer, reject.cause) == ("/0/propertyValue", cause)


def test_a_fact_from_next_year_is_rejected() -> None:
    reject = only_reject(read(property_change("amount", "1", occurredAt=OCCURRED_MS + 31 * 10**9)))
    assert (reject.pointer, reject.cause) == ("/0/occurredAt", "future-dated")


@pytest.mark.parametrize("occurred", [-1, 10**15, 10**18])
def test_a_time_outside_the_calendar_is_rejected(occurred: int) -> None:
    for kind in ("deal.deletion", "deal.creation"):
        assert only_reject(read(event(kind, occurredAt=occurred))).cause in {
            "invalid-value",
            "future-dated",
        }


@pytest.mark.parametrize(
    "missing", ["portalId", "occurredAt", "objectId", "propertyName", "propertyValue"]
)
def test_what_an_event_needs_is_named(missing: str) -> None:
    incomplete = property_change("amount", "1")
    del incomplete[missing]
    reject = only_reject(read(incomplete))
    assert (reject.pointer, reject.cause) == (f"/0/{missing}", "missing-attribute")


def test_a_malformed_event_does_not_stop_the_others() -> None:
    good = msgspec.json.encode(property_change("amount", "1"))
    body = b'[17, {"subscriptionType": 5}, {"occurredAt": "soon", "portalId": 1}, null, ' + good
    translation = read_body(body + b"]")
    assert len(translation.facts) == 1
    assert [reject.pointer for reject in translation.rejects] == [
        "/0",
        "/1/subscriptionType",
        "/2/occurredAt",
        "/3",
    ]


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"[1,]", b"\xff", b"[NaN]", b"[" * 9000])
def test_a_body_that_is_no_array_is_refused_whole(body: bytes) -> None:
    with pytest.raises(InvalidValue):
        read_body(body)


def test_creation_says_when_and_comes_before_the_values_of_its_instant() -> None:
    fact = only_fact(read(event("deal.creation", changeFlag="NEW")))
    assert data_of(fact) == {"created_at": "2026-03-12T09:30:03.412Z", "deleted": False}
    assert fact.sequence < only_fact(read(property_change("createdate", "1"))).sequence
    assert data_of(only_fact(read(event("company.creation")))) == {"deleted": False}


def test_deletion_and_restore() -> None:
    assert data_of(only_fact(read(event("deal.deletion")))) == {"deleted": True}
    restored = read(event("deal.restore"))
    assert data_of(only_fact(restored)) == {"deleted": False}
    assert restored.wanted_reads == ("deal/hubspot:48210377:30714455901",)


def test_a_privacy_deletion_takes_the_names() -> None:
    fact = only_fact(read(event("contact.privacyDeletion")))
    assert data_of(fact) == {"deleted": True, "name": None, "email": None}


def test_merged_records_point_at_the_survivor() -> None:
    translation = read(
        event("deal.merge", objectId=1, primaryObjectId=1, mergedObjectIds=[2, 3], newObjectId=9)
    )
    assert {fact.subject: data_of(fact) for fact in translation.facts} == {
        f"deal/hubspot:48210377:{merged}": {"merged_into": "hubspot:48210377:9"}
        for merged in (1, 2, 3)
    }
    assert translation.wanted_reads == ("deal/hubspot:48210377:9",)


def test_the_primary_record_survives_when_there_is_no_new_one() -> None:
    translation = read(event("contact.merge", primaryObjectId=1, mergedObjectIds=[2, 1]))
    fact = only_fact(translation)
    assert fact.subject == "contact/hubspot:48210377:2"
    assert data_of(fact) == {"merged_into": "hubspot:48210377:1"}
    assert only_reject(read(event("deal.merge", primaryObjectId=1, mergedObjectIds=[1]))).pointer


def association(kind: str, source: int, target: int, **stated: object) -> dict[str, Any]:
    told = event("deal.associationChange", associationType=kind, associationRemoved=False)
    del told["objectId"]
    return told | {"fromObjectId": source, "toObjectId": target} | stated


def test_both_directions_of_an_association_are_one_fact() -> None:
    there = association("DEAL_TO_COMPANY", 7, 8, isPrimaryAssociation=True)
    back = association("COMPANY_TO_DEAL", 8, 7, isPrimaryAssociation=True, eventId=4)
    back["subscriptionType"] = "company.associationChange"
    fact = only_fact(read(there, back))
    assert fact.subject == "deal/hubspot:48210377:7"
    assert data_of(fact) == {"account": "hubspot:48210377:8"}


def test_only_the_primary_company_is_the_account() -> None:
    other = association("DEAL_TO_COMPANY", 7, 8, isPrimaryAssociation=False)
    assert read(other).skipped == (Skipped("deal.associationChange", Why.NOT_PRIMARY),)
    removed = association(
        "DEAL_TO_COMPANY", 7, 8, isPrimaryAssociation=True, associationRemoved=True
    )
    fact = only_fact(read(removed))
    assert data_of(fact) == {"account": None}
    added = only_fact(read(association("DEAL_TO_COMPANY", 7, 9, isPrimaryAssociation=True)))
    assert fact.sequence < added.sequence


def test_contacts_of_deals_and_companies_of_contacts() -> None:
    added = association("DEAL_TO_CONTACT", 7, 5)
    assert data_of(only_fact(read(added))) == {"contact": "hubspot:48210377:5"}
    generic = association("", 5, 8, fromObjectTypeId="0-1", toObjectTypeId="0-2")
    generic["subscriptionType"] = "object.associationChange"
    fact = only_fact(read(generic))
    assert fact.subject == "contact/hubspot:48210377:5"
    assert data_of(fact) == {"account": "hubspot:48210377:8"}


def test_a_removed_contact_does_not_say_which_remains() -> None:
    translation = read(association("DEAL_TO_CONTACT", 7, 5, associationRemoved=True))
    assert translation.facts == ()
    assert translation.skipped == (Skipped("deal.associationChange", Why.INCOMPLETE),)
    assert translation.wanted_reads == ("deal/hubspot:48210377:7",)


def test_generic_events_and_the_other_name_of_the_kind() -> None:
    named = only_fact(read(property_change("amount", "5")))
    told = property_change("amount", "5", objectTypeId="0-3")
    told["subscriptionType"] = "object.propertyChange"
    assert only_fact(read(told)) == named
    del told["subscriptionType"]
    assert only_fact(read(told | {"eventType": "deal.propertyChange"})) == named


def test_contacts_and_companies() -> None:
    company = property_change("name", "Acme") | {"subscriptionType": "company.propertyChange"}
    fact = only_fact(read(company))
    assert (fact.type, data_of(fact)) == ("attain.account.v1", {"name": "Acme"})
    contact = property_change("email", "b@acme.example")
    contact["subscriptionType"] = "contact.propertyChange"
    assert data_of(only_fact(read(contact))) == {"email": "b@acme.example"}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (event("ticket.creation"), Why.UNKNOWN_KIND),
        (event("deal.somethingNew"), Why.UNKNOWN_KIND),
        (event("object.creation", objectTypeId="0-27"), Why.UNKNOWN_KIND),
        (property_change("description", "x"), Why.UNMAPPED_PROPERTY),
        (property_change("hs_is_closed_won", "true"), Why.UNMAPPED_PROPERTY),
        (property_change("dealname", "REDACTED", isSensitive=True), Why.REDACTED),
    ],
)
def test_what_is_not_kept_is_counted_and_not_refused(told: dict[str, Any], why: Why) -> None:
    translation = read(told)
    assert (translation.facts, translation.rejects) == ((), ())
    assert [skipped.why for skipped in translation.skipped] == [why]


def test_other_portals_of_the_app_are_passed_over_when_tenants_are_named() -> None:
    connection = replace(CONNECTION, tenants=frozenset({"1"}))
    translation = read(property_change("amount", "5"), connection=connection)
    assert [skipped.why for skipped in translation.skipped] == [Why.UNKNOWN_TENANT]


def test_retries_and_second_subscriptions_are_the_same_fact() -> None:
    first = property_change("amount", "5")
    again = first | {"attemptNumber": 3, "subscriptionId": 2, "eventId": 99}
    assert only_fact(read(first, again)).id == only_fact(read(again)).id
    others = [
        first | {"propertyValue": "6"},
        first | {"occurredAt": OCCURRED_MS + 1},
        first | {"objectId": 1},
        first | {"portalId": 1},
        first | {"propertyName": "dealname"},
    ]
    assert len({fact.id for fact in read(first, *others).facts}) == 6


def test_a_new_mapping_makes_facts_of_its_own_revision() -> None:
    first = property_change("amount", "5")
    revised = only_fact(read(first, connection=replace(CONNECTION, revision=1)))
    assert revised.revision == 1
    assert revised.id != only_fact(read(first)).id


def test_a_connection_maps_properties_of_its_own() -> None:
    connection = replace(
        CONNECTION,
        mapping={
            "deal": {"region": "custom.region", "arr": "amount", "dealname": "", "lead_source": ""}
        },
    )
    HUBSPOT.check(connection)
    read_fact = {"region": {"custom": {"region": "EMEA"}}, "arr": {"amount": "12"}}
    assert (
        data_of(only_fact(read(property_change("region", "EMEA"), connection=connection)))
        == read_fact["region"]
    )
    assert (
        data_of(only_fact(read(property_change("arr", "12.0"), connection=connection)))
        == read_fact["arr"]
    )
    displaced = read(
        property_change("amount", "9"), property_change("dealname", "x"), connection=connection
    )
    assert [skipped.why for skipped in displaced.skipped] == [Why.UNMAPPED_PROPERTY] * 2


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"secrets": ()}, "/secrets"),
        ({"secrets": ("",)}, "/secrets"),
        ({"public_url": "/v1/hooks/hs"}, "/public_url"),
        ({"tenants": frozenset({"acme"})}, "/tenants"),
        ({"options": {"legacy_signatures": "yes"}}, "/options/legacy_signatures"),
        ({"mapping": {"ticket": {}}}, "/mapping/ticket"),
        ({"mapping": {"deal": {"x": "salary"}}}, "/mapping/deal/x"),
        ({"mapping": {"deal": {"x": "custom."}}}, "/mapping/deal/x"),
        ({"mapping": {"contact": {"x": "custom.y"}}}, "/mapping/contact/x"),
    ],
)
def test_a_connection_that_could_not_work_is_refused(change: dict[str, Any], pointer: str) -> None:
    HUBSPOT.check(CONNECTION)
    with pytest.raises(InvalidValue) as refusal:
        HUBSPOT.check(replace(CONNECTION, **change))
    assert refusal.value.pointer == pointer


def test_imported_history_is_marked() -> None:
    body = msgspec.json.encode([property_change("amount", "5")])
    translation = HUBSPOT.translate(
        Delivery("raw-1", RECEIVED, {}, body, backfill=True), CONNECTION
    )
    assert only_fact(translation).backfill


def test_hubspot_is_answered_with_any_2xx() -> None:
    assert HUBSPOT.acknowledge().status == 204


def test_a_rejected_event_is_kept_alone() -> None:
    body = msgspec.json.encode([property_change("amount", "1"), property_change("amount", "x")])
    (reject,) = read_body(body).rejects
    alone = HUBSPOT.alone(body, reject.pointer)
    assert [one.pointer for one in read_body(alone).rejects] == ["/0/propertyValue"]
    assert read_body(alone).facts == ()
    for nowhere in ("", "/7", "/x", "/-9"):
        assert HUBSPOT.alone(body, nowhere) == HUBSPOT.redact(body) == body
