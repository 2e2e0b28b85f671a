"""A fact: one source's patch of one record, flattened to named fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
import msgspec.inspect

from shared.clock import parse_day, parse_instant, to_epoch_ms
from shared.errors import InvalidValue
from shared.events.catalogue import RECORD_KIND_BY_TYPE, RecordKind
from shared.events.envelope import (
    INSTANT_PATTERN,
    MS_DIGITS,
    Envelope,
    invalid_from_msgspec,
)
from shared.events.records import DAY_PATTERN

WHOLE_LIST = "*"
"""The member name under which "this list is complete" is stated."""

FUTURE_TOLERANCE = timedelta(minutes=10)
"""A fact dated later than this after its arrival is refused: a wrong clock would win every fold."""

_TOLERANCE_MS = FUTURE_TOLERANCE // timedelta(milliseconds=1)
_DAY_DIGITS = len("2026-01-31")
_INSTANT_LENGTH = len("2026-01-31T09:30:00.000Z")
_LAST_HOUR = 23

_decoders = {kind.type: msgspec.json.Decoder(kind.model) for kind in RECORD_KIND_BY_TYPE.values()}


class Fact(msgspec.Struct, frozen=True, gc=False):
    """What one event says about one record.

    fields: flattened names → JSON values. `stage`; `splits:<member>`; `splits:*` (the list is
    complete); `manager@<day or instant>` (dated); `custom:<key>`.
    """

    kind: RecordKind
    record_id: str
    event_id: str
    sequence: str
    revision: int
    recorded_ms: int
    backfill: bool
    fields: Mapping[str, Any]

    @property
    def subject(self) -> str:
        """`<kind>/<record id>`: the Kafka key, and the record's name everywhere."""
        return f"{self.kind.name}/{self.record_id}"


def read_fact(envelope: Envelope) -> Fact:
    """The fact that `envelope` carries.

    Raises InvalidValue with a JSON pointer: unknown type, subject of another kind, data that the
    model refuses, or a time more than ten minutes after its arrival.
    """
    kind = RECORD_KIND_BY_TYPE.get(envelope.type)
    if kind is None:
        msg = f"type {envelope.type!r} is not in the catalogue"
        raise InvalidValue(msg, pointer="/type")
    prefix, _, record_id = envelope.subject.partition("/")
    if prefix != kind.name or not record_id:
        msg = f"subject must be {kind.name}/<id>, got {envelope.subject[:80]!r}"
        raise InvalidValue(msg, pointer="/subject")
    instant_ms(envelope.time)
    recorded_ms = instant_ms(envelope.recordedtime)
    if int(envelope.sequence[:MS_DIGITS]) > recorded_ms + _TOLERANCE_MS:
        msg = "the fact is dated more than ten minutes after it arrived; check the source's clock"
        raise InvalidValue(msg, pointer="/sequence")
    try:
        data = _decoders[kind.type].decode(envelope.data)
    except msgspec.DecodeError as error:
        raise invalid_from_msgspec(error).at("/data") from None
    return Fact(
        kind=kind,
        record_id=record_id,
        event_id=envelope.id,
        sequence=envelope.sequence,
        revision=envelope.revision,
        recorded_ms=recorded_ms,
        backfill=envelope.backfill,
        fields=dict(_flatten(kind, data, envelope)),
    )


def instant_ms(text: str) -> int:
    """Milliseconds since 1970 of an instant; soonest of one written as an envelope writes it.

    Raises InvalidValue, also for a day that the calendar does not have.
    """
    try:
        hours = int(text[11:13])
        if hours > _LAST_HOUR or len(text) != _INSTANT_LENGTH or text[-1] != "Z":
            raise ValueError  # noqa: TRY301 - one message for whatever is no instant
        minutes = hours * 60 + int(text[14:16])
        return (
            _midnight_ms(text[:_DAY_DIGITS])
            + (minutes * 60 + int(text[17:19])) * 1000
            + int(text[20:23])
        )
    except ValueError:
        return to_epoch_ms(parse_instant(text))


@lru_cache(maxsize=4096)
def _midnight_ms(day: str) -> int:
    return to_epoch_ms(datetime.fromisoformat(day).replace(tzinfo=UTC))


def _flatten(
    kind: RecordKind, data: msgspec.Struct, envelope: Envelope
) -> Iterator[tuple[str, Any]]:
    suffix = ""
    if kind.dated:
        stated = getattr(data, "effective_from", msgspec.UNSET)
        if stated is not msgspec.UNSET:
            _checked(parse_day, stated, "effective_from")
        suffix = "@" + (envelope.time if stated is msgspec.UNSET else stated)
    # Fields that are not stated are not in it, and what is in it is plain JSON.
    stated_fields: dict[str, Any] = msgspec.to_builtins(data)
    for name, value in stated_fields.items():
        if name == "effective_from":
            continue
        if name == "complete":
            for listed in value:
                yield f"{listed}:{WHOLE_LIST}{suffix}", True
        elif name in kind.members:
            for member, said in value.items():
                yield f"{name}:{member}{suffix}", said
        else:
            if value is not None and (parse := _CALENDAR_FIELDS.get((kind.name, name))):
                _checked(parse, value, name)
            yield name + suffix, value


def _checked(parse: Callable[[str], object], text: str, name: str) -> None:
    """The models' patterns know digits, not calendars: refuse 2025-02-31 before it is stored."""
    try:
        parse(text)
    except InvalidValue as error:
        raise error.at(f"/data/{name}") from None


def _calendar_fields() -> Iterator[tuple[tuple[str, str], Callable[[str], object]]]:
    """Which fields are days and which are instants, read off the models."""
    parsers = {DAY_PATTERN: parse_day, INSTANT_PATTERN: parse_instant}
    for kind in RECORD_KIND_BY_TYPE.values():
        for field in msgspec.structs.fields(kind.model):
            stated = msgspec.inspect.type_info(field.type)
            options = stated.types if isinstance(stated, msgspec.inspect.UnionType) else (stated,)
            for option in options:
                plain = option.type if isinstance(option, msgspec.inspect.Metadata) else option
                if isinstance(plain, msgspec.inspect.StrType) and plain.pattern in parsers:
                    yield (kind.name, field.encode_name), parsers[plain.pattern]


_CALENDAR_FIELDS = dict(_calendar_fields())
