"""The envelope: CloudEvents 1.0 in structured JSON, with the extension attributes Attain orders by.

`sequence` alone orders facts of one record: 15 digits of source time in milliseconds since 1970,
then 20 digits of tie-break that the source gives. Texts of one width, so text order is the order.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from shared.clock import from_epoch_ms, to_epoch_ms
from shared.errors import InvalidValue

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"

MS_DIGITS = 15
TIE_DIGITS = 20
SEQUENCE_PATTERN = r"^[0-9]{35}\Z"
INSTANT_PATTERN = r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z\Z"

Instant = Annotated[
    str,
    msgspec.Meta(pattern=INSTANT_PATTERN, description="RFC 3339, UTC, milliseconds, `Z`"),
]
Sequence = Annotated[
    str,
    msgspec.Meta(pattern=SEQUENCE_PATTERN, description="source time in ms (15) and tie-break (20)"),
]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event on Kafka. `data` is decoded later, by the model that the catalogue has for `type`.

    id: stable over retries of the same statement. subject: `<record kind>/<record id>`, also the
    Kafka key. time: the source's time of the change. recordedtime: when Attain received it.
    revision: of the adapter or mapping that made the fact; compared after `sequence`.
    rawid: the delivery in `crm.raw` it was read from. backfill: imported history.
    sealed: personal fields, encrypted under a key of that person (compact JWE); erasing a person
    is destroying the key. traceparent: W3C trace context.
    """

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: Instant
    recordedtime: Instant
    sequence: Sequence
    revision: int = 0
    rawid: str | None = None
    backfill: bool = False
    sealed: str | None = None
    traceparent: str | None = None
    datacontenttype: str = "application/json"
    data: msgspec.Raw = msgspec.Raw(b"{}")


_decoder = msgspec.json.Decoder(Envelope)
_encoder = msgspec.json.Encoder(decimal_format="string")


def decode(value: bytes) -> Envelope:
    """The envelope in `value`. Raises InvalidValue saying what is wrong and where."""
    try:
        envelope = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _invalid(error) from None
    if envelope.specversion != "1.0":
        msg = f"specversion {envelope.specversion!r} is not supported; send 1.0"
        raise InvalidValue(msg, pointer="/specversion")
    return envelope


def encode(envelope: Envelope) -> bytes:
    """The envelope as structured JSON."""
    return _encoder.encode(envelope)


def encode_data(data: Any) -> msgspec.Raw:  # noqa: ANN401 - any catalogue model or plain JSON value
    """Event data as raw JSON; decimals become text."""
    return msgspec.Raw(_encoder.encode(data))


def sequence_of(instant: datetime, tie_break: int = 0) -> str:
    """The order of a statement made at `instant`, before others of that instant by `tie_break`.

    Raises InvalidValue for an instant before 1970 or a tie-break that is negative or too long.
    """
    epoch_ms = to_epoch_ms(instant)
    if epoch_ms < 0 or not 0 <= tie_break < 10**TIE_DIGITS:
        msg = "a sequence needs a time after 1970 and a tie-break of at most 20 digits"
        raise InvalidValue(msg, pointer="/sequence")
    return f"{epoch_ms:0{MS_DIGITS}d}{tie_break:0{TIE_DIGITS}d}"


def sequence_instant(sequence: str) -> datetime:
    """The source time that a sequence carries."""
    return from_epoch_ms(int(sequence[:MS_DIGITS]))


def _invalid(error: Exception) -> InvalidValue:
    """Msgspec says "… - at `$.a.b`"; turn the path into a JSON pointer."""
    message = str(error)
    pointer = ""
    if " - at `$" in message:
        message, _, path = message.partition(" - at `$")
        pointer = "/" + path.rstrip("`").replace("[", ".").replace("]", "").lstrip(".")
        pointer = pointer.replace(".", "/")
    return InvalidValue(message, pointer=pointer)


invalid_from_msgspec = _invalid
