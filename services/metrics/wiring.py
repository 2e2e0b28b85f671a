"""Builds the processes of the metrics service; nothing else constructs their parts."""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Mapping
from functools import partial

from fastapi import FastAPI

from services.metrics.answers import BOOK
from services.metrics.api import ROUTERS
from services.metrics.consumer import SUBSCRIPTION
from services.metrics.handlers import Inbox
from services.metrics.judging import Judging
from services.metrics.lookups import Lookups
from services.metrics.projector import MetricsProjector, Rules
from services.metrics.rebuild import hold_against_rebuild, rebuild
from services.metrics.settings import MetricsSettings
from services.metrics.store import SLOTS
from shared.clock import WallClock
from shared.events.catalogue import topics_of
from shared.facts.settle import Settler, sweep_when_settled
from shared.runtime.consume import Consumer
from shared.runtime.lifecycle import Task
from shared.runtime.relay import Relay, prune_outbox
from shared.runtime.service import Parts, Service
from shared.runtime.ticks import Periodic
from shared.runtime.tracing import trace_tasks, traced_handler, traced_work
from shared.runtime.watch import watch

SETTLE_INTERVAL_S = 0.1
SWEEP_INTERVAL_S = 1.0
PRUNE_INTERVAL_S = 3_600.0

MetricsParts = Parts[MetricsSettings]
Built = tuple[FastAPI, Mapping[str, Task]]


def projector_of(settings: MetricsSettings) -> MetricsProjector:
    """The projector of this process, with a slot of hot cells of its own where there are few."""
    writer = f"{socket.gethostname()}:{os.getpid()}"
    rules = Rules(settings.reopen_grace, settings.no_decision_reasons)
    return MetricsProjector(rules, zlib.crc32(writer.encode()) % SLOTS)


async def build_api(parts: MetricsParts) -> Built:
    """The API process: KPIs, quotas, deals, episodes."""
    projector = projector_of(parts.settings)
    await Settler(projector).announce_code_version(parts.pool)
    app = parts.app(
        ROUTERS,
        title="Attain metrics",
        state={
            "lookups": Lookups(parts.settings.currency, parts.settings.rate_table),
            "book": BOOK,
        },
    )
    return app, {}


async def build_consumer(parts: MetricsParts) -> Built:
    """The consumer process: folds facts, settles what they touch, judges what is due."""
    settings = parts.settings
    projector = projector_of(settings)
    settler = Settler(projector)
    await settler.announce_code_version(parts.pool)
    inbox = Inbox(projector, WallClock(), parts.telemetry)
    consumer = Consumer(
        pool=parts.pool,
        bootstrap=settings.kafka,
        topic_prefix=settings.topic_prefix,
        group="metrics",
        subscription=SUBSCRIPTION,
        handler=traced_handler(parts.telemetry.traces, "metrics", inbox.take),
        telemetry=parts.telemetry,
        after_commit=inbox.observe,
        own_topics=topics_of("metrics"),
        replication=settings.kafka_replication,
        instance_id=parts.member,
    )
    relay = Relay(parts.pool, settings.kafka, settings.topic_prefix, "metrics", parts.telemetry)
    judging = Judging(
        pool=parts.pool,
        projector=projector,
        lookups=Lookups(settings.currency, settings.rate_table),
        thresholds=settings.thresholds,
        limits=settings.risk_limits,
        clock=settings.clock,
        import_quiet_s=settings.import_quiet_s,
        telemetry=parts.telemetry,
        catching_up=consumer.catching_up,
    )
    traces = parts.telemetry.traces
    settle = traced_work(traces, partial(settler.settle_waiting, parts.pool))
    sweep = partial(sweep_when_settled, Settler(projector), parts.pool)
    tasks: dict[str, Task] = {
        "guard": partial(hold_against_rebuild, parts.pool),
        "consume": consumer.run,
        "relay": relay.run,
        "settle": Periodic("settle", SETTLE_INTERVAL_S, settle).run,
        "sweep": Periodic("sweep", SWEEP_INTERVAL_S, sweep).run,
        "judge": Periodic("judge", settings.tick_interval_s, traced_work(traces, judging.tick)).run,
        "watch": watch(parts.pool, parts.telemetry, projector.kinds),
        "prune": Periodic("prune", PRUNE_INTERVAL_S, partial(prune_outbox, parts.pool)).run,
        **trace_tasks(traces, parts.pool),
    }
    return parts.app((), title="Attain metrics consumer"), tasks


async def _rebuild(parts: MetricsParts) -> None:
    """Derive every table anew from the topics."""
    await rebuild(parts.pool, parts.settings, projector_of(parts.settings))


SERVICE = Service(
    name="metrics",
    settings=MetricsSettings,
    builders={"api": build_api, "consumer": build_consumer},
    commands={"rebuild": _rebuild},
)
