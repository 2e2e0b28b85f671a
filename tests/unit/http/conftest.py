"""A small service with one route of each kind, and tokens for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from joserfc.jwk import ECKey

from shared.errors import InvalidValue, Misconfigured, Refused
from shared.http.app import create_app
from shared.http.auth import Principal, Role, public, require
from shared.http.context import current_request_id
from shared.http.keys import (
    LOCAL_AUDIENCE,
    LOCAL_ISSUER,
    generate_key_pair,
    read_private_key,
    sign_token,
)
from shared.http.middleware import Limits
from shared.http.models import DecimalText, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.tokens import KeyFile, KeyRing, TokenVerifier
from shared.telemetry.catalogue import Telemetry

Sign = Callable[..., str]
QuotaWriter = Annotated[Principal, require(Role.MANAGER, scopes=["quotas:write"])]


class Quota(WireModel):
    """A body with a number that must be text."""

    rep: str
    amount: DecimalText
    weight: float = 1.0


class Line(WireModel):
    """A row of a list."""

    name: str
    amount: DecimalText


@dataclass(frozen=True)
class Keys:
    """The key files of a test."""

    private_path: Path
    jwks_path: Path

    @property
    def private(self) -> ECKey:
        """The signing key."""
        return read_private_key(self.private_path)

    @property
    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The published keys."""
        loaded: dict[str, list[dict[str, str]]] = json.loads(self.jwks_path.read_text())
        return loaded


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """A fresh key pair."""
    made = Keys(tmp_path / "keys" / "signing.json", tmp_path / "keys" / "jwks.json")
    generate_key_pair(made.private_path, made.jwks_path)
    return made


@pytest.fixture
def verifier(keys: Keys) -> TokenVerifier:
    """A verifier of that key."""
    ring = KeyRing(KeyFile(keys.jwks_path))
    return TokenVerifier(ring, issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE)


@pytest.fixture
def sign(keys: Keys) -> Sign:
    """Signs a token for roles or scopes."""

    def signed(*roles: Role, scopes: tuple[str, ...] = (), person: str = "acme:u1") -> str:
        return sign_token(
            keys.private,
            subject=person,
            person_id=person,
            roles=roles,
            scopes=scopes,
            now=datetime.now(UTC),
        )

    return signed


@pytest.fixture
def bearer(sign: Sign) -> Mapping[str, str]:
    """Headers of a manager."""
    return {"Authorization": f"Bearer {sign(Role.MANAGER)}"}


def routes() -> APIRouter:  # noqa: C901 - one handler a case
    """One route for each way to answer or fail."""
    router = APIRouter(prefix="/v1")

    @router.put("/quotas/{quota_id}")
    async def put_quota(quota_id: str, quota: Quota, principal: QuotaWriter) -> Quota:
        del quota_id, principal
        return quota

    @router.get("/me")
    async def me(principal: Annotated[Principal, require()]) -> dict[str, str | None]:
        return {"person": principal.person_id, "request_id": current_request_id()}

    @router.get("/fails/{how}", dependencies=[public("a test")])
    async def fails(how: str) -> dict[str, str]:
        match how:
            case "invalid":
                msg = "the close date is not a date"
                raise InvalidValue(msg, pointer="/close_date")
            case "refused":
                code, msg = "period-closed", "This period is closed; correct it in the next one."
                raise Refused(code, msg, status=409)
            case "busy":
                code, msg = "broker-down", "Nothing was accepted."
                raise Refused(code, msg, status=503)
            case "slow":
                await asyncio.sleep(30)
            case _:
                msg = "canary-4711 must not be told"
                raise RuntimeError(msg)
        return {}

    @router.post("/raw", dependencies=[public("a test")])
    async def raw(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @router.post("/small", dependencies=[public("a test")])
    async def small(quota: Quota) -> Quota:
        return quota

    @router.get("/lines", dependencies=[public("a test")], response_model=Page[Line])
    async def lines(request: Request, page: Paging) -> object:
        after = page.after(str, int)
        first = 0 if after is None else int(after[1]) + 1
        rows = list(range(first, min(first + page.fetch, 120)))
        shown = page_of(
            rows,
            page,
            key=lambda row: (f"n{row}", row),
            show=lambda row: Line.model_validate({"name": f"=n{row}", "amount": f"-{row}.5"}),
        )
        return listed(request, shown, Line)

    return router


async def _database_works() -> None:
    """A readiness check that passes."""


async def _broker_is_away() -> None:
    msg = "no broker answers at kafka_bootstrap"
    raise Misconfigured(msg)


async def _leaky() -> None:
    msg = "postgresql://attain:hunter2@db/attain refused"
    raise OSError(msg)


@pytest.fixture
def app(verifier: TokenVerifier) -> FastAPI:
    """The application under test."""
    return create_app(
        title="Attain test",
        service="test",
        routers=[routes()],
        verifier=verifier,
        readiness={"database": _database_works, "broker": _broker_is_away, "other": _leaky},
        telemetry=Telemetry("test"),
        limits=Limits(max_body_bytes=100_000, request_timeout_s=0.4, max_in_flight=8),
    )


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client that talks to `app` in this process."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
