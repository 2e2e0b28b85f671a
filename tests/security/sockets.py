"""Bytes to a server and back, without a client library that would put them right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable

PATIENCE_S = 15.0
"""Whatever is sent, something happens within this time."""


async def exchange(
    port: int, sent: bytes | Iterable[bytes] | AsyncIterable[bytes], *, whole: bool = False
) -> bytes:
    """What the server says, until its head is there, or, with `whole`, until it hangs up.

    Empty where it hung up without a word. Raises TimeoutError when nothing happens.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writing = asyncio.create_task(_write(writer, sent))
    said = b""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while whole or b"\r\n\r\n" not in said:
                piece = await reader.read(65_536)
                if not piece:
                    break
                said += piece
    except ConnectionError:
        pass
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        writer.close()
    return said


async def _write(
    writer: asyncio.StreamWriter, sent: bytes | Iterable[bytes] | AsyncIterable[bytes]
) -> None:
    if isinstance(sent, bytes):
        sent = [sent]
    if isinstance(sent, AsyncIterable):
        async for piece in sent:
            writer.write(piece)
            await writer.drain()
        return
    for piece in sent:
        writer.write(piece)
        await writer.drain()
