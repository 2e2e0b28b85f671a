"""The outbox: events written in the transaction that causes them; the relay publishes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared.events.envelope import Envelope, encode
from shared.runtime.tracing import carries_on, carry_on

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def add_to_outbox(tx: Connection, topic: str, events: Sequence[Envelope]) -> None:
    """Queue `events` for `topic` (without the deployment's prefix) in the open transaction."""
    if events:
        if carries_on():
            events = await carry_on(tx, topic, events)
        await tx.execute(
            "INSERT INTO outbox (topic, key, value) "
            "SELECT $1, * FROM unnest($2::bytea[], $3::bytea[])",
            topic,
            [event.subject.encode() for event in events],
            [encode(event) for event in events],
        )
