"""What the process of ingest is made of. Nothing else constructs these parts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from fastapi import FastAPI

from services.ingest import api
from services.ingest.api.shared import install_problems
from services.ingest.cipher import SecretCipher
from services.ingest.handlers import Ingest
from services.ingest.publisher import KafkaLane, Publisher
from services.ingest.settings import IngestSettings
from services.ingest.sources import Sources
from shared.clock import WallClock
from shared.http.app import create_app
from shared.http.idempotency import RETENTION_DAYS, IdempotencyStore
from shared.http.middleware import Limits
from shared.runtime.lifecycle import Task
from shared.runtime.relay import Relay, prune_outbox
from shared.runtime.service import Parts, Service
from shared.runtime.ticks import Periodic

NAME = "ingest"
PRUNE_INTERVAL_S = 3_600.0


async def build_api(parts: Parts[IngestSettings]) -> tuple[FastAPI, Mapping[str, Task]]:
    """HTTP, the producer behind it, and the relay of what could not be sent at once."""
    settings = parts.settings
    kafka = KafkaLane(
        settings.kafka,
        prefix=settings.topic_prefix,
        timeout_s=settings.kafka_timeout_s,
        replication=settings.kafka_replication,
    )
    publisher = Publisher(kafka, parts.pool, database_timeout_s=settings.database_timeout_s)
    cipher = SecretCipher(settings.secrets_key.get_secret_value())
    sources = Sources(parts.pool, cipher, timeout_s=settings.database_timeout_s)
    ingest = Ingest(
        pool=parts.pool,
        publisher=publisher,
        sources=sources,
        cipher=cipher,
        telemetry=parts.telemetry,
        clock=WallClock(),
        base_url=settings.base_url,
        database_timeout_s=settings.database_timeout_s,
    )
    app = create_app(
        title="Attain ingest",
        service=NAME,
        routers=api.routers(max_events_bytes=settings.max_events_bytes),
        verifier=parts.verifier,
        # Not the database alone: deliveries are taken without it, while Kafka takes them.
        readiness={"durable_write": publisher.check, "sources": sources.check},
        telemetry=parts.telemetry,
        limits=Limits(max_body_bytes=settings.max_body_bytes),
        idempotency=IdempotencyStore(NAME),
        state={"parts": parts, "ingest": ingest},
    )
    install_problems(app)
    relay = Relay(parts.pool, settings.kafka, settings.topic_prefix, NAME, parts.telemetry)
    return app, {
        "kafka": kafka.run,
        "relay": relay.run,
        "sources": Periodic("sources", settings.sources_refresh_s, sources.refresh).run,
        "prune": Periodic("prune", PRUNE_INTERVAL_S, lambda: _prune(parts)).run,
    }


async def _prune(parts: Parts[IngestSettings]) -> None:
    await prune_outbox(parts.pool)
    before = datetime.now(UTC) - timedelta(days=RETENTION_DAYS)
    async with parts.pool.acquire() as connection:
        await IdempotencyStore(NAME).purge(connection, before=before)


SERVICE = Service(name=NAME, settings=IngestSettings, builders={"api": build_api})
