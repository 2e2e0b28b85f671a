"""The projector: roots give credits, budgets are divided, accounts rated, differences posted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.commissions import store
from services.commissions.budgets import project_budgets
from services.commissions.crediting import project_deals
from services.commissions.rating import rate_accounts
from services.commissions.reference import Reference, ReferenceLoader
from services.commissions.standalone import project_activities, project_scores
from shared.facts.settle import LockedRoot, Projected, Settled
from shared.runtime.tracing import Effect, trace_effects
from shared.telemetry.traces import Key

if TYPE_CHECKING:
    from shared.db.pool import Connection

CODE_VERSION = 2
"""Raised whenever the code makes other credits, statements or postings of the same facts."""


KINDS = ("deal", "activity", "objective_score", "budget", "account")
"""Root kinds in locking order: what gives credits, what divides budgets, what is rated."""


@dataclass(frozen=True, slots=True)
class CommissionsProjector:
    """What the service makes of its roots.

    Kinds: `deal`, `activity` (of no deal), `objective_score` (`<person>/<objective>/<period>`),
    `budget` (`<plan>|<component>`), and `account` (`<payee>|<plan>`; its parts are fiscal years).
    """

    loader: ReferenceLoader = field(default_factory=ReferenceLoader)
    kinds: Sequence[str] = KINDS
    code_version: int = CODE_VERSION

    async def load_reference(self, tx: Connection) -> Reference:
        """Plans, assignments, rates, stage maps and people."""
        return await self.loader.load(tx)

    async def project(
        self, tx: Connection, kind: str, roots: Sequence[LockedRoot], reference: Reference
    ) -> Projected:
        """Write what differs from what is stored."""
        if kind == "account":
            return await project_accounts(tx, roots, reference)
        return await _PROJECTIONS[kind](tx, roots, reference)


_PROJECTIONS = {
    "deal": project_deals,
    "activity": project_activities,
    "objective_score": project_scores,
    "budget": project_budgets,
}


async def project_accounts(
    tx: Connection, roots: Sequence[LockedRoot], reference: Reference
) -> Projected:
    """Rate accounts; write the statements that changed, post the difference to the ledger."""
    outcomes = await rate_accounts(tx, roots, reference)
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
    return Projected(
        [Settled(root, outcome.contribution) for root, outcome in zip(roots, outcomes, strict=True)]
    )
