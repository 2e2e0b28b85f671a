"""The metrics service as it runs, in one process: a database, topics, consumers and the API."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.metrics.dump import canonical_dump, open_episodes
from services.metrics.settings import MetricsSettings
from services.metrics.wiring import MetricsParts, build_api, build_consumer
from shared.clock import to_text
from shared.db.migrate import upgrade
from shared.db.roles import create_roles
from shared.events.catalogue import RECORD_KINDS, topics
from shared.events.envelope import Envelope, encode, encode_data, sequence_of
from shared.http.auth import Role
from shared.http.keys import (
    LOCAL_AUDIENCE,
    LOCAL_ISSUER,
    generate_key_pair,
    read_private_key,
    sign_token,
)
from shared.kafka.clients import ensure_topics, make_producer
from shared.runtime.service import build_parts

PASSWORD = "metrics-only-in-tests"
_tie = itertools.count(1)


def fact(
    kind: str,
    record_id: str,
    at: datetime,
    /,
    *,
    backfill: bool = False,
    tie_break: int = 0,
    **fields: Any,  # noqa: ANN401 - JSON values
) -> Envelope:
    """A fact as ingest publishes it; its id follows from what it says."""
    named = ",".join(f"{k}={v}" for k, v in sorted(fields.items()))
    return Envelope(
        id=f"{kind}-{record_id}-{to_text(at)}-{tie_break}-{named}"[:250],
        source="/crm/test/main",
        type=RECORD_KINDS[kind].type,
        subject=f"{kind}/{record_id}",
        time=to_text(at),
        recordedtime=to_text(max(at, datetime(2026, 6, 1, tzinfo=UTC))),
        sequence=sequence_of(at, tie_break),
        backfill=backfill,
        data=encode_data(fields),
    )


@dataclass(slots=True)
class Metrics:
    """One running service, and the ways a test speaks with it."""

    url: str
    bootstrap: str
    prefix: str
    keys: Path
    settings: MetricsSettings
    api: httpx.AsyncClient
    pool: asyncpg.Pool[asyncpg.Record]
    sent: int = 0
    _tokens: dict[tuple[object, ...], str] = field(default_factory=dict)

    def token(
        self, *roles: Role, person: str | None = None, scopes: Sequence[str] = ()
    ) -> dict[str, str]:
        """The header of a caller with these roles."""
        signed = sign_token(
            read_private_key(self.keys),
            subject=person or "tester",
            person_id=person,
            roles=roles,
            scopes=scopes,
            now=datetime.now(UTC),
        )
        return {"Authorization": f"Bearer {signed}"}

    async def get(
        self, path: str, headers: Mapping[str, str] | None = None, /, **params: str
    ) -> Any:  # noqa: ANN401 - JSON
        """A 200 answer, as an admin unless `headers` say otherwise."""
        response = await self.api.get(
            path, headers=headers or self.token(Role.ADMIN), params=params or None
        )
        assert response.status_code == 200, response.text
        return response.json()

    async def put(self, path: str, body: Mapping[str, object], **headers: str) -> Any:  # noqa: ANN401 - JSON
        """A 200 answer to a PUT of an admin."""
        response = await self.api.put(
            path, json=body, headers={**self.token(Role.ADMIN), **headers}
        )
        assert response.status_code == 200, response.text
        return response.json()

    async def send(self, facts: Sequence[Envelope]) -> None:
        """Produce facts to the topics of their kinds."""
        producer = make_producer(self.bootstrap, client_id="test")
        await producer.start()
        try:
            sent = [
                await producer.send(
                    self.prefix + RECORD_KINDS[one.subject.partition("/")[0]].topic,
                    key=one.subject.encode(),
                    value=encode(one),
                )
                for one in facts
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()
        self.sent += len(facts)

    async def drain(self, *, timeout_s: float = 60) -> None:
        """Wait until everything sent is consumed, settled and swept."""
        async with asyncio.timeout(timeout_s):
            while True:
                read = await self.pool.fetchval(
                    "SELECT coalesce(sum(next_offset) FILTER (WHERE next_offset > 0), 0) "
                    "FROM consumer_offset"
                )
                waiting = await self.pool.fetchval(
                    "SELECT EXISTS (SELECT FROM mark) OR EXISTS (SELECT FROM root r, "
                    "reference_version v WHERE r.reference_version < v.version)"
                )
                if read >= self.sent and not waiting:
                    return
                await asyncio.sleep(0.03)

    async def at(self, instant: datetime) -> None:
        """Move the clock, and wait until what is due is judged."""
        await self.put("/v1/clock", {"now": to_text(instant)})
        await self.judged()

    async def judged(self, *, timeout_s: float = 30) -> None:
        """Wait until nothing is due."""
        async with asyncio.timeout(timeout_s):
            while await self.pool.fetchval(
                "SELECT EXISTS (SELECT FROM root, simulated_clock c WHERE next_due <= c.instant) "
                "OR EXISTS (SELECT FROM quota, simulated_clock c WHERE next_due <= c.instant) "
                "OR EXISTS (SELECT FROM booking_change)"
            ):
                await asyncio.sleep(0.03)

    async def dump(self) -> dict[str, Any]:
        """The canonical dump."""
        async with self.pool.acquire() as tx, tx.transaction(isolation="repeatable_read"):
            return await canonical_dump(tx)

    async def episodes(self) -> dict[str, list[str]]:
        """Open episodes."""
        async with self.pool.acquire() as tx:
            return await open_episodes(tx)

    async def published(self, topic: str) -> list[dict[str, Any]]:
        """Everything on one of the topics, once the outbox is empty: envelopes with data."""
        async with asyncio.timeout(30):
            while await self.pool.fetchval(
                "SELECT EXISTS (SELECT FROM outbox WHERE published_at IS NULL)"
            ):
                await asyncio.sleep(0.05)
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            count = topics()[topic]
            places = [TopicPartition(self.prefix + topic, n) for n in range(count)]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            found: list[dict[str, Any]] = []
            for place in places:
                consumer.seek(place, 0)
            wanted = sum(ends.values())
            async with asyncio.timeout(30):
                while len(found) < wanted:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        found += [msgspec.json.decode(record.value) for record in records]
        finally:
            await consumer.stop()
        return found


@asynccontextmanager
async def running(
    database: str,
    bootstrap: str,
    prefix: str,
    folder: Path,
    *,
    consumers: int = 1,
    **settings: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[Metrics]:
    """The service over a fresh database: migrated, with `consumers` consumer processes' tasks."""
    keys = folder / "signing.json"
    generate_key_pair(keys, folder / "jwks.json")
    await create_roles(database, {"metrics": PASSWORD})
    parts = urlsplit(database)
    address = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"attain_metrics:{PASSWORD}@{address}"))
    await asyncio.to_thread(upgrade, "metrics", url)
    await ensure_topics(bootstrap, topics(prefix))
    made = MetricsSettings(
        **{
            "database_url": url,
            "kafka_bootstrap": bootstrap,
            "topic_prefix": prefix,
            "port": 0,
            "jwks_path": folder / "jwks.json",
            "issuer": LOCAL_ISSUER,
            "audience": LOCAL_AUDIENCE,
            "clock": "external",
            "tick_interval_s": 0.05,
            "import_quiet_s": 0.3,
            **settings,
        }
    )
    async with AsyncExitStack() as exits:
        for _ in range(consumers):
            await exits.enter_async_context(consuming(made))
        api_parts = await _parts(made, exits)
        app, _ = await build_api(api_parts)
        client = await exits.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app), base_url="http://metrics.test"
            )
        )
        yield Metrics(url, bootstrap, prefix, keys, made, client, api_parts.pool)


async def _parts(settings: MetricsSettings, exits: AsyncExitStack) -> MetricsParts:
    parts: MetricsParts = await build_parts("metrics", settings)
    exits.push_async_callback(parts.pool.close)
    for close in parts.closing:
        exits.push_async_callback(close)
    return parts


@asynccontextmanager
async def consuming(settings: MetricsSettings) -> AsyncIterator[MetricsParts]:
    """One consumer process's tasks, without its HTTP server."""
    async with AsyncExitStack() as exits:
        parts = await _parts(settings, exits)
        _, tasks = await build_consumer(parts)
        stop = asyncio.Event()
        running_tasks = [asyncio.create_task(task(stop), name=n) for n, task in tasks.items()]
        try:
            yield parts
        finally:
            stop.set()
            await asyncio.gather(*running_tasks)
