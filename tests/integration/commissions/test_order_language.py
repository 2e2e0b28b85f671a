"""The whole plan language: any telling of a history gives the same books.

Cash, ended stays, activities, scores, KPIs, shared budgets, draws, floors, managers; plans and
assignments that arrive among them; and a month that begins at another moment each time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import date

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings

from services.commissions import budgets, handlers, projector
from services.commissions.begun import mark_uncredited
from services.commissions.dump import Dump, differences
from shared.clock import to_text
from shared.db.pool import Connection, Pool
from shared.facts.settle import LockedRoot, Projected
from tests.integration.commissions.test_order_histories import Service, opened
from tests.support.happenings import Coverage
from tests.support.histories import DEALS, SINCE, Batch, Said, Step, Story, day_at
from tests.support.language_histories import ACTIVITIES, DECISIONS, FOUNDING, INVOICES, STORIES

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
Plant = Callable[[pytest.MonkeyPatch], None]
RESULTS = {
    "deal": 0.5,
    "payment": 0.2,
    "activity": 0.3,
    "objective": 0.3,
    "cash": 0.1,
    "ended": 0.1,
    "grant": 0.4,
    "gate": 0.2,
    "draw": 0.9,
    "floor": 0.5,
    "team": 0.3,
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(database: str) -> AsyncIterator[Pool]:
    """The migrated schema, guards of the ledger included."""
    async with opened(database) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def coverage() -> AsyncIterator[Coverage]:
    """What came of the stories of this module: at its end, each thing often enough."""
    seen = Coverage()
    yield seen
    if seen.stories:
        seen.require(RESULTS)


class CalendarService(Service):
    """One worker; a month begins when all is settled for the first time."""

    async def begin(self) -> None:
        """Empty the tables, in November."""
        await super().begin()
        await self.pool.execute("UPDATE begun_until SET day = '2025-12-01'")

    async def settle_all(self) -> None:
        """The next month begins, and everything is settled."""
        async with self.pool.acquire() as tx, tx.transaction():
            if await tx.fetchval(
                "UPDATE begun_until SET day = $1 WHERE day < $1 RETURNING day", date(2026, 2, 1)
            ):
                await mark_uncredited(tx)
        await super().settle_all()


async def dump_after(pool: Pool, batches: Sequence[Batch]) -> Dump:
    """The dump once all batches are applied; every third time all is settled in between."""
    service = CalendarService(pool)
    await service.begin()
    for number, batch in enumerate(batches):
        await service.take(batch)
        if number % 3 == 2:
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


def seen_in(dump: Dump) -> set[str]:
    """What came of a story."""
    credits_ = list(dump["credits"].values())
    found = {credit["event_key"].partition(":")[0] for credit in credits_}
    found |= {name for name in ("cash",) if any(name in credit for credit in credits_)}
    found |= {"ended" for credit in credits_ if "cancelled_at" in credit}
    found |= {"team" for credit in credits_ if credit["component_id"] == "team"}
    found |= {"grant"} if dump["grants"] else set()
    for statement in dump["statements"].values():
        found |= {"draw"} if statement["draw"] else set()
        found |= {line["kind"] for line in statement["lines"]}
    return found


@FEW
@given(story=STORIES)
async def test_any_telling_of_the_language_gives_the_same_books(
    pool: Pool, coverage: Coverage, story: Story
) -> None:
    """Order, repetition and batching change nothing; rated anew, nothing differs."""
    coverage.add(story, *seen_in(await compare(pool, story)))


def _won(deal: str, owner: str, day: int) -> Said:
    fields = {"stage": "won", "owner": owner, "amount": "1000", "currency": "USD", "type": "new"}
    return Said("deal", deal, day, fields)


BEGINNING: list[Step] = [*FOUNDING, *(decision for group in DECISIONS for decision in group)]


def earlier_share_of_a_budget() -> list[Batch]:
    """A deal that comes first in a budget arrives last: somebody else's part shrinks."""
    first, *later = [
        _won(deal, owner, 10 + number)
        for number, (deal, owner) in enumerate(
            zip(DEALS, ("ana", "ana", "ben", "cem"), strict=True)
        )
    ]
    return [BEGINNING, *([step] for step in later), [first]]


def later_manager() -> list[Batch]:
    """That somebody reports to another is known last."""
    moved = {"effective_from": SINCE, "manager": "ben"}
    return [[*BEGINNING, _won(DEALS[0], "ana", 10)], [Said("person", "ana", 20, moved)]]


def payment_before_its_invoice() -> list[Batch]:
    """A payment names an invoice of which nobody has said anything yet; both change hands."""
    at = to_text(day_at(15))
    money = {"amount": "500", "currency": "USD"}
    paid = Said("payment", "crm:t:p1", 15, {**money, "invoice": INVOICES[0], "received_at": at})
    billed = {**money, "status": "open", "issued_at": at}
    return [
        [*BEGINNING, _won(DEALS[0], "ana", 10), _won(DEALS[1], "ben", 10)],
        [paid],
        [Said("invoice", INVOICES[0], 14, {**billed, "deal": DEALS[0]})],
        [Said("invoice", INVOICES[0], 16, {"deal": DEALS[1]})],
    ]


def activity_before_its_plan() -> list[Batch]:
    """Activities are kept before any plan credits them; one is said to be a deal's later."""
    calls = [
        Said(
            "activity",
            name,
            5,
            {"kind": "call", "owner": "ana", "completed_at": to_text(day_at(5))},
        )
        for name in ACTIVITIES
    ]
    owned = Said("activity", ACTIVITIES[0], 6, {"deal": DEALS[0]})
    decided: list[Step] = [decision for group in DECISIONS for decision in group]
    return [[*FOUNDING, *calls], decided, [owned]]


async def _same_as_at_once(pool: Pool, batches: Sequence[Batch]) -> Dump:
    at_once = await dump_after(pool, [[step for batch in batches for step in batch]])
    assert differences(await dump_after(pool, batches), at_once) == []
    return at_once


async def test_a_budget_is_divided_anew_for_everybody(pool: Pool) -> None:
    """In order of credit, whatever arrived first."""
    dump = await _same_as_at_once(pool, earlier_share_of_a_budget())
    assert [(grant["payee"], grant["granted"]) for _, grant in sorted(dump["grants"].items())] == [
        ("ana", 100),
        ("ana", 100),
        ("ben", 50),
        ("cem", 0),
    ]


async def test_a_manager_who_is_known_late_is_credited(pool: Pool) -> None:
    """And whoever was credited before is not."""
    dump = await _same_as_at_once(pool, later_manager())
    assert [c["payee"] for c in dump["credits"].values() if c["component_id"] == "team"] == ["ben"]


async def test_a_payment_follows_its_invoice(pool: Pool) -> None:
    """To whichever deal the invoice is of in the end."""
    dump = await _same_as_at_once(pool, payment_before_its_invoice())
    found = dump["credits"].values()
    assert {c["deal_id"] for c in found if c["event_key"] == "payment:crm:t:p1"} == {DEALS[1]}
    assert [c["deal_id"] for c in found if "cash" in c] == [DEALS[1]]


async def test_activities_that_were_kept_count_once_a_plan_credits_them(pool: Pool) -> None:
    """Once each, whoever they belong to."""
    dump = await _same_as_at_once(pool, activity_before_its_plan())
    found = {c["event_key"]: c["deal_id"] for c in dump["credits"].values()}
    assert found == {f"activity:{ACTIVITIES[0]}": DEALS[0], f"activity:{ACTIVITIES[1]}": ""}


def _budget_follows_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other payees of a budget are not told that their part of it changed."""
    genuine = budgets.project_budgets

    async def alone(tx: Connection, roots: Sequence[LockedRoot], reference: object) -> Projected:
        made = await genuine(tx, roots, reference)  # type: ignore[arg-type] # passed on
        return Projected(made.settled)

    monkeypatch.setitem(projector._PROJECTIONS, "budget", alone)


def _managers_change_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the hierarchy is announced to nobody."""

    async def never(_tx: Connection, _folded: object) -> bool:
        return False

    monkeypatch.setattr(handlers, "people_matter", never)


@pytest.mark.parametrize(
    ("plant", "story"),
    [
        (_budget_follows_nobody, earlier_share_of_a_budget),
        (_managers_change_unseen, later_manager),
    ],
)
async def test_a_planted_fault_of_the_language_is_seen(
    pool: Pool,
    plant: Plant,
    story: Callable[[], list[Batch]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same comparison on broken copies of the code: it must not hold."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await _same_as_at_once(pool, story())
