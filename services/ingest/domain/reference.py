"""People, teams, calendars, exchange rates and stage maps, as people state them, to facts."""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec
from msgspec import Raw

from services.ingest.domain.checks import Unacceptable, accept, classify
from services.ingest.domain.cloudevents import EventsRefused
from shared.clock import to_text
from shared.errors import InvalidValue, Refused
from shared.events.catalogue import RECORD_KINDS
from shared.events.envelope import Envelope, encode_data, invalid_from_msgspec, sequence_of
from shared.events.records import RateData
from shared.ids import digest

SOURCE = "/attain/api"
"""The source of what a person states through the API."""

REFERENCE_KINDS = frozenset({"person", "team", "calendar", "stage_map"})

MAX_RATES = 1000
"""Rows of one request: three years of days of one pair."""

DEFAULT_RATE_TABLE = "org"


def reference_fact(kind: str, record_id: str, body: bytes, *, now: datetime) -> Envelope:
    """The fact that a PUT of a person, team, calendar or stage map states.

    body: the fields of that kind's model. What is absent stays as it was, null takes it back. The
    values hold from `effective_from`, a day of the organisation's; without it from `now` on.
    now: orders this statement among others about the record.
    Raises EventsRefused with pointers into the body; Refused (400) when it is no JSON object.
    """
    if kind not in REFERENCE_KINDS:
        msg = f"{kind!r} is no kind of reference record"
        raise ValueError(msg)
    _require_object(body)
    envelope = _statement(kind, record_id, Raw(body), now)
    try:
        accept(envelope)
    except Unacceptable as error:
        raise EventsRefused((_in_body(error),)) from None
    return envelope


class _RateRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rate: one unit of `from` is `rate` units of `to` on `day`; null takes it back."""

    from_: str = msgspec.field(name="from")
    to: str
    day: str
    rate: str | None


class _Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rates: list[Raw]


def rate_facts(table: str, body: bytes, *, now: datetime) -> tuple[Envelope, ...]:
    """The facts that a PUT of `{"rates": [{"from", "to", "day", "rate"}, …]}` states.

    Raises EventsRefused with a pointer for every row that cannot be taken; Refused for a body that
    is no JSON (400) or has too many rows (413).
    """
    _require_object(body)
    try:
        rows = msgspec.json.decode(body, type=_Rates).rates
    except msgspec.DecodeError as error:
        raise EventsRefused((classify(invalid_from_msgspec(error)),)) from None
    if len(rows) > MAX_RATES:
        msg = f"at most {MAX_RATES} rates in one request, got {len(rows)}"
        raise Refused("batch-too-large", msg, status=413)
    envelopes: list[Envelope] = []
    problems: list[Unacceptable] = []
    for index, row in enumerate(rows):
        try:
            envelopes.append(_rate_fact(table, row, now))
        except InvalidValue as error:
            problems.append(_in_body(classify(error)).at(f"/rates/{index}"))
    if problems:
        raise EventsRefused(tuple(problems))
    return tuple(envelopes)


def _rate_fact(table: str, row: Raw, now: datetime) -> Envelope:
    try:
        stated = msgspec.json.decode(row, type=_RateRow)
    except msgspec.ValidationError as error:
        raise classify(invalid_from_msgspec(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unacceptable("invalid-value", str(error)) from None
    data = RateData(table=table, from_=stated.from_, to=stated.to, day=stated.day, rate=stated.rate)
    record_id = f"{table}:{stated.from_}:{stated.to}:{stated.day}"
    envelope = _statement("rate", record_id, encode_data(data), now)
    accept(envelope)
    return envelope


def _statement(kind: str, record_id: str, data: Raw, now: datetime) -> Envelope:
    subject = f"{kind}/{record_id}"
    sequence = sequence_of(now, now.microsecond % 1000)
    fingerprint = hashlib.sha256(bytes(data)).hexdigest()
    return Envelope(
        id=digest(SOURCE, subject, sequence, fingerprint),
        source=SOURCE,
        type=RECORD_KINDS[kind].type,
        subject=subject,
        time=to_text(now),
        recordedtime=to_text(now),
        sequence=sequence,
        data=data,
    )


def _require_object(body: bytes) -> None:
    try:
        document = msgspec.json.decode(body, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"the body is no readable JSON object: {error}"
        raise Refused("malformed-json", msg, status=400) from None
    if not document:
        raise EventsRefused((Unacceptable("nothing-stated", "the body states nothing"),))


def _in_body(error: Unacceptable) -> Unacceptable:
    """The request's body is the event's data, so its pointers begin below `/data`."""
    pointer = error.pointer.removeprefix("/data")
    return Unacceptable(error.code, error.message, pointer=pointer)
