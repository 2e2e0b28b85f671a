"""Settle: make what a root contributes equal to what its records say, exactly once.

A root is locked first, its marks are removed, and only then is anything read: whatever commits
later leaves a mark of its own. The difference is taken against the *stored* contribution, never
against a recomputed past, so code and reference data may change at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

from shared.db.arrays import array_text
from shared.errors import Misconfigured
from shared.facts.marks import RootKey, Touched, add_marks, marked_roots, take_marks
from shared.facts.record import Record
from shared.facts.store import FoldedRecord
from shared.runtime.failpoints import failpoint

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

R = TypeVar("R")

ROOTS_AT_ONCE = 500
"""So many roots are settled in one transaction in the background, so that it stays short."""

DEFERRED_AT_ONCE = 64
"""So many of a deferred kind, in any transaction."""

FEW_MARKS = 200
"""With so many marks, live facts are behind, and what older reference data made can wait."""

LOCK_ROOTS = """
    SELECT id, contribution::text AS contribution, reference_version, next_due
    FROM root WHERE kind = $1 AND id = ANY($2::text[])
    ORDER BY id FOR UPDATE SKIP LOCKED
"""
"""Roots in byte order, those that another transaction holds left out."""

HOLD_VERSION = "SELECT version, code_version, xmin::text FROM reference_version FOR SHARE"
"""The version of reference data, kept from changing until the transaction ends."""


@dataclass(frozen=True, slots=True)
class LockedRoot:
    """A root under this transaction's lock.

    contribution: the stored JSON, None when it adds nothing. parts: which parts were marked; an
    empty text among them means all. reference_version: that its contribution was made with.
    record: the root's own record where this transaction has just written it; None: read it.
    older: older reference data made it, or nothing yet: whatever was marked, all of it is due.
    """

    key: RootKey
    contribution: str | None
    parts: frozenset[str]
    reference_version: int
    next_due: datetime | None
    record: Record | None = None
    older: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What a root contributes from now on, and when time alone may change it."""

    root: LockedRoot
    contribution: str | None
    next_due: datetime | None = None


@dataclass(frozen=True, slots=True)
class Projected:
    """The outcome of projecting locked roots: their new contributions, and roots that follow.

    left: those that nothing was done for, so that the transaction stays short; they are marked
    again. Not all of them: whoever is always left is never settled.
    """

    settled: Sequence[Settled]
    followers: Collection[Touched] = ()
    left: Sequence[LockedRoot] = ()


class Projector(Protocol[R]):
    """What a service adds to the core: how its roots are read, projected and written.

    kinds: root kinds in the order in which they are locked; a follower of a later kind is settled
    in the same transaction, one of the same or an earlier kind is marked.
    code_version: raised when the projection's code changes what it makes.
    """

    @property
    def kinds(self) -> Sequence[str]:
        """Root kinds, in locking order."""
        ...

    @property
    def code_version(self) -> int:
        """Of the projection's code."""
        ...

    async def load_reference(self, tx: Connection) -> R:
        """Reference data as of this transaction, which holds its version."""
        ...

    async def project(
        self, tx: Connection, kind: str, roots: Sequence[LockedRoot], reference: R
    ) -> Projected:
        """Read the records of `roots`, apply *projected - stored* to the service's tables."""
        ...


@runtime_checkable
class Deferring(Protocol):
    """A projector some of whose kinds rest on many other roots, and cost much each time.

    deferred: these kinds. While there is a backlog, or older roots are made again, a root of them
    is settled after all that it rests on, and not each time one of those changes.
    """

    @property
    def deferred(self) -> Collection[str]:
        """Root kinds."""
        ...


@dataclass(slots=True)
class SettleReport:
    """How many roots were settled, and how many were left marked because another held them."""

    settled: int = 0
    left: int = 0


@dataclass(slots=True)
class Settler(Generic[R]):
    """Settles roots with one projector; remembers reference data by its version."""

    projector: Projector[R]
    _reference: R | None = field(default=None)
    _reference_made: tuple[int, str] = field(default=(-1, ""))

    @property
    def _deferred(self) -> Collection[str]:
        return self.projector.deferred if isinstance(self.projector, Deferring) else ()

    async def settle(
        self,
        tx: Connection,
        touched: Iterable[Touched],
        folded: Iterable[FoldedRecord] = (),
        *,
        backlog: bool = False,
    ) -> SettleReport:
        """Settle within `tx` what can be locked at once; mark the rest.

        folded: what this transaction wrote, which roots of the same name need not read again.
        backlog: more is waiting to be read, so that the next batch would settle deferred kinds
        again: they are marked.
        """
        pending: dict[str, dict[str, set[str]]] = {kind: {} for kind in self.projector.kinds}
        for root, part in touched:
            pending[root.kind].setdefault(root.id, set()).add(part)
        report = SettleReport()
        if any(pending.values()):
            written = {(change.kind, change.id): change.record for change in folded}
            await self._settle_pending(tx, pending, report, written, backlog=backlog)
        return report

    async def settle_waiting(self, pool: Pool, *, limit: int = ROOTS_AT_ONCE) -> int:
        """Settle roots that wait with marks, in a transaction of its own; how many were settled.

        Called in a loop: it takes up what batches had to leave, and what time or reference data
        marked.
        """
        async with pool.acquire() as tx, tx.transaction():
            for kind in self.projector.kinds:
                if ids := await marked_roots(tx, kind, self._at_once(kind, limit)):
                    return await self._settle_apart(tx, kind, {root_id: set() for root_id in ids})
        return 0

    async def sweep(self, pool: Pool, *, limit: int = ROOTS_AT_ONCE) -> int:
        """Settle some roots that older reference data or older code made, always with the latest.

        How many there were; 0: none is left without a mark. Kind by kind, so that a root comes
        after those it rests on. Bounded, so that live facts go first: call it again.
        """
        async with pool.acquire() as tx, tx.transaction():
            version, _ = await self._version(tx)
            for kind in self.projector.kinds:
                ids = await self._older(tx, kind, version, self._at_once(kind, limit))
                if ids:
                    await self._settle_apart(tx, kind, {root_id: {""} for root_id in ids})
                    return len(ids)
            held = [
                Touched(RootKey(kind, root_id))
                for kind in self.projector.kinds
                for root_id in await self._older(tx, kind, version, limit, held=True)
            ]
            await add_marks(tx, held)
            return len(held)

    def _at_once(self, kind: str, limit: int) -> int:
        return min(limit, DEFERRED_AT_ONCE) if kind in self._deferred else limit

    async def _older(
        self, tx: Connection, kind: str, version: int, limit: int, *, held: bool = False
    ) -> list[str]:
        """Unmarked roots of an older version, locked. held: also those that others hold."""
        lock = "" if held else " FOR UPDATE SKIP LOCKED"
        rows = await tx.fetch(
            "SELECT r.id FROM root r WHERE r.kind = $1 AND r.reference_version < $2 "  # noqa: S608 - constants
            "AND NOT EXISTS (SELECT FROM mark m WHERE m.kind = r.kind AND m.root_id = r.id) "
            f"ORDER BY r.reference_version LIMIT $3{lock}",
            kind,
            version,
            limit,
        )
        return [row["id"] for row in rows]

    async def _settle_apart(self, tx: Connection, kind: str, roots: dict[str, set[str]]) -> int:
        """Settle roots of one kind in the background; how many were settled."""
        pending: dict[str, dict[str, set[str]]] = {k: {} for k in self.projector.kinds}
        pending[kind] = roots
        report = SettleReport()
        await self._settle_pending(tx, pending, report, {}, backlog=kind not in self._deferred)
        return report.settled

    async def announce_code_version(self, pool: Pool) -> None:
        """At start: if this code is newer than what made the roots, have them all made again."""
        async with pool.acquire() as tx, tx.transaction():
            await tx.execute(
                "INSERT INTO reference_version (version, code_version) VALUES (1, $1) "
                "ON CONFLICT (only_row) DO UPDATE SET code_version = excluded.code_version, "
                "version = reference_version.version + 1 "
                "WHERE reference_version.code_version < excluded.code_version",
                self.projector.code_version,
            )

    async def _settle_pending(
        self,
        tx: Connection,
        pending: dict[str, dict[str, set[str]]],
        report: SettleReport,
        written: Mapping[tuple[str, str], Record],
        *,
        backlog: bool,
    ) -> None:
        """Kind by kind. The version is locked before any root: everybody in the same order."""
        reference, version = await self._reference_for(tx)
        for position, kind in enumerate(self.projector.kinds):
            if not pending[kind]:
                continue
            if kind in self._deferred:
                if backlog:
                    await self._defer(tx, kind, pending[kind], version)
                    continue
                await self._mark_beyond(tx, kind, pending[kind], report)
            roots = await self._lock(tx, kind, pending[kind], written, version)
            await failpoint("settle.locked")
            await self._leave(tx, kind, pending[kind], roots, report)
            if not roots:
                continue
            projected = await self.projector.project(tx, kind, roots, reference)
            report.settled += len(roots) - len(projected.left)
            await failpoint("settle.projected")
            await self._write(tx, projected.settled, version)
            again = [Touched(root.key, part) for root in projected.left for part in root.parts]
            report.left += len(projected.left)
            await add_marks(tx, again)
            await failpoint("settle.applied")
            later = self.projector.kinds[position + 1 :]
            await add_marks(tx, [t for t in projected.followers if t.root.kind not in later])
            for root, part in projected.followers:
                if root.kind in later:
                    pending[root.kind].setdefault(root.id, set()).add(part)

    async def _defer(
        self, tx: Connection, kind: str, wanted: dict[str, set[str]], version: int
    ) -> None:
        """Mark roots; but those that the sweep has still to make whole need no mark.

        They are locked for that: whoever settles one of them sees what this transaction wrote.
        """
        rows = await tx.fetch(LOCK_ROOTS, kind, sorted(wanted))
        swept = {row["id"] for row in rows if row["reference_version"] < version}
        await add_marks(
            tx,
            [
                Touched(RootKey(kind, root_id), part)
                for root_id, parts in wanted.items()
                if root_id not in swept
                for part in parts
            ],
        )

    async def _mark_beyond(
        self, tx: Connection, kind: str, wanted: dict[str, set[str]], report: SettleReport
    ) -> None:
        """Leave to later transactions what is more than one should hold."""
        beyond = sorted(wanted)[DEFERRED_AT_ONCE:]
        marks = [(root_id, wanted.pop(root_id)) for root_id in beyond]
        report.left += len(marks)
        await add_marks(
            tx, [Touched(RootKey(kind, root_id), part) for root_id, of in marks for part in of]
        )

    async def _leave(
        self,
        tx: Connection,
        kind: str,
        wanted: dict[str, set[str]],
        roots: Sequence[LockedRoot],
        report: SettleReport,
    ) -> None:
        """Mark what another holds. A root taken up from its marks has no parts here: they stay."""
        held = {root.key.id for root in roots}
        left = [root_id for root_id in wanted if root_id not in held]
        report.left += len(left)
        await add_marks(
            tx,
            [Touched(RootKey(kind, root_id), part) for root_id in left for part in wanted[root_id]],
        )

    async def _lock(
        self,
        tx: Connection,
        kind: str,
        wanted: dict[str, set[str]],
        written: Mapping[tuple[str, str], Record],
        version: int,
    ) -> list[LockedRoot]:
        """Lock roots in byte order, creating absent ones; those another holds are skipped."""
        ids = sorted(wanted)
        rows = await tx.fetch(LOCK_ROOTS, kind, ids)
        found = {row["id"] for row in rows}
        missing = [root_id for root_id in ids if root_id not in found]
        if missing:
            created = await tx.fetch(
                # ON CONFLICT alone would wait for whoever holds a root that is there already.
                "INSERT INTO root (kind, id) SELECT $1, id FROM unnest($2::text[]) AS u(id) "
                "WHERE NOT EXISTS (SELECT FROM root r WHERE r.kind = $1 AND r.id = u.id) "
                "ON CONFLICT DO NOTHING "
                "RETURNING id, NULL AS contribution, reference_version, next_due",
                kind,
                missing,
            )
            rows = sorted([*rows, *created], key=lambda row: str(row["id"]))
        if not rows:
            return []
        parts = {row["id"]: set(wanted[row["id"]]) for row in rows}
        for root_id, part in await take_marks(tx, kind, list(parts)):
            parts[root_id].add(part)
        # No part at all: listed as waiting, and settled by somebody else before it was locked.
        return [
            LockedRoot(
                key=RootKey(kind, row["id"]),
                contribution=row["contribution"],
                parts=frozenset(parts[row["id"]]),
                reference_version=row["reference_version"],
                next_due=row["next_due"],
                record=written.get((kind, row["id"])),
                older=row["reference_version"] < version,
            )
            for row in rows
            if parts[row["id"]]
        ]

    async def _write(self, tx: Connection, settled: Sequence[Settled], version: int) -> None:
        changed = [
            s
            for s in settled
            if s.contribution != s.root.contribution
            or s.next_due != s.root.next_due
            or s.root.reference_version != version
        ]
        if not changed:
            return
        await tx.execute(
            """
            UPDATE root SET contribution = new.contribution::json, next_due = new.next_due,
                            reference_version = $5
            FROM unnest($1::text::text[], $2::text::text[], $3::text[], $4::text::timestamptz[])
                 AS new(kind, id, contribution, next_due)
            WHERE root.kind = new.kind AND root.id = new.id
            """,
            array_text([s.root.key.kind for s in changed]),
            array_text([s.root.key.id for s in changed]),
            [s.contribution for s in changed],
            array_text([s.next_due for s in changed]),
            version,
        )

    async def _reference_for(self, tx: Connection) -> tuple[R, int]:
        """Reference data, whose version cannot change before this transaction ends."""
        version, _ = made = await self._version(tx)
        if self._reference is None or made != self._reference_made:
            self._reference = await self.projector.load_reference(tx)
            self._reference_made = made
        return self._reference, version

    async def _version(self, tx: Connection) -> tuple[int, str]:
        """The version and the transaction that wrote it: one that rolls back reuses no number."""
        row = await tx.fetchrow(HOLD_VERSION)
        if row is None or row["code_version"] > self.projector.code_version:
            msg = "newer code has projected in this schema; stop this process and deploy that code"
            raise Misconfigured(msg)
        return int(row["version"]), row["xmin"]


async def sweep_when_settled(settler: Settler[R], pool: Pool) -> bool:
    """Make some of what older reference data made, once few live facts wait to be settled.

    Whether to look again at once. Few, and not none: under a steady stream there are always some.
    """
    waiting = await pool.fetchval(
        "SELECT count(*) FROM (SELECT FROM mark LIMIT $1) AS waiting", FEW_MARKS
    )
    if waiting == FEW_MARKS:
        return False
    return bool(await settler.sweep(pool))


async def raise_reference_version(tx: Connection) -> None:
    """Announce, within the transaction that changes reference data, that it changes.

    Waits for everybody who settles with the present data; whoever settles next sees the new data,
    and `sweep` finds the roots that the old data made.
    """
    await tx.execute("UPDATE reference_version SET version = version + 1")
