"""A running ingest, on the session's real Kafka and PostgreSQL, each behind a proxy."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from joserfc.jwk import ECKey
from pydantic import SecretStr

from services.ingest.adapters.hubspot_signature import sign_v3
from services.ingest.settings import IngestSettings
from services.ingest.wiring import NAME, build_api
from shared.clock import to_text
from shared.db.migrate import upgrade
from shared.events.catalogue import PARTITIONS, topics
from shared.http.auth import Role
from shared.http.keys import (
    LOCAL_AUDIENCE,
    LOCAL_ISSUER,
    generate_key_pair,
    read_private_key,
    sign_token,
)
from shared.http.server import serve
from shared.kafka.clients import ensure_topics
from shared.runtime.service import build_parts
from tests.support.proxy import TcpProxy, kafka_proxy, postgres_proxy

SECRETS_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
PORTAL = "4821"
SOURCE = "hubspot-main"
PUBLIC_URL = f"https://attain.example/v1/hooks/{SOURCE}"
BATCH_TYPE = {"Content-Type": "application/cloudevents-batch+json"}

Record = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Keys:
    """The signing key of a test session and its public half."""

    private: ECKey
    jwks_path: Path

    def bearer(self, *roles: Role, scopes: tuple[str, ...] = ()) -> dict[str, str]:
        """An Authorization header."""
        token = sign_token(
            self.private, subject="tester", roles=roles, scopes=scopes, now=datetime.now(UTC)
        )
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """A fresh key pair."""
    folder = tmp_path_factory.mktemp("keys")
    generate_key_pair(folder / "private.json", folder / "jwks.json")
    return Keys(read_private_key(folder / "private.json"), folder / "jwks.json")


@dataclass(slots=True)
class Inlet:
    """A running ingest and all that stands around it."""

    url: str
    client: httpx.AsyncClient
    keys: Keys
    kafka: TcpProxy
    postgres: TcpProxy
    bootstrap: str
    prefix: str
    database: str
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def admin(self) -> dict[str, str]:
        """Headers of an administrator."""
        return self.keys.bearer(Role.ADMIN)

    async def put_source(self, **changed: Any) -> httpx.Response:  # noqa: ANN401 - JSON values
        """Create the HubSpot connection, as the simulator states it."""
        body = {"adapter": "hubspot", "tenant": PORTAL, "secret": SECRET, "public_url": PUBLIC_URL}
        return await self.client.put(
            f"/v1/sources/{SOURCE}", json=body | changed, headers=self.admin
        )

    async def hook(
        self, body: bytes, *, secret: str = SECRET, late_s: float = 0, source: str = SOURCE
    ) -> httpx.Response:
        """A signed delivery, `late_s` after its signature."""
        sent_ms = str(round((time.time() - late_s) * 1000))
        headers = {
            "Content-Type": "application/json",
            "X-HubSpot-Signature-v3": sign_v3(secret, "POST", PUBLIC_URL, body, sent_ms),
            "X-HubSpot-Request-Timestamp": sent_ms,
        }
        return await self.client.post(f"/v1/hooks/{source}", content=body, headers=headers)

    async def events(self, *events: Mapping[str, Any]) -> httpx.Response:
        """A batch of CloudEvents."""
        return await self.raw_events(json.dumps(events).encode())

    async def raw_events(self, body: bytes) -> httpx.Response:
        """A batch of CloudEvents, as bytes."""
        headers = {**BATCH_TYPE, **self.keys.bearer(Role.SERVICE, scopes=("events:write",))}
        return await self.client.post("/v1/events", content=body, headers=headers)

    async def topic(self, name: str) -> list[Record]:
        """All records of a topic, past the proxy."""
        return await read_topic(self.bootstrap, self.prefix + name)

    async def on_kafka(
        self, name: str, ids: set[str], *, timeout_s: float = 20
    ) -> list[dict[str, Any]]:
        """The topic's events, as soon as all of `ids` are among them."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = [json.loads(value) for _, value in await self.topic(name)]
            missing = ids - {event["id"] for event in found}
            if not missing:
                return found
            assert time.monotonic() < deadline, f"{len(missing)} never came: {sorted(missing)[:3]}"
            await asyncio.sleep(0.1)

    async def sql(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Rows, past the proxy."""
        connection = await asyncpg.connect(self.database, server_settings={"search_path": NAME})
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def through_kafka(self) -> None:
        """Wait until deliveries go to Kafka at once, and not by the outbox."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            before = await self.sql("SELECT count(*) FROM outbox")
            assert (await self.events(deal(f"warm-{time.monotonic_ns()}"))).status_code == 202
            if await self.sql("SELECT count(*) FROM outbox") == before:
                return
            await asyncio.sleep(0.1)
        message = "Kafka was not found again"
        raise AssertionError(message)


def deal(number: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    """A CloudEvent about a deal; its id follows from the number."""
    return {
        "specversion": "1.0",
        "id": f"event-{number}",
        "source": "/test",
        "type": "attain.deal.v1",
        "subject": f"deal/acme:main:{number}",
        "time": to_text(datetime.now(UTC) - timedelta(minutes=1)),
        "data": fields or {"amount": "1200.50", "currency": "USD"},
    }


def change(number: int, name: str, value: object, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A HubSpot event of one property."""
    return {
        "eventId": number,
        "subscriptionId": 771003,
        "portalId": int(PORTAL),
        "appId": 2209114,
        "occurredAt": round(time.time() * 1000) - 60_000,
        "subscriptionType": "deal.propertyChange",
        "attemptNumber": 0,
        "objectId": number,
        "propertyName": name,
        "propertyValue": value,
    } | fields


async def read_topic(bootstrap: str, topic: str) -> list[Record]:
    """Key and value of every record of a prefixed topic, partition by partition."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8_388_608,
    )
    await consumer.start()
    try:
        # Metadata of a new topic may name its partitions only later: an empty read proves nothing.
        count = PARTITIONS[topic.partition(".")[2]]
        async with asyncio.timeout(10):
            while len(names := consumer.assignment()) < count:
                await asyncio.sleep(0.02)
        ends = await consumer.end_offsets(names)
        found: list[Record] = []
        while any([await consumer.position(name) < ends[name] for name in names]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [(record.key, record.value) for record in records]
        return found
    finally:
        await consumer.stop()


def with_port(url: str, port: int) -> str:
    """The same URL at a local port."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}"))


async def migrated(url: str) -> str:
    """The database, with ingest's schema in it."""
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {NAME}")
    await connection.close()
    await asyncio.to_thread(upgrade, NAME, url)
    return url


@asynccontextmanager
async def running(
    database: str,
    bootstrap: str,
    prefix: str,
    keys: Keys,
    *,
    kafka_up: bool = True,
    **settings: Any,  # noqa: ANN401 - settings by name
) -> AsyncIterator[Inlet]:
    """Ingest in this process: its own tasks and its own HTTP server."""
    parts_of = urlsplit(database)
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(
            postgres_proxy(str(parts_of.hostname), int(parts_of.port or 5432))
        )
        kafka = await stack.enter_async_context(kafka_proxy(bootstrap))
        if kafka_up:
            await ensure_topics(bootstrap, topics(prefix))
        else:
            await kafka.refuse()
        found = IngestSettings(
            database_url=SecretStr(with_port(database, postgres.port)),
            kafka_bootstrap=kafka.address,
            topic_prefix=prefix,
            port=0,
            jwks_path=keys.jwks_path,
            issuer=LOCAL_ISSUER,
            audience=LOCAL_AUDIENCE,
            secrets_key=SecretStr(SECRETS_KEY),
            sources_refresh_s=0.2,
            **settings,
        )
        parts = await build_parts(NAME, found)
        app, tasks = await build_api(parts)
        stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
        work = [asyncio.create_task(task(stop), name=name) for name, task in tasks.items()]
        work.append(
            asyncio.create_task(
                serve(app, host="127.0.0.1", port=0, stop=stop, started=port.set_result)
            )
        )
        try:
            url = f"http://127.0.0.1:{await port}"
            client = await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, timeout=20, trust_env=False)
            )
            inlet = Inlet(url, client, keys, kafka, postgres, bootstrap, prefix, database, stop)
            yield inlet
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*work), 20)
            for close in reversed(parts.closing):
                await close()
            parts.pool.terminate()


MakeDatabase = Callable[[], Awaitable[str]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def inlet(database: str, kafka_bootstrap: str, keys: Keys) -> AsyncIterator[Inlet]:
    """One ingest for a module's tests, with the HubSpot connection."""
    prefix = f"t{os.urandom(6).hex()}."
    async with running(await migrated(database), kafka_bootstrap, prefix, keys) as found:
        assert (await found.put_source()).status_code == 201
        await found.through_kafka()
        yield found
