"""Builds the processes of the notifications service; nothing else constructs their parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial

import structlog
from fastapi import FastAPI

from services.notifications.api import ROUTERS
from services.notifications.channels.mail import MailChannel, SmtpServer
from services.notifications.channels.protocol import Channel
from services.notifications.channels.slack import (
    SlackApiChannel,
    SlackWebhookChannel,
    slack_session,
)
from services.notifications.consumer import SUBSCRIPTION
from services.notifications.domain.routing import ChannelKind
from services.notifications.handlers import Inbox
from services.notifications.sender import Sender
from services.notifications.settings import NotificationsSettings
from services.notifications.store import alerts as alerts_store
from services.notifications.store import people as people_store
from services.notifications.store.people import Directories
from shared.clock import Clock, WallClock
from shared.events.catalogue import topics_of
from shared.runtime.consume import Consumer
from shared.runtime.lifecycle import Task
from shared.runtime.relay import Relay, prune_outbox
from shared.runtime.service import Parts, Service
from shared.runtime.ticks import Periodic
from shared.runtime.tracing import trace_tasks, traced_handler
from shared.runtime.watch import watch

ROUTE_INTERVAL_S = 0.2
PRUNE_INTERVAL_S = 3_600.0

NotificationsParts = Parts[NotificationsSettings]
Built = tuple[FastAPI, Mapping[str, Task]]

log = structlog.get_logger()


async def build_api(parts: NotificationsParts) -> Built:
    """The API process: alerts, deliveries and subscriptions."""
    await people_store.prepare(parts.pool)
    app = parts.app(
        ROUTERS,
        title="Attain notifications",
        state={
            "directories": Directories(parts.settings.places),
            "webhook_names": frozenset(parts.settings.slack_webhooks),
        },
    )
    return app, {}


async def build_consumer(parts: NotificationsParts) -> Built:
    """The consumer process: takes in signals and people, and sends."""
    settings = parts.settings
    clock = WallClock()
    await people_store.prepare(parts.pool)
    # The settings may offer ways that they did not before.
    await alerts_store.route_again(parts.pool, clock.now())
    channels = _channels(parts, clock)
    if not channels:
        log.warning(
            "notifications.no_channel",
            message="no channel is configured: alerts are kept, and wait as unroutable",
        )
    wait = timedelta(seconds=settings.people_wait_s)
    inbox, router = (Inbox(settings.places, clock, wait) for _ in range(2))
    consumer = Consumer(
        pool=parts.pool,
        bootstrap=settings.kafka,
        topic_prefix=settings.topic_prefix,
        group="notifications",
        subscription=SUBSCRIPTION,
        handler=traced_handler(parts.telemetry.traces, "notifications", inbox.take),
        telemetry=parts.telemetry,
        own_topics=topics_of("notifications"),
        replication=settings.kafka_replication,
        instance_id=parts.member,
    )
    relay = Relay(
        parts.pool,
        settings.kafka,
        settings.topic_prefix,
        "notifications",
        parts.telemetry,
    )
    tasks: dict[str, Task] = {
        "consume": consumer.run,
        "relay": relay.run,
        "route": Periodic("route", ROUTE_INTERVAL_S, partial(router.route_waiting, parts.pool)).run,
        "watch": watch(parts.pool, parts.telemetry),
        "prune": Periodic("prune", PRUNE_INTERVAL_S, partial(prune_outbox, parts.pool)).run,
        **trace_tasks(parts.telemetry.traces, parts.pool),
    }
    for channel in channels:
        sender = Sender(
            pool=parts.pool,
            channel=channel,
            clock=clock,
            telemetry=parts.telemetry,
            schedule=settings.schedule,
            lease=timedelta(seconds=settings.lease_s),
            interval=timedelta(seconds=settings.slack_interval_s),
            base_url=settings.links_to,
        )
        tasks[f"deliver-{channel.kind}"] = sender.run
    app = parts.app((), title="Attain notifications consumer", readiness=_channel_note(channels))
    return app, tasks


def _channels(parts: NotificationsParts, clock: Clock) -> list[Channel]:
    settings = parts.settings
    channels: list[Channel] = []
    if settings.slack_token is not None or settings.slack_webhooks:
        session = slack_session()
        parts.closing.append(session.close)
        if settings.slack_token is not None:
            channels.append(
                SlackApiChannel(
                    session,
                    settings.slack_token.get_secret_value(),
                    base_url=settings.slack_base_url,
                    allow_insecure_slack_base_url=settings.allow_insecure_slack_base_url,
                )
            )
        if settings.slack_webhooks:
            channels.append(
                SlackWebhookChannel(
                    session,
                    {n: u.get_secret_value() for n, u in settings.slack_webhooks.items()},
                    allow_insecure_slack_base_url=settings.allow_insecure_slack_base_url,
                )
            )
    if settings.smtp_host is not None and settings.mail_sender is not None:
        password = settings.smtp_password
        server = SmtpServer(
            settings.smtp_host,
            settings.smtp_port,
            settings.smtp_security,
            settings.smtp_username,
            None if password is None else password.get_secret_value(),
        )
        channels.append(MailChannel(server, settings.mail_sender, clock))
    return channels


def _channel_note(channels: list[Channel]) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """A line in /readyz that names the channels. Without any this process still works."""
    kinds: list[ChannelKind] = sorted(channel.kind for channel in channels)

    async def is_no_fault() -> None:
        """Alerts wait, visibly, until a channel is configured."""

    return {f"channels: {', '.join(kinds) or 'none is configured, alerts wait'}": is_no_fault}


async def rebuild(parts: NotificationsParts) -> None:
    """Read everything again from the beginning of the topics. Nothing is sent again."""
    async with parts.pool.acquire() as tx, tx.transaction():
        await people_store.begin_again(tx)


SERVICE = Service(
    name="notifications",
    settings=NotificationsSettings,
    builders={"api": build_api, "consumer": build_consumer},
    commands={"rebuild": rebuild},
)
