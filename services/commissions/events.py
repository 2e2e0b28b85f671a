"""Events this service writes: its journal, and statements that were fixed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from shared.clock import to_text
from shared.events.envelope import Envelope, encode_data, sequence_of
from shared.ids import derived_id
from shared.runtime.outbox import add_to_outbox

if TYPE_CHECKING:
    import msgspec

    from shared.db.pool import Connection
    from shared.events.catalogue import EventType

SOURCE = "/attain/commissions"


async def write_events(
    tx: Connection,
    kind: EventType,
    said: Sequence[tuple[str, int, msgspec.Struct]],
    now: datetime,
) -> None:
    """Put (subject, revision, data) of one type into the outbox of the open transaction."""
    at = to_text(now)
    events = [
        Envelope(
            id=derived_id(kind.type, subject, str(revision)),
            source=SOURCE,
            type=kind.type,
            subject=subject,
            time=at,
            recordedtime=at,
            sequence=sequence_of(now, revision),
            revision=revision,
            data=encode_data(data),
        )
        for subject, revision, data in said
    ]
    await add_to_outbox(tx, kind.topic, events)
