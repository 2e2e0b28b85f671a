"""The HTTP server: uvicorn with limits, run inside a process that handles its own signals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

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
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
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
    return type("TimedProtocol", (HeaderDeadline,), {"header_timeout_s": header_timeout_s})


class HeaderDeadline(H11Protocol):
    """HTTP/1.1 with a limit on the time a request's head may take."""

    header_timeout_s = HEADER_TIMEOUT_S
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        """Start the clock for the first head."""
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Stop the clock at a whole head; start it at the first byte of a later one."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._disarm()
        elif self._deadline is None:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.header_timeout_s, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
