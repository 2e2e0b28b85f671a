"""Direct routes: declared like all others, answered without FastAPI, refused in the same words."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from shared.errors import Misconfigured, Refused
from shared.http.app import create_app
from shared.http.auth import public
from shared.http.context import current_request_id
from shared.http.direct import DirectRoute
from shared.http.middleware import SECURITY_HEADERS, Limits
from shared.http.tokens import TokenVerifier
from shared.telemetry.catalogue import Telemetry
from tests.unit.http.conftest import client_of

MAX = 1_000


async def _take(request: Request) -> Response:
    match request.path_params["name"]:
        case "refused":
            code, msg = "unknown-source", "No connection has this name."
            raise Refused(code, msg, status=404)
        case "broken":
            msg = "canary-4712 must not be told"
            raise RuntimeError(msg)
    body = await request.body()
    return Response(body, 200, media_type="text/plain", headers={"X-Seen": current_request_id()})


def _app(verifier: TokenVerifier, *, declared: bool = True) -> FastAPI:
    inner = APIRouter(route_class=DirectRoute)
    dependencies = [public("a test")] if declared else []
    inner.add_api_route("/take/{name}", _take, methods=["POST"], dependencies=dependencies)
    router = APIRouter(prefix="/v1")
    router.include_router(inner)
    return create_app(
        title="Direct",
        service="test",
        routers=[router],
        verifier=verifier,
        readiness={},
        telemetry=Telemetry("test"),
        limits=Limits(max_body_bytes=MAX),
    )


@pytest.fixture
def direct(verifier: TokenVerifier) -> FastAPI:
    return _app(verifier)


async def _pieces() -> AsyncIterator[bytes]:
    for _ in range(10):
        yield b"x" * 99


async def test_it_is_answered_as_any_other_route_is(direct: FastAPI) -> None:
    async with client_of(direct) as client:
        whole = await client.post("/v1/take/a", content=b"abc", headers={"X-Request-Id": "r-1"})
        parts = await client.post("/v1/take/b", content=_pieces())
        metrics = (await client.get("/metrics")).text
        listed = (await client.get("/openapi.json")).json()["paths"]
    assert (whole.status_code, whole.content) == (200, b"abc")
    assert whole.headers["x-seen"] == whole.headers["x-request-id"] == "r-1"
    for name, value in SECURITY_HEADERS.items():
        assert whole.headers[name] == value
    assert parts.content == b"x" * 990
    assert 'route="/v1/take/{name}",status="200"} 2.0' in metrics
    assert "post" in listed["/v1/take/{name}"]


async def test_it_does_not_go_through_fastapi(
    direct: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise AssertionError

    async with client_of(direct) as client:
        await client.get("/healthz")  # builds the layers
        monkeypatch.setattr(direct.router, "middleware_stack", refuse)
        assert (await client.post("/v1/take/a", content=b"abc")).status_code == 200
        assert (await client.get("/healthz")).status_code == 500


async def test_errors_are_problems(direct: FastAPI) -> None:
    async with client_of(direct) as client:
        refused = await client.post("/v1/take/refused")
        broken = await client.post("/v1/take/broken")
        method = await client.get("/v1/take/a")
        elsewhere = await client.post("/v1/take/a/b")
    assert refused.status_code == 404
    assert refused.json()["type"] == "urn:attain:problem:unknown-source"
    assert broken.status_code == 500
    assert "canary" not in broken.text
    assert (method.status_code, elsewhere.status_code) == (405, 404)
    for answer in (refused, broken, method, elsewhere):
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("length", [None, str(MAX + 1), "9" * 30])
async def test_too_large_a_body_is_refused(direct: FastAPI, length: str | None) -> None:
    async with client_of(direct) as client:
        headers = {} if length is None else {"Content-Length": length}
        content = b"x" * (MAX + 1) if length is None else b""
        answer = await client.post("/v1/take/a", content=content, headers=headers)
        exact = await client.post("/v1/take/a", content=b"x" * MAX)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert exact.status_code == 200


async def test_who_leaves_before_the_end_is_not_answered(direct: FastAPI) -> None:
    messages = [{"type": "http.request", "body": b"a", "more_body": True}]
    sent = []

    async def receive() -> dict[str, object]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/take/a",
        "headers": [],
        "query_string": b"",
    }
    await direct(scope, receive, send)
    assert sent == []


def test_a_direct_route_declares_its_permission_too(verifier: TokenVerifier) -> None:
    with pytest.raises(Misconfigured, match="/v1/take"):
        _app(verifier, declared=False)
