"""The HTTP server: uvicorn with limits, run inside a process that handles its own signals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from shared.errors import Misconfigured
from shared.telemetry.logs import logger

if TYPE_CHECKING:
    from starlette.types import ASGIApp

MAX_CONNECTIONS = 1_000
MAX_HEADER_BYTES = 16_384
KEEP_ALIVE_S = 15
HEADER_TIMEOUT_S = 10.0
"""A connection that has not sent a whole request head in this time is closed: uvicorn itself
waits for ever, and slow connections would use up the limit."""
DRAIN_TIMEOUT_S = 35
"""A little more than the longest request (`Limits.request_timeout_s`), so a stop cuts none off.
The supervisor's kill comes later still."""

_log = logger(__name__)


async def serve(  # noqa: PLR0913 - each is a knob of the server
    app: ASGIApp,
    *,
    host: str,
    port: int,
    stop: asyncio.Event,
    started: Callable[[int], None] | None = None,
    drain_timeout_s: int = DRAIN_TIMEOUT_S,
    header_timeout_s: float = HEADER_TIMEOUT_S,
) -> None:
    """Serve `app` until `stop` is set, then finish the requests at hand.

    No signal handler is installed. `started` is told the port, also where 0 asked for a free one.
    Raises Misconfigured when the address is busy or the application does not start.
    """
    config = uvicorn.Config(
        app,
        http=_protocol(header_timeout_s),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=drain_timeout_s,
        reset_contextvars=True,
    )
    server = _Server(config)
    with bind(host, port) as listener:
        actual_port: int = listener.getsockname()[1]
        watcher = asyncio.create_task(_stop_when_told(server, stop))
        announcer = asyncio.create_task(_announce(server, actual_port, started))
        try:
            await server.serve(sockets=[listener])
        except SystemExit:
            # uvicorn leaves the process when the application's start fails; that is ours to do.
            msg = "the HTTP application did not start; the log says why"
            raise Misconfigured(msg) from None
        finally:
            for task in (watcher, announcer):
                task.cancel()
            await asyncio.gather(watcher, announcer, return_exceptions=True)


def bind(host: str, port: int) -> socket.socket:
    """A listening address; raises Misconfigured when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP: asyncio sets TCP_NODELAY only then, and answers would wait for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as failure:
        listener.close()
        why = (
            "it is in use by another program"
            if failure.errno == errno.EADDRINUSE
            else (failure.strerror or "the address cannot be used")
        )
        msg = f"cannot listen on {host} port {port}: {why}"
        raise Misconfigured(msg) from None
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process decides when to stop, and in what order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _stop_when_told(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True


async def _announce(
    server: uvicorn.Server, port: int, started: Callable[[int], None] | None
) -> None:
    while not server.started:  # noqa: ASYNC110 - uvicorn has a flag and no event
        await asyncio.sleep(0.01)
    _log.info("http_server_started", port=port)
    if started is not None:
        started(port)


def _protocol(header_timeout_s: float) -> type[asyncio.Protocol]:
    return type("LimitedProtocol", (HeadLimits,), {"header_timeout_s": header_timeout_s})


_OFFERS = frozenset([b"connection", b"upgrade", b"http2-settings"])


class _HeadRefused(Exception):
    """Raised inside the parser's callbacks: the head is not one that is read on."""


class HeadLimits(HttpToolsProtocol):
    """HTTP/1.1 with limits on the size of a request's head and on the time it may take."""

    header_timeout_s = HEADER_TIMEOUT_S
    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _in_body = False
    _begun = 0
    _ended = False
    _received = 0
    _parsed = 0
    _hosts = 0
    _upgrading = False
    _refusal = 400

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        """Start the clock for the first head."""
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Parse; afterwards the clock runs while a head has begun and is not whole."""
        if self._ended:
            return
        self._unset_keepalive_if_required()
        self._begun = 0
        in_body = self._in_body
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        if not self._in_head:
            if self._deadline is not None:
                self._disarm()
            return
        if not in_body and self._begun <= 1:  # else part of it was of earlier requests
            self._received += len(data)
        if self._received > MAX_HEADER_BYTES:  # a line without an end reaches no callback
            self._refusal = 431
            self.send_400_response("")
        elif self._deadline is None:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._disarm()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A head's first byte."""
        self._in_head = True
        self._begun += 1
        self._received = self._parsed = self._hosts = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """The target, or a piece of it."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. What follows a chunked body is counted and dropped: it was never asked for."""
        self._count(name, value)
        if self._in_head:
            name = name.lower()
            self._hosts += name == b"host"
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The end of a head. Raises _HeadRefused without exactly one Host (RFC 9112, 3.2)."""
        if self._hosts != 1 and (self._hosts or self.parser.get_http_version() == "1.1"):
            raise _HeadRefused
        if self.parser.should_upgrade():
            self._upgrading = True  # the parser stops here, body or not
        else:
            super().on_headers_complete()
            self._in_head = False
            self._in_body = True

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._in_body = False
        if not self._upgrading:
            super().on_message_complete()

    def _go_on(self, rest: bytes) -> None:
        """Read on as if no other protocol had been offered: many clients offer HTTP/2 like that."""
        self._upgrading = False
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self.send_400_response("")
            return
        lines = [method + b" " + self.url + b" HTTP/" + version.encode()]
        for name, value in self.headers:
            if name == b"connection" and b"close" in value.lower():
                lines.append(b"connection: close")
            elif name not in _OFFERS:
                lines.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as in the base class
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - as in the base class
        """Refuse what is no request, and close."""
        self._ended = True
        if self.transport.is_closing():
            return
        head = STATUS_LINE[self._refusal] + b"content-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(head)
        self.transport.close()

    def _count(self, *parts: bytes) -> None:
        self._parsed += sum(map(len, parts))
        if self._parsed > MAX_HEADER_BYTES:
            self._refusal = 431
            raise _HeadRefused

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.header_timeout_s, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if not self._in_head or self.transport.is_closing():
            return
        if self._is_answering():
            self._arm()
        else:
            self.transport.close()

    def _is_answering(self) -> bool:
        """Whether an earlier request of this connection is still at hand."""
        cycle: RequestResponseCycle | None = self.cycle  # none before the first
        return cycle is not None and not cycle.response_complete
