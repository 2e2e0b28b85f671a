"""Salesforce's objects: which record each one is, which field fills which, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from services.ingest.adapters.mapping import CUSTOM, effective_mapping
from services.ingest.adapters.values import calendar_date, decimal, flag, instant
from services.ingest.domain.checks import Unacceptable, classify
from services.ingest.domain.translation import Connection, record_id
from shared.clock import to_text
from shared.errors import InvalidValue
from shared.money import to_text as decimal_text

CURRENCY_OPTION = "currency"
"""Option of a connection: the currency of an organisation that has one only, and sends none."""

ABSENT_OPTION = "absent_fields"
"""Option of a connection: `cleared` where messages leave out empty fields, and no others."""

TYPE_OPTION = "type."
"""Prefix of options: `type.<value of the field Type>` is new, expansion or renewal."""

DEAL_TYPES = frozenset({"new", "expansion", "renewal"})

_SUFFIX_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_ID = re.compile(r"[0-9A-Za-z]{15}([A-Z0-5]{3})?")
_WHOLE = re.compile(r"[0-9]{1,9}(\.0)?")
_ID_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ORDERED_DIGITS = 11
"""Digits of an id that fit in a tie-break: 62 to the eleventh has twenty decimal digits."""


def id_18(text: str) -> str:
    """A Salesforce id with its three check characters, which tell capitals from small letters.

    Raises Unacceptable for what is no id, and for check characters that are not the id's.
    """
    if not _ID.fullmatch(text):
        msg = f"{text[:40]!r} is no Salesforce id of 15 or 18 characters"
        raise Unacceptable("invalid-value", msg)
    short = text[:15]
    suffix = ""
    for start in (0, 5, 10):
        capitals = sum(
            1 << place for place, letter in enumerate(short[start : start + 5]) if letter.isupper()
        )
        suffix += _SUFFIX_DIGITS[capitals]
    if text[15:] not in {"", suffix}:
        msg = f"the last three characters of {text!r} do not check the first fifteen"
        raise Unacceptable("invalid-value", msg)
    return short + suffix


def id_order(text: str) -> int:
    """A number that orders ids of one kind as Salesforce gave them out, roughly."""
    number = 0
    for digit in text[15 - _ORDERED_DIGITS : 15]:
        number = number * len(_ID_DIGITS) + _ID_DIGITS.index(digit)
    return number


@dataclass(frozen=True, slots=True)
class SObject:
    """How one of Salesforce's objects is read. always: what is stated of each such record."""

    kind: str
    fields: Mapping[str, str]
    always: Mapping[str, object] = field(default_factory=dict)


_ACTIVITY = {"OwnerId": "owner"}

SOBJECTS: Mapping[str, SObject] = {
    "Opportunity": SObject(
        "deal",
        {
            "Name": "name",
            "Amount": "amount",
            "CurrencyIsoCode": "currency",
            "StageName": "stage",
            "CloseDate": "close_date",
            "OwnerId": "owner",
            "AccountId": "account",
            "Type": "type",
            "Probability": "probability",
            "NextStep": "next_step",
            "ForecastCategoryName": "forecast_category",
            "CreatedDate": "created_at",
        },
    ),
    "Account": SObject(
        "account",
        {
            "Name": "name",
            "OwnerId": "owner",
            "ParentId": "parent",
            "MasterRecordId": "merged_into",
        },
    ),
    "Contact": SObject(
        "contact",
        {
            "Name": "name",
            "Email": "email",
            "OwnerId": "owner",
            "AccountId": "account",
            "MasterRecordId": "merged_into",
        },
    ),
    "Lead": SObject(
        "lead",
        {
            "OwnerId": "owner",
            "Status": "status",
            "LeadSource": "source",
            "Rating": "grade",
            "CreatedDate": "created_at",
            "ConvertedOpportunityId": "converted_to_deal",
            "ConvertedAccountId": "converted_to_account",
            "ConvertedContactId": "converted_to_contact",
        },
    ),
    "Task": SObject(
        "activity",
        {
            **_ACTIVITY,
            "TaskSubtype": "kind",
            "CallType": "direction",
            "CallDisposition": "outcome",
            "CallDurationInSeconds": "duration_s",
            "CompletedDateTime": "completed_at",
        },
        always={"kind": "task"},
    ),
    "Event": SObject(
        "activity",
        {**_ACTIVITY, "StartDateTime": "due_at", "DurationInMinutes": "duration_s"},
        always={"kind": "meeting"},
    ),
}
"""By the name that Salesforce gives it. A Task's due date has no hour, so it fills nothing."""

MAPPABLE: Mapping[str, frozenset[str]] = {
    "deal": frozenset(SOBJECTS["Opportunity"].fields.values())
    | {
        "amount_period",
        "closed_at",
        "contact",
        "lost_reason",
        "next_step_at",
        "pipeline",
        "product",
        "status",
        "test",
    },
    "account": frozenset(SOBJECTS["Account"].fields.values()) | {"segment"},
    "contact": frozenset(SOBJECTS["Contact"].fields.values()),
    "lead": frozenset(SOBJECTS["Lead"].fields.values()) | {"campaign", "first_touch_at"},
    "activity": frozenset(SOBJECTS["Task"].fields.values())
    | {"account", "cancelled", "deal", "due_at", "internal", "lead"},
}
"""Fields that a field of Salesforce can fill, by kind."""

_RELATED = {"WhatId": {"006": "deal", "001": "account"}, "WhoId": {"00Q": "lead"}}
"""What an activity is about, by the first three characters of the id."""

_TASK_KINDS = {"Call": "call", "Email": "email", "ListEmail": "email"}
_DIRECTIONS = {"Inbound": "in", "Outbound": "out"}


@dataclass(frozen=True, slots=True)
class RecordReading:
    """What a record's fields state. unknown: fields whose value Attain has no word for."""

    patch: Mapping[str, Any]
    unknown: tuple[str, ...]


def read_fields(
    sobject: SObject,
    stated: Mapping[str, str | None],
    connection: Connection,
    organization: str,
) -> RecordReading:
    """The patch that the fields of one record make.

    stated: absent = not sent, None = empty. Raises Unacceptable, with the field as its pointer.
    """
    mapping = _mapping(sobject, connection)
    if connection.options.get(ABSENT_OPTION) == "cleared":
        stated = {**dict.fromkeys(mapping), **stated}

    def reference(text: str) -> str:
        return record_id(connection, organization, id_18(text))

    patch: dict[str, Any] = {"deleted": False, **sobject.always}
    unknown: list[str] = []
    for name, target in mapping.items():
        if not target or name not in stated:
            continue
        text = stated[name]
        if target.startswith(CUSTOM):
            patch.setdefault("custom", {})[target.removeprefix(CUSTOM)] = text
            continue
        try:
            value = None if text is None else _value(name, target, text, connection, reference)
        except InvalidValue as error:
            raise classify(error).at(f"/{name}") from None
        if value is None and text is not None:
            unknown.append(name)
        if value is not None or target not in sobject.always:
            patch[target] = value
    implied = _implied(sobject.kind, stated, reference)
    patch |= {target: value for target, value in implied if target not in mapping.values()}
    if sobject.kind == "deal" and patch.get("currency") is None:
        patch |= _default_currency(connection)
    return RecordReading(patch, tuple(unknown))


def _default_currency(connection: Connection) -> dict[str, str]:
    currency = connection.options.get(CURRENCY_OPTION)
    return {} if currency is None else {"currency": currency}


def field_of(sobject: SObject, connection: Connection, target: str) -> str:
    """The field that fills `target`; "" where none does alone."""
    names = [name for name, to in _mapping(sobject, connection).items() if to == target]
    return names[0] if names else ""


def _mapping(sobject: SObject, connection: Connection) -> Mapping[str, str]:
    return effective_mapping(sobject.fields, connection.mapping.get(sobject.kind, {}))


Reference = Callable[[str], str]


def _implied(
    kind: str, stated: Mapping[str, str | None], reference: Reference
) -> list[tuple[str, Any]]:
    """Fields that several of Salesforce's say together, or one says by its form."""
    said: list[tuple[str, Any]] = []
    if (deleted := _flag(stated, "IsDeleted")) is not None:
        said.append(("deleted", deleted))
    if kind == "deal" and (status := _status(stated)) is not None:
        said.append(("status", status))
    if kind == "activity":
        for name, targets in _RELATED.items():
            if name in stated:
                text = stated[name] or ""
                said += [
                    (target, reference(text) if text.startswith(prefix) else None)
                    for prefix, target in targets.items()
                ]
    return said


def _status(stated: Mapping[str, str | None]) -> str | None:
    """Won, lost or open, where the record says it; else the stage map decides."""
    won, closed = _flag(stated, "IsWon"), _flag(stated, "IsClosed")
    if won:
        return "won"
    if closed is None:
        return None
    if not closed:
        return "open"
    return "lost" if won is False else None


def _flag(stated: Mapping[str, str | None], name: str) -> bool | None:
    text = stated.get(name)
    try:
        return None if text is None else flag(text)
    except Unacceptable as error:
        raise error.at(f"/{name}") from None


def _value(
    name: str, target: str, text: str, connection: Connection, reference: Reference
) -> str | bool | int | None:
    """The field's value; None where its text is none that Attain has a word for."""
    if target in _REFERENCES:
        return reference(text)
    if target == "type":
        return text if text in DEAL_TYPES else connection.options.get(TYPE_OPTION + text)
    if target == "duration_s":
        return _whole(text) * (60 if name == "DurationInMinutes" else 1)
    return _READERS.get(target, str)(text)


def _instant_text(text: str) -> str:
    return to_text(instant(text))


def _fraction(text: str) -> str:
    """A percentage, as Salesforce keeps it, as a fraction of one."""
    return decimal_text(Decimal(decimal(text)).scaleb(-2))


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        msg = f"{text[:40]!r} is no whole number"
        raise Unacceptable("invalid-value", msg)
    return int(text.partition(".")[0])


_REFERENCES = frozenset(
    {
        "account",
        "contact",
        "converted_to_account",
        "converted_to_contact",
        "converted_to_deal",
        "deal",
        "lead",
        "merged_into",
        "owner",
        "parent",
    }
)
_READERS: Mapping[str, Callable[[str], str | bool | None]] = {
    "amount": decimal,
    "probability": _fraction,
    "currency": str.upper,
    "close_date": calendar_date,
    "created_at": _instant_text,
    "closed_at": _instant_text,
    "completed_at": _instant_text,
    "due_at": _instant_text,
    "first_touch_at": _instant_text,
    "next_step_at": _instant_text,
    "kind": lambda text: _TASK_KINDS.get(text, "task"),
    "direction": _DIRECTIONS.get,
    "cancelled": flag,
    "internal": flag,
    "test": flag,
}
"""How a field's text is read; the others are taken as they are, and the model judges them."""
