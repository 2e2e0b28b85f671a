"""The outermost layer of every service, in plain ASGI.

One class, because the order matters: request id first, then limits, then the application, and
whatever happens the answer is a problem with an id, a log line and a count.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http import problems
from shared.http.context import REQUEST_ID_HEADER, accept_request_id
from shared.telemetry.catalogue import Telemetry
from shared.telemetry.logs import bound, logger

SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Set unless the response says otherwise (the reference pages do)."""

DRAIN_BYTES = 67_108_864
DRAIN_S = 5.0
"""After a 413 we read on for a bounded while: closing at once resets the connection, and the
client would see a broken pipe instead of the problem."""

METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
UNMATCHED = "unmatched"

_log = logger(__name__)


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = accept_request_id(Headers(scope=scope).get(REQUEST_ID_HEADER))
        exchange = _Exchange(receive, send, request_id)
        started = time.perf_counter()
        self._in_flight += 1
        self._telemetry.http_in_flight.inc()
        try:
            with bound(request_id=request_id):
                await self._answer(scope, exchange)
                self._account(scope, exchange, time.perf_counter() - started)
        finally:
            self._in_flight -= 1
            self._telemetry.http_in_flight.dec()

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
        except Exception:  # noqa: BLE001 - the last line: logged, counted, answered
            await self._fail(scope, exchange)

    async def _fail(self, scope: Scope, exchange: _Exchange) -> None:
        _log.exception("request_failed", method=scope["method"], route=self._route_of(scope))
        if not exchange.started:
            await problems.internal()(scope, exchange.receive, exchange.send)

    def _account(self, scope: Scope, exchange: _Exchange, elapsed_s: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        route = self._route_of(scope) or UNMATCHED
        status = exchange.status or 499  # the client left before an answer
        self._telemetry.http_requests.labels(method, route, str(status)).inc()
        self._telemetry.http_s.labels(method, route).observe(elapsed_s)
        if not _is_probe(scope):
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
        headers = MutableHeaders(raw=message["headers"])
        if self.status == 413 and headers.get("content-type") != problems.MEDIA_TYPE:  # noqa: PLR2004
            # Refused by its Content-Length before any handler, in plain text.
            self._replacement = problems.problem(
                "body-too-large",
                "Send less at once: the body is larger than this resource takes.",
                status=413,
                headers={"Connection": "close"},
            )
            headers = MutableHeaders(raw=self._replacement.raw_headers)
        headers[REQUEST_ID_HEADER] = self._request_id
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        await self._send({**message, "headers": headers.raw})

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


def _is_probe(scope: Scope) -> bool:
    return scope["path"] in {"/healthz", "/readyz", "/metrics"}
