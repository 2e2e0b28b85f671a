"""CloudEvents 1.0 over HTTP, in all three modes, to facts.

The JSON is read with msgspec and not with the `cloudevents` package: that one turns numbers into
doubles, takes NaN and times without a zone, replaces broken UTF-8 in headers silently, and has no
batch mode. Its own output is what the tests send.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import UNSET, Raw, UnsetType

from services.ingest.domain.checks import Unacceptable, accept, classify, instant_or_refuse
from services.ingest.domain.translation import arrival_text
from shared.clock import to_text
from shared.errors import AttainError, InvalidValue, Refused
from shared.events.envelope import (
    INSTANT_PATTERN,
    TIE_DIGITS,
    Envelope,
    invalid_from_msgspec,
    sequence_of,
)
from shared.ids import digest

MAX_BATCH_EVENTS = 1000
"""A larger batch is refused whole: its facts must all be durable within one answer's time."""

MAX_PROBLEMS = 100
"""Errors named in one answer; mending these first costs the sender one more attempt, at most."""

BATCH = "application/cloudevents-batch"
STRUCTURED = "application/cloudevents"
_SUPPORTED = f"send {BATCH}+json, {STRUCTURED}+json, or the event's attributes as ce- headers"

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_CANONICAL = re.compile(INSTANT_PATTERN)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TIE_BREAK = re.compile(rf"[0-9]{{1,{TIE_DIGITS}}}")
_JSON_TYPE = re.compile(r"[a-z0-9.+-]+/([a-z0-9.+-]+\+)?json")


class EventsRefused(AttainError):
    """A request none of whose events was taken: each fault with its pointer into the body.

    The whole batch is refused: its sender can mend it and send it again, and an event that was
    sent twice counts once. code: that of all the faults, or `invalid-events` where they differ.
    """

    def __init__(self, problems: tuple[Unacceptable, ...], *, unnamed: int = 0) -> None:
        super().__init__(f"{len(problems) + unnamed} of the events cannot be accepted")
        self.problems = problems
        self.unnamed = unnamed
        codes = {problem.code for problem in problems}
        self.code = codes.pop() if len(codes) == 1 else "invalid-events"


Attribute = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class _Posted(msgspec.Struct, kw_only=True):
    """The attributes that are read. Others are extensions of the sender's, and are let pass."""

    specversion: str
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    source: Attribute
    type: Attribute
    subject: Attribute
    time: Attribute
    sequence: str | int | None = None
    backfill: bool | str | None = None
    traceparent: str | None = None
    datacontenttype: str | None = None
    data: Raw | UnsetType = UNSET
    data_base64: str | None = None
    recordedtime: Raw | UnsetType = UNSET
    revision: Raw | UnsetType = UNSET
    rawid: Raw | UnsetType = UNSET
    sealed: Raw | UnsetType = UNSET


_RESERVED = ("recordedtime", "revision", "rawid", "sealed")
_FROM_HEADERS = frozenset(_Posted.__struct_fields__) - {"data", "data_base64", "datacontenttype"}

_batch_decoder = msgspec.json.Decoder(list[Raw])
_decoder = msgspec.json.Decoder(_Posted)


def read_events(
    headers: Mapping[str, str],
    body: bytes,
    *,
    received_at: datetime,
    raw_id: str | None = None,
) -> tuple[Envelope, ...]:
    """The facts in one request, in its order, each checked.

    headers: names in lower case. received_at: when the request arrived, aware.
    Raises EventsRefused for events that cannot be taken; Refused for a body that is no JSON (400),
    too many events (413) or a content type that is none of the three modes (415).
    """
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type.startswith(STRUCTURED):
        if not content_type.endswith("+json"):
            raise Refused("unsupported-media-type", _SUPPORTED, status=415)
        if content_type.startswith(BATCH):
            return _read_batch(body, received_at, raw_id)
        return _read_one(lambda: _decode(body), received_at, raw_id)
    if any(name.startswith("ce-") for name in headers):
        return _read_one(lambda: _from_headers(headers, content_type, body), received_at, raw_id)
    raise Refused("unsupported-media-type", _SUPPORTED, status=415)


def _read_batch(body: bytes, received_at: datetime, raw_id: str | None) -> tuple[Envelope, ...]:
    try:
        documents = _batch_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None
    if len(documents) > MAX_BATCH_EVENTS:
        msg = f"a batch holds at most {MAX_BATCH_EVENTS} events, got {len(documents)}"
        raise Refused("batch-too-large", msg, status=413)
    envelopes: list[Envelope] = []
    problems: list[Unacceptable] = []
    for index, document in enumerate(documents):
        try:
            envelopes.append(_fact(_decode(document), received_at, raw_id))
        except InvalidValue as error:
            problems.append(classify(error).at(f"/{index}"))
    if problems:
        named = tuple(problems[:MAX_PROBLEMS])
        raise EventsRefused(named, unnamed=len(problems) - len(named))
    return tuple(envelopes)


def _decode(document: bytes | Raw) -> _Posted:
    try:
        return _decoder.decode(document)
    except msgspec.ValidationError as error:
        raise classify(invalid_from_msgspec(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None


def _read_one(
    read: Callable[[], _Posted], received_at: datetime, raw_id: str | None
) -> tuple[Envelope, ...]:
    try:
        return (_fact(read(), received_at, raw_id),)
    except InvalidValue as error:
        raise EventsRefused((classify(error),)) from None


def _malformed(error: Exception) -> Refused:
    detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return Refused("malformed-json", f"the body is no readable JSON: {detail}", status=400)


def _from_headers(headers: Mapping[str, str], content_type: str, body: bytes) -> _Posted:
    """Binary mode: attributes in `ce-` headers, data in the body, its type in Content-Type."""
    attributes: dict[str, object] = {
        name: _header_value(name, headers[f"ce-{name}"])
        for name in _FROM_HEADERS
        if f"ce-{name}" in headers
    }
    for name in _RESERVED:
        if name in attributes:
            attributes[name] = Raw(b"null")
    try:
        posted = msgspec.convert(attributes, _Posted)
    except msgspec.ValidationError as error:
        raise classify(invalid_from_msgspec(error)) from None
    posted.datacontenttype = content_type or None
    if body:
        posted.data = Raw(body)
    return posted


def _header_value(name: str, value: str) -> str:
    """A header's value: quotes taken off, percent-decoded once (HTTP binding, 3.1.3.2)."""
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        msg = "the header is not percent-encoded UTF-8"
        raise Unacceptable("invalid-value", msg, pointer=f"/{name}") from None


def _fact(posted: _Posted, received_at: datetime, raw_id: str | None) -> Envelope:
    if posted.specversion != "1.0":
        msg = f"specversion {posted.specversion[:20]!r} is not supported; send 1.0"
        raise Unacceptable("invalid-value", msg, pointer="/specversion")
    for name in _RESERVED:
        if getattr(posted, name) is not UNSET:
            msg = f"{name} is set on arrival; leave it out"
            raise Unacceptable("invalid-value", msg, pointer=f"/{name}")
    if not (posted.id + posted.source + posted.subject).isprintable():
        _refuse_control_characters(posted)
    instant = instant_or_refuse(posted.time)
    tie_break = _tie_break(posted, instant)
    try:
        sequence = sequence_of(instant, tie_break)
    except InvalidValue:
        msg = "the time lies before 1970"
        raise Unacceptable("invalid-value", msg, pointer="/time") from None
    envelope = Envelope(
        id=digest("cloudevents", posted.source, posted.id, posted.subject),
        source=posted.source,
        type=posted.type,
        subject=posted.subject,
        time=posted.time if _CANONICAL.match(posted.time) else to_text(instant),
        recordedtime=arrival_text(received_at),
        sequence=sequence,
        rawid=raw_id,
        backfill=_flag(posted.backfill),
        traceparent=_trace(posted.traceparent),
        data=_data(posted),
    )
    accept(envelope)
    return envelope


def _refuse_control_characters(posted: _Posted) -> None:
    for name in ("id", "source", "subject"):
        if _CONTROL.search(getattr(posted, name)):
            msg = f"{name} holds a control character"
            raise Unacceptable("invalid-value", msg, pointer=f"/{name}")


def _tie_break(posted: _Posted, instant: datetime) -> int:
    """The sender's own counter; without one, what its time says below the millisecond."""
    if posted.sequence is None:
        return instant.microsecond % 1000
    text = str(posted.sequence)
    if not _TIE_BREAK.fullmatch(text):
        msg = f"sequence has 1 to {TIE_DIGITS} digits: it orders events of one instant"
        raise Unacceptable("invalid-value", msg, pointer="/sequence")
    return int(text)


def _flag(value: bool | str | None) -> bool:  # noqa: FBT001 - a decoded attribute
    """A Boolean attribute: a JSON boolean, or its canonical text in a header."""
    if value in {None, False, "false"}:
        return False
    if value in {True, "true"}:
        return True
    raise Unacceptable("invalid-value", "backfill is true or false", pointer="/backfill")


def _trace(value: str | None) -> str | None:
    """W3C trace context; a malformed one is left out, as that standard asks."""
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None


def _data(posted: _Posted) -> Raw:
    if posted.datacontenttype and posted.datacontenttype != "application/json":
        content_type = posted.datacontenttype.partition(";")[0].strip().lower()
        if not _JSON_TYPE.fullmatch(content_type):
            msg = f"data of type {content_type[:60]!r} is not read; send application/json"
            raise Unacceptable("invalid-value", msg, pointer="/datacontenttype")
    if posted.data_base64 is None:
        if posted.data is UNSET:
            raise Unacceptable("missing-attribute", "data is required", pointer="/data")
        return posted.data
    if posted.data is not UNSET:
        msg = "an event has data or data_base64, not both"
        raise Unacceptable("invalid-value", msg, pointer="/data_base64")
    try:
        return Raw(base64.b64decode(posted.data_base64, validate=True))
    except (binascii.Error, ValueError):
        msg = "data_base64 is not base64"
        raise Unacceptable("invalid-value", msg, pointer="/data_base64") from None
