"""The real server on a real socket: large bodies, slow senders, a clean stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from shared.errors import Misconfigured
from shared.http.client import create_client
from shared.http.context import accept_request_id
from shared.http.server import bind, serve

BODY_BYTES = 60_000_000


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[int]:
    """`app` on a free port; stopped afterwards."""
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        serve(
            app,
            host="127.0.0.1",
            port=0,
            stop=stop,
            started=port.set_result,
            header_timeout_s=0.5,
        )
    )
    try:
        async with asyncio.timeout(10):
            yield await port
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await server


async def _sixty_megabytes() -> AsyncIterator[bytes]:
    for _ in range(60):
        yield b"x" * 1_000_000


@pytest.mark.parametrize("path", ["/v1/raw", "/v1/small"])
@pytest.mark.parametrize("chunked", [True, False])
async def test_sixty_megabytes_are_refused_with_a_problem(
    app: FastAPI, path: str, *, chunked: bool
) -> None:
    async with (
        served(app) as port,
        create_client(service="test", base_url=f"http://127.0.0.1:{port}") as client,
    ):
        response = await client.post(
            path,
            content=_sixty_megabytes() if chunked else b"x" * BODY_BYTES,
            headers={"Content-Type": "application/json"},
        )
        again = await client.get("/healthz")
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:attain:problem:body-too-large"
    assert response.headers["connection"] == "close"
    assert again.status_code == 200


async def test_a_slow_body_is_a_408_and_the_connection_ends(app: FastAPI) -> None:
    async with served(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/raw HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc")
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"urn:attain:problem:request-timeout" in answer
    assert b"server:" not in answer.lower()


@pytest.mark.parametrize("sent", [b"", b"GET /v1/raw HTTP/1.1\r\nHost: "])
async def test_half_a_head_does_not_stay_open(app: FastAPI, sent: bytes) -> None:
    async with served(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await writer.drain()
        assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()


async def test_a_second_slow_head_on_a_kept_connection_ends_too(app: FastAPI) -> None:
    async with served(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        first = await reader.readuntil(b"}")
        assert first.startswith(b"HTTP/1.1 200")
        writer.write(b"GET /healthz HTTP/1.1\r\nHo")
        assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()


async def test_a_huge_head_is_refused(app: FastAPI) -> None:
    async with served(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000)
        answer = await asyncio.wait_for(reader.read(), 3)
        writer.close()
    assert answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))


async def _said(port: int, *sent: bytes) -> bytes:
    """All that the server says until it hangs up, which it does within 10 s."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in sent:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.05)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: abcdefgh\r\n" * 2_000 + b"\r\n",),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 9_000, b"a" * 9_000),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",),
        (
            b"POST /v1/raw HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
            + b"X: abcdefgh\r\n" * 2_000,
        ),
    ],
    ids=["many headers", "a header without an end", "target", "trailers"],
)
async def test_a_head_has_a_size(app: FastAPI, sent: tuple[bytes, ...]) -> None:
    async with served(app) as port:
        assert (await _said(port, *sent)).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: a\r\n"])
async def test_a_request_names_one_host(app: FastAPI, hosts: bytes) -> None:
    async with served(app) as port:
        said = await _said(port, b"GET /healthz HTTP/1.1\r\n" + hosts + b"\r\n")
    assert said.startswith(b"HTTP/1.1 400")


async def test_what_follows_the_chunks_is_no_header(app: FastAPI) -> None:
    async with served(app) as port:
        said = await _said(
            port,
            b"POST /v1/raw HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n3\r\nabc\r\n0\r\nX-Request-Id: late\r\n\r\n",
        )
    assert said.startswith(b"HTTP/1.1 200")
    assert b'{"bytes":3}' in said
    assert b"late" not in said


async def test_another_protocol_that_is_offered_changes_nothing(app: FastAPI) -> None:
    upgrade = (
        b"POST /v1/raw HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\nabc"
    )
    async with served(app) as port:
        said = await _said(port, upgrade[:-1], b"c" + upgrade.replace(b": Up", b": close, Up"))
        tunnel = await _said(port, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert said.count(b"HTTP/1.1 200") == said.count(b'{"bytes":3}') == 2
    assert tunnel.startswith(b"HTTP/1.1 400")


async def test_requests_sent_ahead_are_answered_in_turn(app: FastAPI) -> None:
    one = b"POST /v1/raw HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with served(app) as port:
        said = await _said(port, (one + b"a") * 3 + last)
    assert said.count(b"HTTP/1.1 200") == 4
    assert said.endswith(b'{"status":"alive"}')


async def test_a_large_body_does_not_count_for_the_head_behind_it(app: FastAPI) -> None:
    one = b"POST /v1/raw HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n"
    async with served(app) as port:
        said = await _said(
            port,
            one,
            b"a" * 40_000 + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConne",
            b"ction: close\r\n\r\n",
        )
    assert said.count(b"HTTP/1.1 200") == 2


async def test_half_a_head_waits_for_the_answer_before_it(app: FastAPI) -> None:
    async with served(app) as port:  # /slow takes 0.4 s until its own limit
        said = await _said(
            port,
            b"GET /v1/fails/slow HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHo",
        )
    assert said.startswith(b"HTTP/1.1 504")
    assert said.count(b"HTTP/1.1") == 1


async def test_a_stop_lets_the_request_at_hand_finish(app: FastAPI) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        serve(app, host="127.0.0.1", port=0, stop=stop, started=port.set_result)
    )
    number = await asyncio.wait_for(port, 5)
    assert signal.getsignal(signal.SIGTERM) is before
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{number}") as client:
        request = asyncio.create_task(client.get("/v1/fails/slow"))
        await asyncio.sleep(0.1)
        stop.set()
        assert (await request).status_code == 504
    await asyncio.wait_for(server, 5)
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", number)


def test_a_busy_port_is_a_clear_error() -> None:
    with bind("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(Misconfigured, match=f"port {port}: it is in use"):
            bind("127.0.0.1", port)


async def test_the_client_passes_the_request_id_and_names_itself() -> None:
    seen: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(302, headers={"Location": "http://127.0.0.1:1/"})

    accept_request_id("req-9")
    async with create_client(service="test", transport=httpx.MockTransport(answer)) as client:
        response = await client.get("http://x.example/")
    assert response.status_code == 302
    assert seen[0].headers["x-request-id"] == "req-9"
    assert seen[0].headers["user-agent"].startswith("attain/")
