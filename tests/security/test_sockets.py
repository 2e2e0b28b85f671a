"""Clients that send slowly, too much, without an end, or so that two readers read two requests.

Each is refused within a bounded time, and everybody else is answered meanwhile.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, Request

from shared.http.app import create_app
from shared.http.auth import public
from shared.http.middleware import Limits
from shared.http.problems import MEDIA_TYPE
from shared.http.server import serve
from shared.http.tokens import KeyFile, KeyRing, TokenVerifier
from shared.telemetry.catalogue import Telemetry
from tests.security.company import ADMIN, SOURCE, Company, machine
from tests.security.sockets import exchange

GIANT = 60_000_000
PIECE = b"x" * 65_536
TAKING: dict[str, tuple[str, ...]] = {
    "ingest": (f"POST /v1/hooks/{SOURCE}", "POST /v1/events", "PUT /v1/people/zzana"),
    "metrics": ("POST /v1/deals/crm:t:open-zzana/dispositions", "PUT /v1/quotas/quota-zzana"),
    "commissions": ("POST /v1/estimates", "PUT /v1/plans/plan-zzana/versions/1"),
    "notifications": ("PUT /v1/subscriptions/zzana",),
}
"""Routes that take a body: as many ways to read one as there are."""
ROUTES = [(service, route) for service, routes in TAKING.items() for route in routes]
SERVICES = tuple(TAKING)


def port_of(company: Company, service: str) -> int:
    """Where its API listens."""
    return int(str(company.clients[service].base_url.port))


def head(company: Company, route: str, *lines: str, authorized: bool = True) -> bytes:
    """A request's beginning."""
    token = company.token(ADMIN)
    given = [f"Authorization: Bearer {token}"] if authorized else []
    return (
        "\r\n".join(
            [f"{route} HTTP/1.1", "Host: attain", "Content-Type: application/json", *given, *lines]
        ).encode()
        + b"\r\n\r\n"
    )


def status_of(said: bytes) -> int | None:
    """The first status; None where the server hung up without a word."""
    return int(said.split(b" ")[1]) if said.startswith(b"HTTP/1.1 ") else None


async def assert_alive(company: Company, service: str) -> None:
    """Others are answered, and soon."""
    started = time.monotonic()
    answer = await company.call(ADMIN, service, "GET", "/readyz")
    assert answer.status_code == 200, answer.text
    assert time.monotonic() - started < 5


def giant(*, chunked: bool) -> Iterator[bytes]:
    """Sixty megabytes, piece by piece."""
    for _ in range(GIANT // len(PIECE) + 1):
        yield b"%x\r\n%s\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    if chunked:
        yield b"0\r\n\r\n"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("authorized", [False, True])
async def test_a_giant_body_is_refused_by_every_way_to_read_one(
    company: Company, *, chunked: bool, authorized: bool
) -> None:
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {GIANT}"
    for service, route in ROUTES:
        first = head(company, route, length, authorized=authorized)
        started = time.monotonic()
        said = await exchange(
            port_of(company, service), (piece for piece in (first, *_lazily(chunked=chunked)))
        )
        assert time.monotonic() - started < 10, route
        allowed = {413} if authorized or "hooks" in route else {401, 413}
        assert status_of(said) in allowed, (route, said[:300])
        assert MEDIA_TYPE.encode() in said, route
        await assert_alive(company, service)


def _lazily(*, chunked: bool) -> Iterator[bytes]:
    yield from giant(chunked=chunked)


async def endless() -> AsyncIterator[bytes]:
    """Chunks without an end, as fast as they are taken."""
    while True:
        yield b"%x\r\n%s\r\n" % (len(PIECE), PIECE)
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_body_without_an_end_ends_the_connection(company: Company, service: str) -> None:
    first = head(company, TAKING[service][0], "Transfer-Encoding: chunked")

    async def sent() -> AsyncIterator[bytes]:
        yield first
        async for piece in endless():
            yield piece

    said = await exchange(port_of(company, service), sent(), whole=True)
    assert status_of(said) == 413
    await assert_alive(company, service)


async def test_a_compressed_body_is_never_unpacked(company: Company) -> None:
    bomb = gzip.compress(b'{"data": "' + bytes(GIANT) + b'"}', compresslevel=9)
    assert len(bomb) < 100_000
    for service, route in ROUTES:
        method, path = route.split(" ")
        started = time.monotonic()
        answer = await company.call(
            ADMIN,
            service,
            method,
            path,
            content=bomb,
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )
        assert time.monotonic() - started < 5, route
        assert answer.status_code in {400, 401, 413, 415, 422}, (route, answer.text)
        assert answer.headers["content-type"] == MEDIA_TYPE
        assert len(answer.content) < 5_000


async def test_deep_json_is_refused(company: Company) -> None:
    for service, route in ROUTES:
        method, path = route.split(" ")
        for content in (b"[" * 500_000, b'{"a":' * 100_000, b"[" * 200_000 + b"]" * 200_000):
            answer = await company.call(
                ADMIN,
                service,
                method,
                path,
                content=content,
                headers={"Content-Type": "application/json"},
            )
            assert answer.status_code in {400, 401, 413, 415, 422}, (route, answer.text)


@pytest.mark.parametrize("service", SERVICES)
async def test_too_many_headers_are_refused(company: Company, service: str) -> None:
    for count, size in ((10_000, 40), (100, 10_000), (200_000, 2)):
        lines = (f"X-{number}: {'y' * size}" for number in range(count))
        said = await exchange(port_of(company, service), head(company, "GET /healthz", *lines))
        assert status_of(said) in {None, 400, 431}, (count, size, said[:200])
    await assert_alive(company, service)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_giant_address_is_refused(company: Company, service: str) -> None:
    for path in ("/" + "a" * 1_000_000, "/v1/x?" + "b=c&" * 300_000):
        said = await exchange(port_of(company, service), head(company, f"GET {path}"))
        assert status_of(said) in {None, 400, 404, 414, 431}, said[:200]
    await assert_alive(company, service)


SECOND = b"GET /openapi.json HTTP/1.1\r\nHost: attain\r\nConnection: close\r\n\r\n"
"""What somebody behind the same proxy must not be given the answer of."""
CHUNKS = b"0\r\n\r\n" + SECOND

SMUGGLED: dict[str, tuple[tuple[str, ...], bytes]] = {
    "length and chunks": (
        (f"Content-Length: {len(CHUNKS)}", "Transfer-Encoding: chunked"),
        CHUNKS,
    ),
    "chunks and length": (
        ("Transfer-Encoding: chunked", f"Content-Length: {len(CHUNKS)}"),
        CHUNKS,
    ),
    "chunks and length 0": (("Transfer-Encoding: chunked", "Content-Length: 0"), CHUNKS),
    "two lengths": (("Content-Length: 0", f"Content-Length: {len(SECOND)}"), SECOND),
    "two lengths in one": ((f"Content-Length: 0, {len(SECOND)}",), SECOND),
    "length with a sign": (("Content-Length: +0",), SECOND),
    "negative length": (("Content-Length: -1",), SECOND),
    "length in hexadecimal": (("Content-Length: 0x0",), SECOND),
    "length with a space": (("Content-Length : 0",), SECOND),
    "length behind a fold": (("X-A: b", f" Content-Length: {len(SECOND)}"), SECOND),
    "unknown coding": (("Transfer-Encoding: xchunked",), CHUNKS),
    "coding with a space": (("Transfer-Encoding : chunked", "Content-Length: 0"), CHUNKS),
    "coding with a tab": (("Transfer-Encoding:\tchunked", "Content-Length: 0"), CHUNKS),
    "coding in capitals": (("TRANSFER-ENCODING: CHUNKED", "Content-Length: 0"), CHUNKS),
    "two codings": (("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), CHUNKS),
    "chunked not last": (("Transfer-Encoding: chunked, identity",), CHUNKS),
    "chunk size no number": (("Transfer-Encoding: chunked",), b"zz\r\n\r\n" + SECOND),
    "chunk size negative": (("Transfer-Encoding: chunked",), b"-1\r\n\r\n" + SECOND),
    "chunk size huge": (("Transfer-Encoding: chunked",), b"f" * 40 + b"\r\n" + SECOND),
    "chunk longer than said": (("Transfer-Encoding: chunked",), b"1\r\nabc\r\n" + CHUNKS),
    "header with a zero byte": (("X-A: b\x00c",), SECOND),
    "header without a name": ((": b",), SECOND),
    "header without a colon": (("abc",), SECOND),
    "header name with a space": (("X A: b",), SECOND),
    "carriage return alone": (("X-A: b\rContent-Length: 5",), SECOND),
}


@pytest.mark.parametrize("service", SERVICES)
async def test_nothing_is_smuggled_behind_a_request(company: Company, service: str) -> None:
    route = TAKING[service][0]

    async def attempt(name: str) -> str | None:
        lines, body = SMUGGLED[name]
        try:
            said = await exchange(
                port_of(company, service), head(company, route, *lines) + body, whole=True
            )
        except TimeoutError:
            return f"{name}: the connection stays open"
        if b'"openapi"' in said:
            return f"{name}: the second request was answered: {said[:300]!r}"
        first = status_of(said)
        return None if first in {None, 400, 401, 413, 422, 501} else f"{name}: {first}"

    found = await asyncio.gather(*(attempt(name) for name in SMUGGLED))
    assert "\n".join(wrong for wrong in found if wrong) == ""
    await assert_alive(company, service)


@pytest.mark.parametrize("service", SERVICES)
async def test_what_is_no_http_is_refused(company: Company, service: str) -> None:
    for sent in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # a TLS hello
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 5_000,
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GE\x7f / HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        said = await exchange(port_of(company, service), sent)
        assert status_of(said) in {None, 400, 404, 405, 501, 505}, said[:200]
    await assert_alive(company, service)


# ---- slow ones, against limits that a test can wait for ---------------------------------------

HEADER_S = 2.0
REQUEST_S = 2.5


@asynccontextmanager
async def impatient(folder: Path) -> AsyncIterator[int]:
    """A server like every service's, which waits two seconds; its port."""
    router = APIRouter()

    @router.post("/v1/bytes", dependencies=[public("a test")])
    async def take(request: Request) -> int:
        return len(await request.body())

    app = create_app(
        title="test",
        service="test",
        routers=[router],
        verifier=TokenVerifier(KeyRing(KeyFile(folder / "none")), issuer="-", audience="-"),
        readiness={},
        telemetry=Telemetry("test"),
        limits=Limits(request_timeout_s=REQUEST_S),
    )
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        serve(
            app,
            host="127.0.0.1",
            port=0,
            stop=stop,
            started=port.set_result,
            header_timeout_s=HEADER_S,
        )
    )
    try:
        yield await asyncio.wait_for(port, 10)
    finally:
        stop.set()
        await asyncio.wait_for(server, 20)


async def dribbled(sent: bytes, pause_s: float = 0.1) -> AsyncIterator[bytes]:
    """A byte at a time."""
    for place in range(len(sent)):
        yield sent[place : place + 1]
        await asyncio.sleep(pause_s)


async def slow_body(first: bytes, *, chunked: bool) -> AsyncIterator[bytes]:
    """A head at once, and a body that never gets done."""
    yield first
    while True:
        yield b"1\r\nx\r\n" if chunked else b"x"
        await asyncio.sleep(0.1)


POST = "POST /v1/bytes HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
LONG = f"{POST}Content-Length: 100000\r\n\r\n".encode()
IN_CHUNKS = f"{POST}Transfer-Encoding: chunked\r\n\r\n".encode()


async def test_slow_clients_are_put_off_and_the_others_served(tmp_path: Path) -> None:
    async with impatient(tmp_path) as port:
        started = time.monotonic()
        heads = [asyncio.create_task(exchange(port, dribbled(LONG), whole=True)) for _ in range(40)]
        silent = [asyncio.create_task(exchange(port, b"", whole=True)) for _ in range(40)]
        bodies = [
            asyncio.create_task(exchange(port, slow_body(first, chunked=chunked), whole=True))
            for first, chunked in ((LONG, False), (IN_CHUNKS, True))
            for _ in range(20)
        ]
        stalled = [asyncio.create_task(exchange(port, LONG, whole=True)) for _ in range(20)]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as fast:
            for _ in range(10):
                asked = time.monotonic()
                assert (await fast.get("/healthz")).status_code == 200
                assert (await fast.post("/v1/bytes", content=b"abc")).json() == 3
                assert time.monotonic() - asked < 3
                await asyncio.sleep(0.05)
        for said in await asyncio.gather(*heads, *silent):
            assert status_of(said) in {None, 400, 408}, said[:200]
        for said in await asyncio.gather(*bodies, *stalled):
            assert status_of(said) == 408, said[:200]
            assert MEDIA_TYPE.encode() in said
            assert json.loads(said.partition(b"\r\n\r\n")[2])["type"].endswith("request-timeout")
        assert time.monotonic() - started < 20


async def test_many_idle_connections_shut_nobody_out(company: Company) -> None:
    port = port_of(company, "ingest")
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
    try:
        await assert_alive(company, "ingest")
        events = await company.call(
            machine("events:write"),
            "ingest",
            "POST",
            "/v1/events",
            content="[]",
            headers={"Content-Type": "application/cloudevents-batch+json"},
        )
        assert events.status_code == 202
    finally:
        for _, writer in idle:
            writer.close()
