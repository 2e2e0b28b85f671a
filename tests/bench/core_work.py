"""The same work, done by the metrics service's core: consumer, records, roots, settling and cells.

`python -m tests.bench.core_work <bootstrap> <topic prefix> <database URL> <file> <offsets>` reads
the deals up to the offsets (JSON: partition → end) and writes what it came to as JSON. Everything
but the projection is the service's own code on the service's own tables.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from services.metrics.domain.contributions import Cell, CellKey
from services.metrics.handlers import parent_of
from services.metrics.store import Changes
from shared.db.pool import create_pool
from shared.events.catalogue import CRM_DEALS, RECORD_KINDS
from shared.events.envelope import Envelope
from shared.facts.fact import Fact, read_fact
from shared.facts.marks import RootKey, Touched
from shared.facts.record import Record
from shared.facts.settle import LockedRoot, Projected, Settled, Settler
from shared.facts.store import fold_into_store, load_records
from shared.runtime.consume import Consumer, Message, Subscription
from shared.telemetry.catalogue import Telemetry
from tests.bench.same_work import FIELDS, Addends, addends, difference

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

DEAL = "deal"
LOOK_S = 0.02

StoredCell = tuple[str, str, str, int, int]
_decode = msgspec.json.Decoder(list[StoredCell]).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class SameWork:
    """Projects a deal to the eight measures, and nothing else."""

    kinds: Sequence[str] = (DEAL,)
    code_version: int = 1

    async def load_reference(self, tx: Connection) -> str:
        """There is none; not None, which would be asked for again."""
        return "none"

    async def project(
        self, tx: Connection, kind: str, roots: Sequence[LockedRoot], reference: str
    ) -> Projected:
        """Add to cells what differs from what is stored."""
        absent = [root.key.id for root in roots if root.record is None]
        read = await load_records(tx, DEAL, absent) if absent else {}
        changes = Changes()
        settled = []
        for root in roots:
            record = root.record or read.get(root.key.id, Record())
            said = {name: record.latest(name) for name in FIELDS}
            made = addends({n: (s.sequence, s.value) for n, s in said.items() if s is not None})
            changes.cells += [
                Cell(
                    CellKey(measure, owner, date.fromisoformat(day), "", ""), Decimal(cents), number
                )
                for (owner, measure, day), (cents, number) in difference(
                    _stored(root.contribution), made
                ).items()
            ]
            cells = [(*name, *value) for name, value in sorted(made.items())]
            settled.append(Settled(root, _encode(cells).decode()))
        await changes.write(tx, 0)
        return Projected(settled)


def _stored(text: str | None) -> Addends:
    if text is None:
        return {}
    return {
        (owner, measure, day): (cents, number)
        for owner, measure, day, cents, number in _decode(text)
    }


@dataclass(slots=True)
class Run:
    """One run: until the partitions are read to these ends."""

    pool: Pool
    ends: dict[int, int]
    began: float = 0.0
    settler: Settler[str] = field(default_factory=lambda: Settler(SameWork()))

    def read(self, envelope: Envelope) -> Fact:
        """The fact in an envelope; the clock starts at the first."""
        self.began = self.began or time.monotonic()
        return read_fact(envelope)

    async def take(self, tx: Connection, messages: Sequence[Message]) -> None:
        """What the service's consumer does with a batch of deals."""
        folded = await fold_into_store(tx, [m.body for m in messages], parent_of)
        touched = {Touched(RootKey(DEAL, change.id)) for change in folded}
        await self.settler.settle(tx, touched, folded)

    async def until_done(self) -> float:
        """Wait for the end; when it was."""
        while True:
            rows = await self.pool.fetch("SELECT partition, next_offset FROM consumer_offset")
            read = {row["partition"]: row["next_offset"] for row in rows}
            if all(read.get(number, 0) >= end for number, end in self.ends.items()):
                return time.monotonic()
            await asyncio.sleep(LOOK_S)


async def main(bootstrap: str, prefix: str, database_url: str, path: Path, ends: str) -> None:
    """Do the work once."""
    pool = await create_pool(database_url, schema="metrics", name="core-work", max_size=4)
    run = Run(pool, {int(number): end for number, end in json.loads(ends).items()})
    await run.settler.announce_code_version(pool)
    consumer = Consumer(
        pool=pool,
        bootstrap=bootstrap,
        topic_prefix=prefix,
        group="core-work",
        subscription=Subscription((CRM_DEALS,), {RECORD_KINDS[DEAL].type: run.read}),
        handler=run.take,
        telemetry=Telemetry("core-work"),
    )
    stop = asyncio.Event()
    consuming = asyncio.create_task(consumer.run(stop))
    ended = await run.until_done()
    stop.set()
    await consuming
    cells = await pool.fetch(
        "SELECT people, measure, day, sum(amount)::bigint AS cents, sum(number)::bigint AS number "
        "FROM cell WHERE amount <> 0 OR number <> 0 GROUP BY 1, 2, 3"
    )
    totals = [[c["people"], c["measure"], str(c["day"]), c["cents"], c["number"]] for c in cells]
    answer = {"elapsed_s": ended - run.began, "totals": totals}
    path.write_text(json.dumps(answer), encoding="utf-8")
    await pool.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5]))
