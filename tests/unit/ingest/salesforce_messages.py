"""Outbound messages to try, written as Salesforce writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

import msgspec

from services.ingest.adapters import ADAPTERS
from services.ingest.domain.translation import Connection, Delivery, RawRequest, Translation
from shared.events.envelope import Envelope

SALESFORCE = ADAPTERS["salesforce"]
SECRET = "s3cretPathPart_of-this-test"
ORG_15, ORG_18 = "00D5g000004Kq7T", "00D5g000004Kq7TEAS"
DEAL_15, DEAL_18 = "0065g00000TqLmA", "0065g00000TqLmAAAV"
NOTIFICATION = "04l5g000009QwErAAK"
SESSION = "00D5g000004Kq7T!canary.session"
RECEIVED = datetime(2026, 3, 14, 15, 20, 30, tzinfo=UTC)
CHANGED = "2026-03-14T15:20:11.000Z"
CONNECTION = Connection(
    id="sf",
    provider="salesforce",
    tenants=frozenset({ORG_18}),
    secrets=(SECRET,),
    public_url="https://attain.example/v1/hooks/sf",
)

Fields = Mapping[str, str | None]
"""Field → text; None is sent as xsi:nil."""


def notification(
    fields: Fields, *, of: str = "Opportunity", id_: str = NOTIFICATION, own: bool = True
) -> str:
    """One notification. own: with an id and a time of change, unless `fields` states them."""
    given = {"Id": DEAL_18, "LastModifiedDate": CHANGED, **fields} if own else fields
    inside = "".join(
        f'<sf:{name} xsi:nil="true"/>' if text is None else f"<sf:{name}>{escape(text)}</sf:{name}>"
        for name, text in given.items()
    )
    return (
        f'<Notification><Id>{id_}</Id><sObject xsi:type="sf:{of}"'
        f' xmlns:sf="urn:sobject.enterprise.soap.sforce.com">{inside}</sObject></Notification>'
    )


def message(*notifications: str, org: str = ORG_18, session: str | None = None) -> bytes:
    """A whole message."""
    key = '<SessionId xsi:nil="true"/>' if session is None else f"<SessionId>{session}</SessionId>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n <soapenv:Body>\n'
        '  <notifications xmlns="http://soap.sforce.com/2005/09/outbound">\n'
        f"   <OrganizationId>{org}</OrganizationId>\n   <ActionId>04k5g000000Go2tAAC</ActionId>\n"
        f"   {key}\n   <EnterpriseUrl>https://acme.example/c/64.0</EnterpriseUrl>\n"
        "   <PartnerUrl>https://acme.example/u/64.0</PartnerUrl>\n"
        f"{''.join(notifications)}\n  </notifications>\n </soapenv:Body>\n</soapenv:Envelope>"
    ).encode()


def read_body(body: bytes, connection: Connection = CONNECTION) -> Translation:
    return SALESFORCE.translate(Delivery("raw-1", RECEIVED, {}, body), connection)


def read(
    fields: Fields, connection: Connection = CONNECTION, *, of: str = "Opportunity"
) -> Translation:
    return read_body(message(notification(fields, of=of)), connection)


def data_of(fact: Envelope) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.json.decode(fact.data)
    return data


def patch(
    fields: Fields, connection: Connection = CONNECTION, *, of: str = "Opportunity"
) -> dict[str, Any]:
    """The only fact's data, but for the statement that the record exists."""
    translation = read(fields, connection, of=of)
    assert translation.rejects == ()
    (fact,) = translation.facts
    data = data_of(fact)
    assert data.pop("deleted") is False
    return data


def configured(
    *, options: Mapping[str, str] | None = None, **mapping: Mapping[str, str]
) -> Connection:
    """The connection with a mapping and options."""
    return replace(CONNECTION, mapping=mapping, options=options or {})


def request(body: bytes, target: str = f"/v1/hooks/sf?secret={SECRET}") -> RawRequest:
    return RawRequest("POST", target, {"content-type": "text/xml"}, body)


def verify(body: bytes, target: str = f"/v1/hooks/sf?secret={SECRET}") -> None:
    SALESFORCE.verify(request(body, target), CONNECTION, RECEIVED)
