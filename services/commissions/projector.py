"""The projector: deals give credits, accounts are rated, and differences are posted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.commissions import store
from services.commissions.crediting import project_deals
from services.commissions.rating import rate_accounts
from services.commissions.reference import Reference, ReferenceLoader
from shared.facts.settle import LockedRoot, Projected, Settled

if TYPE_CHECKING:
    from shared.db.pool import Connection

CODE_VERSION = 1
"""Raised whenever the code makes other credits, statements or postings of the same facts."""


@dataclass(frozen=True, slots=True)
class CommissionsProjector:
    """Root kinds `deal` and `account` (`<payee>|<plan>`; its parts are fiscal years)."""

    loader: ReferenceLoader = field(default_factory=ReferenceLoader)
    kinds: Sequence[str] = ("deal", "account")
    code_version: int = CODE_VERSION

    async def load_reference(self, tx: Connection) -> Reference:
        """Plans, assignments, rates, stage maps and people."""
        return await self.loader.load(tx)

    async def project(
        self, tx: Connection, kind: str, roots: Sequence[LockedRoot], reference: Reference
    ) -> Projected:
        """Write what differs from what is stored."""
        if kind == "deal":
            return await project_deals(tx, roots, reference)
        return await project_accounts(tx, roots, reference)


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
        await store.write_entries(
            tx, [outcome.entry(numbers[outcome.account] + 1) for outcome in posting]
        )
    return Projected(
        [Settled(root, outcome.contribution) for root, outcome in zip(roots, outcomes, strict=True)]
    )
