"""Any order, cutting and repetition of the same facts gives the same canonical dump.

Histories of linked deals, activities and reference data go through the real handler on a real
database: in order at once, and shuffled, doubled, cut into batches with marks left in between.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateSchema

from services.metrics import handlers, projector, rebuild
from services.metrics.domain import stored
from services.metrics.dump import canonical_dump
from services.metrics.handlers import apply_facts
from services.metrics.projector import Known, MetricsProjector, Rules
from services.metrics.tables import metadata
from shared.clock import to_text
from shared.db.migrate import sqlalchemy_url
from shared.db.pool import Pool, create_pool
from shared.events.envelope import Envelope
from shared.facts.fact import read_fact
from shared.facts.settle import Settler
from tests.integration.metrics.company import PEOPLE, at, company
from tests.integration.metrics.harness import fact
from tests.support.facts import STAGES

DEALS = [f"crm:t:{n}" for n in range(6)]
OWNERS = [*PEOPLE, "crm:t:u-ana", "crm:t:u-ben", "crm:t:nobody"]


def history(seed: int) -> list[Envelope]:
    """A company, and a random life of six deals, their activities and what they are read by."""
    chance = random.Random(seed)
    facts = company()
    for number in range(90):
        when = at(chance.uniform(0, 80))
        deal_id = chance.choice(DEALS)
        facts.append(fact("deal", deal_id, when, tie_break=number, **_said_of_deal(chance)))
    for number in range(25):
        done = at(chance.uniform(0, 80))
        facts += [
            fact(
                "activity",
                f"crm:t:a{number}",
                done,
                tie_break=again,
                **_said_of_activity(chance, to_text(done)),
            )
            for again in range(chance.choice([1, 1, 2]))
        ]
    return facts + _changed_reference(chance)


def _said_of_deal(chance: random.Random) -> dict[str, Any]:
    owner = chance.choice(OWNERS)
    amount = str(chance.randrange(1, 10**6) / 100)
    choices: list[tuple[int, dict[str, Any]]] = [
        (6, {"stage": chance.choice([*STAGES, "unmapped"])}),
        (6, {"stage": "won"}),
        (3, {"stage": "lost", "lost_reason": chance.choice(["Price", "No decision"])}),
        (4, {"owner": owner}),
        (4, {"amount": amount, "currency": chance.choice(["USD", "EUR"])}),
        (2, {"amount": None}),
        (2, {"splits": {"ana": "1/3", owner: "2/3"}, "complete": ["splits"]}),
        (1, {"splits": {"ana": "50%", "ben": None}}),
        (1, {"overlays": {"mia": "10%"}}),
        (2, {"close_date": f"2026-0{chance.randrange(1, 6)}-15"}),
        (1, {"closed_at": to_text(at(chance.uniform(0, 80)))}),
        (1, {"created_at": to_text(at(0))}),
        (1, {"account": "acme"}),
        (2, {"deleted": chance.choice([True, False])}),
        (3, {"merged_into": chance.choice([*DEALS, None, None])}),
    ]
    weights = [weight for weight, _ in choices]
    return chance.choices(choices, weights)[0][1]


def _said_of_activity(chance: random.Random, done: str) -> dict[str, Any]:
    said: dict[str, Any] = {
        "kind": chance.choice(["call", "meeting"]),
        "owner": chance.choice(OWNERS),
        "deal": chance.choice([*DEALS, None]),
        "completed_at": chance.choice([done, None]),
        "due_at": done,
        "participants": {chance.choice(list(PEOPLE)): True, "them:1": True},
    }
    if chance.random() < 0.2:
        said["cancelled"] = True
    return said


def _changed_reference(chance: random.Random) -> list[Envelope]:
    stages = {**STAGES, "unmapped": {"order": 9, "status": "won"}}
    moved: dict[str, Any] = {"effective_from": "2026-02-01", "identities": {"crm:t:u-ana": True}}
    return [
        fact("stage_map", "crm:t:default", at(30), effective_from="2026-02-10", stages=stages),
        fact("person", "ben", at(31), **moved),
        fact(
            "person", "dan", at(33), effective_from="2026-01-01", identities={"crm:t:nobody": True}
        ),
        fact("calendar", "org", at(32), effective_from="2025-01-01", time_zone="Pacific/Auckland"),
        fact("account", "acme", at(chance.uniform(0, 9)), name="Acme", segment="enterprise"),
    ]


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


async def dump_after(
    pool: Pool, batches: Iterable[Sequence[Envelope]], *, workers: int = 1
) -> dict[str, Any]:
    """The dump once all batches are applied, by workers in turn, and all marks are settled."""
    settlers: list[tuple[MetricsProjector, Settler[Known]]] = []
    for slot in range(workers):
        made = MetricsProjector(Rules(no_decision_reasons={"no decision"}), slot)
        settlers.append((made, Settler(made)))
    await pool.execute(f"TRUNCATE {', '.join(rebuild.DERIVED)}, reference_version, lookup_version")
    await settlers[0][1].announce_code_version(pool)
    for number, batch in enumerate(batches):
        made, settler = settlers[number % workers]
        async with pool.acquire() as tx, tx.transaction():
            await apply_facts(tx, [read_fact(one) for one in batch], settler)
        if number % 3 == 0:
            await settlers[(number + 1) % workers][1].sweep(pool)
    await _settle_all(pool, settlers[-1][1])
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read"):
        return await canonical_dump(tx)


async def _settle_all(pool: Pool, settler: Settler[Known]) -> None:
    for _ in range(1000):
        if not (await settler.settle_waiting(pool) or await settler.sweep(pool)):
            return
    raise AssertionError("settling does not come to an end")


def shuffled(facts: Sequence[Envelope], seed: int) -> list[list[Envelope]]:
    """In random order, a third twice, in batches of 1 to 40.

    Of every second seed the reference data comes first: its changes make everything anew, and
    would hide what a change of one deal does not reach.
    """
    chance = random.Random(seed)
    first = [f for f in facts if seed % 2 and not f.subject.startswith(("deal/", "activity/"))]
    order = [*facts, *chance.sample(list(facts), len(facts) // 3)]
    chance.shuffle(order)
    batches = [first] if first else []
    while order:
        size = chance.randrange(1, 40)
        batches.append(order[:size])
        order = order[size:]
    return batches


SEEDS = range(12)
PERMUTATIONS = list(itertools.permutations(range(3)))


def cycle(order: Sequence[int]) -> list[list[Envelope]]:
    """Three won deals, each merged into the next; the merges arrive alone, in this order."""
    deals = [f"crm:t:{number}" for number in range(3)]
    said: dict[str, Any] = {
        "owner": "ana",
        "amount": "10",
        "currency": "USD",
        "stage": "won",
    }
    merges = [
        fact("deal", deals[n], at(10 + n), merged_into=deals[(n + 1) % len(deals)])
        for n in range(len(deals))
    ]
    known = [fact("deal", deal_id, at(1), **said) for deal_id in deals]
    return [company(), known, *([merges[n]] for n in order)]


@pytest.mark.parametrize("seed", SEEDS)
async def test_order_and_repetition_change_nothing(pool: Pool, seed: int) -> None:
    facts = history(seed)
    expected = await dump_after(pool, [facts])
    for again in range(3):
        batches = shuffled(facts, seed * 100 + again)
        assert await dump_after(pool, batches, workers=2) == expected


async def test_a_cycle_of_merges_leaves_one_survivor_in_any_order(pool: Pool) -> None:
    """The oldest redirect is ignored, also when a deal far from it is the last to be merged."""
    dumps = [await dump_after(pool, cycle(order)) for order in PERMUTATIONS]
    assert all(dump == dumps[0] for dump in dumps)
    assert {row["deal_id"] for row in dumps[0]["deal_rows"]} == {"crm:t:0"}


async def test_the_histories_hold_what_they_are_for(pool: Pool) -> None:
    """Merges that stand, cycles, splits, losses: all occur, or nothing is shown."""
    found: set[str] = set()
    for seed in SEEDS:
        dump = await dump_after(pool, [history(seed)])
        contributions = "".join(dump["contributions"].values())
        found |= {
            name for name in ("split_sum", "unmapped_stage", "merged") if name in contributions
        }
        edges = {r["merged_into"] for r in dump["records"].values()} - {None}
        survivors = {i for i, c in dump["contributions"].items() if "merged" not in c}
        found |= {"cycle" for e in edges if dump["records"].get(f"deal/{e}", {}).get("merged_into")}
        found |= {"survivor" for e in edges if f"deal/{e}" in survivors}
        found |= {key.split("/")[1].split(":")[0] for key in dump["cells"]}
        found |= {"shared" for key in dump["cells"] if "|" in key}
        found |= {"credit" for row in dump["deal_rows"] if row["valid_to_ms"] and row["outcome"]}
    assert found >= {
        "split_sum",
        "merged",
        "cycle",
        "survivor",
        "booked",
        "booked_whole",
        "overlay",
        "won",
        "lost",
        "lost_no_decision",
        "activity",
        "activity_whole",
        "shared",
        "credit",
    }


def _forget_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The difference is taken against nothing."""
    monkeypatch.setattr(projector, "stored_deal", lambda _text: stored.NO_DEAL)


def _follow_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is linked to a merged deal is left as it was."""
    monkeypatch.setattr(projector, "_linked", lambda *_: set())


def _forget_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed reference data is announced to nobody."""
    monkeypatch.setattr(handlers, "_projection_reads", lambda _folded: False)


@pytest.mark.parametrize("plant", [_forget_stored, _follow_nobody, _forget_reference])
async def test_a_planted_fault_is_seen(
    pool: Pool, plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same comparison on broken copies of the code: it must not hold."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await _compare_all(pool)


async def _compare_all(pool: Pool) -> None:
    await test_a_cycle_of_merges_leaves_one_survivor_in_any_order(pool)
    for seed in SEEDS:
        await test_order_and_repetition_change_nothing(pool, seed)


async def test_two_workers_at_once_leave_the_same(pool: Pool) -> None:
    """Batches that touch each other's roots, truly side by side."""
    facts = history(99)
    expected = await dump_after(pool, [facts])
    await pool.execute(f"TRUNCATE {', '.join(rebuild.DERIVED)}, reference_version, lookup_version")
    made = [MetricsProjector(Rules(no_decision_reasons={"no decision"}), slot) for slot in (0, 1)]
    await Settler(made[0]).announce_code_version(pool)
    # As partitions do: every record has one worker, roots are shared.
    halves = [[f for f in facts if hash_of(f) % 2 == worker] for worker in (0, 1)]

    async def work(worker: int) -> None:
        settler = Settler(made[worker])
        for batch in shuffled(halves[worker], worker):
            for _ in range(20):
                try:
                    async with pool.acquire() as tx, tx.transaction():
                        bodies = [read_fact(one) for one in batch]
                        await apply_facts(tx, bodies, settler)
                except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                    continue
                break
            await settler.settle_waiting(pool)

    await asyncio.gather(work(0), work(1))
    await _settle_all(pool, Settler(made[0]))
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read"):
        assert await canonical_dump(tx) == expected


def hash_of(one: Envelope) -> int:
    """The same in every run."""
    return sum(one.subject.encode())
