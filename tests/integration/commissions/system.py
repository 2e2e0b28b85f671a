"""The commissions service whole, in this process, on real Kafka and PostgreSQL; and its callers."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from fastapi import FastAPI
from pydantic import SecretStr

from services.commissions.closing.checklist import is_quiet
from services.commissions.closing.close import _has_passed, log_ends
from services.commissions.dump import Dump, canonical_dump
from services.commissions.settings import CommissionsSettings
from services.commissions.wiring import build_api, build_consumer
from shared.clock import parse_instant, to_text
from shared.db.migrate import upgrade
from shared.events.catalogue import METRICS_TARGETS, RECORD_KINDS, EventType, topics
from shared.events.envelope import Envelope, encode, encode_data, sequence_of
from shared.events.targets import KPI, OBJECTIVE_SCORE, QUOTA
from shared.http.auth import Role
from shared.http.keys import LOCAL_ISSUER, generate_key_pair, read_private_key, sign_token
from shared.kafka.clients import ensure_topics, make_producer
from shared.runtime.service import Parts, build_parts

DRAIN_TIMEOUT_S = 90.0


def fact(
    kind: str, record_id: str, at: str | datetime, fields: Mapping[str, Any], tie: int = 0
) -> Envelope:
    """What a source stated of a record at an instant."""
    instant = parse_instant(at) if isinstance(at, str) else at
    return Envelope(
        id=f"{kind}-{record_id}-{to_text(instant)}-{tie}-{'-'.join(sorted(fields))}",
        source="/crm/test/main",
        type=RECORD_KINDS[kind].type,
        subject=f"{kind}/{record_id}",
        time=to_text(instant),
        recordedtime=to_text(instant),
        sequence=sequence_of(instant, tie),
        data=encode_data(dict(fields)),
    )


def quota_event(quota: str, revision: int, fields: Mapping[str, Any]) -> Envelope:
    """A quota as metrics publishes it."""
    data = {"quota": quota, "team": None, "currency": "USD", **fields}
    return _published(QUOTA, f"quota/{quota}", revision, data)


def kpi_event(person: str, kpi: str, day: str, value: str, revision: int) -> Envelope:
    """A KPI of somebody's as metrics publishes it."""
    data = {"person": person, "kpi": kpi, "day": day, "value": value}
    return _published(KPI, f"kpi/{person}/{kpi}/{day}", revision, data)


def score_event(  # noqa: PLR0913, PLR0917 - the parts of one score
    person: str, objective: str, period: str, score: str, scored_at: str, revision: int
) -> Envelope:
    """A scored objective as metrics publishes it."""
    data = {
        "person": person,
        "objective": objective,
        "period": period,
        "score": score,
        "scored_at": to_text(parse_instant(scored_at)),
    }
    subject = f"objective_score/{person}/{objective}/{period}"
    return _published(OBJECTIVE_SCORE, subject, revision, data)


def _published(
    event: EventType, subject: str, revision: int, fields: Mapping[str, Any]
) -> Envelope:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    data = {**fields, "revision": revision}
    return Envelope(
        id=f"{subject}-{revision}",
        source="/attain/metrics",
        type=event.type,
        subject=subject,
        time=to_text(now),
        recordedtime=to_text(now),
        sequence=sequence_of(now, revision),
        revision=revision,
        data=encode_data(data),
    )


def topic_of(event: Envelope) -> str:
    """The topic of an event, without prefix."""
    if event.type in {QUOTA.type, KPI.type, OBJECTIVE_SCORE.type}:
        return METRICS_TARGETS
    return RECORD_KINDS[event.subject.partition("/")[0]].topic


@dataclass
class System:
    """A running service: its API, its workers, and what facts are sent with."""

    settings: CommissionsSettings
    app: FastAPI
    parts: Parts[CommissionsSettings]
    producer: AIOKafkaProducer
    key_path: Path
    workers: list[Worker] = field(default_factory=list)

    def client(self, *roles: Role, person: str | None = None) -> httpx.AsyncClient:
        """A caller with these roles."""
        token = sign_token(
            read_private_key(self.key_path),
            subject=person or "-".join(roles) or "nobody",
            person_id=person,
            roles=roles,
            now=datetime.now(UTC),
            lifetime_s=3_000,
        )
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app),
            base_url="http://commissions",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )

    async def send(self, events: Iterable[Envelope]) -> None:
        """Produce events to the topics of their kinds."""
        sent = [
            await self.producer.send(
                self.settings.topic_prefix + topic_of(event),
                key=event.subject.encode(),
                value=encode(event),
            )
            for event in events
        ]
        await asyncio.gather(*sent)

    async def send_raw(self, topic: str, key: str, value: bytes) -> None:
        """Produce bytes that are perhaps no event."""
        await self.producer.send_and_wait(
            self.settings.topic_prefix + topic, key=key.encode(), value=value
        )

    async def drain(self) -> None:
        """Wait until everything sent has been read and settled."""
        ends = await log_ends(self.settings.kafka_bootstrap, self.settings.topic_prefix)
        pool = self.parts.pool
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while not (await _has_passed(pool, ends) and await is_quiet(pool)):
                    await asyncio.sleep(0.03)
        except TimeoutError:
            marks = await pool.fetch("SELECT * FROM mark LIMIT 5")
            offsets = await pool.fetch("SELECT * FROM consumer_offset")
            msg = f"not drained: {ends}, {marks}, {offsets}"
            raise AssertionError(msg) from None

    async def dump(self) -> Dump:
        """The canonical dump as of now."""
        async with (
            self.parts.pool.acquire() as tx,
            tx.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await canonical_dump(tx)

    async def put_plan(self, document: Mapping[str, Any], version: int = 1) -> httpx.Response:
        """Save a plan version as the compensation admin."""
        async with self.client(Role.COMP_ADMIN) as admin:
            return await admin.put(f"/v1/plans/{document['id']}/versions/{version}", json=document)

    async def assign(self, assignment_id: str, **body: Any) -> httpx.Response:  # noqa: ANN401 - a body
        """State an assignment as the compensation admin; `from` is written `from_`."""
        sent = {name.rstrip("_"): value for name, value in body.items()}
        async with self.client(Role.COMP_ADMIN) as admin:
            found = await admin.get(f"/v1/assignments/{assignment_id}")
            headers = {"If-Match": found.headers["etag"]} if found.is_success else {}
            return await admin.put(f"/v1/assignments/{assignment_id}", json=sent, headers=headers)

    async def close(self, period: str) -> httpx.Response:
        """Submit by one person of finance, close by another."""
        async with self.client(Role.FINANCE, person="fin-a") as maker:
            submitted = await maker.post(f"/v1/periods/{period}/submit")
            assert submitted.status_code == 200, submitted.text
        async with self.client(Role.FINANCE, person="fin-b") as checker:
            return await checker.post(f"/v1/periods/{period}/close")

    async def statement(
        self, payee: str, plan: str, period: str, view: str = "shown"
    ) -> dict[str, Any]:
        """A statement as an auditor reads it."""
        async with self.client(Role.AUDITOR) as auditor:
            answer = await auditor.get(
                f"/v1/statements/{payee}/{plan}/{period}", params={"view": view}
            )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@dataclass
class Worker:
    """One consumer process's tasks."""

    parts: Parts[CommissionsSettings]
    stop: asyncio.Event
    tasks: list[asyncio.Task[None]]

    async def end(self) -> None:
        """Stop them in order."""
        self.stop.set()
        await asyncio.gather(*self.tasks)
        for close in reversed(self.parts.closing):
            await close()
        await self.parts.pool.close()


async def start_worker(settings: CommissionsSettings) -> Worker:
    """What `python -m services.commissions consumer` runs, without its HTTP server."""
    parts = await build_parts("commissions", settings)
    _, tasks = await build_consumer(parts)
    stop = asyncio.Event()
    running = [asyncio.create_task(task(stop), name=name) for name, task in tasks.items()]
    return Worker(parts, stop, running)


@asynccontextmanager
async def running(
    url: str,
    bootstrap: str,
    prefix: str,
    *,
    workers: int = 1,
    **settings: Any,  # noqa: ANN401 - settings as keywords
) -> AsyncIterator[System]:
    """The service on an empty database and topics of its own; everything stops at the end."""
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE SCHEMA IF NOT EXISTS commissions")
    await connection.close()
    await asyncio.to_thread(upgrade, "commissions", url)
    await ensure_topics(bootstrap, topics(prefix))
    async with AsyncExitStack() as exits:
        exits.push_async_callback(_forget_topics, bootstrap, prefix)
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        generate_key_pair(folder / "signing.json", folder / "jwks.json")
        chosen = CommissionsSettings(
            database_url=SecretStr(url),
            kafka_bootstrap=bootstrap,
            topic_prefix=prefix,
            port=0,
            jwks_path=folder / "jwks.json",
            issuer=LOCAL_ISSUER,
            settle_interval_s=0.05,
            # Quotas and rates count at once, in any order; of holds: test_held_changes.py.
            **{
                "drift_interval_s": 3_600.0,
                "sweep_interval_s": 0.1,
                "hold_share": "off",
                **settings,
            },
        )
        parts = await build_parts("commissions", chosen)
        exits.push_async_callback(parts.pool.close)
        for close in parts.closing:
            exits.push_async_callback(close)
        app, _ = await build_api(parts)
        producer = make_producer(bootstrap, client_id="test")
        await producer.start()
        exits.push_async_callback(producer.stop)
        system = System(chosen, app, parts, producer, folder / "signing.json")
        for _ in range(workers):
            worker = await start_worker(chosen)
            exits.push_async_callback(worker.end)
            system.workers.append(worker)
        yield system


async def _forget_topics(bootstrap: str, prefix: str) -> None:
    """A broker with thousands of partitions of past tests would slow down those to come."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(list(topics(prefix)))
    finally:
        await admin.close()


def deal(
    deal_id: str,
    at: str,
    tie: int = 0,
    **fields: Any,  # noqa: ANN401 - fields of the model
) -> Envelope:
    """A fact about a deal; splits and overlays are the whole list."""
    complete = [name for name in ("splits", "overlays") if name in fields]
    return fact(
        "deal", deal_id, at, {**fields, **({"complete": complete} if complete else {})}, tie
    )


def won(deal_id: str, at: str, amount: str, owner: str | None, **fields: Any) -> Envelope:  # noqa: ANN401
    """A deal in dollars that was won at an instant."""
    stated = {"status": "won", "closed_at": to_text(parse_instant(at)), "currency": "USD"}
    return deal(deal_id, at, **{**stated, "amount": amount, "owner": owner, **fields})


FLAT_PLAN: Mapping[str, Any] = {
    "id": "flat",
    "name": "Flat",
    "currency": "USD",
    "time_zone": "UTC",
    "effective": {"from": "2025-01-01"},
    "period": "month",
    "components": [
        {
            "id": "new",
            "kind": "commission",
            "credit": {"on": "deal.won", "to": "splits"},
            "rates": {"method": "flat", "rate": "10%"},
        }
    ],
}


def flat_plan(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a document
    """A plan that pays a tenth of every won deal."""
    return {**FLAT_PLAN, **changes}


async def rows(system: System, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
    """Rows of the service's own tables, for what no route shows."""
    return await system.parts.pool.fetch(query, *arguments)
