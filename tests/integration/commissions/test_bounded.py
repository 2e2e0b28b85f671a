"""Much at once: transactions stay short whatever is touched, and a close finds a changed cent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import asyncpg

from services.commissions.consumer import SUBSCRIPTION
from services.commissions.drift import DriftWatch, PacedWatch
from services.commissions.handlers import handler_for
from services.commissions.projector import CommissionsProjector
from services.commissions.reference import Reference
from shared.db.pool import Pool
from shared.events.envelope import Envelope
from shared.facts.settle import Settler, raise_reference_version
from shared.runtime.messages import Message
from tests.integration.commissions.system import System, flat_plan, rows, running, won

MakeDatabase = Callable[[], Awaitable[str]]
PREFIX = "crm:main:"
PAYEES = 5_000
SHORT = 50
"""So many transactions at least, so that none is long: 100 accounts each."""

IDLE_MS = 3_000
"""Far less than rating everybody takes, far more than what is rated between two statements."""


OLDER = (
    "SELECT count(*) FROM root WHERE reference_version < (SELECT version FROM reference_version)"
)


async def on_flat_plan(system: System, *payees: str) -> None:
    assert (await system.put_plan(flat_plan())).status_code == 201
    for payee in payees:
        answer = await system.assign(f"{payee}-flat", payee=payee, plan="flat", from_="2025-01-01")
        assert answer.status_code == 201


async def assign_everybody(pool: Pool, like: str) -> None:
    """As many assignments as there are payees, each like one that was made over HTTP."""
    names = [
        row["column_name"]
        for row in await pool.fetch(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = 'commissions' AND table_name = 'assignment'"
        )
    ]
    others = {"assignment_id": "'p' || n || '-flat'", "payee": "'p' || n"}
    await pool.execute(
        f"INSERT INTO assignment ({', '.join(names)}) "  # noqa: S608 - columns of the schema
        f"SELECT {', '.join(others.get(name, name) for name in names)} "
        "FROM assignment, generate_series(1, $1) AS n WHERE payee = $2",
        PAYEES - 1,
        like,
    )


def messages(events: Iterable[Envelope]) -> list[Message]:
    return [Message("", 0, 0, event, SUBSCRIPTION.readers[event.type](event)) for event in events]


async def take(pool: Pool, batches: Sequence[Sequence[Message]]) -> None:
    handle = handler_for(CommissionsProjector())
    for batch in batches:
        async with pool.acquire() as tx, tx.transaction():
            await handle(tx, batch)


async def settle_all(pool: Pool, settler: Settler[Reference]) -> int:
    """Settle until nothing waits; in how many transactions. Each of them gets on with it."""
    turns = 0
    while await settler.settle_waiting(pool) or await settler.sweep(pool):
        turns += 1
    return turns


async def test_what_touches_5000_accounts_is_settled_in_short_transactions(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """A change of reference data that touches all of them, and a session that may not rest long."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, workers=0) as system:
        await on_flat_plan(system, "p0")
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=2,
            server_settings={
                "search_path": "commissions",
                "timezone": "UTC",
                "idle_in_transaction_session_timeout": str(IDLE_MS),
            },
        )
        async with pool:
            await assign_everybody(pool, "p0")
            settler: Settler[Reference] = Settler(CommissionsProjector())
            await settler.announce_code_version(pool)
            said = messages(
                won(f"{PREFIX}{n}", "2025-01-10T10:00:00Z", "1000", f"p{n}") for n in range(PAYEES)
            )
            await take(system.parts.pool, [said[n : n + 1_000] for n in range(0, PAYEES, 1_000)])
            turns = await settle_all(pool, settler)
            assert turns >= SHORT
            assert await pool.fetchval("SELECT count(*) FROM statement") == PAYEES
            before = await pool.fetch("SELECT max(version) AS version FROM statement")
            async with pool.acquire() as tx, tx.transaction():
                await tx.execute(
                    "UPDATE assignment SET first_day = '2025-01-02', payout_currency = 'USD'"
                )
                await raise_reference_version(tx)
            assert await settle_all(pool, settler) >= SHORT
            assert not await pool.fetchval(OLDER)
            assert await pool.fetch("SELECT max(version) AS version FROM statement") == before
            total = "SELECT sum(amount) FROM posting WHERE account = 'payable'"
            assert await pool.fetchval(total) == 100 * PAYEES


async def test_a_changed_cent_stops_the_close_and_shows(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await on_flat_plan(system, "ana", "ben")
        await system.send(
            [
                won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana"),
                won(f"{PREFIX}b", "2025-01-11T10:00:00Z", "500", "ben"),
                won(f"{PREFIX}c", "2025-02-11T10:00:00Z", "500", "ben"),
            ]
        )
        await system.drain()
        await change_a_cent(system.parts.pool, "100", "100.01")
        watch = DriftWatch(system.parts.pool, system.parts.telemetry)
        while await watch.check():
            pass
        assert metric(system, "attain_ledger_drift_accounts") == 1
        assert metric(system, "attain_ledger_round_ratio") == 1
        refused = await system.close("2025-01")
        assert refused.status_code == 409, refused.text
        found = {error["pointer"] for error in refused.json()["errors"]}
        assert found == {"#ledger_drift/ana"}, refused.text
        assert await rows(system, "SELECT * FROM fixed_statement") == []
        await change_a_cent(system.parts.pool, "100.01", "100")
        closed = await system.close("2025-01")
        assert closed.status_code == 200, closed.text


async def test_the_watch_beside_a_consumer_goes_round_and_stops(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await on_flat_plan(system, "ana")
        await system.send([won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana")])
        await system.drain()
        await change_a_cent(system.parts.pool, "100", "100.01")
        stop = asyncio.Event()
        watch = PacedWatch(url, system.parts.telemetry, 0.1)
        watching = asyncio.create_task(watch.run(stop))
        async with asyncio.timeout(60):
            while metric(system, "attain_ledger_drift_accounts") != 1:
                await asyncio.sleep(0.05)
            stop.set()
            await watching


async def change_a_cent(pool: Pool, of: str, to: str) -> None:
    """Behind the engine's back, in a statement as it is stored."""
    changed = await pool.execute(
        "UPDATE statement SET own = $2::text::numeric, payable = $2::text::numeric, "
        "document = replace(document::text, '\"' || $1 || '\"', '\"' || $2 || '\"')::json "
        "WHERE payee = 'ana' AND period = '2025-01'",
        of,
        to,
    )
    assert changed == "UPDATE 1"


def metric(system: System, name: str) -> float | None:
    return system.parts.telemetry.registry.get_sample_value(name)
