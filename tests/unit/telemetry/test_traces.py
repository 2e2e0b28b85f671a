"""Traces are off by default and then cost nothing; on, they hold no more than they should."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable

import httpx
import pytest
from opentelemetry.trace import INVALID_SPAN, SpanKind, StatusCode
from starlette.types import ASGIApp, Receive, Scope, Send

from services.ingest.publisher import message_of
from shared.errors import Misconfigured
from shared.events.envelope import Envelope, decode, encode_data
from shared.facts.fact import read_fact
from shared.http.client import create_client
from shared.http.middleware import Limits, RequestLayer
from shared.runtime.tracing import carries_on, publishing, trace_tasks, traced_handler, traced_work
from shared.telemetry.catalogue import Telemetry
from shared.telemetry.logs import logger
from shared.telemetry.traces import (
    ENDPOINT,
    NO_TRACES,
    SAMPLER,
    SAMPLER_ARGUMENT,
    Key,
    child_span,
    context_of,
    current_traceparent,
    is_wanted,
    sampled_context,
    sampling_of,
    traceparent_of,
    traces_of,
)
from tests.support.spans import (
    MALFORMED,
    NOT_SAMPLED,
    SAMPLED,
    SPAN,
    TRACE,
    id_of,
    kept_traces,
    parent_of,
    trace_of,
)
from tests.unit.telemetry.test_telemetry import logged

CANARY = "canary-7d1f"
HERE = {ENDPOINT: "http://127.0.0.1:4318"}


def fact(traceparent: str | None = None) -> Envelope:
    """What a CRM said of a deal."""
    return Envelope(
        id="e1",
        source="/crm",
        type="attain.deal.v1",
        subject="deal/hubspot:4821:307",
        time="2026-01-05T09:00:00.000Z",
        recordedtime="2026-01-05T09:00:00.000Z",
        sequence="0" * 35,
        traceparent=traceparent,
        data=encode_data({"name": CANARY}),
    )


# ---- off --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {ENDPOINT: ""},
        {**HERE, "OTEL_SDK_DISABLED": "true"},
        {**HERE, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_traced_unless_a_collector_is_named(environment: dict[str, str]) -> None:
    assert traces_of("metrics", environment) is NO_TRACES
    assert not NO_TRACES.on


async def test_off_means_no_span_no_attribute_and_nothing_in_between() -> None:
    async def handler(*_: object) -> None:
        """Handle nothing."""

    async def work() -> None:
        """Do nothing."""

    assert traced_handler(NO_TRACES, "metrics", handler) is handler
    assert traced_work(NO_TRACES, work) is work
    with NO_TRACES.span("x") as span, child_span("y") as inner, publishing(NO_TRACES, []):
        assert span is inner is INVALID_SPAN
        assert current_traceparent() is None
        assert not carries_on()
        assert b"traceparent" not in message_of(fact()).value
    assert "traceparent" not in await passed_on()


def test_off_loads_neither_sdk_nor_exporter() -> None:
    program = (
        "import services.ingest.wiring, services.metrics.wiring, services.notifications.wiring\n"
        "import sys\n"
        "from shared.telemetry.traces import traces_of\n"
        "traces_of('x', {})\n"
        "print([n for n in sys.modules if n.startswith(('opentelemetry.sdk', "
        "'opentelemetry.exporter', 'requests', 'google.protobuf'))])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


# ---- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {ENDPOINT: "collector:4318"},
        {ENDPOINT: "ftp://collector"},
        {ENDPOINT: f"grpc://user:{CANARY}@collector"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://"},
        {**HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {**HERE, SAMPLER: "parentbased_allways_on"},
        {**HERE, SAMPLER: "traceidratio", SAMPLER_ARGUMENT: "1.5"},
        {**HERE, SAMPLER_ARGUMENT: "a tenth"},
    ],
)
def test_what_could_not_work_is_refused_by_name(wrong: dict[str, str]) -> None:
    with pytest.raises(Misconfigured) as refused:
        traces_of("metrics", wrong)
    assert str(refused.value).startswith("OTEL_")
    assert CANARY not in str(refused.value)


def test_sampling_is_as_opentelemetry_says() -> None:
    assert is_wanted(HERE)
    assert sampling_of({}) == ("always_on", 1.0, True)
    stated = {SAMPLER: "parentbased_traceidratio", SAMPLER_ARGUMENT: "0.01"}
    assert sampling_of(stated) == ("traceidratio", 0.01, True)
    assert sampling_of({SAMPLER: "always_off"}) == ("always_off", 1.0, False)


# ---- W3C trace context ------------------------------------------------------------------------


@pytest.mark.parametrize("header", MALFORMED)
def test_malformed_context_is_ignored(header: str) -> None:
    assert context_of(header) is None
    assert sampled_context(header) is None


def test_context_comes_back_as_it_was() -> None:
    context = context_of(SAMPLED, "vendor=1")
    assert context is not None
    assert traceparent_of(context) == SAMPLED
    assert context.trace_state.get("vendor") == "1"
    assert sampled_context(NOT_SAMPLED) is None
    unsampled = context_of(NOT_SAMPLED)
    assert unsampled is not None
    assert traceparent_of(unsampled) is None


def test_the_place_in_a_trace_is_no_part_of_the_fact() -> None:
    assert read_fact(fact()) == read_fact(fact(SAMPLED)) == read_fact(fact(MALFORMED[-1]))


def test_facts_carry_the_trace_they_were_taken_in() -> None:
    traces, _ = kept_traces()
    with traces.span("request", parent=context_of(SAMPLED)) as span:
        here = traceparent_of(span.get_span_context())
        assert decode(message_of(fact()).value).traceparent == here
        stated = f"00-{'1' * 32}-{SPAN}-01"  # where the sender says that it began
        assert decode(message_of(fact(stated)).value).traceparent == stated
    with traces.span("request", parent=context_of(NOT_SAMPLED)):
        assert b"traceparent" not in message_of(fact()).value
    assert b"traceparent" not in message_of(fact()).value


# ---- spans ------------------------------------------------------------------------------------


def test_an_error_is_its_type_and_lines_inside_name_the_trace() -> None:
    traces, kept = kept_traces()
    begun = context_of(SAMPLED)

    def fail() -> None:
        with traces.span("x", parent=begun):
            logger("x").info("inside")
            raise ValueError(CANARY)

    with logged() as stream, pytest.raises(ValueError, match=CANARY):
        fail()
    line = json.loads(stream.getvalue().splitlines()[0])
    (ended,) = kept.get_finished_spans()
    assert line["trace_id"] == trace_of(ended) == TRACE
    assert line["span_id"] == id_of(ended)
    assert CANARY not in ended.to_json()
    assert ended.status.status_code is StatusCode.ERROR
    assert dict(ended.attributes or {}) == {Key.ERROR: "ValueError"}


def test_what_links_to_a_recorded_trace_is_recorded() -> None:
    traces, kept = kept_traces("always_off")
    (first, other) = (context_of(SAMPLED), context_of(NOT_SAMPLED))
    assert first is not None
    assert other is not None
    with traces.span("a", links=[first]), traces.span("b"):
        pass
    with traces.span("c", links=[other]), traces.span("d"):
        pass
    assert [span.name for span in kept.get_finished_spans()] == ["b", "a"]


Answer = Callable[[Scope, Send], Awaitable[None]]


def layer(telemetry: Telemetry, status: int = 200, *, raises: bool = False) -> ASGIApp:
    """The request layer around an application that answers, or fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        if raises:
            raise RuntimeError(CANARY)
        scope["route"] = "/v1/deals/{deal}"
        logger("app").info("handling")
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return RequestLayer(
        app, limits=Limits(), telemetry=telemetry, route_of=lambda scope: scope.get("route")
    )


async def ask(app: ASGIApp, path: str = f"/v1/deals/{CANARY}", **headers: str) -> httpx.Response:
    """One request, with canaries wherever callers may write."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(
            path,
            params={"email": CANARY},
            headers={
                "Authorization": f"Bearer {CANARY}",
                "User-Agent": CANARY,
                "Cookie": CANARY,
                **headers,
            },
        )


async def test_a_request_is_one_span_named_by_its_template() -> None:
    traces, kept = kept_traces()
    with logged() as stream:
        answer = await ask(layer(Telemetry("t", traces)), traceparent=SAMPLED, tracestate="a=1")
    (span,) = kept.get_finished_spans()
    assert (span.name, span.kind) == ("GET /v1/deals/{deal}", SpanKind.SERVER)
    assert (trace_of(span), parent_of(span)) == (TRACE, SPAN)
    assert dict(span.attributes or {}) == {
        Key.METHOD: "GET",
        Key.ROUTE: "/v1/deals/{deal}",
        Key.STATUS: 200,
        Key.REQUEST_ID: answer.headers["X-Request-Id"],
    }
    assert CANARY not in span.to_json()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {line["event"]: line["trace_id"] for line in lines} == {
        "handling": TRACE,
        "request": TRACE,
    }


@pytest.mark.parametrize("header", [h for h in MALFORMED if h and h.isascii()])
async def test_a_malformed_header_begins_a_trace_of_its_own(header: str) -> None:
    traces, kept = kept_traces()
    assert (await ask(layer(Telemetry("t", traces)), traceparent=header)).status_code == 200
    (span,) = kept.get_finished_spans()
    assert parent_of(span) is None
    assert CANARY not in span.to_json()


async def test_faults_are_marked_and_told_by_nothing_but_their_status() -> None:
    traces, kept = kept_traces()
    assert (await ask(layer(Telemetry("t", traces), raises=True))).status_code == 500
    (span,) = kept.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.name == "GET"
    assert (span.attributes or {})[Key.ERROR] == "500"
    assert CANARY not in span.to_json()


async def test_probes_the_unsampled_and_off_leave_no_span() -> None:
    traces, kept = kept_traces()
    app = layer(Telemetry("t", traces))
    for path in ("/healthz", "/readyz", "/metrics"):
        await ask(app, path, traceparent=SAMPLED)
    await ask(app, traceparent=NOT_SAMPLED)
    assert (await ask(layer(Telemetry("t")), traceparent=SAMPLED)).status_code == 200
    assert kept.get_finished_spans() == ()


async def passed_on() -> httpx.Headers:
    """The headers of a call that this task makes."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    transport = httpx.MockTransport(answer)
    async with create_client(service="test", transport=transport) as client:
        await client.get("http://other/")
    return seen[0].headers


async def test_calls_to_others_go_on_in_the_trace() -> None:
    traces, _ = kept_traces()
    with traces.span("x", parent=context_of(SAMPLED)) as span:
        headers = await passed_on()
        assert headers["traceparent"] == traceparent_of(span.get_span_context())


async def test_closing_waits_for_nobody_for_long() -> None:
    await NO_TRACES.close()
    traces = traces_of("test", {ENDPOINT: "http://127.0.0.1:9"})
    assert trace_tasks(NO_TRACES, None) == {}  # type: ignore[arg-type] # not reached
    await traces.close()
    with traces.span("late"):
        pass
