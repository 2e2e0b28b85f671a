"""Traces whose spans stay in this process, for tests."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.telemetry.otlp import sampler_of
from shared.telemetry.traces import Traces

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
NOT_SAMPLED = f"00-{TRACE}-{SPAN}-00"

MALFORMED = (
    "",
    "x",
    TRACE,
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE}-{SPAN}-01-extra",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-0x",
    "00-" + "f" * 10_000,
    "\N{SNOWMAN}" * 55,
    "canary; DROP TABLE trace_cause",
)
"""None of these is W3C trace context."""


def kept_traces(
    rule: str = "always_on", *, by_parent: bool = True
) -> tuple[Traces, InMemorySpanExporter]:
    """Traces that are on, and where their spans are kept."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(
        sampler=sampler_of(rule, 1.0, by_parent=by_parent), shutdown_on_exit=False
    )
    provider.add_span_processor(SimpleSpanProcessor(kept))
    return Traces(provider.get_tracer("test"), provider.shutdown), kept


def trace_of(span: ReadableSpan) -> str:
    """The span's trace, in hex."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def id_of(span: ReadableSpan) -> str:
    """The span's own id, in hex."""
    assert span.context is not None
    return f"{span.context.span_id:016x}"


def parent_of(span: ReadableSpan) -> str | None:
    """The span's parent, in hex; None for a root."""
    return None if span.parent is None else f"{span.parent.span_id:016x}"


def linked(span: ReadableSpan) -> Sequence[str]:
    """The traces that the span is linked to, in hex."""
    return [f"{link.context.trace_id:032x}" for link in span.links]
