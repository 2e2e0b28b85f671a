"""A fact: one source's patch of one record, flattened to named fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec

from shared.clock import parse_instant, to_epoch_ms
from shared.errors import InvalidValue
from shared.events.catalogue import RECORD_KIND_BY_TYPE, RecordKind
from shared.events.envelope import Envelope, invalid_from_msgspec, sequence_instant

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
            yield name + suffix, msgspec.to_builtins(value)
