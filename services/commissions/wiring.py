"""Builds the processes of the commissions service; nothing else constructs their parts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from functools import partial

import structlog
from aiokafka.errors import KafkaError
from fastapi import FastAPI

from services.commissions.api import ROUTERS
from services.commissions.api.context import Context
from services.commissions.consumer import SUBSCRIPTION
from services.commissions.drift import DriftWatch
from services.commissions.handlers import handler_for
from services.commissions.projector import CommissionsProjector
from services.commissions.rebuild import rebuild
from services.commissions.reference import Reference
from services.commissions.settings import CommissionsSettings
from services.commissions.sources import GROUP
from shared.clock import WallClock
from shared.db.pool import Pool
from shared.events.catalogue import topics
from shared.facts.marks import count_marks
from shared.facts.settle import Settler
from shared.http.idempotency import RETENTION_DAYS, IdempotencyStore
from shared.kafka.clients import ensure_topics
from shared.runtime.consume import Consumer
from shared.runtime.lifecycle import Task
from shared.runtime.relay import Relay, prune_outbox
from shared.runtime.service import Parts, Service
from shared.runtime.ticks import Periodic

PRUNE_INTERVAL_S = 3_600.0
RETRY_S = 1.0

CommissionsParts = Parts[CommissionsSettings]
Built = tuple[FastAPI, Mapping[str, Task]]

log = structlog.get_logger()


async def build_api(parts: CommissionsParts) -> Built:
    """The API process: plans, assignments, statements, periods, estimates, the ledger."""
    await Settler(CommissionsProjector()).announce_code_version(parts.pool)
    app = parts.app(
        ROUTERS, title="Attain commissions", state={"commissions": Context(parts.settings)}
    )
    return app, {}


async def build_consumer(parts: CommissionsParts) -> Built:
    """The consumer process: folds facts, settles deals and accounts, watches the ledger."""
    settings, pool = parts.settings, parts.pool
    projector = CommissionsProjector()
    settler: Settler[Reference] = Settler(projector)
    await settler.announce_code_version(pool)
    consumer = Consumer(
        pool=pool,
        bootstrap=settings.kafka_bootstrap,
        topic_prefix=settings.topic_prefix,
        group=GROUP,
        subscription=SUBSCRIPTION,
        handler=handler_for(projector),
        telemetry=parts.telemetry,
    )
    relay = Relay(pool, settings.kafka_bootstrap, settings.topic_prefix, "commissions")
    watch = DriftWatch(pool, parts.telemetry)
    tasks: dict[str, Task] = {
        "consume": partial(_consume, settings, consumer),
        "relay": relay.run,
        "settle": Periodic(
            "settle", settings.settle_interval_s, partial(settler.settle_waiting, pool)
        ).run,
        "sweep": Periodic(
            "sweep", settings.sweep_interval_s, partial(_sweep, parts, Settler(projector))
        ).run,
        "drift": Periodic("drift", settings.drift_interval_s, watch.check).run,
        "prune": Periodic("prune", PRUNE_INTERVAL_S, partial(_prune, pool)).run,
    }
    return parts.app((), title="Attain commissions consumer"), tasks


async def _consume(settings: CommissionsSettings, consumer: Consumer, stop: asyncio.Event) -> None:
    """Make sure of the topics, then consume; a broker that is away is waited for."""
    while not stop.is_set():
        try:
            await ensure_topics(settings.kafka_bootstrap, topics(settings.topic_prefix))
        except (KafkaError, OSError) as error:
            log.warning("consume.no_topics", error=type(error).__name__)
            await asyncio.sleep(RETRY_S)
        else:
            break
    await consumer.run(stop)


async def _sweep(parts: CommissionsParts, settler: Settler[Reference]) -> bool:
    """Mark what older reference data made; live facts go first."""
    waiting = await count_marks(parts.pool)
    parts.telemetry.marks_waiting.labels(root="any").set(waiting)
    if waiting:
        return False
    return await settler.sweep(parts.pool) > 0


async def _prune(pool: Pool) -> None:
    await prune_outbox(pool)
    async with pool.acquire() as tx, tx.transaction():
        await IdempotencyStore("commissions").purge(
            tx, before=WallClock().now() - timedelta(days=RETENTION_DAYS)
        )


SERVICE = Service(
    name="commissions",
    settings=CommissionsSettings,
    builders={"api": build_api, "consumer": build_consumer},
    commands={"rebuild": rebuild},
)
