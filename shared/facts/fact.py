"""A fact: one source's patch of one record, flattened to named fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import msgspec.inspect

from shared.clock import parse_day, parse_instant, to_epoch_ms
from shared.errors import InvalidValue
from shared.events.catalogue import RECORD_KIND_BY_TYPE, RecordKind
from shared.events.envelope import (
    INSTANT_PATTERN,
    Envelope,
    invalid_from_msgspec,
    sequence_instant,
)
from shared.events.records import DAY_PATTERN

WHOLE_LIST = "*"
"""The member name under which "this list is complete" is stated."""

FUTURE_TOLERANCE = timedelta(minutes=10)
"""A fact dated later than this after its arrival is refused: a wrong clock would win every fold."""

_decoders = {kind.type: msgspec.json.Decoder(kind.model) for kind in RECORD_KIND_BY_TYPE.values()}


@dataclass(frozen=True, slots=True)
class Fact:
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
    parse_instant(envelope.time)
    recorded_at = parse_instant(envelope.recordedtime)
    if sequence_instant(envelope.sequence) > recorded_at + FUTURE_TOLERANCE:
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
        recorded_ms=to_epoch_ms(recorded_at),
        backfill=envelope.backfill,
        fields=dict(_flatten(kind, data, envelope)),
    )


def _flatten(
    kind: RecordKind, data: msgspec.Struct, envelope: Envelope
) -> Iterator[tuple[str, Any]]:
    suffix = ""
    if kind.dated:
        stated = getattr(data, "effective_from", msgspec.UNSET)
        if stated is not msgspec.UNSET:
            _checked(parse_day, stated, "effective_from")
        suffix = "@" + (envelope.time if stated is msgspec.UNSET else stated)
    encoded_names = data.__struct_encode_fields__
    for attribute, name in zip(data.__struct_fields__, encoded_names, strict=True):
        value = getattr(data, attribute)
        if value is msgspec.UNSET or name == "effective_from":
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
            yield name + suffix, msgspec.to_builtins(value)


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
