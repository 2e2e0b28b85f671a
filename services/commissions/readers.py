"""How each event that this service listens to is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from services.commissions.sources import TOPICS
from shared.clock import parse_day, parse_instant
from shared.errors import InvalidValue
from shared.events.catalogue import RECORD_KINDS
from shared.events.envelope import Envelope, invalid_from_msgspec
from shared.events.targets import (
    KPI,
    OBJECTIVE_SCORE,
    QUOTA,
    KpiData,
    ObjectiveScoreData,
    QuotaData,
)
from shared.facts.fact import read_fact
from shared.runtime.messages import Reader

T = TypeVar("T", bound=msgspec.Struct)


def reader_of(model: type[T]) -> Callable[[Envelope], T]:
    """Reads the data of an envelope as `model`. Raises InvalidValue with a JSON pointer."""
    decoder = msgspec.json.Decoder(model)

    def read(envelope: Envelope) -> T:
        try:
            return decoder.decode(envelope.data)
        except msgspec.DecodeError as error:
            raise invalid_from_msgspec(error).at("/data") from None

    return read


_kpi = reader_of(KpiData)
_score = reader_of(ObjectiveScoreData)


def kpi_of(envelope: Envelope) -> KpiData:
    """The KPI in `envelope`. Raises InvalidValue, also for a day that does not exist."""
    said = _kpi(envelope)
    try:
        parse_day(said.day)
    except InvalidValue as error:
        raise error.at("/data/day") from None
    return said


def score_of(envelope: Envelope) -> ObjectiveScoreData:
    """The score in `envelope`. Raises InvalidValue, also for an instant that does not exist."""
    said = _score(envelope)
    try:
        parse_instant(said.scored_at)
    except InvalidValue as error:
        raise error.at("/data/scored_at") from None
    return said


READERS: Mapping[str, Reader] = {
    QUOTA.type: reader_of(QuotaData),
    KPI.type: kpi_of,
    OBJECTIVE_SCORE.type: score_of,
    **{kind.type: read_fact for kind in RECORD_KINDS.values() if kind.topic in TOPICS},
}
"""Event type → reader."""


def read_body(envelope: Envelope) -> object:
    """What the consumer would read in `envelope`. Raises InvalidValue, also for another type."""
    reader = READERS.get(envelope.type)
    if reader is None:
        msg = f"type {envelope.type!r} is none that is listened to"
        raise InvalidValue(msg, pointer="/type")
    return reader(envelope)
