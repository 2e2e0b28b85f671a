"""Scenarios of one worker: what a promise comes to when the other side fails at the worst moment.

As in the interleavings, every one raises AssertionError when an effect is lost, doubled or wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import permutations
from pathlib import Path

import asyncpg
from pydantic import SecretStr

from services.commissions.closing.close import NotReady, close_period, log_ends
from services.commissions.closing.periods import submit_period
from services.commissions.domain import exchange
from services.commissions.domain.periods import parse_period
from services.commissions.projector import CommissionsProjector
from services.commissions.reference import ReferenceCache, _rates
from services.commissions.settings import CommissionsSettings
from services.commissions.sources import GROUP
from services.ingest.publisher import KafkaLane, NotDurable, Publisher, message_of
from shared.db.migrate import upgrade
from shared.db.pool import Pool, create_pool
from shared.facts.fact import Fact, read_fact
from shared.facts.marks import RootKey, Touched, add_marks
from shared.facts.record import Record, canonical
from shared.facts.settle import Settler
from shared.runtime.failpoints import hooked
from shared.runtime.outbox import add_to_outbox
from shared.runtime.relay import Relay
from shared.telemetry.catalogue import Telemetry
from tests.chaos.interleavings import Ground
from tests.support.paid_deals import fact, send
from tests.support.proxy import kafka_proxy

ACKNOWLEDGED_WITHIN_S = 0.5
CLOSE_WAITS_S = 0.3
JANUARY = parse_period("2025-01")
NOW = datetime(2025, 2, 3, 9, 0, tzinfo=UTC)


async def facts_in_every_order(_on: Ground) -> None:
    """A stage that is left and entered again, told in every order, is one and the same record."""
    said = [
        read_fact(fact("deal", "a:b:1", minute, stage=stage))
        for minute, stage in ((1, "lead"), (2, "won"), (3, "lead"))
    ]
    expected = canonical(_folded(said))
    for order in permutations(said):
        assert canonical(_folded(order)) == expected, "the order of arrival shows in the record"


async def the_same_fact_again(_on: Ground) -> None:
    """A delivery that is sent again, between others or after them, leaves no trace."""
    said = [
        read_fact(fact("deal", "a:b:1", minute, stage=stage))
        for minute, stage in ((1, "lead"), (2, "won"))
    ]
    once = canonical(_folded(said))
    for again in ([*said, *said], [said[0], said[0], said[1]], [said[1], said[0], said[1]]):
        assert canonical(_folded(again)) == once, "a repeated fact is kept again"


def _folded(facts: Sequence[Fact]) -> Record:
    record = Record()
    for said in facts:
        record.fold(said)
    return record


async def an_amount_at_a_rate(_on: Ground) -> None:
    """A large amount at a rate that no binary fraction equals is exact to the last stored digit."""
    stated = fact(
        "rate",
        "plan:EUR:USD:2025-01-01",
        1,
        **{"table": "plan", "from": "EUR", "to": "USD", "day": "2025-01-01", "rate": "1.15"},
    )
    book = exchange.RateBook(_rates({"plan:EUR:USD:2025-01-01": _folded([read_fact(stated)])}))
    row = book.on("plan", "EUR", "USD", date(2025, 1, 31))
    assert row is not None
    amount = exchange.converted(Decimal("123456789.01"), row)
    assert amount == Decimal("141975307.3615"), "an amount was not exact"


async def broker_goes_silent(on: Ground) -> None:
    """What was promised while the broker held its answers is in Kafka or waits in the outbox.

    The process dies before the broker is heard of again.
    """
    events = [fact("deal", f"a:b:{number}", 1, owner="ana") for number in (1, 2)]
    promised = []
    async with kafka_proxy(on.bootstrap) as proxy:
        lane = KafkaLane(proxy.address, prefix=on.prefix, timeout_s=ACKNOWLEDGED_WITHIN_S)
        publisher = Publisher(lane, on.pool, database_timeout_s=5)
        stop = asyncio.Event()
        running = asyncio.create_task(lane.run(stop))
        try:
            async with asyncio.timeout(20):
                while not lane.is_open:
                    await asyncio.sleep(0.02)
            for event in events:
                with suppress(NotDurable):
                    await publisher.publish([message_of(event)])
                    promised.append(event.subject)
                proxy.black_hole()
        finally:
            await proxy.refuse()
            stop.set()
            await running
    assert promised == [event.subject for event in events]
    kept = await on.pool.fetch("SELECT key FROM outbox")
    found = {row["key"].decode() for row in kept} | await _subjects(on)
    assert set(promised) <= found, "a promised fact is neither in Kafka nor in the outbox"


async def relay_dies_before_it_sends(on: Ground) -> None:
    """A relay that reads a row and fails before Kafka has it sends it when it is back."""
    failed = asyncio.Event()

    async def fail_once() -> None:
        if not failed.is_set():
            failed.set()
            raise ConnectionResetError

    async with on.pool.acquire() as tx, tx.transaction():
        await add_to_outbox(tx, "crm.deals", [fact("deal", "a:b:1", 1, owner="ana")])
    stop = asyncio.Event()
    made = Relay(on.pool, on.bootstrap, on.prefix, "paid_deals", Telemetry("paid_deals"))
    with hooked("relay.read", fail_once):
        relay = asyncio.create_task(made.run(stop))
        try:
            async with asyncio.timeout(20):
                await failed.wait()
                while await on.pool.fetchval(
                    "SELECT EXISTS (SELECT FROM outbox WHERE published_at IS NULL)"
                ):
                    await asyncio.sleep(0.05)
        finally:
            stop.set()
            await relay
    assert await _subjects(on) == {"deal/a:b:1"}, "an event was marked and never sent"


async def _subjects(on: Ground) -> set[str]:
    """Keys of everything that the topics hold."""
    batch = await on.batch([])
    return {record.key.decode() for records in batch.values() for record in records}


async def close_with_facts_on_the_log(on: Ground) -> None:
    """A period is to be closed while a fact of it is on the log and nobody has read it yet."""
    await send(on.bootstrap, on.prefix, [fact("deal", "a:b:1", 1, owner="ana")])
    async with _commissions(on) as (pool, settings):
        await _must_wait(pool, settings)


async def close_with_a_mark_waiting(on: Ground) -> None:
    """A period is to be closed when all is read, and one deal is not settled yet."""
    async with _commissions(on) as (pool, settings):
        ends = await log_ends(on.bootstrap, on.prefix)
        await pool.executemany(
            "INSERT INTO consumer_offset (consumer_group, topic, partition, epoch, next_offset) "
            "VALUES ($1, $2, $3, 1, $4)",
            [(GROUP, topic, number, end) for (topic, number), end in ends.items()],
        )
        async with pool.acquire() as tx, tx.transaction():
            await add_marks(tx, [Touched(RootKey("deal", "a:b:1"))])
        await _must_wait(pool, settings)


async def _must_wait(pool: Pool, settings: CommissionsSettings) -> None:
    try:
        await close_period(pool, settings, ReferenceCache(), period=JANUARY, actor="fin-b", now=NOW)
    except NotReady:
        pass
    else:
        msg = "a period was closed with facts of it still on their way"
        raise AssertionError(msg)
    state = await pool.fetchval("SELECT state FROM period WHERE period = $1", JANUARY.label)
    assert state == "reviewing"


@asynccontextmanager
async def _commissions(on: Ground) -> AsyncIterator[tuple[Pool, CommissionsSettings]]:
    """The commissions schema, with January submitted, and nobody who consumes."""
    admin = await asyncpg.connect(on.url)
    await admin.execute("DROP SCHEMA IF EXISTS commissions CASCADE")
    await admin.execute("CREATE SCHEMA commissions")
    await admin.close()
    await asyncio.to_thread(upgrade, "commissions", on.url)
    settings = CommissionsSettings(
        database_url=SecretStr(on.url),
        kafka_bootstrap=on.bootstrap,
        topic_prefix=on.prefix,
        port=0,
        jwks_path=Path("no-caller-here"),
        issuer="nobody",
        close_wait_s=CLOSE_WAITS_S,
    )
    pool = await create_pool(on.url, schema="commissions", name="closing", max_size=4)
    try:
        await Settler(CommissionsProjector()).announce_code_version(pool)
        async with pool.acquire() as tx, tx.transaction():
            # What the consumer's clock does when a period begins.
            await tx.execute("UPDATE begun_until SET day = $1", JANUARY.end)
            await submit_period(tx, JANUARY, actor="fin-a", now=NOW, today=NOW.date())
        yield pool, settings
    finally:
        await pool.close()
