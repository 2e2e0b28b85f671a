"""Kept-alive HTTP/1.1 by hand: a client library would cost more than what is measured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from deploy.embedded.ports import LOOPBACK


def request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {LOOPBACK}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(slots=True)
class Wire:
    """One connection, for one request after the other."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def exchange(self, sent: bytes) -> bytes:
        """The body that a request is answered with. Raises for an answer that is no success."""
        self.writer.write(sent)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        body = b""
        _, _, length = head.partition(b"content-length:")
        if length:
            body = await self.reader.readexactly(int(length.split(b"\r\n", 1)[0]))
        if head[9:10] != b"2":
            line = sent.split(b"\r\n", 1)[0].decode()
            msg = f"{line} was answered with {head[9:12].decode()}: {body[:300]!r}"
            raise RuntimeError(msg)
        return body


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """A connection to a port of this machine."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
