"""What a Salesforce outbound message says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.ingest.adapters.salesforce_fields import id_18, id_order
from services.ingest.domain.checks import Unacceptable
from services.ingest.domain.translation import Skipped, Translation, Why
from shared.errors import InvalidValue
from tests.unit.ingest.salesforce_messages import (
    CHANGED,
    CONNECTION,
    DEAL_15,
    DEAL_18,
    NOTIFICATION,
    ORG_15,
    ORG_18,
    SALESFORCE,
    SECRET,
    SESSION,
    configured,
    data_of,
    message,
    notification,
    patch,
    read,
    read_body,
)

TENANT = f"salesforce:{ORG_18}"
USER = "0055g00000HkRsTAAV"
ACCOUNT = "0015g00000AbCdEAAV"


def only_reject(translation: Translation) -> tuple[str, str, str]:
    assert translation.facts == ()
    (reject,) = translation.rejects
    return reject.pointer, reject.cause, reject.message


def test_a_notification_becomes_one_fact_about_the_records_state() -> None:
    body = message(
        notification(
            {
                "Amount": "96000.0",
                "CloseDate": "2026-03-31",
                "CurrencyIsoCode": "EUR",
                "IsClosed": "true",
                "IsWon": "true",
                "OwnerId": USER,
                "StageName": "Closed Won",
            }
        )
    )
    (fact,) = read_body(body).facts
    assert data_of(fact) == {
        "amount": "96000",
        "close_date": "2026-03-31",
        "currency": "EUR",
        "deleted": False,
        "owner": f"{TENANT}:{USER}",
        "stage": "Closed Won",
        "status": "won",
    }
    assert fact.type == "attain.deal.v1"
    assert fact.subject == f"deal/{TENANT}:{DEAL_18}"
    assert fact.source == f"/crm/salesforce/{ORG_18}/sf"
    assert fact.time == CHANGED
    assert fact.rawid == "raw-1"
    assert int(fact.sequence[15:]) == id_order(NOTIFICATION)


@pytest.mark.parametrize(
    ("fields", "stated"),
    [
        ({"Name": "Müller & Söhne <2>"}, {"name": "Müller & Söhne <2>"}),
        ({"Amount": "1.25E7"}, {"amount": "12500000"}),
        ({"Amount": None}, {"amount": None}),
        ({"Amount": ""}, {"amount": None}),
        ({"Probability": "90.0"}, {"probability": "0.9"}),
        ({"Probability": "33.3"}, {"probability": "0.333"}),
        ({"NextStep": "Call Ana"}, {"next_step": "Call Ana"}),
        ({"ForecastCategoryName": "Best Case"}, {"forecast_category": "Best Case"}),
        ({"CreatedDate": "2026-01-05T10:00:00.000Z"}, {"created_at": "2026-01-05T10:00:00.000Z"}),
        ({"AccountId": ACCOUNT[:15]}, {"account": f"{TENANT}:{ACCOUNT}"}),
        ({"OwnerId": "00G5g000001QuEuEAK"}, {"owner": f"{TENANT}:00G5g000001QuEuEAK"}),
        ({"IsClosed": "false", "IsWon": "false"}, {"status": "open"}),
        ({"IsClosed": "true", "IsWon": "false"}, {"status": "lost"}),
        ({"IsWon": "true"}, {"status": "won"}),
        ({"IsClosed": "true"}, {}),
        ({"IsWon": "false"}, {}),
        ({"Description": "not mapped"}, {}),
    ],
)
def test_opportunity_fields(fields: dict[str, str | None], stated: dict[str, Any]) -> None:
    assert patch(fields) == stated


@pytest.mark.parametrize(
    ("of", "fields", "stated"),
    [
        ("Account", {"Name": "Acme", "ParentId": ACCOUNT}, {
            "name": "Acme", "parent": f"{TENANT}:{ACCOUNT}"}),
        ("Contact", {"Email": "ana@acme.example", "AccountId": ACCOUNT}, {
            "email": "ana@acme.example", "account": f"{TENANT}:{ACCOUNT}"}),
        ("Lead", {"LeadSource": "Web", "ConvertedOpportunityId": DEAL_15}, {
            "source": "Web", "converted_to_deal": f"{TENANT}:{DEAL_18}"}),
        ("Task", {"TaskSubtype": "Call", "CallType": "Inbound", "CallDurationInSeconds": "61"}, {
            "kind": "call", "direction": "in", "duration_s": 61}),
        ("Task", {"WhatId": DEAL_15}, {
            "kind": "task", "deal": f"{TENANT}:{DEAL_18}", "account": None}),
        ("Task", {"WhatId": ACCOUNT, "WhoId": None}, {
            "kind": "task", "deal": None, "account": f"{TENANT}:{ACCOUNT}", "lead": None}),
        ("Event", {"DurationInMinutes": "45", "StartDateTime": CHANGED}, {
            "kind": "meeting", "duration_s": 2700, "due_at": CHANGED}),
    ],
)  # fmt: skip
def test_other_objects(of: str, fields: dict[str, str | None], stated: dict[str, Any]) -> None:
    assert patch(fields, of=of) == stated


def test_custom_fields_by_the_connections_mapping() -> None:
    connection = configured(
        deal={
            "Region__c": "custom.region",
            "Net__c": "amount",
            "NextStep": "",
            "Signed__c": "closed_at",
        }
    )
    fields = {
        "Region__c": "North",
        "Net__c": "10.5",
        "Amount": "99",
        "NextStep": "x",
        "Signed__c": "2026-03-14T17:00:00.000+02:00",
    }
    assert patch(fields, connection) == {
        "custom": {"region": "North"},
        "amount": "10.5",
        "closed_at": "2026-03-14T15:00:00.000Z",
    }


def test_a_type_means_what_the_options_say_and_else_is_known_to_be_unknown() -> None:
    connection = configured(options={"type.Existing Customer - Upgrade": "expansion"})
    assert patch({"Type": "Existing Customer - Upgrade"}, connection) == {"type": "expansion"}
    translation = read({"Type": "Odd", "Amount": "1"}, connection)
    assert data_of(translation.facts[0])["type"] is None
    assert translation.skipped == (Skipped("Opportunity.Type", Why.UNMAPPED_PROPERTY),)


def test_an_organisation_of_one_currency_sends_none() -> None:
    connection = configured(options={"currency": "CHF"})
    assert patch({"Amount": "1"}, connection) == {"amount": "1", "currency": "CHF"}
    assert patch({"CurrencyIsoCode": "EUR"}, connection) == {"currency": "EUR"}


def test_absent_is_unstated_unless_messages_leave_out_what_is_empty() -> None:
    assert patch({"Amount": "1"}) == {"amount": "1"}
    cleared = patch({"Amount": "1"}, configured(options={"absent_fields": "cleared"}))
    assert cleared["amount"] == "1"
    assert cleared["next_step"] is None
    assert "status" not in cleared


def test_an_empty_record_is_read_from_the_crm() -> None:
    for fields in ({"Id": DEAL_15}, {"Id": DEAL_18, "Amount": None, "LastModifiedDate": None}):
        translation = read_body(message(notification(fields, own=False)))
        assert not translation.facts
        assert not translation.rejects
        assert translation.skipped == (Skipped("Opportunity", Why.INCOMPLETE),)
        assert translation.wanted_reads == (f"deal/{TENANT}:{DEAL_18}",)


def test_objects_that_are_not_kept_are_passed_over() -> None:
    other = notification({}).replace("urn:sobject.enterprise", "urn:sobject.partner", 1)
    assert read({"Name": "x"}, of="Case").skipped == (Skipped("Case", Why.UNKNOWN_KIND),)
    with pytest.raises(Unacceptable):
        read_body(message(other))
    unprefixed = notification({}).replace('xsi:type="sf:Opportunity"', 'xsi:type="Opportunity"')
    assert read_body(message(unprefixed)).skipped == (Skipped("unknown", Why.UNKNOWN_KIND),)


@pytest.mark.parametrize(
    ("fields", "place", "cause", "said"),
    [
        ({"LastModifiedDate": None}, "/LastModifiedDate", "missing-attribute", "add LastModified"),
        ({"LastModifiedDate": "soon"}, "/LastModifiedDate", "invalid-value", "RFC 3339"),
        ({"SystemModstamp": "2027-01-01T00:00:00.000Z"}, "", "future-dated", "clock"),
        ({"Amount": "NaN"}, "/Amount", "invalid-value", "decimal"),
        ({"Amount": "1e400"}, "/Amount", "invalid-value", "digits"),
        ({"CloseDate": "2026-02-30"}, "/CloseDate", "invalid-value", "calendar date"),
        ({"CurrencyIsoCode": "XXY"}, "/CurrencyIsoCode", "unknown-currency", "currency"),
        ({"Probability": "101"}, "/Probability", "invalid-value", "between 0 and 1"),
        ({"OwnerId": "5"}, "/OwnerId", "invalid-value", "Salesforce id"),
        ({"IsWon": "maybe"}, "/IsWon", "invalid-value", "true nor false"),
        ({"Id": "0065g00000TqLmAAAA"}, "/Id", "invalid-value", "check"),
        ({"Id": None}, "/Id", "missing-attribute", "no Id"),
        ({"Name": "x" * 4001}, "/Name", "invalid-value", "4000"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_its_place(
    fields: dict[str, str | None], place: str, cause: str, said: str
) -> None:
    stated = {"Amount": "1", **fields}
    pointer, code, text = only_reject(read(stated))
    assert pointer == "/notifications/0/sObject" + place
    assert code == cause
    assert said in text


def test_one_bad_notification_leaves_the_others() -> None:
    body = message(
        notification({"Amount": "1"}),
        notification({"Amount": "x"}, id_=id_18("04l5g000009QwEs")),
        notification({"Amount": "3"}, id_=id_18("04l5g000009QwEt")),
        session=SESSION,
    )
    translation = read_body(body)
    assert [data_of(fact)["amount"] for fact in translation.facts] == ["1", "3"]
    (reject,) = translation.rejects
    assert reject.pointer == "/notifications/1/sObject/Amount"
    assert reject.excerpt.startswith("<Notification><Id>04l5g000009QwEs")
    alone = SALESFORCE.alone(body, reject.pointer)
    assert [one.pointer for one in read_body(alone).rejects] == ["/notifications/0/sObject/Amount"]
    assert read_body(alone).facts == ()
    assert SALESFORCE.alone(body, "") == SALESFORCE.alone(body, "/notifications/9") == body


def test_a_retry_is_the_same_fact_and_a_later_state_another() -> None:
    first, again = read({"Amount": "1"}), read({"Amount": "1"})
    assert first == again
    later = read({"Amount": "2", "LastModifiedDate": "2026-03-14T15:20:12.000Z"})
    assert later.facts[0].id != first.facts[0].id
    assert read_body(message(notification({"Amount": "1"}), notification({"Amount": "1"}))) == first


def test_of_two_states_of_one_second_the_later_notification_wins() -> None:
    earlier = read_body(
        message(notification({"Amount": "9"}, id_=id_18("04l5g000009Qz" + "99")))
    ).facts[0]
    later = read_body(
        message(notification({"Amount": "1"}, id_=id_18("04l5g000009Qz" + "9A")))
    ).facts[0]
    assert earlier.sequence < later.sequence


def test_the_session_id_is_taken_out_and_nothing_else() -> None:
    body = message(notification({"Amount": "1"}), session=SESSION)
    kept = SALESFORCE.redact(body)
    assert kept == body.replace(SESSION.encode(), b"")
    assert read_body(kept) == read_body(body)
    without = message(notification({"Amount": "1"}))
    assert SALESFORCE.redact(without) == without
    assert SALESFORCE.redact(b"<nonsense") == b""
    odd = message(notification({}), session=SESSION).replace(
        b"<SessionId>", b"<SessionId a=\">\"  b='>'><!-- > -->"
    )
    assert SESSION.encode() not in SALESFORCE.redact(odd)


def test_the_acknowledgement_is_the_document_that_salesforce_wants() -> None:
    done = SALESFORCE.acknowledge()
    assert (done.status, done.content_type) == (200, "text/xml")
    assert done.body == (
        b'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/">'
        b'<soapenv:Body><notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound">'
        b"<Ack>true</Ack></notificationsResponse></soapenv:Body></soapenv:Envelope>"
    )


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (DEAL_15, DEAL_18),
        ("0055g00000HkRsT", USER),
        ("001000000000000", "001000000000000AAA"),
        ("ABCDEFGHIJKLMNO", "ABCDEFGHIJKLMNO555"),
        (ORG_15, ORG_18),
    ],
)
def test_ids_of_15_characters_get_their_check_characters(short: str, long: str) -> None:
    assert id_18(short) == id_18(long) == long


@pytest.mark.parametrize(
    "text", ["", "006", DEAL_18 + "A", DEAL_15 + "aav", "0065g00000TqLm/", "\u0660" * 15]
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(Unacceptable):
        id_18(text)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"secrets": ()}, "/secrets"),
        ({"secrets": ("short",)}, "/secrets"),
        ({"secrets": (SECRET, "with space and more than 24")}, "/secrets"),
        ({"tenants": frozenset()}, "/tenants"),
        ({"tenants": frozenset({"4821"})}, "/tenants"),
        ({"tenants": frozenset({ORG_15 + "AAA"})}, "/tenants"),
        ({"public_url": f"https://x.example/h?secret={SECRET}"}, "/public_url"),
        ({"options": {"currency": "XXY"}}, "/options/currency"),
        ({"options": {"absent_fields": "maybe"}}, "/options/absent_fields"),
        ({"options": {"type.Upsell": "more"}}, "/options/type.Upsell"),
        ({"options": {"legacy_signatures": "accept"}}, "/options/legacy_signatures"),
        ({"mapping": {"case": {}}}, "/mapping/case"),
        ({"mapping": {"deal": {"X__c": "nothing"}}}, "/mapping/deal/X__c"),
        ({"mapping": {"deal": {"X__c": "amount", "Y__c": "amount"}}}, "/mapping/deal"),
    ],
)
def test_a_connection_that_could_not_work_is_refused(change: dict[str, Any], pointer: str) -> None:
    SALESFORCE.check(CONNECTION)
    SALESFORCE.check(replace(CONNECTION, tenants=frozenset({ORG_15})))
    with pytest.raises(InvalidValue) as refusal:
        SALESFORCE.check(replace(CONNECTION, **change))
    assert refusal.value.pointer == pointer
