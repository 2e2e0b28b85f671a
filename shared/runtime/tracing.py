"""Traces across what waits: from a fact to what it causes in a later transaction or process.

An event carries the place of its cause in a trace as `traceparent`. A batch with recorded traces
is one span, linked to all of them, and notes in `trace_cause` which event and which subject each
trace is about. What follows later looks its cause up there: a settled account by the events that
it posts for, a judged or delivered subject by its name. With traces off none of this runs: the
handlers are handed back as they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
from opentelemetry.trace import Span, SpanContext, SpanKind

from shared.facts.fact import Fact
from shared.runtime.ticks import Periodic
from shared.telemetry.traces import (
    Key,
    Traces,
    Value,
    current_traceparent,
    failed,
    sampled_context,
    traceparent_of,
)

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection, Pool
    from shared.events.envelope import Envelope
    from shared.runtime.consume import Handler, Message
    from shared.runtime.lifecycle import Task

MAX_TRACED = 128
"""Of one batch, so many recorded facts are followed on; of more, the first."""

KEEP_CAUSES = "15 minutes"
"""What waits longer than this goes on without a trace."""

PRUNE_INTERVAL_S = 60.0

_KAFKA: Mapping[Key, Value] = {Key.SYSTEM: "kafka"}

T = TypeVar("T")

_working: ContextVar[Traces | None] = ContextVar("attain_traces_at_work", default=None)
"""The traces of the batch or tick that this task works on; None while traces are off."""


class Effect(NamedTuple):
    """Something that events caused: by which of them, and what is to be said of it."""

    event_ids: Sequence[str]
    attributes: Mapping[Key, Value]


class _Cause(NamedTuple):
    event_id: str
    subjects: Sequence[str]
    traceparent: str
    context: SpanContext


# ---- batches and ticks ----------------------------------------------------------------------


def traced_handler(traces: Traces, group: str, handler: Handler) -> Handler:
    """`handler` inside a span for each batch that holds facts of recorded traces.

    The only recorded fact's trace goes on in that span; several are linked from a trace of its
    own. The span ends when the handler has, before the commit.
    """
    if not traces.on:
        return handler

    async def handle(tx: Connection, messages: Sequence[Message]) -> None:
        causes = _recorded(messages)
        with _at_work(traces):
            if not causes:
                await handler(tx, messages)
                return
            await _note(tx, causes)
            contexts = list({cause.traceparent: cause.context for cause in causes}.values())
            with traces.span(
                f"process {group}",
                SpanKind.CONSUMER,
                parent=contexts[0] if len(contexts) == 1 else None,
                links=contexts,
                attributes={
                    **_KAFKA,
                    Key.GROUP: group,
                    Key.MESSAGES: len(messages),
                    Key.TRACED: len(causes),
                },
            ):
                await handler(tx, messages)

    return handle


def traced_work(traces: Traces, work: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """`work` of a tick, whose events and effects go on in the traces of their causes."""
    if not traces.on:
        return work

    async def worked() -> T:
        with _at_work(traces):
            return await work()

    return worked


def trace_tasks(traces: Traces, pool: Pool) -> dict[str, Task]:
    """What a process that follows traces does besides: it forgets causes of long ago."""
    if not traces.on:
        return {}
    return {"traces": Periodic("traces", PRUNE_INTERVAL_S, partial(prune_causes, pool)).run}


async def prune_causes(pool: Pool) -> None:
    """Forget which traces were about what long ago."""
    await pool.execute(
        f"DELETE FROM trace_cause WHERE noted_at < now() - interval '{KEEP_CAUSES}'"  # noqa: S608 - a constant
    )


@contextmanager
def _at_work(traces: Traces) -> Iterator[None]:
    token = _working.set(traces)
    try:
        yield
    finally:
        _working.reset(token)


def _recorded(messages: Iterable[Message]) -> list[_Cause]:
    causes: list[_Cause] = []
    for message in messages:
        envelope = message.envelope
        if envelope.traceparent is None:
            continue
        context = sampled_context(envelope.traceparent)
        if context is None:
            continue
        subjects = [envelope.subject]
        if isinstance(message.body, Fact) and (deal := message.body.fields.get("deal")):
            subjects.append(f"deal/{deal}")  # what an activity or an invoice is about
        causes.append(_Cause(envelope.id, subjects, envelope.traceparent, context))
        if len(causes) == MAX_TRACED:
            break
    return causes


async def _note(tx: Connection, causes: Sequence[_Cause]) -> None:
    rows = [
        (cause.event_id, subject, cause.traceparent)
        for cause in causes
        for subject in cause.subjects
    ]
    await tx.execute(
        "INSERT INTO trace_cause (event_id, subject, traceparent) "
        "SELECT * FROM unnest($1::text[], $2::text[], $3::text[])",
        *(list(column) for column in zip(*rows, strict=True)),
    )


# ---- what follows ---------------------------------------------------------------------------


async def cause_of(tx: Connection, subject: str) -> SpanContext | None:
    """Where the newest trace about `subject` stands; None for none that is recorded and recent."""
    return (await _causes(tx, [subject])).get(subject)


async def _causes(tx: Connection, subjects: Iterable[str]) -> dict[str, SpanContext]:
    rows = await tx.fetch(
        "SELECT DISTINCT ON (subject) subject, traceparent FROM trace_cause "
        "WHERE subject = ANY($1::text[]) ORDER BY subject, number DESC",
        sorted(set(subjects)),
    )
    found = {row["subject"]: sampled_context(row["traceparent"]) for row in rows}
    return {subject: context for subject, context in found.items() if context is not None}


async def trace_effects(tx: Connection, name: str, effects: Sequence[Effect]) -> None:
    """A span for each effect that an event of a recorded trace has caused, in that trace.

    An effect of several traces is a span of the newest and linked to the others.
    """
    traces = _working.get()
    if traces is None or not effects:
        return
    wanted = {event_id for effect in effects for event_id in effect.event_ids}
    rows = await tx.fetch(
        "SELECT event_id, traceparent FROM trace_cause WHERE event_id = ANY($1::text[]) "
        "ORDER BY number DESC LIMIT $2",
        sorted(wanted),
        MAX_TRACED,
    )
    for effect in effects:
        own = set(effect.event_ids)
        said = dict.fromkeys(row["traceparent"] for row in rows if row["event_id"] in own)
        contexts = [c for c in map(sampled_context, said) if c is not None]
        if contexts:
            with traces.span(
                name, parent=contexts[0], links=contexts[1:], attributes=effect.attributes
            ):
                pass


async def carry_on(tx: Connection, topic: str, events: Sequence[Envelope]) -> Sequence[Envelope]:
    """`events` for the outbox, each with its place in the trace of what caused it, if recorded.

    That is the newest trace about the event's subject, or else the span of this task.
    """
    here = current_traceparent()
    traces = _working.get()
    if traces is None:
        return events if here is None else [_placed(event, here) for event in events]
    causes = await _causes(tx, (event.subject for event in events))
    carried: list[Envelope] = []
    for event in events:
        context = causes.get(event.subject)
        if context is None:
            carried.append(_placed(event, here))
            continue
        with traces.span(
            f"create {topic}",
            SpanKind.PRODUCER,
            parent=context,
            attributes={**_KAFKA, Key.DESTINATION: topic, Key.EVENT_ID: event.id},
        ) as span:
            carried.append(_placed(event, traceparent_of(span.get_span_context())))
    return carried


def _placed(event: Envelope, traceparent: str | None) -> Envelope:
    if traceparent is None or event.traceparent is not None:
        return event
    return msgspec.structs.replace(event, traceparent=traceparent)


def carries_on() -> bool:
    """Whether events of this task may belong to a trace; cheap, and False while traces are off."""
    return _working.get() is not None or current_traceparent() is not None


# ---- the relay ------------------------------------------------------------------------------


class _Traced(msgspec.Struct):
    """What the relay reads of an event, if it may carry a trace at all."""

    traceparent: str | None = None


_traced = msgspec.json.Decoder(_Traced)
_MARK = b'"traceparent":'


@contextmanager
def publishing(traces: Traces, rows: Sequence[asyncpg.Record]) -> Iterator[None]:
    """Around the sending of outbox rows: a span for each whose event is in a recorded trace."""
    if not traces.on:
        yield
        return
    spans: list[Span] = []
    for row in rows:
        if _MARK not in row["value"] or len(spans) == MAX_TRACED:
            continue
        context = sampled_context(_traced.decode(row["value"]).traceparent)
        if context is not None:
            spans.append(
                traces.begin(
                    f"publish {row['topic']}",
                    SpanKind.PRODUCER,
                    parent=context,
                    attributes={**_KAFKA, Key.DESTINATION: row["topic"]},
                )
            )
    try:
        yield
    except BaseException as error:
        for span in spans:
            failed(span, type(error).__qualname__)
        raise
    finally:
        for span in spans:
            span.end()
