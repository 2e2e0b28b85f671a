"""Whether everything that was accepted has been worked off.

Read where the truth is: a consumer's positions lie in its service's schema beside what they made,
and are compared with the ends of the logs. Metrics endpoints say the same a little later.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.embedded.errors import StackError
from deploy.embedded.services import READERS, WITH_TABLES
from deploy.embedded.stack import Endpoints

POLL_S = 0.1
NOTHING_MOVES_S = 60.0
"""Without any progress for this long something is stuck, and waiting longer is no use."""

PROJECTING = ("metrics", "commissions")

# One statement, so that all of it is of one moment. The names are ours.
_POSITIONS = " UNION ALL ".join(
    f"SELECT '{schema}' AS service, topic, partition, next_offset FROM {schema}.consumer_offset"  # noqa: S608
    for schema in READERS
)
_OUTBOXES = " + ".join(
    f"(SELECT count(*) FROM {schema}.outbox WHERE published_at IS NULL)"  # noqa: S608
    for schema in WITH_TABLES
)
_MARKS = " + ".join(f"(SELECT count(*) FROM {schema}.mark)" for schema in PROJECTING)  # noqa: S608
_LOOK = (
    f"SELECT (SELECT json_agg(p) FROM ({_POSITIONS}) p)::text AS positions, "  # noqa: S608
    f"{_OUTBOXES} AS outboxes, {_MARKS} AS marks, "
    "(SELECT count(*) FROM commissions.held_change WHERE state = 'judging') AS judging"
)
_OUTDATED = " + ".join(
    f"(SELECT count(*) FROM {schema}.root r, {schema}.reference_version v "  # noqa: S608
    "WHERE r.reference_version < v.version)"
    for schema in PROJECTING
)
_DUE = " + ".join(
    f"(SELECT count(*) FROM metrics.{table} d, metrics.simulated_clock c "  # noqa: S608
    "WHERE d.next_due <= c.instant)"
    for table in ("root", "quota")
)
_MESSAGES = "(SELECT count(*) FROM notifications.delivery WHERE status = 'pending')"
_LETTERS = " UNION ALL ".join(
    f"SELECT '{schema}' AS service, topic, cause, detail FROM {schema}.dead_letter"  # noqa: S608
    for schema in READERS
)


class StuckError(StackError):
    """The services do not get on with what they were given."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was still to be done: counts by what they are of, without zeros."""

    left: Mapping[str, int]

    def __str__(self) -> str:
        """What is left, for a person."""
        return ", ".join(f"{name}: {count}" for name, count in self.left.items()) or "nothing"


@dataclass(slots=True)
class Watch:
    """Looks at one stack; `watching` opens one.

    delays_s: how long each wait took, from the last accepted event to everything being visible.
    """

    connection: asyncpg.Connection[asyncpg.Record]
    kafka: AIOKafkaConsumer
    prefix: str
    delays_s: list[float] = field(default_factory=list)

    async def caught_up(self, *, settled: bool = False) -> None:
        """Wait until every accepted event is folded, projected and published.

        settled: wait also until nothing is outdated or due and all messages have gone out.
        Raises: StuckError when nothing has moved for a while.
        """
        began = moved = time.monotonic()
        last = Look({})
        while (now := await self.look(settled=settled)).left:
            if now != last:
                last, moved = now, time.monotonic()
            elif time.monotonic() - moved > NOTHING_MOVES_S:
                msg = f"Nothing has moved for {NOTHING_MOVES_S:.0f} s. Left: {now}."
                raise StuckError(msg)
            await asyncio.sleep(POLL_S)
        self.delays_s.append(time.monotonic() - began)

    async def look(self, *, settled: bool = False) -> Look:
        """What is left to do.

        Log ends are read last: what was published after the positions were read counts as left.
        """
        row = await self.connection.fetchrow(_LOOK)
        if row is None:
            raise StuckError("The database gives no answer.")
        left = await self._behind(json.loads(row["positions"] or "[]"))
        left |= {
            "events to publish": row["outboxes"],
            "marked roots": row["marks"],
            "changes to judge": row["judging"],
        }
        if settled and not any(left.values()):
            more = await self.connection.fetchrow(
                f"SELECT {_OUTDATED} AS outdated, {_DUE} AS due, {_MESSAGES} AS messages"
            )
            if more is not None:
                left |= {
                    "outdated roots": more["outdated"],
                    "roots due": more["due"],
                    "messages to send": more["messages"],
                }
        return Look({name: count for name, count in left.items() if count})

    async def _behind(self, positions: list[dict[str, str | int]]) -> dict[str, int]:
        """Records between the positions and the ends of the logs, by service."""
        if not positions:
            return {"consumers that have not begun": 1}
        places = {
            TopicPartition(self.prefix + str(p["topic"]), int(p["partition"])) for p in positions
        }
        ends = await self.kafka.end_offsets(list(places))
        behind: dict[str, int] = {}
        for p in positions:
            place = TopicPartition(self.prefix + str(p["topic"]), int(p["partition"]))
            name = f"{p['service']} behind by"
            behind[name] = behind.get(name, 0) + ends[place] - max(0, int(p["next_offset"]))
        return behind

    async def dead_letters(self) -> list[str]:
        """What consumers put aside, one line each: there should be nothing."""
        rows = await self.connection.fetch(_LETTERS)
        return [f"{r['service']}, {r['topic']}: {r['cause']}: {r['detail']}" for r in rows]


@asynccontextmanager
async def watching(endpoints: Endpoints) -> AsyncIterator[Watch]:
    """Connect to a stack's stores for reading."""
    kafka = AIOKafkaConsumer(
        bootstrap_servers=endpoints.kafka_bootstrap, group_id=None, enable_auto_commit=False
    )
    connection = await asyncpg.connect(endpoints.database_url)
    try:
        await kafka.start()
        yield Watch(connection, kafka, endpoints.topic_prefix)
    finally:
        await connection.close()
        await kafka.stop()
