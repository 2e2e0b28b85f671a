"""Polling ahead: what was polled is used only where it follows on what was committed since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.events.catalogue import CRM_DEALS, topics
from shared.kafka.clients import ensure_topics, make_consumer, stop_quietly
from shared.runtime.ahead import Ahead, NotFollowingError
from shared.runtime.messages import Readout, read_records
from shared.runtime.positions import Claim
from tests.support.paid_deals import SUBSCRIPTION, fact, send

if TYPE_CHECKING:
    from shared.runtime.ahead import Polled

EVENTS = 60
AT_ONCE = 10


def read(batch: Polled) -> Readout:
    (records,) = batch.values()
    return read_records(SUBSCRIPTION, CRM_DEALS, records)


class Log:
    """One partition that holds all events, and a consumer at its beginning."""

    def __init__(self, bootstrap: str, prefix: str, consumer: AIOKafkaConsumer) -> None:
        self.bootstrap, self.prefix, self.consumer = bootstrap, prefix, consumer
        self.ahead = Ahead(AT_ONCE, read)
        self.claims: dict[TopicPartition, Claim] = {}

    async def add(self, first: int, count: int) -> None:
        """Statements about one deal, which lie in one partition in their order."""
        said = [fact("deal", "a:b:1", n, amount=str(n)) for n in range(first, first + count)]
        await send(self.bootstrap, self.prefix, said)

    async def find(self) -> None:
        places = [TopicPartition(self.prefix + CRM_DEALS, n) for n in range(6)]
        ends = await self.consumer.end_offsets(places)
        (place,) = [tp for tp in places if ends[tp]]
        self.consumer.assign([place])
        self.consumer.seek(place, 0)
        self.claims = {place: Claim(1, 0)}

    async def poll(self) -> list[int]:
        """The offsets polled next."""
        polled = await self.ahead.poll(self.consumer, self.claims, list(self.claims))
        self.batch = polled
        return [record.offset for records in polled.values() for record in records]

    def begin(self) -> None:
        self.ahead.begin(self.consumer, self.claims, self.batch)

    @property
    def claim(self) -> Claim:
        (claim,) = self.claims.values()
        return claim


@pytest_asyncio.fixture(loop_scope="session")
async def log(kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[Log]:
    await ensure_topics(kafka_bootstrap, topics(topic_prefix))
    consumer = make_consumer(kafka_bootstrap, group=f"{topic_prefix}ahead", client_id="ahead")
    await consumer.start()
    made = Log(kafka_bootstrap, topic_prefix, consumer)
    await made.add(0, EVENTS)
    await made.find()
    yield made
    await made.ahead.drop()
    await stop_quietly(consumer)


async def test_what_follows_is_handed_on_with_what_it_says(log: Log) -> None:
    assert await log.poll() == list(range(AT_ONCE))
    log.begin()
    log.claim.next_offset = AT_ONCE
    assert await log.poll() == list(range(AT_ONCE, 2 * AT_ONCE))
    readout = log.ahead.readout_of(log.batch)
    assert readout is not None
    assert [message.message_offset for message in readout[0]] == list(range(AT_ONCE, 2 * AT_ONCE))
    assert log.ahead.readout_of({}) is None


async def test_what_came_since_goes_with_it(log: Log) -> None:
    for batch in range(EVENTS // AT_ONCE):
        assert len(await log.poll()) == AT_ONCE
        log.claim.next_offset = (batch + 1) * AT_ONCE
    await log.add(EVENTS, 1)
    while not await log.poll():
        pass
    log.begin()
    log.claim.next_offset = EVENTS + 1
    await log.add(EVENTS + 1, 3)
    found: list[int] = []
    while len(found) < 3:
        found += await log.poll()
        log.claim.next_offset = EVENTS + 1 + len(found)
        readout = log.ahead.readout_of(log.batch)
        assert readout is None or len(readout[0]) == sum(map(len, log.batch.values()))
    assert found == [EVENTS + 1, EVENTS + 2, EVENTS + 3]


async def test_nothing_is_used_after_a_batch_that_was_not_committed(log: Log) -> None:
    """The records of the failed batch would be passed over."""
    await log.poll()
    log.begin()
    with pytest.raises(NotFollowingError):
        await log.poll()


async def test_nothing_is_used_under_another_claim(log: Log) -> None:
    (place,) = log.claims
    await log.poll()
    log.begin()
    log.claims = {place: Claim(2, AT_ONCE)}
    with pytest.raises(NotFollowingError):
        await log.poll()
    await log.poll()
    log.begin()
    log.claims = {}
    with pytest.raises(NotFollowingError):
        await log.poll()
