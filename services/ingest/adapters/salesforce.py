"""Salesforce outbound messages: SOAP notifications, each the state of one record when it was sent.

Nothing signs them. A message is taken for authentic when its address carries the connection's
secret and it names an organisation of the connection. Salesforce repeats messages, sends them out
of order and leaves out states that were overwritten before sending; it takes a message as delivered
only by the answer that `acknowledge` gives, for all of its notifications at once.

Order is by the record's own time of change. That has seconds only, so of two states of one second
the one of the later notification wins whole, instead of field by field.
"""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from services.ingest.adapters.mapping import check_mapping
from services.ingest.adapters.salesforce_fields import (
    ABSENT_OPTION,
    CURRENCY_OPTION,
    DEAL_TYPES,
    MAPPABLE,
    SOBJECTS,
    TYPE_OPTION,
    SObject,
    field_of,
    id_18,
    id_order,
    read_fields,
)
from services.ingest.adapters.salesforce_xml import (
    Notification,
    read_head,
    read_message,
    without_session,
)
from services.ingest.adapters.values import instant
from services.ingest.domain.checks import Unacceptable, classify
from services.ingest.domain.currencies import CURRENCIES
from services.ingest.domain.translation import (
    MAX_EXCERPT,
    Acknowledgement,
    Connection,
    Delivery,
    NotAuthentic,
    RawRequest,
    Reject,
    Skipped,
    Statement,
    Translation,
    Why,
    fact_of,
    record_id,
)
from shared.clock import to_epoch_ms
from shared.errors import InvalidValue
from shared.events.envelope import Envelope

SECRET = "secret"  # noqa: S105 - the parameter's name
"""Parameter of the hook's address that carries the connection's secret."""

TIMES = ("SystemModstamp", "LastModifiedDate")
"""Fields that order a record's states, the better first: it moves with automatic changes too."""

ACKNOWLEDGEMENT = (
    b'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    b'<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack>'
    b"</notificationsResponse></soapenv:Body></soapenv:Envelope>"
)

_SECRET_FORM = re.compile(r"[A-Za-z0-9_-]{24,200}")


class Salesforce:
    """The adapter of Salesforce's outbound messages."""

    def check(self, connection: Connection) -> None:
        """Raise InvalidValue for a connection without secret, organisation or sound mapping."""
        if not connection.secrets or not all(map(_SECRET_FORM.fullmatch, connection.secrets)):
            msg = (
                "nothing signs Salesforce's messages, so their address carries a secret: state one "
                "of 24 to 200 letters, digits, - or _, drawn at random"
            )
            raise InvalidValue(msg, pointer="/secrets")
        if urlsplit(connection.public_url).query:
            msg = f"state the address without its secret; Salesforce is given it with ?{SECRET}=…"
            raise InvalidValue(msg, pointer="/public_url")
        if not connection.tenants:
            msg = "state the organisation's id (Setup, Company Information); it proves a message"
            raise InvalidValue(msg, pointer="/tenants")
        for tenant in connection.tenants:
            try:
                id_18(tenant)
            except Unacceptable as error:
                raise error.at("/tenants") from None
        _check_options(connection)
        check_mapping(connection, MAPPABLE, source="Salesforce")
        for kind, mapping in connection.mapping.items():
            for target, number in Counter(filter(None, mapping.values())).items():
                if number > 1:
                    msg = f"{target[:40]!r} is filled by one field, not by {number}"
                    raise InvalidValue(msg, pointer=f"/mapping/{kind}")

    def verify(self, request: RawRequest, connection: Connection, now: datetime) -> None:  # noqa: ARG002 - a message carries no time of its own
        """Raise NotAuthentic unless address and organisation are the connection's.

        A body that cannot be read says nothing, of which `translate` tells the sender.
        """
        _check_secret(request.target, connection)
        try:
            organization = id_18(read_head(request.body).organization)
        except Unacceptable as error:
            if error.code in {"malformed-xml", "too-large"}:
                return
            organization = ""
        if organization not in {id_18(tenant) for tenant in connection.tenants}:
            msg = "the message's organisation is none of this connection's"
            raise NotAuthentic("organization-unknown", msg)

    def redact(self, body: bytes) -> bytes:
        """The body without its session id, which opens the CRM's API to whoever holds it."""
        try:
            return without_session(body)
        except Unacceptable:
            return b""

    def translate(self, delivery: Delivery, connection: Connection) -> Translation:
        """Facts of every notification. Raises InvalidValue for what is no outbound message."""
        message = read_message(delivery.body)
        organization = id_18(message.organization)
        facts: dict[str, Envelope] = {}
        rejects: list[Reject] = []
        skipped: list[Skipped] = []
        wanted: set[str] = set()
        for index, notification in enumerate(message.notifications):
            sobject = SOBJECTS.get(notification.object_type)
            name = notification.object_type[:100]
            if sobject is None:
                skipped.append(Skipped(name or "unknown", Why.UNKNOWN_KIND))
                continue
            try:
                if _is_empty(notification):
                    subject = _external_id(notification)
                    wanted.add(f"{sobject.kind}/{record_id(connection, organization, subject)}")
                    skipped.append(Skipped(name, Why.INCOMPLETE))
                    continue
                fact, unknown = _fact(notification, sobject, organization, connection, delivery)
            except InvalidValue as error:
                rejects.append(_reject(index, notification, error, delivery.body))
                continue
            facts.setdefault(fact.id, fact)
            skipped += [Skipped(f"{name}.{field}", Why.UNMAPPED_PROPERTY) for field in unknown]
        return Translation(
            facts=tuple(facts.values()),
            rejects=tuple(rejects),
            skipped=tuple(skipped),
            wanted_reads=tuple(sorted(wanted)),
        )

    def alone(self, body: bytes, pointer: str) -> bytes:
        """A message with the one notification that `pointer` leads into."""
        index = pointer.removeprefix(f"{_NOTIFICATIONS}/").partition("/")[0]
        notifications = read_message(body).notifications
        if not index.isdigit() or int(index) >= len(notifications):
            return body
        alone = notifications[int(index)]
        first, last = notifications[0], notifications[-1]
        return body[: first.start] + body[alone.start : alone.end] + body[last.end :]

    def acknowledge(self) -> Acknowledgement:
        """The document without which Salesforce sends the message again."""
        return Acknowledgement(status=200, content_type="text/xml", body=ACKNOWLEDGEMENT)


_NOTIFICATIONS = "/notifications"


def _check_options(connection: Connection) -> None:
    for option, value in connection.options.items():
        pointer = f"/options/{option}"
        if option == CURRENCY_OPTION:
            if value not in CURRENCIES:
                msg = f"{value[:40]!r} is no currency of ISO 4217"
                raise InvalidValue(msg, pointer=pointer)
        elif option == ABSENT_OPTION:
            if value not in {"cleared", "unstated"}:
                msg = "fields that a message leaves out are cleared, or unstated"
                raise InvalidValue(msg, pointer=pointer)
        elif not option.startswith(TYPE_OPTION):
            msg = f"the options are {CURRENCY_OPTION}, {ABSENT_OPTION} and {TYPE_OPTION}<value>"
            raise InvalidValue(msg, pointer=pointer)
        elif value not in DEAL_TYPES:
            msg = f"a deal's type is one of {', '.join(sorted(DEAL_TYPES))}"
            raise InvalidValue(msg, pointer=pointer)


def _check_secret(target: str, connection: Connection) -> None:
    """Every secret is compared, whichever matches: the time taken tells nothing."""
    try:
        given = parse_qs(urlsplit(target).query, max_num_fields=20).get(SECRET, [])
    except ValueError:
        given = []
    if len(given) != 1:
        msg = f"the address carries no secret; Salesforce is given it with ?{SECRET}=…"
        raise NotAuthentic("secret-missing", msg)
    matched = False
    for secret in connection.secrets:
        matched |= hmac.compare_digest(secret.encode(), given[0].encode())
    if not matched:
        msg = "the address carries none of this connection's secrets"
        raise NotAuthentic("secret-invalid", msg)


def _is_empty(notification: Notification) -> bool:
    """Whether only the id came: the record was deleted before the message was sent."""
    return all(name == "Id" or text is None for name, text in notification.fields.items())


def _external_id(notification: Notification) -> str:
    text = notification.fields.get("Id")
    if text is None:
        raise Unacceptable("missing-attribute", "the record has no Id", pointer="/sObject/Id")
    try:
        return id_18(text)
    except Unacceptable as error:
        raise error.at("/sObject/Id") from None


def _fact(
    notification: Notification,
    sobject: SObject,
    organization: str,
    connection: Connection,
    delivery: Delivery,
) -> tuple[Envelope, tuple[str, ...]]:
    """The fact that one notification is, and the fields of it that say nothing Attain knows."""
    if not notification.id:
        raise Unacceptable("missing-attribute", "the notification has no Id", pointer="/Id")
    try:
        notification_id = id_18(notification.id)
    except Unacceptable as error:
        raise error.at("/Id") from None
    external_id = _external_id(notification)
    try:
        occurred_ms = _occurred_ms(notification.fields)
        reading = read_fields(sobject, notification.fields, connection, organization)
    except InvalidValue as error:
        raise classify(error).at("/sObject") from None
    statement = Statement(
        kind=sobject.kind,
        tenant=organization,
        external_id=external_id,
        patch=reading.patch,
        occurred_ms=occurred_ms,
        key=("notification", notification_id),
        tie_break=id_order(notification_id),
    )
    try:
        return fact_of(statement, connection, delivery), reading.unknown
    except InvalidValue as error:
        fault = classify(error)
        raise Unacceptable(
            fault.code, fault.message, pointer=_place(fault.pointer, sobject, connection)
        ) from None


def _occurred_ms(fields: Mapping[str, str | None]) -> int:
    for name in TIMES:
        if (text := fields.get(name)) is not None:
            try:
                return to_epoch_ms(instant(text))
            except Unacceptable as error:
                raise error.at(f"/{name}") from None
    msg = (
        "the record does not say when it changed: add LastModifiedDate (or SystemModstamp) to the "
        "fields of the outbound message in Salesforce's Setup"
    )
    raise Unacceptable("missing-attribute", msg, pointer=f"/{TIMES[1]}")


def _place(pointer: str, sobject: SObject, connection: Connection) -> str:
    """Where in the notification a fault lies whose pointer leads into the fact made of it."""
    _, _, path = pointer.partition("/data/")
    name = field_of(sobject, connection, path.partition("/")[0])
    return f"/sObject/{name}" if name else "/sObject"


def _reject(index: int, notification: Notification, error: InvalidValue, body: bytes) -> Reject:
    fault = classify(error)
    excerpt = body[notification.start : notification.end].decode("utf-8", "replace")
    pointer = f"{_NOTIFICATIONS}/{index}{fault.pointer}"
    return Reject(pointer, fault.code, fault.message, excerpt[:MAX_EXCERPT])
