"""Whose messages are taken, and what XML is refused, and how soon."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from services.ingest.adapters.salesforce_xml import MAX_BYTES, MAX_DEPTH
from services.ingest.domain.checks import Unacceptable
from services.ingest.domain.translation import NotAuthentic
from tests.unit.ingest.salesforce_messages import (
    CONNECTION,
    ORG_15,
    ORG_18,
    RECEIVED,
    SALESFORCE,
    SECRET,
    message,
    notification,
    read_body,
    request,
    verify,
)

BODY = message(notification({"Amount": "1"}))


@pytest.mark.parametrize("sent", [ORG_15, ORG_18])
@pytest.mark.parametrize("stated", [ORG_15, ORG_18])
def test_both_forms_of_an_organisations_id_are_equal(sent: str, stated: str) -> None:
    connection = replace(CONNECTION, tenants=frozenset({stated}))
    SALESFORCE.verify(request(message(notification({}), org=sent)), connection, RECEIVED)
    facts = read_body(message(notification({}), org=sent), connection).facts
    assert facts[0].subject.startswith(f"deal/salesforce:{ORG_18}:")


def test_either_of_two_live_secrets_opens() -> None:
    connection = replace(CONNECTION, secrets=("another-secret-of-24-letters", SECRET))
    SALESFORCE.verify(request(BODY), connection, RECEIVED)


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/v1/hooks/sf", "secret-missing"),
        ("/v1/hooks/sf?secret=", "secret-missing"),
        (f"/v1/hooks/sf?SECRET={SECRET}", "secret-missing"),
        (f"/v1/hooks/sf?secret={SECRET}&secret={SECRET}", "secret-missing"),
        ("/v1/hooks/sf?" + "a=1&" * 100, "secret-missing"),
        ("/v1/hooks/sf?secret=wrong", "secret-invalid"),
        (f"/v1/hooks/sf?secret={SECRET}x", "secret-invalid"),
        (f"/v1/hooks/sf?secret={SECRET[:-1]}", "secret-invalid"),
        ("/v1/hooks/sf?secret=%ff\u00e9", "secret-invalid"),
    ],
)
def test_without_the_secret_nothing_is_read(target: str, code: str) -> None:
    with pytest.raises(NotAuthentic) as refusal:
        verify(b"never parsed", target)
    assert refusal.value.code == code
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    "org", ["00D5g000004Kq7tEAC", "00D5g000004Kq7t", "nonsense", ORG_15.lower()]
)
def test_another_organisation_is_not_authentic(org: str) -> None:
    with pytest.raises(NotAuthentic) as refusal:
        verify(message(notification({}), org=org))
    assert refusal.value.code == "organization-unknown"


def with_prolog(prolog: str, text: str = "1") -> bytes:
    return BODY.replace(b"?>\n", b"?>\n" + prolog.encode(), 1).replace(b">1<", f">{text}<".encode())


def nested(depth: int) -> bytes:
    return BODY.replace(b">1<", b">" + b"<sf:x>" * depth + b"</sf:x>" * depth + b"<")


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
HOSTILE = {
    "billion laughs": with_prolog(f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>', "&l9;"),
    "quadratic blow-up": with_prolog(
        f'<!DOCTYPE x [<!ENTITY a "{"a" * 50_000}">]>', "&a;" * 10_000
    ),
    "external entity": with_prolog('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', "&e;"),
    "parameter entity": with_prolog('<!DOCTYPE x [<!ENTITY % p SYSTEM "http://x.example/">%p;]>'),
    "external document type": with_prolog('<!DOCTYPE x SYSTEM "http://x.example/x.dtd">'),
    "plain document type": with_prolog("<!DOCTYPE x>"),
    "undeclared entity": with_prolog("", "&nbsp;"),
    "processing instruction": with_prolog('<?xml-stylesheet href="x"?>'),
    "XInclude": BODY.replace(
        b">1<",
        b'><xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/><',
    ),
    "XInclude in the head": BODY.replace(
        b"<ActionId>",
        b'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="x" parse="text"/><ActionId>',
    ),
    "10,000 nested tags": nested(10_000),
    "one tag too deep": nested(MAX_DEPTH),
    "two megabytes": BODY + b" " * 2 * MAX_BYTES,
    "no XML": b'{"a": 1}',
    "nothing": b"",
    "cut off": BODY[:-20],
    "UTF-16": BODY.decode().encode("utf-16"),
    "Latin-1": message(notification({"Name": "Müller"})).decode().encode("latin-1"),
    "NUL": BODY.replace(b">1<", b">\x00<"),
    "SOAP 1.2": BODY.replace(
        b"http://schemas.xmlsoap.org/soap/envelope/", b"http://www.w3.org/2003/05/soap-envelope"
    ),
    "another namespace": BODY.replace(b"2005/09/outbound", b"2005/09/inbound"),
    "prefix without its namespace": BODY.replace(
        b"urn:sobject.enterprise.soap.sforce.com", b"urn:example"
    ),
    "no notification": message(),
    "101 notifications": message(*[notification({})] * 101),
    "two organisations": BODY.replace(
        b"<ActionId>", f"<OrganizationId>{ORG_15}</OrganizationId><ActionId>".encode()
    ),
    "organisation after the notifications": message(
        notification({}) + f"<OrganizationId>{ORG_15}</OrganizationId>"
    ),
    "session after the notifications": message(notification({}) + "<SessionId>x</SessionId>"),
    "elements in the session": message(notification({}), session="x<y/>"),
    "two records in one notification": BODY.replace(b"</sObject>", b"</sObject><sObject/>"),
    "fields outside of a record": BODY.replace(
        b"<Id>", b"<Id><sf:x xmlns:sf='urn:sobject.enterprise.soap.sforce.com'/>", 1
    ),
    "a field stated twice": BODY.replace(b"<sf:Amount>", b"<sf:Amount>2</sf:Amount><sf:Amount>"),
}  # fmt: skip

FLOODS = {
    "100,000 attributes": BODY.replace(
        b"<ActionId>", b"<ActionId " + b" ".join(b'a%d=""' % n for n in range(100_000)) + b">"
    ),
    "100,000 elements": BODY.replace(b"<sf:Amount>", b"<sf:a/>" * 100_000 + b"<sf:Amount>"),
    "100,000 attributes with greater-than signs": BODY.replace(
        b"<ActionId>", b"<ActionId " + b" ".join(b'a%d=">"' % n for n in range(80_000)) + b">"
    ),
    "20,000 namespaces": BODY.replace(
        b"<sf:Amount>", b'<sf:a xmlns:a="x" xmlns:b="x"/>' * 10_000 + b"<sf:Amount>"
    ),
    "one endless name": BODY.replace(b"<ActionId>", b"<" + b"a" * MAX_BYTES),
    "a megabyte of comments": BODY.replace(b"<ActionId>", b"<!---->" * 150_000),
}


def seconds_to_refuse(body: bytes) -> float:
    """Processor time until it is refused, by `verify` or by `translate` after it."""
    began = time.process_time()
    try:
        verify(body)  # the sender knows the secret: nothing else stands in the way
    except NotAuthentic:
        pass
    else:
        with pytest.raises(Unacceptable) as refusal:
            read_body(body)
        assert refusal.value.code in {"malformed-xml", "too-large"}
    return time.process_time() - began


@pytest.mark.parametrize("attack", HOSTILE)
def test_what_is_no_outbound_message_is_refused_at_once(attack: str) -> None:
    assert seconds_to_refuse(HOSTILE[attack]) < 0.05


@pytest.mark.parametrize("attack", FLOODS)
def test_a_body_of_the_greatest_size_is_refused_soon(attack: str) -> None:
    assert seconds_to_refuse(FLOODS[attack][:MAX_BYTES]) < 3


def test_namespaces_count_and_prefixes_do_not() -> None:
    text = BODY.decode()
    text = text.replace("soapenv:", "s:").replace("xmlns:soapenv", "xmlns:s")
    text = text.replace("sf:", "o:").replace("xmlns:sf", "xmlns:o")
    text = text.replace("xsi:type", "i:type").replace("xmlns:xsi=", "xmlns:i=")
    text = text.replace("xsi:nil", "i:nil")
    assert read_body(text.encode()) == read_body(BODY)


def test_a_comment_and_a_cdata_section_change_no_value() -> None:
    split = BODY.replace(b">1<", b">1<!-- x -->2<![CDATA[3]]><")
    assert b'"amount":"123"' in bytes(read_body(split).facts[0].data)
    org = BODY.replace(ORG_18.encode(), ORG_18[:9].encode() + b"<!-- -->" + ORG_18[9:].encode())
    verify(org)


def test_a_compound_field_states_nothing() -> None:
    compound = BODY.replace(b">1<", b"><sf:city>Bern</sf:city><")
    assert bytes(read_body(compound).facts[0].data) == b'{"deleted":false}'


def test_the_largest_message_is_read_within_its_patience() -> None:
    full = message(*[notification({f"F{n}__c": "x" * 5 for n in range(200)})] * 100)
    began = time.process_time()
    verify(full)
    assert len(read_body(full).facts) == 1
    assert time.process_time() - began < 2
