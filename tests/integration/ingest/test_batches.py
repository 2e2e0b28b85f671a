"""Group commit against a real broker: all arrives, once it is said so, whoever leaves meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.partitioner import murmur2

from services.ingest.batches import Batches, Message
from shared.events.catalogue import CRM_DEALS, CRM_RAW, PARTITIONS
from shared.kafka.clients import ensure_topics, make_producer, stop_quietly

COUNT = PARTITIONS[CRM_DEALS]
TIMEOUT_S = 20.0


@pytest_asyncio.fixture
async def producer(kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer whose topics are there."""
    await ensure_topics(
        kafka_bootstrap,
        {topic_prefix + CRM_DEALS: COUNT, topic_prefix + CRM_RAW: PARTITIONS[CRM_RAW]},
    )
    producer = make_producer(kafka_bootstrap, client_id="test")
    await producer.start()
    yield producer
    await stop_quietly(producer)


@pytest_asyncio.fixture
async def batches(producer: AIOKafkaProducer, topic_prefix: str) -> Batches:
    """What is tested."""
    for topic in (CRM_DEALS, CRM_RAW):
        await producer.partitions_for(topic_prefix + topic)
    return Batches(
        producer,
        prefix=topic_prefix,
        partitions={CRM_DEALS: COUNT, CRM_RAW: PARTITIONS[CRM_RAW]},
    )


async def _log(bootstrap: str, topic: str) -> list[tuple[int, bytes, bytes, int]]:
    """Partition, key, value and timestamp of all records of a topic, each partition in order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, max_partition_fetch_bytes=8_000_000)
    await consumer.start()
    try:
        places = [TopicPartition(topic, n) for n in range(COUNT)]
        consumer.assign(places)
        await consumer.seek_to_beginning()
        left = sum((await consumer.end_offsets(places)).values())
        found: list[tuple[int, bytes, bytes, int]] = []
        async with asyncio.timeout(TIMEOUT_S):
            while len(found) < left:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [(r.partition, r.key, r.value, r.timestamp) for r in records]
    finally:
        await stop_quietly(consumer)
    return found


def _deals(count: int, size: int = 10, first: int = 0) -> list[Message]:
    numbers = range(first, first + count)
    return [
        Message(CRM_DEALS, b"deal/a:b:%d" % (number % 50), b"%0*d" % (size, number))
        for number in numbers
    ]


async def test_everything_arrives_where_its_key_belongs_and_in_order(
    kafka_bootstrap: str, topic_prefix: str, batches: Batches
) -> None:
    sent: Sequence[Sequence[Message]] = [_deals(40, first=40 * turn) for turn in range(30)]
    began_ms = time.time() * 1000
    lost = await asyncio.gather(*(batches.send(each, timeout_s=TIMEOUT_S) for each in sent))
    assert lost == [None] * 30
    log = await _log(kafka_bootstrap, topic_prefix + CRM_DEALS)
    assert sorted(value for _, _, value, _ in log) == [m.value for each in sent for m in each]
    for partition, key, _, timestamp in log:
        assert partition == (murmur2(key) & 0x7FFFFFFF) % COUNT
        assert began_ms - 1_000 <= timestamp <= time.time() * 1000
    for key in {key for _, key, _, _ in log}:
        values = [value for _, of, value, _ in log if of == key]
        assert values == sorted(values)


async def test_more_than_one_batch_holds_goes_in_several(
    kafka_bootstrap: str, topic_prefix: str, batches: Batches
) -> None:
    large = [*_deals(300, size=20_000), Message(CRM_DEALS, b"deal/a:b:1", b"x" * 1_500_000)]
    assert await batches.send(large, timeout_s=TIMEOUT_S) is None
    log = await _log(kafka_bootstrap, topic_prefix + CRM_DEALS)
    assert sorted(value for _, _, value, _ in log) == sorted(m.value for m in large)


async def test_raw_deliveries_share_a_partition_until_they_are_many_bytes(
    kafka_bootstrap: str, topic_prefix: str, batches: Batches
) -> None:
    few = [Message(CRM_RAW, b"delivery/%d" % number, b"x" * 100) for number in range(20)]
    assert await batches.send(few, timeout_s=TIMEOUT_S) is None
    assert len({place for place, *_ in await _log(kafka_bootstrap, topic_prefix + CRM_RAW)}) == 1
    much = [Message(CRM_RAW, b"delivery/%d" % number, b"x" * 100_000) for number in range(12)]
    assert await batches.send(much, timeout_s=TIMEOUT_S) is None
    log = await _log(kafka_bootstrap, topic_prefix + CRM_RAW)
    assert len(log) == 32
    assert len({place for place, *_ in log}) == PARTITIONS[CRM_RAW]


async def test_who_leaves_takes_nothing_with_it(
    kafka_bootstrap: str, topic_prefix: str, batches: Batches
) -> None:
    leaving = asyncio.create_task(batches.send(_deals(5), timeout_s=TIMEOUT_S))
    staying = asyncio.create_task(batches.send(_deals(5, first=5), timeout_s=TIMEOUT_S))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying is None
    assert len(await _log(kafka_bootstrap, topic_prefix + CRM_DEALS)) == 10
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_what_is_not_acknowledged_in_time_is_said_so(
    producer: AIOKafkaProducer, batches: Batches
) -> None:
    producer._sender.sender_task.cancel()  # nobody sends any more
    lost = await batches.send(_deals(1), timeout_s=0.1)
    assert isinstance(lost, TimeoutError)
    waiting = asyncio.create_task(batches.send(_deals(1), timeout_s=TIMEOUT_S))
    await asyncio.sleep(0)
    batches.close()
    assert isinstance(await waiting, KafkaConnectionError)
    assert isinstance(await batches.send(_deals(1), timeout_s=TIMEOUT_S), KafkaConnectionError)
