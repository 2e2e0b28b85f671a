"""The ledger's watch: accounts are rated again in turn, and compared with what is posted.

Whole years are rated from all their credits, not the windows that facts touch, so that the shorter
way is checked too. It only looks. Money that disagrees is logged and counted; nothing repairs it by
itself, and a close refuses to fix it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from services.commissions.rating import AccountOutcome, outcomes_of, read_accounts
from services.commissions.reference import Reference, ReferenceCache
from shared.db.pool import DATABASE_ERRORS, create_pool
from shared.facts.marks import RootKey
from shared.facts.settle import LockedRoot

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.telemetry.catalogue import Telemetry

ACCOUNTS_AT_ONCE = 1
"""A look is short whatever an account holds, and the rest after it as long as it takes."""

REST = 19
"""Seconds of rest for each second of processor time: a twentieth of a core."""

LOOK_AGAIN_S = 0.2
"""How soon a resting watch notices that it is to stop."""

RETRY_S = 5.0

log = structlog.get_logger()


@dataclass(slots=True)
class DriftWatch:
    """Checks accounts round-robin, one at a time."""

    pool: Pool
    telemetry: Telemetry
    _cache: ReferenceCache = field(default_factory=ReferenceCache)
    _after: str = ""
    _drifting: set[str] = field(default_factory=set)

    async def check(self) -> bool:
        """Compare the next account; whether there are more before the round begins anew.

        An account that waits to be settled, or that older reference data made, is left out.
        """
        async with (
            self.pool.acquire() as tx,
            tx.transaction(isolation="repeatable_read", readonly=True),
        ):
            roots = await _settled_accounts(tx, self._after, ACCOUNTS_AT_ONCE)
            if not roots:
                self._after = ""
                self.telemetry.ledger_round.set(1)
                return False
            reference = await self._cache.at(tx)
            states = await read_accounts(tx, roots, reference, lock=False)
            self.telemetry.ledger_round.set(await _done(tx, roots[-1].key.id))
        # Rated when the transaction is over: a great account takes longer than one may be idle.
        for outcome in outcomes_of(states, reference):
            self._note(outcome)
        self._after = roots[-1].key.id
        return True

    def _note(self, outcome: AccountOutcome) -> None:
        account = outcome.account.root_id
        self.telemetry.ledger_checked.inc()
        if outcome.differs:
            self._drifting.add(account)
            log.error(
                "ledger.drift",
                account=account,
                postings=len(outcome.postings),
                statements=len(outcome.writes) + len(outcome.gone),
            )
        else:
            self._drifting.discard(account)
        self.telemetry.ledger_drift.set(len(self._drifting))


@dataclass(frozen=True, slots=True)
class PacedWatch:
    """The watch beside a consumer, in a thread of its own, which facts do not wait for.

    It rests nineteen times as long as it computes; interval_s: and so long after each round.
    """

    url: str
    telemetry: Telemetry
    interval_s: float

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop`."""
        halt = threading.Event()
        watching = asyncio.create_task(asyncio.to_thread(self._thread, halt))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            halt.set()
            stopping.cancel()
            await watching

    def _thread(self, halt: threading.Event) -> None:
        asyncio.run(self._watch(halt))

    async def _watch(self, halt: threading.Event) -> None:
        while not halt.is_set():
            try:
                await self._connected(halt)
            except DATABASE_ERRORS as error:
                log.warning("tick.retry", tick="drift", error=type(error).__name__)
                await _rest(halt, RETRY_S)

    async def _connected(self, halt: threading.Event) -> None:
        pool = await create_pool(
            self.url, schema="commissions", name="commissions-drift", max_size=1
        )
        try:
            watch = DriftWatch(pool, self.telemetry)
            while not halt.is_set():
                began_s = time.thread_time()
                more = await watch.check()
                spent_s = time.thread_time() - began_s
                await _rest(halt, spent_s * REST + (0 if more else self.interval_s))
        finally:
            await pool.close()


async def _rest(halt: threading.Event, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not halt.is_set():  # noqa: ASYNC110 - threads
        await asyncio.sleep(min(left, LOOK_AGAIN_S))


async def checked(
    tx: Connection, years: Mapping[str, frozenset[str]], reference: Reference
) -> AsyncIterator[AccountOutcome]:
    """Accounts (root id → fiscal years) as rating them again has them. `tx` is a snapshot."""
    for root_id, parts in years.items():
        row = await tx.fetchrow(
            "SELECT id, contribution::text AS contribution, reference_version FROM root "
            "WHERE kind = 'account' AND id = $1",
            root_id,
        )
        contribution = None if row is None else row["contribution"]
        root = LockedRoot(RootKey("account", root_id), contribution, parts, 0, None)
        states = await read_accounts(tx, [root], reference, lock=False)
        for outcome in outcomes_of(states, reference):
            yield outcome
        await asyncio.sleep(0)


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


async def _done(tx: Connection, last: str) -> float:
    """How much of a round is done with an account, as a share."""
    share: float = await tx.fetchval(
        "SELECT count(*) FILTER (WHERE id <= $1)::float / greatest(count(*), 1) "
        "FROM root WHERE kind = 'account'",
        last,
    )
    return share
