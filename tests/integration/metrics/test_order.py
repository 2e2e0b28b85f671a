"""Any order, cutting and repetition of the same facts gives the same canonical dump.

Histories of linked deals, activities and reference data, as Hypothesis draws them, go through the
real handler on a real database: told in batches, told again in another order, all at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateSchema

from services.metrics import handlers, projector, rebuild
from services.metrics.domain import stored
from services.metrics.dump import canonical_dump
from services.metrics.handlers import apply_facts
from services.metrics.projector import Known, MetricsProjector, Rules
from services.metrics.tables import metadata
from shared.db.migrate import sqlalchemy_url
from shared.db.pool import Pool, create_pool
from shared.facts.fact import Fact
from shared.facts.marks import Touched
from shared.facts.settle import Settler
from tests.support.happenings import SHARES_OF_FEW, Coverage, differing
from tests.support.histories import (
    DEALS,
    Batch,
    Said,
    Story,
    company,
    drawn,
    life,
    segment_changed,
    stories,
)

STORIES = stories(company(), life(segment_changed()))
FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(database: str) -> AsyncIterator[Pool]:
    """The schema in a database of its own."""
    engine = create_async_engine(sqlalchemy_url(database))
    async with engine.begin() as connection:
        await connection.execute(CreateSchema("metrics"))
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    made = await create_pool(database, schema="metrics", name="order", max_size=6)
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def coverage() -> AsyncIterator[Coverage]:
    """What the stories of this module held: at its end, each thing often enough."""
    seen = Coverage()
    yield seen
    if seen.stories:
        results = {"booked": 0.2, "booked_whole": 0.2, "activity": 0.1, "shared": 0.05}
        seen.require({**SHARES_OF_FEW, **results, "merged": 0.2, "survivor": 0.2})


def seen_in(dump: dict[str, Any]) -> set[str]:
    """What came of a story."""
    found = {key.split("/")[1].partition(":")[0] for key in dump["cells"]}
    found |= {"shared" for key in dump["cells"] if "|" in key}
    merges = {r["merged_into"] for r in dump["records"].values()} - {None}
    contributions = dump["contributions"]
    found |= {"merged" for text in contributions.values() if text.startswith('{"merged"')}
    survivors = {f"deal/{survivor}" for survivor in merges}
    found |= {"survivor" for i in survivors if '"merged"' not in contributions.get(i, '"merged"')}
    return found


async def dump_after(pool: Pool, batches: Iterable[Batch], *, workers: int = 1) -> dict[str, Any]:
    """The dump once all batches are applied, by workers in turn, and all marks are settled."""
    settlers = await _start(pool, workers)
    for number, batch in enumerate(batches):
        settler = settlers[number % workers]
        await _apply(pool, settler, [s.fact for s in batch if isinstance(s, Said)])
        if number % 3 == 0:
            await settlers[(number + 1) % workers].sweep(pool)
    await _settle_all(pool, settlers[-1])
    return await _dump(pool)


async def _start(pool: Pool, workers: int) -> list[Settler[Known]]:
    """Empty tables, and what each worker settles with."""
    await pool.execute(f"TRUNCATE {', '.join(rebuild.DERIVED)}, reference_version, lookup_version")
    rules = Rules(no_decision_reasons={"no decision"})
    settlers = [Settler(MetricsProjector(rules, slot)) for slot in range(workers)]
    await settlers[0].announce_code_version(pool)
    return settlers


async def _settle_all(pool: Pool, settler: Settler[Known]) -> None:
    for _ in range(1000):
        if not (await settler.settle_waiting(pool) or await settler.sweep(pool)):
            return
    raise AssertionError("settling does not come to an end")


async def _dump(pool: Pool) -> dict[str, Any]:
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read"):
        return await canonical_dump(tx)


async def compare(pool: Pool, story: Story) -> dict[str, Any]:
    """Tell a story thrice, to the same end; the dump."""
    told = await dump_after(pool, story.told, workers=2)
    assert differing(await dump_after(pool, story.again, workers=2), told) == []
    assert differing(await dump_after(pool, story.at_once), told) == []
    return told


@FEW
@given(story=STORIES)
async def test_any_telling_gives_the_same_dump(
    pool: Pool, coverage: Coverage, story: Story
) -> None:
    """Order, repetition and batching change nothing, and incremental equals recomputed.

    The planted faults below are seen by this comparison; so are a mark that is not left on the
    deal which an activity left, and a repeated statement that is kept again.
    """
    coverage.add(story, *seen_in(await compare(pool, story)))


PERMUTATIONS = list(itertools.permutations(range(3)))


def cycle(order: Sequence[int]) -> list[Batch]:
    """Three won deals, each merged into the next; the merges arrive alone, in this order."""
    deals = DEALS[:3]
    said = {"owner": "ana", "amount": "10", "currency": "USD", "stage": "won"}
    merges = [
        Said("deal", deals[n], 10 + n, {"merged_into": deals[(n + 1) % len(deals)]})
        for n in range(len(deals))
    ]
    known = [Said("deal", deal_id, 1, said) for deal_id in deals]
    return [company(), known, *([merges[n]] for n in order)]


async def test_a_cycle_of_merges_leaves_one_survivor_in_any_order(pool: Pool) -> None:
    """The oldest redirect is ignored, also when a deal far from it is the last to be merged."""
    dumps = [await dump_after(pool, cycle(order)) for order in PERMUTATIONS]
    assert all(differing(dump, dumps[0]) == [] for dump in dumps)
    assert {row["deal_id"] for row in dumps[0]["deal_rows"]} == {DEALS[0]}


async def test_merges_made_side_by_side_know_of_one_another(pool: Pool) -> None:
    """Of d3 into d2 and d2 into d0, in two transactions of which neither sees the other."""
    said = {"owner": "ana", "amount": "10", "currency": "USD", "stage": "proposal"}
    known = [*company(), *(Said("deal", deal_id, 1, said) for deal_id in DEALS)]
    far = Said("deal", DEALS[2], 2, {"merged_into": DEALS[0]})
    near = Said("deal", DEALS[3], 3, {"merged_into": DEALS[2]})
    expected = await dump_after(pool, [[*known, far, near]])
    await dump_after(pool, [known])
    rules = Rules(no_decision_reasons={"no decision"})
    slow, quick = (Settler(MetricsProjector(rules, slot)) for slot in (0, 1))
    async with pool.acquire() as first, first.transaction():
        await apply_facts(first, [far.fact], slow)
        task = asyncio.create_task(_apply(pool, quick, [near.fact]))
        # A root that the first one holds is left to later, and not waited for.
        await asyncio.wait_for(task, 4)
    await _settle_all(pool, slow)
    assert differing(await _dump(pool), expected) == []


async def _apply(pool: Pool, settler: Settler[Known], facts: Sequence[Fact]) -> None:
    async with pool.acquire() as tx, tx.transaction():
        await apply_facts(tx, facts, settler)


def _forget_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The difference is taken against nothing."""
    monkeypatch.setattr(projector, "stored_deal", lambda _text: stored.NO_DEAL)


def _follow_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is linked to a merged deal is left as it was."""
    monkeypatch.setattr(projector, "_linked", lambda *_: set())
    _stay_misled(monkeypatch)


def _forget_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed reference data is announced to nobody."""
    monkeypatch.setattr(handlers, "_projection_reads", lambda _folded: False)


def _stay_misled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether others know who survives."""

    async def nobody(*_given: object) -> set[Touched]:
        return set()

    monkeypatch.setattr(projector, "_misled", nobody)


@pytest.mark.parametrize("plant", [_forget_stored, _follow_nobody, _forget_reference, _stay_misled])
async def test_a_planted_fault_is_seen(
    pool: Pool, plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same comparison on broken copies of the code: it must not hold."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await _compare_all(pool)


async def _compare_all(pool: Pool) -> None:
    await test_merges_made_side_by_side_know_of_one_another(pool)
    await test_a_cycle_of_merges_leaves_one_survivor_in_any_order(pool)
    for story in drawn(STORIES, 60):
        await compare(pool, story)


async def test_two_workers_at_once_leave_the_same(pool: Pool) -> None:
    """Batches that touch each other's roots, truly side by side."""
    for story in drawn(STORIES, 6):
        expected = await dump_after(pool, story.at_once)
        settlers = await _start(pool, 2)
        # As partitions do: every record has one worker, roots are shared.
        await asyncio.gather(*(_work(pool, settlers[n], _half(story.again, n)) for n in (0, 1)))
        await _settle_all(pool, settlers[0])
        assert differing(await _dump(pool), expected) == []


def _half(batches: Sequence[Batch], worker: int) -> list[list[Fact]]:
    """What a worker reads, in small batches."""
    mine = [
        step.fact
        for batch in batches
        for step in batch
        if isinstance(step, Said) and sum(step.record.encode()) % 2 == worker
    ]
    return [mine[place : place + 4] for place in range(0, len(mine), 4)]


async def _work(pool: Pool, settler: Settler[Known], batches: Sequence[Sequence[Fact]]) -> None:
    for batch in batches:
        for _ in range(20):
            try:
                await _apply(pool, settler, batch)
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                continue
            break
        else:
            raise AssertionError("a batch never went through")
        await settler.settle_waiting(pool)
