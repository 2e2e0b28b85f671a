"""Kafka clients. Every setting on which correctness leans is stated; no default is trusted."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import for_code

from shared.kafka.security import client_options

SESSION_TIMEOUT_MS = 10_000
"""A worker that is silent this long loses its partitions."""

MAX_POLL_INTERVAL_MS = 300_000
"""A batch may take this long; far above the statement timeout that ends a stuck one."""

MAX_REQUEST_BYTES = 2_097_152
"""Above the largest accepted body once it is base64 in an envelope (4/3 of 1 MiB)."""

STOP_TIMEOUT_S = 5.0
"""aiokafka's `stop` can hang while the broker is away."""


def make_producer(
    bootstrap: str, *, client_id: str, request_timeout_ms: int = 5_000
) -> AIOKafkaProducer:
    """The idempotent producer, acknowledged by all in-sync replicas. The caller starts it."""
    return AIOKafkaProducer(
        **client_options(bootstrap),
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        linger_ms=2,
        max_batch_size=262_144,
        max_request_size=MAX_REQUEST_BYTES,
        compression_type="lz4",
        request_timeout_ms=request_timeout_ms,
    )


def make_consumer(
    bootstrap: str, *, group: str, client_id: str, instance_id: str | None = None
) -> AIOKafkaConsumer:
    """A consumer that never commits or resets by itself: positions live in PostgreSQL."""
    return AIOKafkaConsumer(
        **client_options(bootstrap),
        client_id=client_id,
        group_id=group,
        group_instance_id=instance_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        session_timeout_ms=SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=1_000,
        max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
        partition_assignment_strategy=(StickyPartitionAssignor,),
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=4_194_304,
    )


async def stop_quietly(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Stop a client within a bounded time, also while the broker is away.

    In a task of its own: aiokafka may raise a cancellation here that nobody asked for.
    """
    stopping = asyncio.create_task(client.stop())
    await asyncio.wait({stopping}, timeout=STOP_TIMEOUT_S)
    if not stopping.done():
        stopping.cancel()
    elif not stopping.cancelled():
        stopping.exception()


async def ensure_topics(bootstrap: str, topics: dict[str, int], *, replication: int = 1) -> None:
    """Create the topics that are absent, kept for ever and never compacted.

    Raises the broker's error when one cannot be created; an existing topic is left as it is.
    """
    admin = AIOKafkaAdminClient(**client_options(bootstrap))
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [
            NewTopic(
                name,
                num_partitions=count,
                replication_factor=replication,
                topic_configs={
                    "cleanup.policy": "delete",
                    "retention.ms": "-1",
                    "retention.bytes": "-1",
                    "max.message.bytes": str(MAX_REQUEST_BYTES),
                },
            )
            for name, count in topics.items()
            if name not in existing
        ]
        if not missing:
            return
        response = await admin.create_topics(missing)
        for topic, code, *_ in response.topic_errors:
            error = for_code(code)
            if code and error.__name__ != "TopicAlreadyExistsError":
                msg = f"cannot create topic {topic}"
                raise error(msg)
    finally:
        await admin.close()
