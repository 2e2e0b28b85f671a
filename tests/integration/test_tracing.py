"""Traces across transactions: what a batch notes, and who finds it later, on a real database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import pytest
import pytest_asyncio
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from shared.db.migrate import upgrade
from shared.db.pool import Connection, Pool, create_pool
from shared.db.roles import create_roles
from shared.events.catalogue import METRICS_SIGNALS, RECORD_KINDS
from shared.events.envelope import Envelope, decode, encode_data
from shared.facts.fact import read_fact
from shared.runtime.consume import Message
from shared.runtime.outbox import add_to_outbox
from shared.runtime.tracing import (
    MAX_TRACED,
    Effect,
    cause_of,
    prune_causes,
    publishing,
    trace_effects,
    traced_handler,
    traced_work,
)
from shared.telemetry.traces import Key, Traces
from tests.support.spans import (
    MALFORMED,
    NOT_SAMPLED,
    SAMPLED,
    TRACE,
    id_of,
    kept_traces,
    linked,
    parent_of,
    trace_of,
)

CANARY = "canary-deal-name"
OTHER = f"00-{'1' * 32}-{'2' * 16}-01"


@dataclass
class Scene:
    """A service's tables, and traces that are on."""

    pool: Pool
    traces: Traces
    kept: InMemorySpanExporter

    async def batch(self, *messages: Message, group: str = "test") -> None:
        """Handle a batch as a consumer does, with a handler that writes one signal."""

        async def handle(tx: Connection, taken: Sequence[Message]) -> None:
            del taken
            await add_to_outbox(tx, METRICS_SIGNALS, [signal("signal/1")])

        handler = traced_handler(self.traces, group, handle)
        async with self.pool.acquire() as tx, tx.transaction():
            await handler(tx, messages)

    async def outbox(self) -> list[Envelope]:
        """What waits to be published, in order."""
        rows = await self.pool.fetch("SELECT value FROM outbox ORDER BY id")
        return [decode(row["value"]) for row in rows]

    async def causes(self) -> int:
        """How many causes are noted."""
        return int(await self.pool.fetchval("SELECT count(*) FROM trace_cause"))


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def pool(database: str) -> AsyncIterator[Pool]:
    """Connections to the tables of one service."""
    await create_roles(database, {"notifications": f"pw-{secrets.token_hex(4)}"})
    await asyncio.to_thread(upgrade, "notifications", database)
    opened = await create_pool(database, schema="notifications", name="test", max_size=3)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def scene(pool: Pool) -> Scene:
    """Empty tables."""
    await pool.execute("TRUNCATE trace_cause, outbox")
    return Scene(pool, *kept_traces("always_off"))


def message(number: int, traceparent: str | None, kind: str = "deal", **said: str) -> Message:
    """A fact about a record of its own."""
    record = f"crm:t:{number}"
    envelope = Envelope(
        id=f"event-{number}",
        source="/crm",
        type=RECORD_KINDS[kind].type,
        subject=f"{kind}/{record}",
        time="2026-01-05T09:00:00.000Z",
        recordedtime="2026-01-05T09:00:00.000Z",
        sequence="0" * 35,
        traceparent=traceparent,
        data=encode_data({"name": CANARY} if kind == "deal" else said),
    )
    return Message(f"crm.{kind}", 0, number, envelope, read_fact(envelope))


def signal(subject: str) -> Envelope:
    """An event that a service writes."""
    return Envelope(
        id=f"about-{subject}",
        source="/attain/metrics",
        type="attain.signal.v1",
        subject=subject,
        time="2026-01-05T09:00:00.000Z",
        recordedtime="2026-01-05T09:00:00.000Z",
        sequence="0" * 35,
    )


async def test_the_only_recorded_trace_goes_on_in_the_batch(scene: Scene) -> None:
    await scene.batch(message(1, SAMPLED), message(2, NOT_SAMPLED), message(3, None))
    (span,) = scene.kept.get_finished_spans()
    assert span.name == "process test"
    assert (trace_of(span), linked(span)) == (TRACE, [TRACE])
    assert (span.attributes or {})[Key.MESSAGES] == 3
    assert (span.attributes or {})[Key.TRACED] == 1
    assert CANARY not in span.to_json()
    (event,) = await scene.outbox()
    assert event.traceparent == f"00-{TRACE}-{id_of(span)}-01"


async def test_several_traces_are_linked_from_one_that_is_recorded_too(scene: Scene) -> None:
    await scene.batch(message(1, SAMPLED), message(2, OTHER), message(3, SAMPLED))
    (span,) = scene.kept.get_finished_spans()
    assert linked(span) == [TRACE, "1" * 32]
    assert parent_of(span) is None
    assert trace_of(span) not in linked(span)


async def test_links_are_bounded(scene: Scene) -> None:
    many = [message(n, f"00-{n + 1:032x}-{'2' * 16}-01") for n in range(MAX_TRACED + 10)]
    await scene.batch(*many)
    (span,) = scene.kept.get_finished_spans()
    assert len(linked(span)) == MAX_TRACED == await scene.causes()


async def test_nothing_recorded_leaves_nothing(scene: Scene) -> None:
    given = [NOT_SAMPLED, None, *MALFORMED]
    await scene.batch(*(message(n, header) for n, header in enumerate(given)))
    assert scene.kept.get_finished_spans() == ()
    assert await scene.causes() == 0
    assert [event.traceparent for event in await scene.outbox()] == [None]


async def test_a_handler_that_fails_is_told_by_its_type(scene: Scene) -> None:
    async def fails(tx: Connection, messages: Sequence[Message]) -> None:
        del tx, messages
        raise ValueError(CANARY)

    handler = traced_handler(scene.traces, "test", fails)
    with pytest.raises(ValueError, match=CANARY):
        async with scene.pool.acquire() as tx, tx.transaction():
            await handler(tx, [message(1, SAMPLED)])
    (span,) = scene.kept.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert CANARY not in span.to_json()
    assert await scene.causes() == 0  # as everything else of the batch


async def test_a_later_tick_finds_its_causes_by_subject_and_by_event(scene: Scene) -> None:
    await scene.batch(message(1, SAMPLED), message(2, OTHER, kind="activity", deal="crm:t:7"))
    scene.kept.clear()

    async def tick() -> None:
        async with scene.pool.acquire() as tx, tx.transaction():
            subjects = ("deal/crm:t:1", "deal/crm:t:7", "deal/crm:t:8")
            await add_to_outbox(tx, METRICS_SIGNALS, [signal(subject) for subject in subjects])
            await trace_effects(
                tx,
                "post",
                [
                    Effect(["event-1", "event-2", "unknown"], {Key.TRANSACTION: "both"}),
                    Effect(["unknown"], {Key.TRANSACTION: "none"}),
                ],
            )

    await traced_work(scene.traces, tick)()
    created = [span for span in scene.kept.get_finished_spans() if span.name != "post"]
    (post,) = [span for span in scene.kept.get_finished_spans() if span.name == "post"]
    assert [trace_of(span) for span in created] == [TRACE, "1" * 32]
    assert {trace_of(post), *linked(post)} == {TRACE, "1" * 32}
    assert (post.attributes or {})[Key.TRANSACTION] == "both"
    _, *events = await scene.outbox()
    assert [event.traceparent for event in events] == [
        *(f"00-{trace_of(span)}-{id_of(span)}-01" for span in created),
        None,
    ]
    # Outside of what is traced, nobody looks.
    async with scene.pool.acquire() as tx, tx.transaction():
        await add_to_outbox(tx, METRICS_SIGNALS, [signal("deal/crm:t:1")])
    assert (await scene.outbox())[-1].traceparent is None


async def test_the_relay_shows_what_it_publishes_of_recorded_traces(scene: Scene) -> None:
    await scene.batch(message(1, SAMPLED))
    async with scene.pool.acquire() as tx, tx.transaction():
        await add_to_outbox(
            tx,
            METRICS_SIGNALS,
            [
                msgspec.structs.replace(signal("a/1"), traceparent=MALFORMED[-1]),
                msgspec.structs.replace(signal("a/2"), traceparent=NOT_SAMPLED),
                msgspec.structs.replace(
                    signal("a/3"), data=encode_data({"traceparent": SAMPLED, "name": CANARY})
                ),
            ],
        )
    scene.kept.clear()
    rows = await scene.pool.fetch("SELECT topic, value FROM outbox ORDER BY id")
    with publishing(scene.traces, rows):
        assert scene.kept.get_finished_spans() == ()
    (span,) = scene.kept.get_finished_spans()
    assert (span.name, trace_of(span)) == (f"publish {METRICS_SIGNALS}", TRACE)


async def test_old_causes_are_forgotten(scene: Scene) -> None:
    await scene.batch(message(1, SAMPLED), message(2, OTHER))
    await scene.pool.execute(
        "UPDATE trace_cause SET noted_at = $1 WHERE event_id = 'event-1'",
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    await prune_causes(scene.pool)
    async with scene.pool.acquire() as tx:
        assert await cause_of(tx, "deal/crm:t:1") is None
        assert await cause_of(tx, "deal/crm:t:2") is not None
