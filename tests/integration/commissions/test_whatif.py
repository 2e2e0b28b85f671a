"""What a draft would pay is, to the cent, what it pays once it is saved."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.commissions.api.assignments import AssignmentBody
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.plan import Assignment, DayRange
from services.commissions.reference import Reference, ReferenceCache
from services.commissions.whatif.differences import WhatIf, differences, with_versions
from shared.db.pool import Pool
from shared.money import quantise
from tests.integration.commissions.test_order_histories import opened
from tests.integration.commissions.test_order_language import CalendarService
from tests.support.happenings import Coverage
from tests.support.histories import PEOPLE, Batch, Decided, Said, Story
from tests.support.language_histories import STORIES, WIDE

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
LONG_AGO, NEW_YEAR = date(2025, 1, 1), date(2026, 1, 1)
Key = tuple[str, str, str]
"""Payee, plan, period."""

Figures = tuple[Decimal, Decimal]
"""Own pay, payable."""

NOTHING: Figures = (Decimal(0), Decimal(0))
Document = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(database: str) -> AsyncIterator[Pool]:
    """The migrated schema, guards of the ledger included."""
    async with opened(database) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def coverage() -> AsyncIterator[Coverage]:
    """How often a draft changed what: at the module's end, often enough."""
    seen = Coverage()
    yield seen
    if seen.stories:
        seen.require({"moved": 0.4, "recredited": 0.04, "rates": 0.04, "two years": 0.4})


def _component(plan: Mapping[str, Any], name: str, **changes: Any) -> Document:  # noqa: ANN401
    parts = [{**part, **changes} if part["id"] == name else part for part in plan["components"]]
    return {**plan, "components": parts}


def _without(plan: Mapping[str, Any], name: str) -> Document:
    return {**plan, "components": [part for part in plan["components"] if part["id"] != name]}


ADDED: Document = {
    "id": "extra",
    "kind": "commission",
    "credit": {"on": "deal.won", "to": "splits", "when": "deal.amount > 2000"},
    "rates": {
        "method": "retroactive",
        "over": "amount",
        "tiers": [{"from": "0", "rate": "3%"}, {"from": "9000", "rate": "7%"}],
    },
}
Change = Callable[[Document], Document]


def _changed(name: str, **terms: Any) -> Change:  # noqa: ANN401 - terms of a component
    return lambda plan: _component(plan, name, **terms)


RATES: Mapping[str, Change] = {
    "rate": _changed("deals", rates={"method": "flat", "rate": "8%"}),
    "budget": _changed("rush", pays={"each": 90, "first": 2, "budget": 150}),
    "gate": _changed("gated", gate={"kpi": "csat", "at_least": 3, "otherwise": "zero"}),
    "cap": lambda plan: {
        **plan,
        "cap": {"amount": "30", "per": "statement", "excess": "carry"},
    },
    "floor": _changed("gated", floor={"amount": "75", "per": "statement"}),
    "no draw": lambda plan: {part: terms for part, terms in plan.items() if part != "draw"},
}
CREDITS: Mapping[str, Change] = {
    "who": _changed("kept", credit={"on": "deal.won", "to": "splits"}),
    "when": _changed(
        "deals",
        credit={"on": "deal.won", "to": "splits", "when": 'deal.currency == "USD"'},
    ),
    "no release": lambda plan: _without(plan, "deals"),
    "one more": lambda plan: {**plan, "components": [*plan["components"], ADDED]},
    "no activities": lambda plan: _without(_without(plan, "calls"), "goals"),
    "nothing": lambda plan: plan,
}
FIRST_DAYS = ("2025-11-15", "2025-11-21", "2025-12-01", "2025-12-20")


def _large(number: int, day: int, **said: Any) -> Said:  # noqa: ANN401 - fields of a deal
    fields = {"stage": "won", "owner": PEOPLE[number % 3], "currency": "USD", "type": "new"}
    return Said("deal", f"crm:t:large{number}", day, {**fields, **said})


LARGE: Batch = (
    _large(0, 3, amount="4000.50"),
    _large(1, 8, amount="9500", splits={"ana": "1/3", "cem": "2/3"}, complete=["splits"]),
    _large(2, 20, amount="3100", currency="EUR"),
    _large(3, 29, amount="12000.25", splits={"ben": "50%", "ana": "50%"}, complete=["splits"]),
    _large(4, 45, amount="7000"),
    _large(5, 50, amount="800", splits={"ana": "25%", "ben": "75%"}, complete=["splits"]),
)
"""Deals that any change of terms is felt in: most of a story's are of a few cents."""


def draft_for(story: Story) -> tuple[Document, bool]:
    """A version of the plan as it may be saved next, and whether it credits otherwise.

    It follows from the story: drawn beside it, the same few would come again and again.
    """
    number = zlib.crc32(repr(story.told).encode())
    number, rate = divmod(number, len(RATES))
    # As often as not, credits stay as they are: then none is made anew.
    number, credit = divmod(number, 2 * len(CREDITS))
    change, other = sorted(RATES)[rate], [*sorted(CREDITS), *["nothing"] * len(CREDITS)][credit]
    first = FIRST_DAYS[number % len(FIRST_DAYS)]
    document = CREDITS[other](RATES[change]({**WIDE, "effective": {"from": first}}))
    return document, other != "nothing"


async def present_of(pool: Pool) -> Reference:
    """Reference data as it is."""
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        return await ReferenceCache().at(tx)


async def shown(pool: Pool) -> dict[Key, Figures]:
    """Every statement's figures as stored."""
    rows = await pool.fetch("SELECT payee, plan_id, period, own, payable FROM statement")
    return {
        (r["payee"], r["plan_id"], r["period"]): (quantise(r["own"]), quantise(r["payable"]))
        for r in rows
    }


def foretold(before: Mapping[Key, Figures], found: WhatIf) -> dict[Key, Figures]:
    """Statements with what was found put in their places; those of nothing left out."""
    figures = dict(before)
    for account in found.accounts.values():
        for said in account.periods:
            key = (*account.account, said.period)
            assert figures.get(key, NOTHING) == (said.before, said.payable_before)
            figures[key] = (said.after, said.payable_after)
    return {key: both for key, both in figures.items() if both != NOTHING}


def something(figures: Mapping[Key, Figures]) -> dict[Key, Figures]:
    """Without statements of nothing."""
    return {key: both for key, both in figures.items() if both != NOTHING}


async def ledger(pool: Pool) -> list[tuple[Any, ...]]:
    """All that a what-if must leave alone."""
    found: list[tuple[Any, ...]] = []
    for table in ("posting", "ledger_transaction", "statement", "credit", "budget_grant", "root"):
        rows = await pool.fetch(f"SELECT t::text AS row FROM {table} t ORDER BY 1")  # noqa: S608
        found.append((table, *(row["row"] for row in rows)))
    return found


@FEW
@given(story=STORIES)
async def test_a_draft_pays_what_was_foretold(pool: Pool, coverage: Coverage, story: Story) -> None:
    """The present foretells itself, a draft what comes of saving it; nothing is left behind."""
    service = CalendarService(pool)
    await service.begin()
    for batch in (*story.told, LARGE):
        await service.take(batch)
    await service.settle_all()
    before, books = await shown(pool), await ledger(pool)
    present = await present_of(pool)

    same = await differences(pool, present, since=LONG_AGO)
    assert dict(same.accounts) == {}
    assert not any(period.moved for period in same.by_period.values())

    document, recredits = draft_for(story)
    changed = with_versions(present, [parse_plan(document)])
    quick = await differences(pool, changed, present=present, since=LONG_AGO)
    slow = await differences(pool, changed, since=LONG_AGO)
    assert quick.accounts == slow.accounts
    assert not quick.recalculating
    late = await differences(pool, changed, present=present, since=NEW_YEAR)
    assert late.by_period == {
        place: period for place, period in slow.by_period.items() if place[1] >= "2026"
    }
    assert await ledger(pool) == books
    assert await pool.fetchval("SELECT count(*) FROM whatif_credit") == 0

    number = 1 + max((v for v in await _numbers(pool)), default=0)
    await service.take([Decided("plan", "wide", document, number=number)])
    await service.settle_all()
    after = await shown(pool)
    assert foretold(before, quick) == something(after)
    assert totals(quick) == sums(before, after, quick)
    seen = {"moved"} if quick.accounts else set()
    if quick.accounts:
        seen |= {"recredited" if recredits else "rates"}
    seen |= {"two years"} if len({key[2][:4] for key in after}) > 1 else set()
    coverage.add(story, *seen)


async def _numbers(pool: Pool) -> list[int]:
    rows = await pool.fetch("SELECT version FROM plan_version WHERE plan_id = 'wide'")
    return [row["version"] for row in rows]


def totals(found: WhatIf) -> dict[tuple[str, str], tuple[Decimal, Decimal, Decimal]]:
    """By plan and period: before, after, moved."""
    return {
        place: (period.before, period.after, period.moved)
        for place, period in found.by_period.items()
    }


def sums(
    before: Mapping[Key, Figures], after: Mapping[Key, Figures], found: WhatIf
) -> dict[tuple[str, str], tuple[Decimal, Decimal, Decimal]]:
    """The same, of the statements themselves."""
    result = {}
    for plan, period in found.by_period:
        keys = {key for key in {**before, **after} if key[1:] == (plan, period)}
        pairs = [(before.get(k, NOTHING)[0], after.get(k, NOTHING)[0]) for k in keys]
        result[plan, period] = (
            sum((was for was, _ in pairs), Decimal(0)),
            sum((is_ for _, is_ in pairs), Decimal(0)),
            sum((abs(is_ - was) for was, is_ in pairs), Decimal(0)),
        )
    return result


@FEW
@given(story=STORIES, payee=st.sampled_from(PEOPLE), quota=st.booleans())
async def test_other_assignments_pay_what_was_foretold(
    pool: Pool, story: Story, payee: str, *, quota: bool
) -> None:
    """Somebody leaves the plan earlier, or has another target pay; a new plan takes everybody."""
    service = CalendarService(pool)
    await service.begin()
    for batch in (*story.told, LARGE):
        await service.take(batch)
    await service.settle_all()
    before, present = await shown(pool), await present_of(pool)
    body: Document = {"payee": payee, "plan": "wide", "from": "2025-11-10", "target_pay": "900"}
    body |= {"target_pay": "1300"} if quota else {"to": "2025-12-01"}
    fresh: Document = {**WIDE, "id": "fresh", "effective": {"from": "2025-12-01"}}
    on_fresh: Document = {"payee": payee, "plan": "fresh", "from": "2025-12-10"}
    changed = with_versions(present, [parse_plan(fresh)])
    others = [a for a in present.assignments["wide"] if a.payee != payee]
    changed = replace(
        changed,
        assignments={"wide": [*others, _assignment(body)], "fresh": [_assignment(on_fresh)]},
    )
    quick = await differences(pool, changed, present=present, since=LONG_AGO)
    assert quick.accounts == (await differences(pool, changed, since=LONG_AGO)).accounts
    await service.take(
        [
            Decided("plan", "fresh", fresh),
            Decided("assignment", f"{payee}-wide", body),
            Decided("assignment", f"{payee}-fresh", on_fresh),
        ]
    )
    await service.settle_all()
    assert foretold(before, quick) == something(await shown(pool))


def _assignment(document: Document) -> Assignment:
    body = AssignmentBody.model_validate(document)
    return Assignment(
        body.payee, body.plan, DayRange(body.from_, body.to), target_pay=body.target_pay
    )
