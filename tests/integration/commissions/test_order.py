"""The promise of the core: order, repetition and batching of facts change nothing.

Nor does it matter when plans, assignments, rates and people arrive among them; and what was made
step by step is what a rebuild makes.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from services.commissions.dump import Dump, balances, differences
from services.commissions.rebuild import rebuild_all
from shared.events.envelope import Envelope
from tests.integration.commissions.company import Action, History, history
from tests.integration.commissions.system import System, rows, running

MakeDatabase = Callable[[], Awaitable[str]]
ORDERS = 4
REFERENCE = ("stage_map/", "rate/", "person/", "calendar/")


def delivery(made: History, order: int) -> list[Envelope | Action]:
    """The facts in one order, some of them twice, with decisions in between.

    0: as they were made. 1: what everything is projected with, then records alone, so that no
    later change has everything looked at again. 2: records first, a stage map last of all.
    3: anything anywhere.
    """
    if order == 0:
        return [*made.decisions, *made.facts]
    chance = random.Random(order)
    about = [event for event in made.facts if event.subject.startswith(REFERENCE)]
    records = [event for event in made.facts if not event.subject.startswith(REFERENCE)]
    records += chance.sample(records, len(records) // 4)
    chance.shuffle(records)
    chance.shuffle(about)
    if order == 1:
        return [*_among(made.decisions, about, chance), *records]
    if order == 2:
        about.sort(key=lambda event: event.subject.startswith("stage_map/"))
        return [*records, *_among(made.decisions, about[:-2], chance), *about[-2:]]
    mixed = [*records, *about]
    chance.shuffle(mixed)
    return _among(made.decisions, mixed, chance)


def _among(
    decisions: list[Action], facts: list[Envelope], chance: random.Random
) -> list[Envelope | Action]:
    """Decisions keep their order and fall anywhere among the facts."""
    steps: list[Envelope | Action] = list(facts)
    places = sorted(chance.randrange(len(steps)) for _ in decisions)
    for place, decision in reversed(list(zip(places, decisions, strict=True))):
        steps.insert(place, decision)
    return steps


async def deliver(system: System, steps: list[Envelope | Action], order: int) -> None:
    """In batches of random size; now and then all is settled before the next one."""
    chance = random.Random(order)
    waiting: list[Envelope] = []
    for place, step in enumerate(steps):
        if isinstance(step, Envelope):
            waiting.append(step)
        else:
            answer = await step(system)
            assert answer.is_success, answer.text
        last = place >= len(steps) - 4
        if last or chance.random() < 0.08:
            await system.send(waiting)
            waiting = []
            if last or chance.random() < 0.4:
                await system.drain()
    await system.send(waiting)
    await system.drain()


def covers(made: History, dump: Dump) -> None:
    """The generator must not stop making what the test is about."""
    assert {"merged_into", "no merged_into", "deleted", "no deleted", "splits"} <= made.seen
    assert all(dump[section] for section in ("credits", "exceptions", "statements", "balances"))
    kinds = {row["kind"] for row in dump["exceptions"].values()}
    assert {"unassigned", "splits"} <= kinds
    assert any(key.startswith("invoice:") for key in (k.partition("#")[2] for k in dump["credits"]))


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_order_gives_the_same_and_so_does_a_rebuild(
    seed: int, database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    made = history(seed)
    first: Dump | None = None
    for order in range(ORDERS):
        url = await database_factory()
        prefix = f"{topic_prefix}{order}."
        async with running(url, kafka_bootstrap, prefix, workers=1 + order % 2) as system:
            await deliver(system, delivery(made, order), order)
            dump = await system.dump()
            if first is None:
                first = dump
                covers(made, dump)
            assert differences(first, dump) == []
            if order == ORDERS - 1:
                report = await rebuild_all(system.settings)
                assert report.differing == []
                assert report.posted == 0
                assert differences(dump, await system.dump()) == []


async def test_a_rebuild_beside_live_facts_and_closed_periods(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Derived tables that were damaged come back; closed periods and the ledger's sums stay."""
    made = history(3)
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await deliver(system, delivery(made, 0), 0)
        # Closing refuses while something waits: here nothing may, so it is taken out of the way.
        before = await system.dump()
        async with system.parts.pool.acquire() as tx:
            sums = await balances(tx)
            await tx.execute("DELETE FROM credit WHERE deal_id LIKE '%1'")
            await tx.execute("UPDATE statement SET document = '{}' WHERE payee = 'p1'")
        report = await rebuild_all(system.settings)
        assert report.differing
        assert report.posted == 0
        assert differences(before, await system.dump()) == []
        async with system.parts.pool.acquire() as tx:
            assert await balances(tx) == sums
        assert not await rows(system, "SELECT * FROM mark")
        # Whoever consumes goes on where the rebuild ended.
        again = [event for event in made.facts if event.subject.endswith(":d3")]
        await system.send(again)
        await system.drain()
        assert differences(before, await system.dump()) == []
