"""The ledger's watch: accounts are rated again in turn, and compared with what is posted.

It only looks. Money that disagrees is logged and counted; nothing repairs it by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from services.commissions.rating import rate_accounts
from services.commissions.reference import ReferenceCache
from shared.facts.marks import RootKey
from shared.facts.settle import LockedRoot

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.telemetry.catalogue import Telemetry

ACCOUNTS_AT_ONCE = 50

log = structlog.get_logger()


@dataclass(slots=True)
class DriftWatch:
    """Checks accounts round-robin, some at a time."""

    pool: Pool
    telemetry: Telemetry
    _cache: ReferenceCache = field(default_factory=ReferenceCache)
    _after: str = ""
    _drifting: set[str] = field(default_factory=set)

    async def check(self) -> bool:
        """Compare the next accounts; whether there are more before the round begins anew.

        An account that waits to be settled, or that older reference data made, is left out.
        """
        async with (
            self.pool.acquire() as tx,
            tx.transaction(isolation="repeatable_read", readonly=True),
        ):
            roots = await _settled_accounts(tx, self._after, ACCOUNTS_AT_ONCE)
            if not roots:
                self._after = ""
                return False
            outcomes = await rate_accounts(tx, roots, await self._cache.at(tx), lock=False)
        for outcome in outcomes:
            self._note(outcome.account.root_id, drifts=outcome.differs)
            if outcome.differs:
                log.error(
                    "ledger.drift",
                    account=outcome.account.root_id,
                    postings=len(outcome.postings),
                    statements=len(outcome.writes) + len(outcome.gone),
                )
        self._after = roots[-1].key.id
        return len(roots) == ACCOUNTS_AT_ONCE

    def _note(self, account: str, *, drifts: bool) -> None:
        self.telemetry.ledger_checked.inc()
        if drifts:
            self._drifting.add(account)
        else:
            self._drifting.discard(account)
        self.telemetry.ledger_drift.set(len(self._drifting))


async def _settled_accounts(tx: Connection, after: str, limit: int) -> list[LockedRoot]:
    rows = await tx.fetch(
        "SELECT r.id, r.contribution::text AS contribution, r.reference_version FROM root r "
        "WHERE r.kind = 'account' AND r.id > $1 "
        "AND r.reference_version = (SELECT version FROM reference_version) "
        "AND NOT EXISTS (SELECT FROM mark m WHERE m.kind = 'account' AND m.root_id = r.id) "
        "ORDER BY r.id LIMIT $2",
        after,
        limit,
    )
    return [
        LockedRoot(
            key=RootKey("account", row["id"]),
            contribution=row["contribution"],
            parts=frozenset({""}),
            reference_version=row["reference_version"],
            next_due=None,
        )
        for row in rows
    ]
