"""HubSpot webhooks: a JSON array of events, each about one property or change of one record.

HubSpot repeats deliveries, orders nothing and sends one change once for each subscription and, for
associations, once for each direction. A fact's id is therefore made of what changed and when, not
of HubSpot's event id. Order is by `occurredAt` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from services.ingest.adapters.hubspot_properties import MAPPABLE, patch_of
from services.ingest.adapters.hubspot_signature import LEGACY_OPTION, verify
from services.ingest.adapters.mapping import check_mapping
from services.ingest.domain.checks import Unacceptable, classify
from services.ingest.domain.translation import (
    MAX_EXCERPT,
    Acknowledgement,
    Connection,
    Delivery,
    RawRequest,
    Reject,
    Skipped,
    Statement,
    Translation,
    Why,
    fact_of,
    record_id,
)
from shared.clock import from_epoch_ms, to_text
from shared.errors import InvalidValue
from shared.events.envelope import Envelope, invalid_from_msgspec

KIND_BY_NAME: Mapping[str, str] = {"deal": "deal", "company": "account", "contact": "contact"}
KIND_BY_TYPE_ID: Mapping[str, str] = {"0-3": "deal", "0-2": "account", "0-1": "contact"}
"""Record kinds by the name and by the object type id that HubSpot gives them."""

REFERENCE_FIELD: Mapping[tuple[str, str], str] = {
    ("deal", "account"): "account",
    ("deal", "contact"): "contact",
    ("contact", "account"): "account",
}
"""Associations that are kept: the record that holds the reference, what it points at, the field."""

FIRST, THEN = 0, 1
"""Tie-breaks in one millisecond: a creation comes before the values it came with, the end of an
association before the beginning of the next."""

Id = int | str
Present = TypeVar("Present")


class _Event(msgspec.Struct, kw_only=True, rename="camel"):
    """One event, of any kind; what a kind needs is required when it is read."""

    subscription_type: str | None = None
    event_type: str | None = None
    portal_id: Id | None = None
    occurred_at: int | None = None
    object_id: Id | None = None
    object_type_id: str | None = None
    property_name: str | None = None
    property_value: Raw | UnsetType = UNSET
    is_sensitive: bool | None = None
    primary_object_id: Id | None = None
    merged_object_ids: list[Id] | None = None
    new_object_id: Id | None = None
    association_type: str | None = None
    association_removed: bool | None = None
    is_primary_association: bool | None = None
    from_object_id: Id | None = None
    to_object_id: Id | None = None
    from_object_type_id: str | None = None
    to_object_type_id: str | None = None


_array = msgspec.json.Decoder(list[Raw])
_event = msgspec.json.Decoder(_Event)


class _PassedOver(Exception):
    """The event says nothing that is kept."""

    def __init__(self, why: Why, *, wanted: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.wanted = wanted


@dataclass(slots=True)
class _Reading:
    """What has been read of one delivery so far."""

    connection: Connection
    delivery: Delivery
    facts: dict[str, Envelope] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    wanted: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Change:
    """An event whose name, tenant and time are known."""

    event: _Event
    connection: Connection
    portal: str
    kind: str
    name: str
    occurred_ms: int

    def statement(
        self,
        object_id: str,
        patch: Mapping[str, object],
        *key: str,
        tie_break: int = THEN,
        kind: str | None = None,
    ) -> Statement:
        """What this event states of one record."""
        return Statement(
            kind=kind or self.kind,
            tenant=self.portal,
            external_id=object_id,
            patch=patch,
            occurred_ms=self.occurred_ms,
            key=(self.name, *key),
            tie_break=tie_break,
        )

    def reference(self, object_id: str) -> str:
        """The record id of another object of this portal."""
        return record_id(self.connection, self.portal, object_id)

    def subject(self, object_id: str, kind: str | None = None) -> str:
        """The subject of a record that is to be read from the CRM."""
        return f"{kind or self.kind}/{self.reference(object_id)}"


class HubSpot:
    """The adapter of HubSpot's webhooks API."""

    def check(self, connection: Connection) -> None:
        """Raise InvalidValue for a connection without secret, address or sound mapping."""
        if not connection.secrets or not all(connection.secrets):
            msg = "a HubSpot connection needs the client secret of its app"
            raise InvalidValue(msg, pointer="/secrets")
        if not connection.public_url.startswith(("https://", "http://")):
            msg = "signatures are over the address that HubSpot was given: state it whole"
            raise InvalidValue(msg, pointer="/public_url")
        for tenant in connection.tenants:
            if not re.fullmatch(r"[0-9]+", tenant):
                msg = f"a HubSpot portal id has digits only, got {tenant[:40]!r}"
                raise InvalidValue(msg, pointer="/tenants")
        for option, value in connection.options.items():
            if (option, value) not in {(LEGACY_OPTION, "accept"), (LEGACY_OPTION, "refuse")}:
                msg = f"the only option is {LEGACY_OPTION}: accept or refuse"
                raise InvalidValue(msg, pointer=f"/options/{option}")
        check_mapping(connection, MAPPABLE, source="HubSpot")

    def verify(self, request: RawRequest, connection: Connection, now: datetime) -> None:
        """Raise NotAuthentic unless one of the connection's secrets signed the request."""
        verify(request, connection, now)

    def redact(self, body: bytes) -> bytes:
        """The body itself: HubSpot's events hold no keys."""
        return body

    def translate(self, delivery: Delivery, connection: Connection) -> Translation:
        """Facts of every event that can be read. Raises InvalidValue where the body is no array."""
        try:
            documents = _array.decode(delivery.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            msg = f"a HubSpot delivery is a JSON array of events: {error}"
            raise InvalidValue(msg) from None
        reading = _Reading(connection, delivery)
        for index, document in enumerate(documents):
            _read(index, document, reading)
        return Translation(
            facts=tuple(reading.facts.values()),
            rejects=tuple(reading.rejects),
            skipped=tuple(reading.skipped),
            wanted_reads=tuple(sorted(reading.wanted)),
        )

    def alone(self, body: bytes, pointer: str) -> bytes:
        """An array of the one event that `pointer` leads into."""
        index = pointer.removeprefix("/").partition("/")[0]
        try:
            return b"[" + bytes(_array.decode(body)[int(index)]) + b"]"
        except (ValueError, IndexError):
            return body

    def acknowledge(self) -> Acknowledgement:
        """HubSpot takes any 2xx and reads no body."""
        return Acknowledgement(status=204)


def _read(index: int, document: Raw, reading: _Reading) -> None:
    """Read one event into `reading`; a fault in it touches none of the others."""
    name, event = "", _Event()
    try:
        event = _decode(document)
        name = event.subscription_type or event.event_type or ""
        change = _change_of(event, name, reading.connection)
        statements, wanted = _statements(change)
        facts = [fact_of(said, reading.connection, reading.delivery) for said in statements]
    except _PassedOver as passed:
        what = name if passed.why is not Why.UNMAPPED_PROPERTY else f"{name}:{event.property_name}"
        reading.skipped.append(Skipped(what[:200], passed.why))
        if passed.wanted is not None:
            reading.wanted.add(passed.wanted)
    except InvalidValue as error:
        fault = classify(error)
        inside = _place_in_event(fault.pointer, event)
        excerpt = bytes(document).decode("utf-8", "replace")[:MAX_EXCERPT]
        reading.rejects.append(Reject(f"/{index}{inside}", fault.code, fault.message, excerpt))
    else:
        reading.facts.update({fact.id: fact for fact in facts if fact.id not in reading.facts})
        reading.wanted.update(wanted)


def _place_in_event(pointer: str, event: _Event) -> str:
    """Where in the event a fault lies whose pointer leads into the fact made of it."""
    if pointer.startswith("/data"):
        return "" if event.property_name is None else "/propertyValue"
    return {"/time": "/occurredAt", "/subject": "/objectId"}.get(pointer, pointer)


def _decode(document: Raw) -> _Event:
    try:
        return _event.decode(document)
    except msgspec.ValidationError as error:
        raise classify(invalid_from_msgspec(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unacceptable("malformed-json", f"the event cannot be read: {error}") from None


def _change_of(event: _Event, name: str, connection: Connection) -> _Change:
    if not name:
        raise Unacceptable("missing-attribute", "subscriptionType is required")
    portal = _id(event.portal_id, "portalId")
    if connection.tenants and portal not in connection.tenants:
        raise _PassedOver(Why.UNKNOWN_TENANT)
    object_name, _, change = name.partition(".")
    if object_name == "object":
        type_id = event.object_type_id or event.from_object_type_id or ""
        kind = KIND_BY_TYPE_ID.get(type_id)
    else:
        kind = KIND_BY_NAME.get(object_name)
    if kind is None or change not in _READERS:
        raise _PassedOver(Why.UNKNOWN_KIND)
    occurred_ms = _required(event.occurred_at, "occurredAt")
    return _Change(event, connection, portal, kind, change, occurred_ms)


def _required(value: Present | None, name: str) -> Present:
    if value is None or value == "":
        raise Unacceptable("missing-attribute", f"{name} is required", pointer=f"/{name}")
    return value


def _id(value: Id | None, name: str) -> str:
    return _required(None if value is None else str(value), name)


def _statements(change: _Change) -> tuple[list[Statement], list[str]]:
    """What the change states, and the subjects that must be read whole to know the rest."""
    statements: list[Statement] = []
    wanted: list[str] = []
    for said in _READERS[change.name](change):
        if isinstance(said, Statement):
            statements.append(said)
        else:
            wanted.append(said)
    return statements, wanted


Said = Iterator[Statement | str]
"""Statements, and subjects to read from the CRM."""


def _creation(change: _Change) -> Said:
    object_id = _id(change.event.object_id, "objectId")
    patch: dict[str, object] = {"deleted": False}
    if change.kind == "deal":
        patch["created_at"] = _instant_text(change.occurred_ms)
    yield change.statement(object_id, patch, tie_break=FIRST)


def _instant_text(epoch_ms: int) -> str:
    try:
        return to_text(from_epoch_ms(epoch_ms))
    except (ValueError, OverflowError, OSError):
        msg = "occurredAt is no time in milliseconds since 1970"
        raise Unacceptable("invalid-value", msg, pointer="/occurredAt") from None


def _property_change(change: _Change) -> Said:
    event = change.event
    object_id = _id(event.object_id, "objectId")
    property_name = _required(event.property_name, "propertyName")
    text = _text_of(event.property_value)
    if text == "REDACTED":
        raise _PassedOver(Why.REDACTED)
    try:
        patch = patch_of(
            connection=change.connection,
            portal=change.portal,
            kind=change.kind,
            property_name=property_name,
            text=text,
        )
    except InvalidValue as error:
        raise classify(error).at("/propertyValue") from None
    if patch is None:
        raise _PassedOver(Why.UNMAPPED_PROPERTY)
    yield change.statement(object_id, patch, property_name, text)


def _text_of(value: Raw | UnsetType) -> str:
    """A property's value as text. Documented as text always; a number keeps every digit it has."""
    if value is UNSET:
        raise Unacceptable(
            "missing-attribute", "propertyValue is required", pointer="/propertyValue"
        )
    token = bytes(value).strip()
    if token == b"null":
        return ""
    if token.startswith(b'"'):
        try:
            return msgspec.json.decode(token, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unacceptable("malformed-json", str(error), pointer="/propertyValue") from None
    if token.startswith((b"{", b"[")):
        msg = "a property's value is text"
        raise Unacceptable("invalid-value", msg, pointer="/propertyValue")
    return token.decode("ascii")


def _deletion(change: _Change) -> Said:
    object_id = _id(change.event.object_id, "objectId")
    yield change.statement(object_id, {"deleted": True})


def _privacy_deletion(change: _Change) -> Said:
    """A person had themselves erased: the names go, the record's contributions do not change."""
    object_id = _id(change.event.object_id, "objectId")
    patch: dict[str, object] = {"deleted": True}
    if change.kind == "contact":
        patch |= {"name": None, "email": None}
    yield change.statement(object_id, patch)


def _restore(change: _Change) -> Said:
    object_id = _id(change.event.object_id, "objectId")
    yield change.statement(object_id, {"deleted": False})
    yield change.subject(object_id)


def _merge(change: _Change) -> Said:
    """Every record but the survivor points at it; the survivor may be a third, new record."""
    event = change.event
    primary = event.primary_object_id or event.object_id
    survivor = str(event.new_object_id or _id(primary, "primaryObjectId"))
    merged = {str(object_id) for object_id in _required(event.merged_object_ids, "mergedObjectIds")}
    if primary is not None:
        merged.add(str(primary))
    merged.discard(survivor)
    if not merged:
        msg = "a merge names at least one record besides the survivor"
        raise Unacceptable("invalid-value", msg, pointer="/mergedObjectIds")
    for object_id in sorted(merged):
        yield change.statement(object_id, {"merged_into": change.reference(survivor)}, survivor)
    yield change.subject(survivor)


def _association_change(change: _Change) -> Said:
    """One reference. HubSpot tells both directions; turned to one, they are the same statement."""
    event = change.event
    from_kind, to_kind = _association_kinds(event)
    from_id = _id(event.from_object_id, "fromObjectId")
    to_id = _id(event.to_object_id, "toObjectId")
    if (from_kind, to_kind) not in REFERENCE_FIELD:
        from_kind, to_kind, from_id, to_id = to_kind, from_kind, to_id, from_id
    if (from_kind, to_kind) not in REFERENCE_FIELD:
        raise _PassedOver(Why.UNKNOWN_KIND)
    field_name = REFERENCE_FIELD[from_kind, to_kind]
    removed = bool(event.association_removed)
    if to_kind == "account" and event.is_primary_association is False:
        raise _PassedOver(Why.NOT_PRIMARY)
    if removed and not event.is_primary_association:
        # Others may remain, and which of them counts now is not said.
        raise _PassedOver(Why.INCOMPLETE, wanted=change.subject(from_id, from_kind))
    yield change.statement(
        from_id,
        {field_name: None if removed else change.reference(to_id)},
        to_kind,
        to_id,
        "removed" if removed else "added",
        tie_break=FIRST if removed else THEN,
        kind=from_kind,
    )


def _association_kinds(event: _Event) -> tuple[str, str]:
    """The kinds at both ends, by their type ids or by a name such as DEAL_TO_COMPANY."""
    kinds = (
        KIND_BY_TYPE_ID.get(event.from_object_type_id or ""),
        KIND_BY_TYPE_ID.get(event.to_object_type_id or ""),
    )
    if None in kinds:
        source, _, target = (event.association_type or "").lower().partition("_to_")
        kinds = (KIND_BY_NAME.get(source), KIND_BY_NAME.get(target))
    from_kind, to_kind = kinds
    if from_kind is None or to_kind is None:
        raise _PassedOver(Why.UNKNOWN_KIND)
    return from_kind, to_kind


_READERS = {
    "creation": _creation,
    "propertyChange": _property_change,
    "deletion": _deletion,
    "privacyDeletion": _privacy_deletion,
    "restore": _restore,
    "merge": _merge,
    "associationChange": _association_change,
}
