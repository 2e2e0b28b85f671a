"""The projector: roots give credits, budgets are divided, accounts rated, differences posted."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.commissions import store
from services.commissions.budgets import project_budgets
from services.commissions.crediting import project_deals
from services.commissions.reference import Reference, ReferenceLoader
from services.commissions.standalone import project_activities, project_scores
from services.commissions.windowed import rate_windows
from shared.facts.marks import Touched
from shared.facts.settle import LockedRoot, Projected, Settled
from shared.runtime.tracing import Effect, trace_effects
from shared.telemetry.traces import Key

if TYPE_CHECKING:
    from shared.db.pool import Connection

CODE_VERSION = 3
"""Raised whenever the code makes other credits, statements or postings of the same facts."""


DEFERRED = frozenset({"budget", "account"})
"""What rests on many deals."""

DEALS_AT_ONCE = 250
"""So many are credited between two statements: the server ends a transaction that says nothing."""

RATING_S = 0.5
"""Accounts are rated for so long in one transaction; the rest wait for the next one."""

FIRST_ACCOUNTS = 2
"""So many at first: nobody knows how many credits they have."""

QUICK_S = 0.1
"""While so many are rated faster than this, twice as many are taken next."""

KINDS = ("deal", "activity", "objective_score", "budget", "account")
"""Root kinds in locking order: what gives credits, what divides budgets, what is rated."""


@dataclass(frozen=True, slots=True)
class CommissionsProjector:
    """What the service makes of its roots.

    Kinds: `deal`, `activity` (of no deal), `objective_score` (`<person>/<objective>/<period>`),
    `budget` (`<plan>|<component>`), and `account` (`<payee>|<plan>`; its parts are windows, or
    fiscal years).
    live: off in a rebuild, which passes through every state that ever was and decides nothing.
    """

    loader: ReferenceLoader = field(default_factory=ReferenceLoader)
    kinds: Sequence[str] = KINDS
    code_version: int = CODE_VERSION
    live: bool = True
    deferred: Collection[str] = DEFERRED
    rating_s: float = RATING_S

    async def load_reference(self, tx: Connection) -> Reference:
        """Plans, assignments, rates, stage maps and people."""
        return await self.loader.load(tx)

    async def project(
        self, tx: Connection, kind: str, roots: Sequence[LockedRoot], reference: Reference
    ) -> Projected:
        """Write what differs from what is stored."""
        if kind == "account":
            return await project_accounts(tx, roots, reference, self.rating_s)
        if kind != "deal":
            return await _PROJECTIONS[kind](tx, roots, reference)
        settled: list[Settled] = []
        followers: set[Touched] = set()
        for first in range(0, len(roots), DEALS_AT_ONCE):
            part = roots[first : first + DEALS_AT_ONCE]
            made = await project_deals(tx, part, reference, live=self.live)
            settled += made.settled
            followers.update(made.followers)
        return Projected(settled, followers)


_PROJECTIONS = {
    "activity": project_activities,
    "objective_score": project_scores,
    "budget": project_budgets,
}


async def project_accounts(
    tx: Connection, roots: Sequence[LockedRoot], reference: Reference, rating_s: float = RATING_S
) -> Projected:
    """Rate accounts; write the statements that changed, post the difference to the ledger.

    rating_s: after so long the others are left, so that the transaction stays short whatever a
    batch or a change of plans touches; some are always rated.
    """
    settled: list[Settled] = []
    began, at_once = time.monotonic(), FIRST_ACCOUNTS
    while len(settled) < len(roots):
        started = time.monotonic()
        if settled and started - began > rating_s:
            break
        part = roots[len(settled) : len(settled) + at_once]
        settled += await _project_part(tx, part, reference)
        if time.monotonic() - started < QUICK_S:
            at_once *= 2
    return Projected(settled, left=roots[len(settled) :])


async def _project_part(
    tx: Connection, roots: Sequence[LockedRoot], reference: Reference
) -> list[Settled]:
    outcomes = await rate_windows(tx, roots, reference)
    await store.write_statements(
        tx,
        [(outcome.account, period) for outcome in outcomes for period in outcome.gone],
        [write for outcome in outcomes for write in outcome.writes],
    )
    posting = [outcome for outcome in outcomes if outcome.postings]
    if posting:
        numbers = await store.last_numbers(tx, [outcome.account for outcome in posting])
        entries = [outcome.entry(numbers[outcome.account] + 1) for outcome in posting]
        await store.write_entries(tx, entries)
        await trace_effects(
            tx,
            "post",
            [Effect(e.transaction.cause.event_ids, {Key.TRANSACTION: e.id}) for e in entries],
        )
    return [
        Settled(root, outcome.contribution) for root, outcome in zip(roots, outcomes, strict=True)
    ]
