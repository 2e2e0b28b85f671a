"""Deliberately broken variants of the core. Each must be caught by the scenario it names."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import asyncpg

from services.commissions.closing import checklist, close
from services.commissions.domain import exchange
from services.commissions.domain.exchange import RateRow
from services.ingest.publisher import KafkaLane
from shared.db.pool import Connection
from shared.facts import settle
from shared.facts.record import Record, Statement
from shared.facts.settle import LockedRoot, Settled, Settler
from shared.money import quantise
from shared.runtime import relay
from shared.runtime.consume import Consumer, Message
from shared.runtime.failpoints import failpoint
from shared.runtime.positions import Claim
from shared.runtime.relay import Relay
from tests.chaos import interleavings, promises
from tests.chaos.interleavings import Ground

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

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
            self._claims[tp] = Claim(row["epoch"], row["next_offset"])
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


@contextmanager
def _marked_before_it_is_sent() -> Iterator[None]:
    async def publish(self: Relay, connection: Connection, producer: AIOKafkaProducer) -> int:
        rows = await connection.fetch(relay.UNPUBLISHED, relay.BATCH_ROWS)
        await connection.execute(
            "UPDATE outbox SET published_at = now() WHERE id = ANY($1::bigint[])",
            [row["id"] for row in rows],
        )
        if rows:
            await failpoint("relay.read")
        for row in rows:
            await producer.send_and_wait(
                self.topic_prefix + row["topic"], key=row["key"], value=row["value"]
            )
        return len(rows)

    with patch.object(Relay, "_publish", publish):
        yield


@contextmanager
def _acknowledged_before_kafka() -> Iterator[None]:
    genuine = KafkaLane.send
    sending: set[asyncio.Task[bool]] = set()

    async def send(self: KafkaLane, messages: Sequence[Any]) -> bool:
        if not self.is_open:
            return False
        sending.add(asyncio.create_task(genuine(self, messages)))
        await asyncio.sleep(0)
        return True

    with patch.object(KafkaLane, "send", send):
        yield


@contextmanager
def _summarising_fold() -> Iterator[None]:
    genuine = Record._keep

    def keep(self: Record, name: str, said: Statement) -> bool:
        before = [known for known in self.history.get(name, ()) if known.rank < said.rank]
        if before and before[-1].value == said.value:
            return False
        return genuine(self, name, said)

    with patch.object(Record, "_keep", keep):
        yield


@contextmanager
def _unsealed_duplicate() -> Iterator[None]:
    def keep(self: Record, name: str, said: Statement) -> bool:
        insort(self.history.setdefault(name, []), said, key=lambda known: known.rank)
        return True

    with patch.object(Record, "_keep", keep):
        yield


@contextmanager
def _float_in_a_rate() -> Iterator[None]:
    def multiply(amount: Decimal, row: RateRow) -> Decimal:
        return quantise(Decimal(float(amount) * float(row.rate)))

    with patch.object(exchange, "converted", multiply):
        yield


@contextmanager
def _close_without_log_ends() -> Iterator[None]:
    async def passed(*_given: object) -> bool:
        return True

    with patch.object(close, "_has_passed", passed):
        yield


@contextmanager
def _close_without_marks() -> Iterator[None]:
    async def quiet(_tx: object) -> bool:
        return True

    with patch.object(close, "is_quiet", quiet), patch.object(checklist, "is_quiet", quiet):
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
    PlantedBug(
        "marked before it is sent",
        "the relay marks a row as published before Kafka has it",
        _marked_before_it_is_sent,
        promises.relay_dies_before_it_sends,
    ),
    PlantedBug(
        "acknowledged before Kafka",
        "ingest answers before the broker has acknowledged",
        _acknowledged_before_kafka,
        promises.broker_goes_silent,
    ),
    PlantedBug(
        "summarising fold",
        "the fold keeps changes of a value and not what was said",
        _summarising_fold,
        promises.facts_in_every_order,
    ),
    PlantedBug(
        "unsealed duplicate",
        "a repeated fact is not known again",
        _unsealed_duplicate,
        promises.the_same_fact_again,
    ),
    PlantedBug(
        "float in a rate",
        "an exchange rate goes through a binary fraction",
        _float_in_a_rate,
        promises.an_amount_at_a_rate,
    ),
    PlantedBug(
        "close without waiting",
        "a close does not wait until the log is read to its end",
        _close_without_log_ends,
        promises.close_with_facts_on_the_log,
    ),
    PlantedBug(
        "close with marks",
        "a close does not wait until every root is settled",
        _close_without_marks,
        promises.close_with_a_mark_waiting,
    ),
)

BUGS: Mapping[str, PlantedBug] = {bug.name: bug for bug in PLANTED}
"""Every planted bug by its name."""


async def caught(bug: PlantedBug, *, url: str, bootstrap: str, prefix: str) -> bool:
    """Plant `bug` and run its scenario; whether the scenario noticed.

    url: an administrator's, of a database whose schemas `paid_deals` and `commissions` may be
    dropped. prefix: of topics that nobody else uses; one of its own for each call.
    """
    async with interleavings.ground(url, bootstrap, prefix) as on:
        try:
            with bug.plant():
                await bug.scenario(on)
        except AssertionError:
            return True
    return False
