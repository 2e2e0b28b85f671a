"""Several workers on roots that cross partitions: nothing missing, every account right."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from decimal import Decimal

from services.commissions.drift import DriftWatch
from services.commissions.dump import balances
from tests.integration.commissions.system import (
    System,
    fact,
    flat_plan,
    rows,
    running,
    won,
)

MakeDatabase = Callable[[], Awaitable[str]]
PREFIX = "crm:main:"
ROUNDS = 3


async def on_flat_plan(system: System, *payees: str) -> None:
    assert (await system.put_plan(flat_plan())).status_code == 201
    for payee in payees:
        answer = await system.assign(f"{payee}-flat", payee=payee, plan="flat", from_="2025-01-01")
        assert answer.status_code == 201


async def earned(system: System) -> dict[str, Decimal]:
    """Payee → what the company has posted for them."""
    found = await rows(
        system,
        "SELECT payee, -sum(amount) AS amount FROM posting WHERE account = 'company' "
        "GROUP BY payee",
    )
    return {row["payee"]: row["amount"] for row in found if row["amount"]}


async def never_uneven(system: System) -> None:
    assert not await rows(
        system,
        "SELECT transaction_id FROM posting GROUP BY transaction_id, currency "
        "HAVING sum(amount) <> 0",
    )


async def test_two_deals_of_one_payee_by_two_workers(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Both change at once, again and again: they lie in different partitions."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, workers=2) as system:
        await on_flat_plan(system, "ana")
        for turn in range(1, 21):
            at = f"2025-03-{turn:02d}T10:00:00Z"
            await system.send(
                won(f"{PREFIX}{name}", at, str(1_000 * turn + extra), "ana")
                for name, extra in (("one", 10), ("two", 20))
            )
        await system.drain()
        statement = await system.statement("ana", "flat", "2025-03")
        assert [line["amount"] for line in statement["lines"]] == ["2001", "2002"]
        assert await earned(system) == {"ana": Decimal(4003)}
        await never_uneven(system)


async def test_a_deal_and_its_invoice_by_two_workers(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """An invoice moves from deal to deal while the deals change hands."""
    plan = flat_plan(
        components=[
            {
                "id": "billed",
                "kind": "commission",
                "credit": {"on": "invoice.issued", "to": "owner"},
                "rates": {"method": "flat", "rate": "10%"},
            }
        ]
    )
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, workers=2) as system:
        assert (await system.put_plan(plan)).status_code == 201
        for payee in ("ana", "ben"):
            await system.assign(payee, payee=payee, plan="flat", from_="2025-01-01")
        events = [won(f"{PREFIX}d{n}", "2025-01-02T10:00:00Z", "1", "ana") for n in range(20)]
        for number in range(60):
            said = {
                "amount": "100",
                "currency": "USD",
                "status": "open",
                "issued_at": "2025-02-01T10:00:00.000Z",
            }
            events += [
                fact(
                    "invoice",
                    f"{PREFIX}i{number}",
                    "2025-02-01T10:00:00Z",
                    {**said, "deal": f"{PREFIX}d{(number + move) % 20}"},
                    move,
                )
                for move in range(5)
            ]
        events += [
            fact("deal", f"{PREFIX}d{n}", "2025-01-01T10:00:00Z", {"owner": "ben"}, 1)
            for n in range(20)
        ]
        random.Random(5).shuffle(events)
        await system.send(events)
        await system.drain()
        # In force on 1 February: the statement of 2 January, so ana's.
        assert await earned(system) == {"ana": Decimal(600)}
        assert len(await rows(system, "SELECT * FROM credit")) == 60
        await never_uneven(system)


async def test_900_random_credits_by_four_workers(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Deals of nine payees, split, corrected and taken back, by four workers; repeatedly exact."""
    payees = [f"p{number}" for number in range(9)]
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, workers=4) as system:
        await on_flat_plan(system, *payees)
        expected: dict[str, Decimal] = defaultdict(Decimal)
        for turn in range(ROUNDS):
            chance = random.Random(turn)
            events = []
            for number in range(300):
                deal_id = f"{PREFIX}{turn}-{number}"
                day = f"2025-{chance.randrange(1, 11):02d}-{chance.randrange(1, 28):02d}"
                amount = chance.randrange(1, 5_000) * 10
                one, other, third = chance.sample(payees, 3)
                owned = {one: "50%", other: "30%", third: "20%"}
                events.append(won(deal_id, f"{day}T12:00:00Z", "10", one, splits=owned))
                later = f"{day}T18:00:00Z"
                events.append(fact("deal", deal_id, later, {"amount": str(amount)}))
                gone = number % 10 == 0
                if gone:
                    events.append(fact("deal", deal_id, later, {"deleted": True}, 1))
                for member, share in ((one, 5), (other, 3), (third, 2)):
                    expected[member] += Decimal(0 if gone else amount * share) / 100
            chance.shuffle(events)
            await system.send(events)
            await system.drain()
            assert await earned(system) == {p: a for p, a in expected.items() if a}
            await never_uneven(system)
        assert len(await rows(system, "SELECT * FROM credit")) == 270 * 3 * ROUNDS
        watch = DriftWatch(system.parts.pool, system.parts.telemetry)
        while await watch.check():
            pass
        assert _gauge(system) == 0


async def test_the_watch_sees_money_that_disagrees(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """A credit that vanished behind the engine's back is found, counted, and not repaired."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await on_flat_plan(system, "ana")
        await system.send([won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana")])
        await system.drain()
        watch = DriftWatch(system.parts.pool, system.parts.telemetry)
        await watch.check()
        assert _gauge(system) == 0
        async with system.parts.pool.acquire() as tx:
            before = await balances(tx)
            await tx.execute("DELETE FROM credit")
        await watch.check()  # the end of the round
        await watch.check()
        assert _gauge(system) == 1
        async with system.parts.pool.acquire() as tx:
            assert await balances(tx) == before


def _gauge(system: System) -> float | None:
    registry = system.parts.telemetry.registry
    return registry.get_sample_value("attain_ledger_drift_accounts")
