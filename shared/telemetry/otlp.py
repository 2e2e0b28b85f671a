"""Sending spans to a collector: OpenTelemetry's SDK, loaded only where one is named."""

from __future__ import annotations

from collections.abc import Sequence

import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from shared.http.version import VERSION
from shared.telemetry.traces import Traces


class LinkedSampler(Sampler):
    """Records what is linked to something recorded; for the rest asks `others`.

    A batch of facts from several traces begins a trace of its own, which no fraction may drop:
    then the recorded traces would end there.
    """

    def __init__(self, others: Sampler) -> None:
        self._others = others

    def should_sample(  # noqa: PLR0913, PLR0917 - OpenTelemetry's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Whether to record a span."""
        root = not get_current_span(parent_context).get_span_context().is_valid
        if root and any(link.context.trace_flags.sampled for link in links or ()):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return self._others.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """For people."""
        return f"LinkedSampler{{{self._others.get_description()}}}"


def sampler_of(rule: str, fraction: float, *, by_parent: bool) -> Sampler:
    """The sampler of `sampling_of`'s answer."""
    if rule == "traceidratio":
        plain: Sampler = TraceIdRatioBased(fraction)
    else:
        plain = ALWAYS_ON if rule == "always_on" else ALWAYS_OFF
    return LinkedSampler(ParentBased(plain)) if by_parent else plain


def exporting_traces(service: str, rule: str, fraction: float, by_parent: bool) -> Traces:  # noqa: FBT001 - as `sampling_of` answers
    """Traces that go to the collector that OpenTelemetry's variables name.

    A thread of the SDK sends them in batches; when the collector does not take them they are
    dropped, and nothing here waits.
    """
    session = requests.Session()
    session.trust_env = False  # where data goes is decided by settings alone
    provider = TracerProvider(
        sampler=sampler_of(rule, fraction, by_parent=by_parent),
        resource=Resource.create(
            {
                "service.namespace": "attain",
                "service.name": f"attain-{service}",
                "service.version": VERSION,
            }
        ),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=session)))
    return Traces(provider.get_tracer("attain", VERSION), provider.shutdown)
