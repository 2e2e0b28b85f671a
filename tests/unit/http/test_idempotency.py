"""An Idempotency-Key on a real PostgreSQL: one effect, one answer, whatever happens between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Annotated

import asyncpg
import httpx
import pytest
import sqlalchemy as sa
from fastapi import APIRouter, FastAPI, Request
from sqlalchemy.dialects import postgresql
from starlette.responses import Response

from shared.db.tables import add_runtime_tables, service_metadata
from shared.errors import Refused
from shared.http.app import create_app
from shared.http.auth import Principal, Role, require
from shared.http.idempotency import IdempotencyKey, IdempotencyStore, answer_of
from shared.http.models import WireModel
from shared.http.tokens import TokenVerifier
from shared.telemetry.catalogue import Telemetry
from tests.unit.http.conftest import Sign, client_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Order(WireModel):
    """What is created."""

    name: str
    number: int = 0


def _ddl() -> list[str]:
    metadata = service_metadata("orders")
    add_runtime_tables(metadata)
    table = metadata.tables["orders.idempotency_key"]
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    return [
        "DROP SCHEMA IF EXISTS orders CASCADE",
        "CREATE SCHEMA orders",
        str(sa.schema.CreateTable(table).compile(dialect=dialect)),
        "CREATE TABLE orders.made (number serial, name text)",
    ]


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """Connections to a database with the table."""
    async with asyncpg.create_pool(
        database, min_size=0, max_size=8, server_settings={"lock_timeout": "700"}
    ) as made:
        for statement in _ddl():
            await made.execute(statement)
        yield made


def _routes(pool: asyncpg.Pool[asyncpg.Record], store: IdempotencyStore) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/orders", status_code=201, response_model=Order)
    async def create(
        request: Request,
        order: Order,
        principal: Annotated[Principal, require(Role.ADMIN)],
        _key: IdempotencyKey = None,
    ) -> Response:
        async with (
            pool.acquire() as connection,
            connection.transaction(),
            store.slot(connection, request, principal, now=datetime.now(UTC)) as slot,
        ):
            if slot.replay is None:
                number = await connection.fetchval(
                    "INSERT INTO orders.made (name) VALUES ($1) RETURNING number", order.name
                )
                if order.name.startswith("slow"):
                    await asyncio.sleep(float(order.name[4:]))
                if order.name == "refused":
                    code, message = "order-refused", "Not this one."
                    raise Refused(code, message, status=409)
                made = Order(name=order.name, number=number)
                slot.save(201, made, headers={"ETag": f'"{number}"'})
        return answer_of(slot)

    return router


@pytest.fixture
async def orders(pool: asyncpg.Pool[asyncpg.Record], verifier: TokenVerifier) -> FastAPI:
    """A service that creates orders."""
    store = IdempotencyStore("orders")
    return create_app(
        title="Orders",
        service="orders",
        routers=[_routes(pool, store)],
        verifier=verifier,
        readiness={},
        telemetry=Telemetry("orders"),
        idempotency=store,
    )


Post = Callable[..., Coroutine[None, None, httpx.Response]]


@pytest.fixture
async def post(orders: FastAPI, sign: Sign) -> AsyncIterator[Post]:
    """Posts an order."""
    async with client_of(orders) as client:

        async def sent(name: str, key: str | None, person: str = "acme:a") -> httpx.Response:
            headers = {"Authorization": f"Bearer {sign(Role.ADMIN, person=person)}"}
            if key is not None:
                headers["Idempotency-Key"] = key
            return await client.post("/v1/orders", json={"name": name}, headers=headers)

        yield sent


async def made(pool: asyncpg.Pool[asyncpg.Record]) -> int:
    """Orders in the table."""
    count: int = await pool.fetchval("SELECT count(*) FROM orders.made")
    return count


async def test_a_repeated_request_is_answered_as_the_first(
    post: Post, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    first, again = await post("a", "k1"), await post("a", '"k1"')
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert first.headers["etag"] == again.headers["etag"]
    assert first.headers["content-type"] == again.headers["content-type"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert first.headers["x-request-id"] != again.headers["x-request-id"]
    assert await made(pool) == 1


async def test_another_body_under_the_same_key_is_refused(
    post: Post, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    await post("a", "k1")
    other = await post("b", "k1")
    assert other.status_code == 422
    assert other.json()["type"] == "urn:attain:problem:idempotency-key-reused"
    assert (await post("b", "k1", person="acme:b")).status_code == 201
    assert await made(pool) == 2


@pytest.mark.parametrize("key", [None, "", "x" * 256, "a b", "a\x7fb"])
async def test_a_missing_or_bad_key_is_refused(post: Post, key: str | None) -> None:
    answer = await post("a", key)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:attain:problem:idempotency-key-missing"


async def test_requests_at_the_same_moment_create_once(
    post: Post, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    answers = await asyncio.gather(*(post("slow0.1", "k1") for _ in range(6)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert await made(pool) == 1


async def test_a_long_first_request_is_not_waited_for_without_end(post: Post) -> None:
    first = asyncio.create_task(post("slow1.5", "k1"))
    await asyncio.sleep(0.3)
    second = await post("slow1.5", "k1")
    assert second.status_code == 409
    assert second.json()["type"] == "urn:attain:problem:idempotency-in-progress"
    assert (await first).status_code == 201
    assert (await post("slow1.5", "k1")).status_code == 201


async def test_a_refused_request_leaves_no_key(
    post: Post, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    assert (await post("refused", "k1")).status_code == 409
    assert (await post("a", "k1")).status_code == 201
    assert await made(pool) == 1


async def test_old_keys_can_be_forgotten(post: Post, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await post("a", "k1")
    store = IdempotencyStore("orders")
    async with pool.acquire() as connection:
        await store.purge(connection, before=datetime.now(UTC) - timedelta(days=30))
        assert (await post("a", "k1")).headers["idempotency-replayed"] == "true"
        await store.purge(connection, before=datetime.now(UTC) + timedelta(seconds=1))
    assert "idempotency-replayed" not in (await post("a", "k1")).headers


async def test_a_slot_outside_a_transaction_is_a_fault(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": []})
    async with pool.acquire() as connection:
        with pytest.raises(RuntimeError, match="open transaction"):
            async with IdempotencyStore("orders").slot(
                connection, request, Principal("s"), now=datetime.now(UTC)
            ):
                pass
    with pytest.raises(ValueError, match="schema name"):
        IdempotencyStore("orders; drop")
