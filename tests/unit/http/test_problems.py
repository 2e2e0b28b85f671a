"""Every error is a problem with a stable type, a request id, and nothing of what was sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from io import StringIO

import httpx
import pytest
from fastapi import FastAPI

from shared.telemetry.logs import configure_logging
from tests.unit.http.conftest import client_of

JSON = {"Content-Type": "application/json"}


def check(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """The problem in a response, with what all of them share."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = response.json()
    assert body["type"] == f"urn:attain:problem:{code}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"
    return body


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/fails/invalid", 422, "invalid-value"),
        ("GET", "/v1/fails/refused", 409, "period-closed"),
        ("GET", "/v1/fails/busy", 503, "broker-down"),
        ("GET", "/v1/fails/slow", 504, "deadline-exceeded"),
        ("GET", "/v1/fails/bug", 500, "internal"),
        ("GET", "/v1/nothing", 404, "not-found"),
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/docs/../secrets", 404, "not-found"),
        ("DELETE", "/v1/me", 405, "method-not-allowed"),
        ("GET", "/v1/me", 401, "unauthenticated"),
        ("GET", "/v1/lines?limit=0", 422, "invalid-value"),
        ("GET", "/v1/lines?limit=501", 422, "invalid-value"),
        ("GET", "/v1/lines?cursor=abc", 400, "invalid-cursor"),
    ],
)
async def test_every_error_is_a_problem(
    app: FastAPI, method: str, path: str, status: int, code: str
) -> None:
    async with client_of(app) as client:
        response = await client.request(method, path)
    check(response, status, code)
    assert "canary" not in response.text
    assert ("retry-after" in response.headers) == (status == 503)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"rep": "x", "amount": "1", "weight": NaN}', 422, "invalid-value"),
        (b'{"rep": "x", "amount": NaN}', 422, "invalid-value"),
        (b'{"rep": "x", "amount": 1e400}', 422, "invalid-value"),
        (b'{"rep": "x", "amount": "1e400"}', 422, "invalid-value"),
        (b'{"rep": "x", "amount": "NaN"}', 422, "invalid-value"),
        (b'{"rep": "x", "amount": 12.5}', 422, "invalid-value"),
        (b'{"rep": "x", "amount": "1", "canary-4711": 1}', 422, "invalid-value"),
        (b'{"rep": "canary-4711"', 400, "malformed-body"),
        (b"\xff\xfe{}", 400, "malformed-body"),
        (b"[" * 50_000, 400, "malformed-body"),
        (b'{"rep": ' + b"9" * 5_000 + b"}", 400, "malformed-body"),
        (b"", 422, "invalid-value"),
        (b"null", 422, "invalid-value"),
        (b'{"rep": "' + b"x" * 100_001 + b'"}', 413, "body-too-large"),
    ],
)
async def test_a_bad_body_is_refused_without_an_echo(
    app: FastAPI, body: bytes, status: int, code: str
) -> None:
    async with client_of(app) as client:
        response = await client.post("/v1/small", content=body, headers=JSON)
    problem = check(response, status, code)
    assert "NaN" not in response.text
    if b"canary-4711" in body and status == 400:
        assert "canary" not in response.text
    if code == "invalid-value":
        assert problem["errors"]


async def test_a_fault_is_named_by_its_pointer(app: FastAPI) -> None:
    async with client_of(app) as client:
        response = await client.post("/v1/small", json={"rep": "x", "amount": 12.5})
        by_query = await client.get("/v1/lines?limit=x")
    errors = check(response, 422, "invalid-value")["errors"]
    assert isinstance(errors, list)
    assert errors == [
        {
            "pointer": "/amount",
            "detail": 'write numbers as text, such as "1200.50": a JSON number loses cents',
        }
    ]
    query_errors = check(by_query, 422, "invalid-value")["errors"]
    assert isinstance(query_errors, list)
    assert query_errors[0]["pointer"] == "#query/limit"


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_a_missing_or_foreign_content_type_is_415(app: FastAPI, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    async with client_of(app) as client:
        response = await client.post(
            "/v1/small", content=b'{"rep": "x", "amount": "1"}', headers=headers
        )
    check(response, 415, "unsupported-media-type")


async def test_a_chunked_body_over_the_limit_is_413(app: FastAPI) -> None:
    async def endless() -> object:
        for _ in range(200):
            yield b"x" * 1_000

    async with client_of(app) as client:
        for path in ("/v1/raw", "/v1/small"):
            response = await client.post(path, content=endless(), headers=JSON)  # type: ignore[arg-type]  # httpx takes it
            check(response, 413, "body-too-large")


async def test_a_request_id_is_kept_when_harmless_and_replaced_when_not(app: FastAPI) -> None:
    async with client_of(app) as client:
        kept = await client.get("/healthz", headers={"X-Request-Id": "req-1:a.b"})
        for bad in ("a" * 129, "a b", "<script>", ""):
            replaced = await client.get("/healthz", headers={"X-Request-Id": bad})
            assert replaced.headers["x-request-id"] != bad
            assert len(replaced.headers["x-request-id"]) == 32
    assert kept.headers["x-request-id"] == "req-1:a.b"


async def test_a_fault_of_ours_is_logged_under_its_request_id(app: FastAPI) -> None:
    stream = StringIO()
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    configure_logging("test", stream=stream)
    try:
        async with client_of(app) as client:
            await client.get("/v1/fails/bug", headers={"X-Request-Id": "req-7"})
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
    failed = next(line for line in stream.getvalue().splitlines() if "request_failed" in line)
    assert '"request_id": "req-7"' in failed
    assert "RuntimeError" in failed
    assert '"route": "/v1/fails/{how}"' in failed


async def test_too_many_requests_at_once_are_told_to_come_back(app: FastAPI) -> None:
    async with client_of(app) as client:
        answers = await asyncio.gather(*(client.get("/v1/fails/slow") for _ in range(12)))
        after = await client.get("/v1/fails/refused")
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [503] * 4 + [504] * 8
    check(next(a for a in answers if a.status_code == 503), 503, "too-busy")
    assert after.status_code == 409


async def test_probes_and_metrics(app: FastAPI, bearer: Mapping[str, str]) -> None:
    async with client_of(app) as client:
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        ready = await client.get("/readyz")
        await client.get("/v1/fails/refused")
        await client.get("/v1/me", headers=bearer)
        await client.get("/some/random/path/4711")
        metrics = (await client.get("/metrics")).text
    assert ready.status_code == 503
    assert ready.json()["checks"] == {
        "database": {"ok": True},
        "broker": {"ok": False, "why": "no broker answers at kafka_bootstrap"},
        "other": {"ok": False, "why": "OSError"},
    }
    assert 'route="/v1/fails/{how}",status="409"' in metrics
    assert 'route="/v1/me",status="200"' in metrics
    assert 'route="unmatched",status="404"' in metrics
    assert "4711" not in metrics


async def test_the_reference_works_without_the_internet(app: FastAPI) -> None:
    async with client_of(app) as client:
        page = await client.get("/docs")
        script = await client.get("/docs/swagger-ui-bundle.js")
        start = await client.get("/docs/start.js")
        document = (await client.get("/openapi.json")).json()
        assert (await client.get("/docs/swagger-ui.css")).status_code == 200
    assert "http" not in page.text.replace("https://", "http").lower().replace("charset", "")
    assert script.status_code == 200
    assert len(script.content) > 100_000
    assert "SwaggerUIBundle" in start.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    operation = document["paths"]["/v1/quotas/{quota_id}"]["put"]
    assert set(operation["responses"]) == {"200", "default"}
    assert "application/problem+json" in operation["responses"]["default"]["content"]
