"""Traces: what one request caused, followed through every process as W3C trace context.

Off unless a collector is named, by OpenTelemetry's own variables; then nothing is parsed, kept or
sent, and OpenTelemetry's SDK is not even loaded. On, a span says where time went. Its attributes
are those of `Key` and hold ids, counts and closed sets: no names, amounts, queries or messages of
errors.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from enum import StrEnum
from typing import NamedTuple, TypeAlias
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import Misconfigured
from shared.telemetry.logs import bound

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SAMPLER = "OTEL_TRACES_SAMPLER"
SAMPLER_ARGUMENT = "OTEL_TRACES_SAMPLER_ARG"
VARIABLES: Mapping[str, str] = {
    ENDPOINT: "URL of a collector that takes OTLP over HTTP, like `http://collector:4318`; without "
    "it nothing is traced",
    SAMPLER: "which traces are recorded where the caller did not say: `parentbased_always_on` "
    "(the default), `parentbased_traceidratio`, `parentbased_always_off`, or the three without "
    "`parentbased_`, which do not listen to the caller",
    SAMPLER_ARGUMENT: "for `…traceidratio`: the fraction of traces, from 0 to 1 (the default)",
}
"""What is read here; the rest of OpenTelemetry's `OTEL_EXPORTER_OTLP_*`, `OTEL_BSP_*` and
`OTEL_RESOURCE_ATTRIBUTES` are read by its SDK."""

_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP = "http/protobuf"
_SAMPLERS = ("always_on", "always_off", "traceidratio")
_PARENT_BASED = "parentbased_"

CLOSE_TIMEOUT_S = 3.0
"""How long a stopping process waits for a collector to take the last spans."""

Value: TypeAlias = "str | int | bool"


class Key(StrEnum):
    """Every attribute that a span may have."""

    METHOD = "http.request.method"
    ROUTE = "http.route"
    STATUS = "http.response.status_code"
    ERROR = "error.type"
    SYSTEM = "messaging.system"
    DESTINATION = "messaging.destination.name"
    GROUP = "messaging.consumer.group.name"
    MESSAGES = "messaging.batch.message_count"
    REQUEST_ID = "attain.request_id"
    EVENT_ID = "attain.event_id"
    TRACED = "attain.traced_messages"
    KEPT = "attain.kept"
    TRANSACTION = "attain.ledger_transaction"
    DELIVERY = "attain.delivery"
    CHANNEL = "attain.channel"
    VERDICT = "attain.verdict"


class _Here(NamedTuple):
    """The innermost span of this task."""

    traces: Traces
    context: SpanContext


_here: ContextVar[_Here | None] = ContextVar("attain_span", default=None)
_propagator = TraceContextTextMapPropagator()


class Traces:
    """The spans of one process; built in wiring and passed down, as its metrics are.

    tracer: None records nothing. close: sends what is left, blocking.
    """

    def __init__(
        self, tracer: Tracer | None = None, close: Callable[[], object] | None = None
    ) -> None:
        self._tracer = tracer
        self._close = close
        self.on = tracer is not None

    @contextmanager
    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: SpanContext | None = None,
        links: Sequence[SpanContext] = (),
        attributes: Mapping[Key, Value] | None = None,
    ) -> Iterator[Span]:
        """A span around what is inside; its ids are in every line that is logged there.

        parent: None continues the span of this task, or else begins a trace. An error that leaves
        it is recorded by its type alone: messages of errors may repeat what was given.
        """
        if self._tracer is None:
            yield INVALID_SPAN
            return
        span = self.begin(name, kind, parent=parent, links=links, attributes=attributes)
        context = span.get_span_context()
        token = _here.set(_Here(self, context))
        try:
            with bound(
                trace_id=format_trace_id(context.trace_id), span_id=format_span_id(context.span_id)
            ):
                yield span
        except BaseException as error:
            failed(span, type(error).__qualname__)
            raise
        finally:
            _here.reset(token)
            span.end()

    def begin(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: SpanContext | None = None,
        links: Sequence[SpanContext] = (),
        attributes: Mapping[Key, Value] | None = None,
    ) -> Span:
        """A span that its caller ends, and that is nobody's parent by itself."""
        if self._tracer is None:
            return INVALID_SPAN
        if parent is None and (here := _here.get()) is not None:
            parent = here.context
        context = Context()
        if parent is not None:
            context = set_span_in_context(NonRecordingSpan(parent), context)
        return self._tracer.start_span(
            name,
            context=context,
            kind=kind,
            attributes=None if attributes is None else {str(k): v for k, v in attributes.items()},
            links=[Link(linked) for linked in links],
            record_exception=False,
        )

    async def close(self) -> None:
        """Send what is left, for a bounded while; nothing is recorded after."""
        if self._close is None:
            return
        # A thread that nobody waits for at the interpreter's end: a collector may hang.
        closing = threading.Thread(target=self._close, name="traces-close", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_TIMEOUT_S)


NO_TRACES = Traces()
"""Records nothing."""
_NO_SPAN = nullcontext(INVALID_SPAN)


def traces_of(service: str, environment: Mapping[str, str] | None = None) -> Traces:
    """The traces of a process of `service`, as OpenTelemetry's variables say.

    Raises Misconfigured for an address, protocol or sampler that could not work.
    """
    told = os.environ if environment is None else environment
    if not is_wanted(told):
        return NO_TRACES
    from shared.telemetry.otlp import exporting_traces  # noqa: PLC0415 - 0.2 s, if wanted only

    return exporting_traces(service, *sampling_of(told))


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether a collector is named. Raises Misconfigured when it is named wrongly."""
    endpoints = [name for name in (_TRACES_ENDPOINT, ENDPOINT) if environment.get(name)]
    if (
        not endpoints
        or environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environment.get("OTEL_TRACES_EXPORTER", "") == "none"
    ):
        return False
    parts = urlsplit(environment[endpoints[0]])
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"{endpoints[0]} must be a URL like http://collector:4318"
        raise Misconfigured(msg)
    for name in _PROTOCOLS:
        if environment.get(name, _HTTP) not in {"", _HTTP}:
            msg = f"{name}: only {_HTTP} is spoken here"
            raise Misconfigured(msg)
    return True


def sampling_of(environment: Mapping[str, str]) -> tuple[str, float, bool]:
    """How traces are chosen: by which rule, at which fraction, and whether callers are heard.

    Raises Misconfigured: a misspelt rule would record everything.
    """
    stated = environment.get(SAMPLER) or f"{_PARENT_BASED}always_on"
    rule = stated.removeprefix(_PARENT_BASED)
    if rule not in _SAMPLERS:
        msg = f"{SAMPLER} must be one of {', '.join(_SAMPLERS)}, with {_PARENT_BASED} or without"
        raise Misconfigured(msg)
    try:
        fraction = float(environment.get(SAMPLER_ARGUMENT) or 1)
    except ValueError:
        fraction = -1
    if not 0 <= fraction <= 1:
        msg = f"{SAMPLER_ARGUMENT} must be a fraction from 0 to 1"
        raise Misconfigured(msg)
    return rule, fraction, stated != rule


def child_span(name: str, kind: SpanKind = SpanKind.INTERNAL) -> AbstractContextManager[Span]:
    """A span inside that of this task; none where there is none."""
    here = _here.get()
    return _NO_SPAN if here is None else here.traces.span(name, kind)


def failed(span: Span, error: str) -> None:
    """Mark `span` as failed. error: a type or a code, never a message."""
    span.set_attribute(Key.ERROR, error)
    span.set_status(StatusCode.ERROR)


def context_of(traceparent: str | None, tracestate: str | None = None) -> SpanContext | None:
    """The place in a trace that these headers name; None for absent or malformed ones."""
    if not traceparent:
        return None
    carrier = {TRACEPARENT: traceparent}
    if tracestate:
        carrier[TRACESTATE] = tracestate
    context = get_current_span(_propagator.extract(carrier, Context())).get_span_context()
    return context if context.is_valid else None


def sampled_context(traceparent: str | None) -> SpanContext | None:
    """The place in a trace that is recorded; None for all others."""
    context = context_of(traceparent)
    return context if context is not None and context.trace_flags.sampled else None


def traceparent_of(context: SpanContext) -> str | None:
    """The header that names this place; None where the trace is not recorded."""
    if not (context.is_valid and context.trace_flags.sampled):
        return None
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, set_span_in_context(NonRecordingSpan(context), Context()))
    return carrier[TRACEPARENT]


def current_traceparent() -> str | None:
    """The header that names this task's span; None without one that is recorded."""
    here = _here.get()
    return None if here is None else traceparent_of(here.context)
