"""What would other plans, rates or assignments pay? The live path's functions, writing no figure.

Deals are credited (crediting.py) and accounts rated (rating.py) as settling does it, with changed
reference data in place of the present one; the difference is taken to the statements as stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

from services.commissions import store
from services.commissions.domain.given import Grant
from services.commissions.domain.plan import PlanVersion
from services.commissions.domain.rates import ZERO
from services.commissions.needs import budgets_in
from services.commissions.rating import (
    AccountState,
    begin_account,
    fill_given,
    fill_statements,
)
from services.commissions.reference import Reference
from services.commissions.store import AccountKey
from services.commissions.whatif.compare import (
    AccountDifference,
    LineDifference,
    Range,
    StatementDifference,
    TierChange,
    TierReached,
    compared,
)
from services.commissions.whatif.credits import (
    Aside,
    Recrediting,
    grants_otherwise,
    load_aside,
    overlay,
)
from services.commissions.whatif.scope import Scope, scopes, with_drafts
from shared.money import EXACT

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

__all__ = [
    "AccountDifference",
    "LineDifference",
    "PeriodDifference",
    "Progress",
    "Question",
    "StatementDifference",
    "TierChange",
    "TierReached",
    "WhatIf",
    "compare",
    "differences",
    "recalculating",
    "with_versions",
]

CREDITS_PHASE, ACCOUNTS_PHASE = "credits", "accounts"

Progress = Callable[[str, int, int], Awaitable[None]]
"""Told (`credits` or `accounts`, how many are done, of how many) after each chunk."""

Take = Callable[[Sequence[AccountDifference]], Awaitable[None]]
"""Given the accounts of each chunk."""

READ_S = 0.03
"""How long a chunk of accounts may keep the event loop: its size follows what the last one took."""

MOST_ACCOUNTS = 200
DAY_BEFORE_ALL = date.min


@dataclass(frozen=True, slots=True)
class PeriodDifference:
    """All payees of one plan in one statement period, in plan currency.

    before, after: what they earn. moved: the sum of |after - before| over payees. of_waiting: the
    part of it on statements on which something waited before. payees: how many get another amount.
    """

    currency: str
    before: Decimal
    after: Decimal
    moved: Decimal
    of_waiting: Decimal
    payees: int


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What changes. accounts: only those of which some statement earns or pays another amount.

    by_period: (plan, period label) → all payees, also where nothing changes.
    recalculating: something waited to be settled when it began; a difference may be partly that.
    """

    by_period: Mapping[tuple[str, str], PeriodDifference]
    accounts: Mapping[AccountKey, AccountDifference]
    recalculating: bool


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; see `differences`. detail: tell lines and tiers too."""

    changed: Reference
    since: date
    until: date | None = None
    present: Reference | None = None
    plans: Collection[str] | None = None
    detail: bool = False


def with_versions(
    reference: Reference, drafts: Sequence[PlanVersion], *, in_force_from: date | None = None
) -> Reference:
    """Reference data with drafts as they would be saved.

    A draft takes the place of a version of its plan that begins on the same day; it is added
    otherwise, and makes a new plan where there is none of its id. in_force_from: they are in force
    from that day on whatever they say, and later versions are not. Raises PlanInvalid where the
    draft cannot follow the versions that are there.
    """
    return with_drafts(reference, drafts, in_force_from)


async def differences(  # noqa: PLR0913 - named at each call
    pool: Pool,
    changed: Reference,
    *,
    present: Reference | None = None,
    plans: Collection[str] | None = None,
    since: date,
    until: date | None = None,
    progress: Progress | None = None,
) -> WhatIf:
    """What everybody would earn with `changed` in place of the reference data that is stored.

    changed: made from the present reference data (`ReferenceLoader`, `ReferenceCache.at`) with
    `dataclasses.replace` or `with_versions`. present: what it was made from; then only what a part
    that differs may touch is looked at, which is much faster, and the figures are the same.
    plans: only accounts of these; None: of all plans that the change may touch. since, until:
    statements that end after `since` and begin before `until` are told of; None: all later ones.

    Call it outside any transaction: it takes connections from `pool` for short read-only snapshots,
    chunk by chunk, holds no lock, and rates in a thread. One account's before and after are of one
    moment; those of two accounts, or of a deal and an account, may be of two. What commits
    meanwhile is in it or not. It writes only rows of its own (`whatif_credit`), and removes them.
    """
    by_period: dict[tuple[str, str], PeriodDifference] = {}
    accounts: dict[AccountKey, AccountDifference] = {}

    async def take(found: Sequence[AccountDifference]) -> None:
        for account in found:
            if account.changes:
                accounts[account.account] = account
            for statement in account.periods:
                place = (account.account.plan_id, statement.period)
                known = by_period.get(place) or _NOTHING
                by_period[place] = _added(known, account.currency, statement)

    under_way = await recalculating(pool)
    question = Question(changed, since, until, present, plans)
    await compare(pool, question, take, progress or _untold)
    return WhatIf(by_period, accounts, under_way)


_NOTHING = PeriodDifference("", ZERO, ZERO, ZERO, ZERO, 0)


def _added(known: PeriodDifference, currency: str, said: StatementDifference) -> PeriodDifference:
    moved = abs(EXACT.subtract(said.after, said.before))
    return PeriodDifference(
        currency,
        EXACT.add(known.before, said.before),
        EXACT.add(known.after, said.after),
        EXACT.add(known.moved, moved),
        EXACT.add(known.of_waiting, moved if said.waited else ZERO),
        known.payees + bool(moved),
    )


async def _untold(_phase: str, _done: int, _total: int) -> None:
    return


async def recalculating(pool: Pool) -> bool:
    """Whether something waits to be settled, so that stored figures are not the newest."""
    found: bool = await pool.fetchval(
        "SELECT EXISTS (SELECT FROM mark) OR EXISTS (SELECT FROM root WHERE reference_version "
        "< (SELECT version FROM reference_version))"
    )
    return found


async def compare(pool: Pool, question: Question, take: Take, progress: Progress) -> None:
    """Every account that may earn otherwise, chunk by chunk, plan by plan; see `differences`.

    What `take` or `progress` raises ends it.
    """
    found = scopes(question.changed, question.present, question.plans)
    # A name of its own each time: nobody ever meets rows that another one left.
    run = uuid4().hex
    recrediting = Recrediting(
        pool, run, question.changed, [scope.plan_id for scope in found if scope.recredit]
    )
    try:
        if recrediting.plans:

            async def told(done: int, total: int) -> None:
                await progress(CREDITS_PHASE, done, total)

            await recrediting.all_roots(told)
        await _Accounts(pool, question, run, found, take, progress).all()
    finally:
        if recrediting.plans:
            await asyncio.shield(recrediting.forget())


@asynccontextmanager
async def _snapshot(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        yield tx


@dataclass(slots=True)
class _Accounts:
    """Rates the accounts of plans again."""

    pool: Pool
    question: Question
    run: str
    scopes: Sequence[Scope]
    take: Take
    progress: Progress
    size: int = 4
    grants: dict[AccountKey, dict[str, Grant]] = field(default_factory=dict)

    async def all(self) -> None:
        """Plan by plan, by account."""
        listed = [(scope, await self._accounts(scope)) for scope in self.scopes]
        total, done = sum(len(accounts) for _, accounts in listed), 0
        for scope, accounts in listed:
            await self._budgets(scope)
            place = 0
            while place < len(accounts):
                chunk = accounts[place : place + self.size]
                await self.take(await self._compared(scope, chunk))
                place, done = place + len(chunk), done + len(chunk)
                await self.progress(ACCOUNTS_PHASE, done, total)

    async def _accounts(self, scope: Scope) -> list[AccountKey]:
        """Accounts there are, would be credited, or may have pay without credits."""
        rows = await self.pool.fetch(
            "SELECT split_part(id, '|', 1) AS payee FROM root WHERE kind = 'account' "
            "AND split_part(id, '|', 2) = $1 "
            "UNION SELECT payee FROM whatif_credit WHERE run = $2 AND plan_id = $1",
            scope.plan_id,
            self.run,
        )
        assigned = self.question.changed.assignments.get(scope.plan_id, ())
        payees = {row["payee"] for row in rows} | {entry.payee for entry in assigned}
        return [AccountKey(payee, scope.plan_id) for payee in sorted(payees)]

    async def _budgets(self, scope: Scope) -> None:
        plan = self.question.changed.plans.get(scope.plan_id)
        needs = self.question.changed.needs.get(scope.plan_id, frozenset())
        if plan is not None and budgets_in(needs):
            async with _snapshot(self.pool) as tx:
                self.grants = await grants_otherwise(tx, self.run, plan, needs)
        else:
            self.grants = {}

    async def _compared(
        self, scope: Scope, accounts: Sequence[AccountKey]
    ) -> list[AccountDifference]:
        question = self.question
        began = time.monotonic()
        async with _snapshot(self.pool) as tx:
            states = await self._states(tx, scope, accounts)
            aside = await load_aside(tx, self.run, scope.plan_id, [a.payee for a in accounts])
        took_s = time.monotonic() - began
        wanted = round(self.size * READ_S / max(took_s, READ_S / 4))
        self.size = max(1, min(MOST_ACCOUNTS, wanted))
        return await asyncio.to_thread(
            self._rated, states, aside, Range(question.since, question.until)
        )

    async def _states(
        self, tx: Connection, scope: Scope, accounts: Sequence[AccountKey]
    ) -> list[AccountState]:
        changed = self.question.changed
        # Statements of the range are told of although nothing touches them.
        since = min(scope.since, self.question.since)
        if since != DAY_BEFORE_ALL:
            since = changed.year_of(since).start
        rows = await tx.fetch(
            "SELECT id, contribution::text AS contribution FROM root "
            "WHERE kind = 'account' AND id = ANY($1::text[])",
            [account.root_id for account in accounts],
        )
        stored = {row["id"]: row["contribution"] for row in rows}
        borders = await store.hold_borders(tx, lock=False)
        states = [
            begin_account(account, stored.get(account.root_id), since, changed, borders)
            for account in accounts
        ]
        await fill_given(tx, states, changed)
        await fill_statements(tx, states)
        return states

    def _rated(
        self, states: Sequence[AccountState], aside: Mapping[str, Sequence[Aside]], range_: Range
    ) -> list[AccountDifference]:
        """Pure, in a thread: rating has no place to give way."""
        changed, present = self.question.changed, self.question.present
        found = []
        for state in states:
            before = None
            if self.question.detail and present is not None:
                plan = present.plans.get(state.account.plan_id)
                before = replace(state, plan=plan, credits=dict(state.credits))
            overlay(state, aside.get(state.account.payee, ()), changed)
            state.grants = self.grants.get(state.account, {})
            found.append(
                compared(state, changed, range_, before, present, detail=self.question.detail)
            )
        return found
