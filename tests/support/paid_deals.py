"""A tiny service on the real core: what was paid per owner, over deals and their payments.

It projects the smallest thing that still crosses partitions, roots and merges, so that tests of
`shared.facts` and `shared.runtime` need none of the real services.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Self

import asyncpg
from sqlalchemy import Column, MetaData, Numeric, Table, Text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateSchema

from shared.clock import to_text
from shared.db.migrate import sqlalchemy_url
from shared.db.pool import Connection, Pool, create_pool
from shared.db.tables import add_runtime_tables, service_metadata
from shared.events.catalogue import CRM_BILLING, CRM_DEALS, CRM_PEOPLE, RECORD_KINDS, topics
from shared.events.envelope import Envelope, encode, encode_data, sequence_of
from shared.facts.fact import read_fact
from shared.facts.marks import RootKey, Touched, count_marks
from shared.facts.record import Record
from shared.facts.settle import (
    LockedRoot,
    Projected,
    Settled,
    Settler,
    raise_reference_version,
)
from shared.facts.store import fold_into_store, load_children, load_kind, load_records
from shared.facts.tables import add_fact_tables
from shared.kafka.clients import ensure_topics, make_producer
from shared.runtime.consume import Consumer, Handler, Message, Subscription
from shared.telemetry.catalogue import Telemetry

SCHEMA = "paid_deals"
START = datetime(2025, 1, 1, tzinfo=UTC)


def metadata() -> MetaData:
    """Core and runtime tables, and one table of sums."""
    found = service_metadata(SCHEMA)
    add_runtime_tables(found)
    add_fact_tables(found)
    Table(
        "paid",
        found,
        Column("owner", Text, primary_key=True),
        Column("amount", Numeric, nullable=False),
    )
    return found


async def create_schema(url: str) -> None:
    """Make the schema in a fresh database."""
    engine = create_async_engine(sqlalchemy_url(url))
    async with engine.begin() as connection:
        await connection.execute(CreateSchema(SCHEMA))
        await connection.run_sync(metadata().create_all)
    await engine.dispose()


class PaidDeals:
    """Projector: a deal gives its payments' sum to its owner; a deleted one gives nothing.

    Its reference data: owners who are said to be inactive, whose deals give nothing either.
    """

    kinds = ("deal",)
    code_version = 1

    async def load_reference(self, tx: Connection) -> frozenset[str]:
        """Owners who are inactive."""
        people = await load_kind(tx, "person")
        return frozenset(
            owner
            for owner, person in people.items()
            if False in dict(person.dated("active")).values()
        )

    async def project(
        self, tx: Connection, kind: str, roots: Sequence[LockedRoot], reference: frozenset[str]
    ) -> Projected:
        """Sum payments per owner and add the difference to what is stored."""
        ids = [root.key.id for root in roots]
        deals = await load_records(tx, "deal", ids)
        payments = await load_children(tx, "payment", [f"deal/{i}" for i in ids])
        settled = []
        change: dict[str, Decimal] = defaultdict(Decimal)
        for root in roots:
            now = contribution(
                deals.get(root.key.id), payments.get(f"deal/{root.key.id}", []), reference
            )
            for sign, text in ((-1, root.contribution), (1, now)):
                if text is not None:
                    owner, amount = text.strip('"').split(" ")
                    change[owner] += sign * Decimal(amount)
            settled.append(Settled(root, now))
        await add_paid(tx, change)
        return Projected(settled)


async def add_paid(tx: Connection, change: dict[str, Decimal]) -> None:
    """Add differences to the owners' sums, in key order."""
    rows = sorted((owner, amount) for owner, amount in change.items() if amount)
    await tx.execute(
        "INSERT INTO paid AS p SELECT * FROM unnest($1::text[], $2::numeric[]) "
        "ON CONFLICT (owner) DO UPDATE SET amount = p.amount + excluded.amount",
        [owner for owner, _ in rows],
        [amount for _, amount in rows],
    )


def contribution(
    deal: Record | None, payments: Sequence[tuple[str, Record]], inactive: frozenset[str]
) -> str | None:
    """`"<owner> <amount>"` as JSON text, or None."""
    if deal is None or deal.value("deleted") or not deal.value("owner"):
        return None
    if deal.value("owner") in inactive:
        return None
    paid = sum((Decimal(p.value("amount") or 0) for _, p in payments), Decimal(0))
    return f'"{deal.value("owner")} {paid}"' if paid else None


def parent_of(kind: str, record: Record) -> str | None:
    """A payment points at its deal."""
    deal = record.value("deal") if kind == "payment" else None
    return f"deal/{deal}" if deal else None


def handler_for(settler: Settler[frozenset[str]]) -> Handler:
    """Fold a batch and settle the deals it touches."""

    async def handle(tx: Connection, messages: Sequence[Message]) -> None:
        folded = await fold_into_store(tx, [m.body for m in messages], parent_of)
        if any(change.kind == "person" for change in folded):
            await raise_reference_version(tx)
        touched = set()
        for change in folded:
            if change.kind == "deal":
                touched.add(Touched(RootKey("deal", change.id)))
            for parent in (change.parent_before, change.parent):
                if parent is not None:
                    touched.add(Touched(RootKey("deal", parent.removeprefix("deal/"))))
        await settler.settle(tx, touched)

    return handle


SUBSCRIPTION = Subscription(
    topics=(CRM_DEALS, CRM_BILLING, CRM_PEOPLE),
    readers={RECORD_KINDS[kind].type: read_fact for kind in ("deal", "payment", "person")},
)


def fact(kind: str, record_id: str, minute: int, **fields: Any) -> Envelope:  # noqa: ANN401 - JSON values
    """A fact stated `minute` minutes into 2025; its id follows from what it says."""
    at = START + timedelta(minutes=minute)
    return Envelope(
        id=f"{kind}-{record_id}-{minute}-{sorted(fields)}",
        source="/crm/acme/main/test",
        type=RECORD_KINDS[kind].type,
        subject=f"{kind}/{record_id}",
        time=to_text(at),
        recordedtime=to_text(at),
        sequence=sequence_of(at),
        data=encode_data(fields),
    )


@dataclass(slots=True)
class Workers:
    """Consumers of one group, each with a pool of its own, and the loop that settles what waits."""

    url: str
    bootstrap: str
    prefix: str
    count: int = 2
    batch_records: int = 50
    settler_of: Callable[[], Settler[frozenset[str]]] = lambda: Settler(PaidDeals())
    telemetry: list[Telemetry] = field(default_factory=list)
    pool: Pool = field(init=False)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _exit: AsyncExitStack = field(default_factory=AsyncExitStack)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        """Start them."""
        for number in range(self.count):
            pool = await create_pool(self.url, schema=SCHEMA, name=f"worker-{number}")
            self._exit.push_async_callback(pool.close)
            settler = self.settler_of()
            await settler.announce_code_version(pool)
            self.telemetry.append(Telemetry("paid_deals"))
            consumer = Consumer(
                pool=pool,
                bootstrap=self.bootstrap,
                topic_prefix=self.prefix,
                group="paid_deals",
                subscription=SUBSCRIPTION,
                handler=handler_for(settler),
                telemetry=self.telemetry[-1],
                batch_records=self.batch_records,
            )
            self._tasks.append(asyncio.create_task(consumer.run(self._stop)))
            self._tasks.append(asyncio.create_task(self._settle(settler, pool)))
        self.pool = pool
        return self

    async def _settle(self, settler: Settler[frozenset[str]], pool: Pool) -> None:
        while not self._stop.is_set():
            if not await settler.settle_waiting(pool):
                await asyncio.sleep(0.05)

    async def __aexit__(self, *_: object) -> None:
        """Stop them and close their pools."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self._exit.aclose()

    async def drain(self, sent: int, *, timeout_s: float = 60) -> None:
        """Wait until `sent` records are consumed and no mark is left."""
        async with asyncio.timeout(timeout_s):
            while True:
                read = await self.pool.fetchval(
                    "SELECT coalesce(sum(next_offset) FILTER (WHERE next_offset > 0), 0) "
                    "FROM consumer_offset"
                )
                if read >= sent and not await count_marks(self.pool):
                    return
                await asyncio.sleep(0.05)


async def send(bootstrap: str, prefix: str, events: Sequence[Envelope]) -> None:
    """Make the topics and produce `events` to those of their kinds."""
    await ensure_topics(bootstrap, topics(prefix))
    producer = make_producer(bootstrap, client_id="test")
    await producer.start()
    try:
        sent = [
            await producer.send(
                prefix + RECORD_KINDS[event.subject.partition("/")[0]].topic,
                key=event.subject.encode(),
                value=encode(event),
            )
            for event in events
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def paid_by_owner(url: str) -> dict[str, Decimal]:
    """The sums as they are stored, without zeros."""
    connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})
    try:
        rows = await connection.fetch("SELECT owner, amount FROM paid WHERE amount <> 0")
    finally:
        await connection.close()
    return {row["owner"]: row["amount"] for row in rows}
