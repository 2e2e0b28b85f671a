"""The outermost layer of every service, in plain ASGI.

One class, because the order matters: request id first, then limits, then the application, and
whatever happens the answer is a problem with an id, a log line and a count.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http import problems
from shared.http.context import REQUEST_ID_HEADER, accept_request_id
from shared.telemetry.catalogue import Telemetry
from shared.telemetry.logs import bound, logger
from shared.telemetry.traces import TRACEPARENT, TRACESTATE, Key, context_of, failed

SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Set unless the response says otherwise (the reference pages do)."""

_SECURITY_HEADERS = [
    (name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()
]
_REQUEST_ID = REQUEST_ID_HEADER.lower().encode()
_PROBLEM = (b"content-type", problems.MEDIA_TYPE.encode())

DRAIN_BYTES = 67_108_864
DRAIN_S = 5.0
"""After a 413 we read on for a bounded while: closing at once resets the connection, and the
client would see a broken pipe instead of the problem."""

METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
_PROBES = frozenset(["/healthz", "/readyz", "/metrics"])
UNMATCHED = "unmatched"

_log = logger(__name__)
_threshold = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and all of them together, may take.

    max_body_bytes: default of the application; a router or route may set `max_body_size`.
    request_timeout_s: from the headers to the first byte of the answer.
    max_in_flight: requests at once; more are answered 503 with Retry-After.
    """

    max_body_bytes: int = 1_048_576
    request_timeout_s: float = 30.0
    max_in_flight: int = 256


class RequestLayer:
    """Request id, in-flight limit, time limit, security headers, log line and metrics."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        telemetry: Telemetry,
        route_of: Callable[[Scope], str | None],
    ) -> None:
        self._app = app
        self._limits = limits
        self._telemetry = telemetry
        self._route_of = route_of
        self._in_flight = 0
        self._counted: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = accept_request_id(_stated_request_id(scope))
        exchange = _Exchange(receive, send, request_id)
        started = time.perf_counter()
        self._in_flight += 1
        self._telemetry.http_in_flight.inc()
        try:
            with bound(request_id=request_id):
                if self._telemetry.traces.on and not _is_probe(scope):
                    await self._answer_traced(scope, exchange, request_id, started)
                else:
                    await self._answer(scope, exchange)
                    self._account(scope, exchange, time.perf_counter() - started)
        finally:
            self._in_flight -= 1
            self._telemetry.http_in_flight.dec()

    async def _answer_traced(
        self, scope: Scope, exchange: _Exchange, request_id: str, started: float
    ) -> None:
        """Answer inside a span that is named by the route's template: paths hold ids."""
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        headers = Headers(scope=scope)
        with self._telemetry.traces.span(
            method,
            SpanKind.SERVER,
            parent=context_of(headers.get(TRACEPARENT), headers.get(TRACESTATE)),
            attributes={Key.METHOD: method, Key.REQUEST_ID: request_id},
        ) as span:
            await self._answer(scope, exchange)
            self._account(scope, exchange, time.perf_counter() - started)
            if (route := self._route_of(scope)) is not None:
                span.update_name(f"{method} {route}")
                span.set_attribute(Key.ROUTE, route)
            if exchange.status:
                span.set_attribute(Key.STATUS, exchange.status)
            if exchange.status >= 500:  # noqa: PLR2004 - its own fault
                failed(span, str(exchange.status))

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        if self._in_flight > self._limits.max_in_flight and not _is_probe(scope):
            busy = problems.problem("too-busy", "Retry after the time given.", status=503)
            await busy(scope, exchange.receive, exchange.send)
            return
        try:
            async with asyncio.timeout(self._limits.request_timeout_s) as deadline:
                exchange.deadline = deadline
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            exchange.deadline = None
            if not deadline.expired():
                await self._fail(scope, exchange)
            elif not exchange.started:
                await _too_slow(exchange)(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = 0  # whatever was said, nobody heard it; no fault of ours
        except Exception:  # noqa: BLE001 - the last line: logged, counted, answered
            await self._fail(scope, exchange)

    async def _fail(self, scope: Scope, exchange: _Exchange) -> None:
        _log.exception("request_failed", method=scope["method"], route=self._route_of(scope))
        if not exchange.started:
            exchange.deadline = None  # it is over
            await problems.internal()(scope, exchange.receive, exchange.send)

    def _account(self, scope: Scope, exchange: _Exchange, elapsed_s: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        route = self._route_of(scope) or UNMATCHED
        status = exchange.status or 499  # the client left before an answer
        counted = self._counted.get((method, route, status))
        if counted is None:
            # Finding a metric by its labels costs more than counting.
            counted = self._counted[method, route, status] = (
                self._telemetry.http_requests.labels(method, route, str(status)),
                self._telemetry.http_s.labels(method, route),
            )
        counted[0].inc()
        counted[1].observe(elapsed_s)
        if _logged() and not _is_probe(scope):
            _log.info(
                "request",
                method=method,
                route=route,
                status=status,
                duration_ms=round(elapsed_s * 1000, 1),
            )


class _Exchange:
    """One request's receive and send, observed."""

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._replacement: Response | None = None
        self.status = 0
        self.body_complete = False
        self.reading = False
        self.deadline: asyncio.Timeout | None = None

    @property
    def started(self) -> bool:
        return self.status != 0

    async def receive(self) -> Message:
        self.reading = True
        message = await self._receive()
        self.reading = False
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.body_complete = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
            return
        if self._replacement is not None:
            if not message.get("more_body", False):
                await self._finish(bytes(self._replacement.body))
            return
        if self.status == 413 and not message.get("more_body", False):  # noqa: PLR2004
            await self._finish(message.get("body", b""))
            return
        await self._send(message)

    async def _start(self, message: Message) -> None:
        self.status = message["status"]
        if self.deadline is not None:
            # The limit is on the first byte: a long export may stream on.
            self.deadline.reschedule(None)
        headers = message["headers"]
        if self.status == 413 and _PROBLEM not in headers:  # noqa: PLR2004
            # Refused by its Content-Length before any handler, in plain text.
            self._replacement = problems.body_too_large()
            headers = self._replacement.raw_headers
        stated = {name for name, _ in headers}
        added = [header for header in _SECURITY_HEADERS if header[0] not in stated]
        request_id = (_REQUEST_ID, self._request_id.encode("latin-1"))
        await self._send({**message, "headers": [*headers, *added, request_id]})

    async def _finish(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_S):
                while not self.body_complete and left > 0:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        break
                    left -= len(message.get("body", b""))
        except TimeoutError:
            pass
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _too_slow(exchange: _Exchange) -> Response:
    if exchange.reading:  # stopped while waiting for the body, not in our own work
        return problems.problem(
            "request-timeout",
            "The body did not arrive in time. Send it again, without pauses.",
            status=408,
            headers={"Connection": "close"},
        )
    return problems.problem(
        "deadline-exceeded",
        "Stopped at the time limit. Whether it took effect is unknown: "
        "ask, or send it again with the same Idempotency-Key.",
        status=504,
    )


def _stated_request_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _REQUEST_ID:
            text: str = value.decode("latin-1")
            return text
    return None


def _logged() -> bool:
    """Asked first: making a line that nobody wants costs more than the rest of the account."""
    return _threshold.isEnabledFor(logging.INFO)


def _is_probe(scope: Scope) -> bool:
    return scope["path"] in _PROBES
