"""Builds the processes of the commissions service; nothing else constructs their parts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial

from fastapi import FastAPI

from services.commissions.api import ROUTERS
from services.commissions.api.context import Context
from services.commissions.begun import BegunPeriods
from services.commissions.consumer import SUBSCRIPTION
from services.commissions.drift import PacedWatch
from services.commissions.handlers import guarded_handler, handler_for
from services.commissions.held.deletions import DeletionWatch
from services.commissions.held.judge import Judge, share_of
from services.commissions.projector import CommissionsProjector
from services.commissions.readers import read_body
from services.commissions.rebuild import rebuild
from services.commissions.reference import Reference
from services.commissions.settings import CommissionsSettings
from services.commissions.sources import GROUP
from services.commissions.whatif.simulation_store import prune as prune_simulations
from services.commissions.whatif.simulations import Simulations
from shared.clock import WallClock
from shared.db.pool import Pool
from shared.events.catalogue import topics_of
from shared.facts.settle import Settler, sweep_when_settled
from shared.http.idempotency import RETENTION_DAYS, IdempotencyStore
from shared.runtime.consume import Consumer
from shared.runtime.lifecycle import Task
from shared.runtime.relay import Relay, prune_outbox
from shared.runtime.service import Parts, Service
from shared.runtime.ticks import Patient, Periodic
from shared.runtime.tracing import trace_tasks, traced_handler, traced_work
from shared.runtime.watch import watch

PRUNE_INTERVAL_S = 3_600.0
DELETIONS_INTERVAL_S = 30.0

CommissionsParts = Parts[CommissionsSettings]
Built = tuple[FastAPI, Mapping[str, Task]]


async def build_api(parts: CommissionsParts) -> Built:
    """The API process: plans, assignments, statements, periods, estimates, the ledger."""
    await Settler(CommissionsProjector()).announce_code_version(parts.pool)
    app = parts.app(
        ROUTERS, title="Attain commissions", state={"commissions": Context(parts.settings)}
    )
    return app, {}


async def build_consumer(parts: CommissionsParts) -> Built:
    """The consumer process: folds facts, settles deals and accounts, watches the ledger."""
    settings, pool, traces = parts.settings, parts.pool, parts.telemetry.traces
    projector = CommissionsProjector()
    settler: Settler[Reference] = Settler(projector)
    share = share_of(settings.hold_share)
    handler = handler_for(projector) if share is None else guarded_handler(projector)
    await settler.announce_code_version(pool)
    consumer = Consumer(
        pool=pool,
        bootstrap=settings.kafka,
        topic_prefix=settings.topic_prefix,
        group=GROUP,
        subscription=SUBSCRIPTION,
        handler=traced_handler(traces, GROUP, handler),
        telemetry=parts.telemetry,
        own_topics=topics_of("commissions"),
        replication=settings.kafka_replication,
        instance_id=parts.member,
    )
    relay = Relay(pool, settings.kafka, settings.topic_prefix, "commissions", parts.telemetry)
    begun = BegunPeriods(pool, settings.clock)
    drift = PacedWatch(
        settings.database_url.get_secret_value(), parts.telemetry, settings.drift_interval_s
    )
    waiting = partial(settler.settle_waiting, pool)
    judge = Judge(
        pool,
        share,
        settings.clock,
        handler_for(CommissionsProjector()),
        read_body,
        parts.telemetry,
    )
    tasks: dict[str, Task] = {
        "consume": consumer.run,
        "relay": relay.run,
        "settle": Periodic(
            "settle",
            settings.settle_interval_s,
            traced_work(traces, Patient(waiting, consumer.catching_up)),
        ).run,
        "sweep": Periodic(
            "sweep",
            settings.sweep_interval_s,
            partial(sweep_when_settled, Settler(projector), pool),
        ).run,
        "begin": Periodic("begin", settings.sweep_interval_s, begun.advance).run,
        "judge": Periodic("judge", settings.settle_interval_s, judge.judge).run,
        "deletions": Periodic(
            "deletions", DELETIONS_INTERVAL_S, DeletionWatch(pool, parts.telemetry).look
        ).run,
        "simulate": Simulations(pool, settings.clock).run,
        "drift": drift.run,
        "watch": watch(pool, parts.telemetry, projector.kinds),
        "prune": Periodic("prune", PRUNE_INTERVAL_S, partial(_prune, pool)).run,
        **trace_tasks(traces, pool),
    }
    return parts.app((), title="Attain commissions consumer"), tasks


async def _prune(pool: Pool) -> None:
    await prune_outbox(pool)
    await prune_simulations(pool)
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
