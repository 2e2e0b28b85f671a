"""Deliberately broken variants of the core. Each must be caught by the scenario it names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import asyncpg

from shared.db.pool import Connection
from shared.facts import settle
from shared.facts.settle import LockedRoot, Settled, Settler
from shared.runtime import consume, relay
from shared.runtime.consume import Consumer, Message
from tests.chaos import interleavings
from tests.chaos.interleavings import Ground

Plant = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """A broken variant, what is wrong with it, and the scenario that must notice."""

    name: str
    fault: str
    plant: Plant
    scenario: Callable[[Ground], Awaitable[None]]


@contextmanager
def _no_fence() -> Iterator[None]:
    async def move(self: Consumer, tx: Connection, batch: Mapping[Any, Any]) -> None:
        """Positions are written without asking whose they are, once all is done."""

    with patch.object(Consumer, "_move_positions", move):
        yield


@contextmanager
def _no_epoch() -> Iterator[None]:
    genuine = Consumer._move_positions

    async def move(self: Consumer, tx: Connection, batch: Mapping[Any, Any]) -> None:
        for tp in sorted(batch):
            row = await tx.fetchrow(
                "SELECT epoch, next_offset FROM consumer_offset "
                "WHERE consumer_group = $1 AND topic = $2 AND partition = $3",
                self.group,
                self._plain(tp.topic),
                tp.partition,
            )
            assert row is not None
            self._claims[tp] = consume._Claim(row["epoch"], row["next_offset"])
        await genuine(self, tx, batch)

    with patch.object(Consumer, "_move_positions", move):
        yield


@contextmanager
def _no_root_lock() -> Iterator[None]:
    unlocked = settle.LOCK_ROOTS.replace("FOR UPDATE SKIP LOCKED", "")
    with patch.object(settle, "LOCK_ROOTS", unlocked):
        yield


@contextmanager
def _stored_contribution_ignored() -> Iterator[None]:
    genuine = Settler._lock

    async def lock(self: Settler[Any], *given: object) -> list[LockedRoot]:
        return [replace(root, contribution=None) for root in await genuine(self, *given)]  # type: ignore[arg-type] # passed on as it came

    with patch.object(Settler, "_lock", lock):
        yield


@contextmanager
def _marks_removed_at_the_end() -> Iterator[None]:
    genuine = Settler._write

    async def keep(_tx: Connection, _kind: str, root_ids: list[str]) -> list[tuple[str, str]]:
        return [(root_id, "") for root_id in root_ids]

    async def write(
        self: Settler[Any], tx: Connection, settled: Sequence[Settled], version: int
    ) -> None:
        await genuine(self, tx, settled, version)
        await tx.execute(
            "DELETE FROM mark WHERE root_id = ANY($1)", [s.root.key.id for s in settled]
        )

    with patch.object(settle, "take_marks", keep), patch.object(Settler, "_write", write):
        yield


@contextmanager
def _left_roots_forgotten() -> Iterator[None]:
    async def forget(self: Settler[Any], *_given: object) -> None:
        """Roots that another worker holds are nobody's business."""

    with patch.object(Settler, "_leave", forget):
        yield


@contextmanager
def _reference_version_not_held() -> Iterator[None]:
    genuine = Settler._write

    async def write(
        self: Settler[Any], tx: Connection, settled: Sequence[Settled], _version: int
    ) -> None:
        now = await tx.fetchval("SELECT version FROM reference_version")
        await genuine(self, tx, settled, now)

    unheld = settle.HOLD_VERSION.replace("FOR SHARE", "")
    with patch.object(settle, "HOLD_VERSION", unheld), patch.object(Settler, "_write", write):
        yield


@contextmanager
def _positions_first() -> Iterator[None]:
    genuine = Consumer._move_positions

    async def move(self: Consumer, _tx: Connection, batch: Mapping[Any, Any]) -> None:
        async with self.pool.acquire() as apart, apart.transaction():
            await genuine(self, apart, batch)

    with patch.object(Consumer, "_move_positions", move):
        yield


@contextmanager
def _database_error_swallowed() -> Iterator[None]:
    genuine = Consumer._transact

    async def transact(self: Consumer, *given: object) -> None:
        handler = self.handler

        async def quiet(tx: Connection, messages: Sequence[Message]) -> None:
            try:
                await handler(tx, messages)
            except asyncpg.PostgresError:
                return

        self.handler = quiet
        try:
            await genuine(self, *given)  # type: ignore[arg-type] # passed on as it came
        finally:
            self.handler = handler

    with patch.object(Consumer, "_transact", transact):
        yield


@contextmanager
def _cursor_outbox() -> Iterator[None]:
    above = relay.UNPUBLISHED.replace(
        "published_at IS NULL",
        "id > coalesce((SELECT max(id) FROM outbox WHERE published_at IS NOT NULL), 0)",
    )
    with patch.object(relay, "UNPUBLISHED", above):
        yield


PLANTED: tuple[PlantedBug, ...] = (
    PlantedBug(
        "no fence",
        "positions do not guard the batch",
        _no_fence,
        interleavings.takeover_while_folding,
    ),
    PlantedBug(
        "no epoch",
        "a worker takes over whatever position it finds",
        _no_epoch,
        interleavings.overtaken_before_the_batch,
    ),
    PlantedBug(
        "no root lock",
        "two workers project one root at once",
        _no_root_lock,
        interleavings.two_workers_on_one_root,
    ),
    PlantedBug(
        "stored contribution ignored",
        "the whole is added where the difference should be",
        _stored_contribution_ignored,
        interleavings.same_root_twice,
    ),
    PlantedBug(
        "marks removed at the end",
        "a mark made meanwhile is removed unread",
        _marks_removed_at_the_end,
        interleavings.change_while_settling,
    ),
    PlantedBug(
        "left roots forgotten",
        "what another worker holds is not marked",
        _left_roots_forgotten,
        interleavings.change_while_settling,
    ),
    PlantedBug(
        "reference version not held",
        "reference data changes while it is being used",
        _reference_version_not_held,
        interleavings.reference_changes_while_settling,
    ),
    PlantedBug(
        "positions first",
        "the position is committed before the effect",
        _positions_first,
        interleavings.failure_after_handling,
    ),
    PlantedBug(
        "database error swallowed",
        "a failed statement is caught, and COMMIT rolls back in silence",
        _database_error_swallowed,
        interleavings.one_refused_record,
    ),
    PlantedBug(
        "cursor outbox",
        "the relay remembers the highest id it sent",
        _cursor_outbox,
        interleavings.late_commit_in_the_outbox,
    ),
)
