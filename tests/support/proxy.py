"""A TCP proxy that tests put before a real server, to take it away in every way a network can.

What a test may do: `refuse` (connection refused, as when the process is gone) and `accept` again;
`cut` (every connection reset, new ones welcome); `black_hole` (bytes of one or both directions
are held, as in a partition) and `resume` (they arrive late, as a real network would deliver them);
`slow` (a delay for every piece); `drop_reply_of` (the server gets a request and acts on it, and
the client never learns: the connection is cut in place of the reply).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self

from tests.support.listen import bound_socket

CHUNK_BYTES = 65_536


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


BOTH = (Direction.TO_SERVER, Direction.TO_CLIENT)

Predicate = Callable[[bytes], bool]
Read = Callable[[asyncio.StreamReader], Awaitable[bytes]]


async def any_bytes(reader: asyncio.StreamReader) -> bytes:
    """What there is; empty at the end."""
    return await reader.read(CHUNK_BYTES)


async def kafka_frame(reader: asyncio.StreamReader) -> bytes:
    """One request or response of Kafka's protocol, with its length in front; empty at the end."""
    try:
        head = await reader.readexactly(4)
        return head + await reader.readexactly(struct.unpack(">i", head)[0])
    except asyncio.IncompleteReadError:
        return b""


def is_produce(frame: bytes) -> bool:
    """Whether a request of Kafka's protocol brings records."""
    return frame[4:6] == b"\x00\x00"


@dataclass(slots=True)
class Dropped:
    """A reply that will be dropped. happened: set once it was."""

    predicate: Predicate
    left: int
    happened: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class _Link:
    """One client's connection and ours to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    awaiting_drop: Dropped | None = None

    def abort(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


class TcpProxy:
    """A proxy on a port of its own. Use it as an asynchronous context manager."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        read: Read = any_bytes,
        replace: Callable[[int], tuple[bytes, bytes]] | None = None,
    ) -> None:
        """Stand before `host`:`port`.

        read: takes one piece from a stream; predicates and delays see whole pieces. replace: given
        the proxy's port, (old, new) bytes of one length, exchanged in what goes to the client.
        """
        self._target = (host, port)
        self._read = read
        self._replace = replace
        self._socket = bound_socket()
        self.port: int = self._socket.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._open = {direction: asyncio.Event() for direction in Direction}
        self._delay_s = dict.fromkeys(Direction, 0.0)
        self._drops: list[Dropped] = []
        self._serving: set[asyncio.Task[None]] = set()
        self.resume()

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        await self.refuse()
        self.resume()
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def accept(self) -> None:
        """Listen, at first or again."""
        if self._server is None:
            if self._socket.fileno() < 0:
                self._socket = bound_socket(port=self.port)
            self._server = await asyncio.start_server(self._serve, sock=self._socket)

    async def refuse(self) -> None:
        """Refuse new connections and reset those that there are: the server's process is gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        for link in tuple(self._links):
            link.abort()

    def black_hole(self, *directions: Direction) -> None:
        """Hold the bytes of these directions (both by default), of new connections too."""
        for direction in directions or BOTH:
            self._open[direction].clear()

    def resume(self) -> None:
        """Let everything flow, what was held first and without delay."""
        for direction in Direction:
            self._open[direction].set()
            self._delay_s[direction] = 0.0

    def slow(self, delay_s: float, *directions: Direction) -> None:
        """Delay every piece of these directions (both by default)."""
        for direction in directions or BOTH:
            self._delay_s[direction] = delay_s

    def drop_reply_of(self, predicate: Predicate, *, times: int = 1) -> Dropped:
        """Cut the connection in place of the reply to the next requests that satisfy `predicate`.

        The server gets the request whole. On pipelined connections every later reply goes too.
        """
        drop = Dropped(predicate, times)
        self._drops.append(drop)
        return drop

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._links)

    async def _serve(
        self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            server_in, server_out = await asyncio.open_connection(*self._target)
        except OSError:
            client_out.transport.abort()
            return
        link = _Link(client_out, server_out)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(link, Direction.TO_SERVER, client_in, server_out),
                self._pump(link, Direction.TO_CLIENT, server_in, client_out),
            )
        except asyncio.CancelledError:
            return  # the proxy ends; asyncio would report a cancelled connection as an error
        finally:
            self._links.discard(link)
            link.abort()

    async def _pump(
        self,
        link: _Link,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with suppress(ConnectionError):
            while piece := await self._read(reader):
                if direction is Direction.TO_SERVER:
                    self._watch(link, piece)
                elif link.awaiting_drop is not None:
                    link.abort()
                    link.awaiting_drop.happened.set()
                    return
                elif self._replace is not None:
                    piece = piece.replace(*self._replace(self.port))
                await self._open[direction].wait()
                if self._delay_s[direction]:
                    await asyncio.sleep(self._delay_s[direction])
                writer.write(piece)
                await writer.drain()
        # The end of one direction is the end of both: no client of ours half-closes.
        await self._open[direction].wait()
        writer.close()

    def _watch(self, link: _Link, piece: bytes) -> None:
        for drop in self._drops:
            if drop.left and drop.predicate(piece):
                drop.left -= 1
                link.awaiting_drop = drop
                return


def postgres_proxy(host: str, port: int) -> TcpProxy:
    """A proxy before PostgreSQL. Connect without TLS."""
    return TcpProxy(host, port)


def kafka_proxy(bootstrap: str) -> TcpProxy:
    """A proxy before a single broker that hides the broker's own address from its clients.

    The broker tells clients where to connect; the proxy puts its own port there, so that all of
    their traffic stays with it.
    """
    host, _, port = bootstrap.rpartition(":")

    def replace(own_port: int) -> tuple[bytes, bytes]:
        name = host.encode()
        return name + struct.pack(">i", int(port)), name + struct.pack(">i", own_port)

    return TcpProxy(host, int(port), read=kafka_frame, replace=replace)
