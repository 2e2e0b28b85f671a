"""Histories of pay through the real handler and a real database: any telling, the same books.

Plans, assignments, rates, quotas and people change between batches. Kafka has no part in it: a
handler is given batches and an open transaction, as the consumer does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings

from services.commissions import crediting, handlers
from services.commissions.api.assignment_changes import AssignmentBody, assignment_data
from services.commissions.api.assignments import save_assignment
from services.commissions.crediting import Contribution
from services.commissions.domain.parse import parse_plan
from services.commissions.dump import Dump, canonical_dump, differences
from services.commissions.handlers import handler_for
from services.commissions.plans.versions import NewVersion, insert_version
from services.commissions.projector import CommissionsProjector
from services.commissions.rating import rate_accounts
from services.commissions.reference import Reference
from shared.db.migrate import upgrade
from shared.db.pool import Connection, Pool, create_pool
from shared.facts.marks import RootKey, Touched
from shared.facts.settle import LockedRoot, Projected, Settler, raise_reference_version
from shared.runtime.consume import Handler, Message
from tests.support.happenings import SHARES_OF_FEW, Coverage
from tests.support.histories import DEALS, Batch, Decided, Said, Story, drawn
from tests.support.pay_histories import FIRST_DECISIONS, FOUNDING, STORIES

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
RESULTS = {"credit": 0.4, "split credit": 0.04, "invoice": 0.1, "posted again": 0.04}
EMPTIED = """
    record, root, mark, quota_target, kpi_fact, objective_score, credit, budget_grant,
    credit_exception, statement, posting,
    ledger_transaction, outbox, reference_version, plan_version, assignment
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(database: str) -> AsyncIterator[Pool]:
    """The migrated schema, guards of the ledger included."""
    async with opened(database) as made:
        yield made


@asynccontextmanager
async def opened(database: str) -> AsyncIterator[Pool]:
    """A pool on an empty database, migrated."""
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE SCHEMA commissions")
    await connection.close()
    await asyncio.to_thread(upgrade, "commissions", database)
    made = await create_pool(database, schema="commissions", name="order", max_size=4)
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def coverage() -> AsyncIterator[Coverage]:
    """What the stories of this module held: at its end, each thing often enough."""
    seen = Coverage()
    yield seen
    if seen.stories:
        seen.require({**SHARES_OF_FEW, **RESULTS})


class Service:
    """One worker of commissions on an empty database."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        made = CommissionsProjector()
        self.handle: Handler = handler_for(made)
        self.settler: Settler[Reference] = Settler(made)

    async def begin(self) -> None:
        """Empty the tables; only here may the ledger be."""
        async with self.pool.acquire() as tx, tx.transaction():
            await tx.execute("SET LOCAL session_replication_role = replica")
            await tx.execute(f"TRUNCATE {EMPTIED}")
        await self.settler.announce_code_version(self.pool)

    async def take(self, batch: Batch) -> None:
        """Facts of a batch in transactions between its decisions."""
        messages: list[Message] = []
        for step in batch:
            if isinstance(step, Decided):
                await self._consume(messages)
                messages = []
                await self._decide(step)
            else:
                messages.append(_message(step))
        await self._consume(messages)

    async def _consume(self, messages: Sequence[Message]) -> None:
        if messages:
            async with self.pool.acquire() as tx, tx.transaction():
                await self.handle(tx, messages)

    async def _decide(self, step: Decided) -> None:
        async with self.pool.acquire() as tx, tx.transaction():
            await raise_reference_version(tx)
            document = dict(step.document)
            if step.what == "plan":
                await insert_version(
                    tx, NewVersion(step.number, parse_plan(document), document), "ada"
                )
                return
            body = AssignmentBody.model_validate(document)
            revision = 1 + await tx.fetchval(
                "SELECT count(*) FROM assignment WHERE assignment_id = $1", step.name
            )
            await save_assignment(
                tx, assignment_data(step.name, body, revision, "ada", deleted=False), body
            )

    async def settle_all(self) -> None:
        """What the loops beside a consumer do, until nothing waits."""
        for _ in range(1000):
            if not (
                await self.settler.settle_waiting(self.pool) or await self.settler.sweep(self.pool)
            ):
                return
        raise AssertionError("settling does not come to an end")

    async def dump(self) -> Dump:
        """The canonical dump; the ledger is even, and holds what rating anew comes to."""
        async with self.pool.acquire() as tx, tx.transaction(isolation="repeatable_read"):
            uneven = await tx.fetch(
                "SELECT transaction_id, currency, sum(amount) FROM posting "
                "GROUP BY 1, 2 HAVING sum(amount) <> 0"
            )
            assert not uneven
            await self._rated_anew(tx)
            return await canonical_dump(tx)

    async def _rated_anew(self, tx: Connection) -> None:
        accounts = await tx.fetch(
            "SELECT id, contribution::text AS contribution, reference_version, next_due "
            "FROM root WHERE kind = 'account' ORDER BY id"
        )
        roots = [
            LockedRoot(
                RootKey("account", row["id"]),
                row["contribution"],
                frozenset({""}),
                row["reference_version"],
                row["next_due"],
            )
            for row in accounts
        ]
        if roots:
            reference = await CommissionsProjector().load_reference(tx)
            outcomes = await rate_accounts(tx, roots, reference, lock=False)
            assert not [outcome.account for outcome in outcomes if outcome.differs]


def _message(step: Said | object) -> Message:
    """What the consumer makes of an event; the handler reads its body only."""
    body = step.fact if isinstance(step, Said) else step
    return Message("", 0, 0, None, body)  # type: ignore[arg-type] # the envelope is not read


async def dump_after(pool: Pool, batches: Sequence[Batch]) -> Dump:
    """The dump once all batches are applied; every second time their marks wait for the next."""
    service = Service(pool)
    await service.begin()
    for number, batch in enumerate(batches):
        await service.take(batch)
        if number % 2:
            await service.settle_all()
        else:
            await service.settler.sweep(pool)
    await service.settle_all()
    return await service.dump()


async def compare(pool: Pool, story: Story) -> Dump:
    """Tell a story thrice, to the same end; the dump."""
    at_once = await dump_after(pool, story.at_once)
    assert differences(await dump_after(pool, story.again), at_once) == []
    assert differences(await dump_after(pool, story.told), at_once) == []
    return at_once


async def seen_in(pool: Pool, dump: Dump) -> set[str]:
    """What came of a story; the ledger is still that of its telling in order."""
    credits_ = dump["credits"].values()
    found = {"credit"} if credits_ else set()
    found |= {"split credit" for credit in credits_ if len(credit["shares"]) > 1}
    found |= {credit["event_key"].partition(":")[0] for credit in credits_}
    if await pool.fetchval("SELECT EXISTS (SELECT FROM ledger_transaction WHERE number > 1)"):
        found.add("posted again")
    return found


@FEW
@given(story=STORIES)
async def test_any_telling_gives_the_same_books(
    pool: Pool, coverage: Coverage, story: Story
) -> None:
    """Order, repetition and batching change nothing; every transaction sums to zero."""
    coverage.add(story, *await seen_in(pool, await compare(pool, story)))


def late_invoice() -> list[Batch]:
    """An invoice of a deal that was merged into another, of which nothing is said any more."""
    deals = [
        Said("deal", deal, 0, {"owner": "ana", "stage": "proposal", "currency": "USD"})
        for deal in DEALS[:2]
    ]
    issued = {"deal": DEALS[0], "amount": "1000", "currency": "USD", "status": "open"}
    return [
        [*FOUNDING, *FIRST_DECISIONS, *deals],
        [Said("deal", DEALS[0], 5, {"merged_into": DEALS[1]})],
        [Said("invoice", "crm:t:i1", 6, issued)],
    ]


async def test_an_invoice_of_a_merged_deal_is_the_survivors(pool: Pool) -> None:
    """However late: as if all had been known at once."""
    batches = late_invoice()
    at_once = await dump_after(pool, [[step for batch in batches for step in batch]])
    assert differences(await dump_after(pool, batches), at_once) == []
    assert [credit["deal_id"] for credit in at_once["credits"].values()] == [DEALS[1]]


def _forget_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed rates, maps and people are announced to nobody."""
    monkeypatch.setattr(handlers, "changes_reference", lambda _folded: False)


def _forget_who_had_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loses a credit is not rated again."""
    genuine = crediting._accounts

    def accounts(
        _was: Contribution, is_: Contribution, changed: Iterable[str], reference: Reference
    ) -> set[Touched]:
        return genuine(Contribution(), is_, changed, reference)

    monkeypatch.setattr(crediting, "_accounts", accounts)


def _follow_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes of a deal that was merged does not reach the deal that survives."""
    genuine = CommissionsProjector.project

    async def alone(
        self: CommissionsProjector,
        tx: Connection,
        kind: str,
        roots: Sequence[LockedRoot],
        reference: Reference,
    ) -> Projected:
        made = await genuine(self, tx, kind, roots, reference)
        return Projected(made.settled, [t for t in made.followers if t.root.kind != "deal"])

    monkeypatch.setattr(CommissionsProjector, "project", alone)


@pytest.mark.parametrize("plant", [_forget_reference, _forget_who_had_it, _follow_nobody])
async def test_a_planted_fault_is_seen(
    pool: Pool, plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same comparison on broken copies of the code: it must not hold."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await _compare_all(pool)


async def _compare_all(pool: Pool) -> None:
    await test_an_invoice_of_a_merged_deal_is_the_survivors(pool)
    for story in drawn(STORIES, 60):
        await compare(pool, story)
