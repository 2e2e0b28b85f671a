"""Kafka, PostgreSQL or both go away, in every way a network can: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
import pytest_asyncio

from tests.integration.ingest.conftest import (
    PORTAL,
    Inlet,
    Keys,
    change,
    deal,
    migrated,
    running,
)
from tests.integration.ingest.test_deliveries import problem_of
from tests.support.proxy import Direction, is_produce

# The promise is 3.5 s at most (2 s for Kafka, 1.5 s for the database); the rest is a busy machine.
SLOWEST_ANSWER_S = 5.0

_numbers = itertools.count(10_000)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own_database(database: str) -> str:
    """The module's database, with ingest's schema."""
    return await migrated(database)


@pytest_asyncio.fixture(loop_scope="session")
async def healthy(
    own_database: str, kafka_bootstrap: str, topic_prefix: str, keys: Keys
) -> AsyncIterator[Inlet]:
    """An ingest of this test's own, whose deliveries go to Kafka at once."""
    async with running(own_database, kafka_bootstrap, topic_prefix, keys) as inlet:
        assert (await inlet.put_source()).is_success
        await inlet.through_kafka()
        yield inlet


@dataclass(slots=True)
class Traffic:
    """What was sent meanwhile, and what was promised."""

    promised: set[str] = field(default_factory=set)
    hooks: list[bytes] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    slowest_s: float = 0.0


@asynccontextmanager
async def traffic(inlet: Inlet, senders: int = 4) -> AsyncIterator[Traffic]:
    """Events and webhooks without pause, for as long as the block lasts."""
    seen, over = Traffic(), asyncio.Event()

    async def send() -> None:
        while not over.is_set():
            started = time.monotonic()
            number = next(_numbers)
            answer = await inlet.events(deal(f"{number}-a"), deal(f"{number}-b"))
            body = json.dumps([change(number, "amount", f"{number}.10")]).encode()
            hooked = await inlet.hook(body)
            seen.slowest_s = max(seen.slowest_s, (time.monotonic() - started) / 2)
            if answer.status_code == 202:
                seen.promised.update(answer.json()["ids"])
            if hooked.status_code == 204:
                seen.hooks.append(body)
            seen.refused += [problem_of(each) for each in (answer, hooked) if not each.is_success]

    sending = [asyncio.create_task(send()) for _ in range(senders)]
    try:
        yield seen
    finally:
        over.set()
        await asyncio.gather(*sending)


async def assert_all_there(inlet: Inlet, seen: Traffic) -> None:
    """Every promised fact, and every webhook's fact, with its raw delivery."""
    facts = await inlet.on_kafka("crm.deals", seen.promised)
    wanted = {f"deal/hubspot:{PORTAL}:{json.loads(body)[0]['objectId']}" for body in seen.hooks}
    deadline = time.monotonic() + 20
    while missing := wanted - {fact["subject"] for fact in facts}:
        assert time.monotonic() < deadline, f"{len(missing)} webhooks are lost"
        await asyncio.sleep(0.2)
        facts = await inlet.on_kafka("crm.deals", set())
    raw_ids = {fact["rawid"] for fact in facts if fact["id"] in seen.promised}
    await inlet.on_kafka("crm.raw", raw_ids)


def is_slow_kind(answer: httpx.Response) -> bool:
    """Whether it asks the sender to come again."""
    return problem_of(answer) == (503, "storage-unavailable") and "retry-after" in answer.headers


async def test_starting_without_kafka(
    own_database: str, kafka_bootstrap: str, topic_prefix: str, keys: Keys
) -> None:
    async with running(own_database, kafka_bootstrap, topic_prefix, keys, kafka_up=False) as inlet:
        assert (await inlet.put_source()).is_success
        ready = await inlet.client.get("/readyz")
        assert ready.status_code == 200, ready.text
        body = json.dumps([change(1, "amount", "5.00")]).encode()
        assert (await inlet.hook(body)).status_code == 204
        started = time.monotonic()
        answer = await inlet.events(deal("early"))
        assert time.monotonic() - started < 1, "an open circuit asks nobody"
        assert answer.status_code == 202
        waiting = await inlet.sql("SELECT topic FROM outbox WHERE published_at IS NULL")
        assert sorted(row["topic"] for row in waiting) == [
            "crm.deals",
            "crm.deals",
            "crm.raw",
            "crm.raw",
        ]
        await inlet.kafka.accept()
        await assert_all_there(inlet, Traffic(set(answer.json()["ids"]), [body]))
        await inlet.through_kafka()


async def test_kafka_comes_and_goes_under_load(healthy: Inlet) -> None:
    """Refused, cut, held in either direction, its answers lost: every answer is still 2xx."""
    kafka = healthy.kafka
    async with traffic(healthy) as seen:
        await asyncio.sleep(0.5)
        await kafka.refuse()
        await asyncio.sleep(1.5)
        await kafka.accept()
        await asyncio.sleep(2)
        kafka.cut()
        await asyncio.sleep(1.5)
        kafka.black_hole()
        await asyncio.sleep(3.5)
        kafka.resume()
        await asyncio.sleep(1.5)
        kafka.black_hole(Direction.TO_CLIENT)
        await asyncio.sleep(3)
        kafka.resume()
        await asyncio.sleep(1.5)
        dropped = kafka.drop_reply_of(is_produce, times=2)
        await asyncio.wait_for(dropped.happened.wait(), 15)
        await asyncio.sleep(0.5)
    assert not seen.refused
    assert len(seen.promised) > 100
    assert seen.slowest_s < SLOWEST_ANSWER_S
    await assert_all_there(healthy, seen)
    await healthy.through_kafka()


@pytest.mark.parametrize("gone", ["refused", "held"])
async def test_deliveries_go_on_without_postgresql(healthy: Inlet, gone: str) -> None:
    postgres = healthy.postgres
    async with traffic(healthy) as seen:
        await asyncio.sleep(0.3)
        if gone == "refused":
            await postgres.refuse()
        else:
            postgres.black_hole()
        await asyncio.sleep(2)
        ready = await healthy.client.get("/readyz")
        assert ready.status_code == 200, ready.text
        unreadable = json.dumps([change(1, "amount", "abc"), change(77, "amount", "7")]).encode()
        # Its good event is published; its bad one cannot be listed, so its sender keeps it.
        assert is_slow_kind(await healthy.hook(unreadable))
        assert is_slow_kind(await healthy.hook(b"[]", source="made-meanwhile"))
        assert is_slow_kind(await healthy.put_source(tenant="1"))
        await postgres.accept()
        postgres.resume()
        await asyncio.sleep(1)
    assert not seen.refused
    assert seen.slowest_s < SLOWEST_ANSWER_S
    await assert_all_there(healthy, seen)
    assert (await healthy.hook(unreadable)).status_code == 204
    assert len(await healthy.sql("SELECT 1 FROM reject WHERE state = 'open'")) >= 1
    await healthy.sql("DELETE FROM reject")


async def test_both_away_is_said_at_once_and_ends(healthy: Inlet) -> None:
    await healthy.kafka.refuse()
    await healthy.postgres.refuse()
    await asyncio.sleep(0.2)
    body = json.dumps([change(next(_numbers), "amount", "8.00")]).encode()
    for _ in range(2):
        started = time.monotonic()
        event, hooked = await asyncio.gather(healthy.events(deal("nowhere")), healthy.hook(body))
        assert time.monotonic() - started < SLOWEST_ANSWER_S
        assert is_slow_kind(event)
        assert is_slow_kind(hooked)
    assert (await healthy.client.get("/readyz")).status_code == 503
    await healthy.postgres.accept()
    assert (await healthy.hook(body)).status_code == 204
    await healthy.kafka.accept()
    again = await healthy.events(deal("nowhere"))
    assert again.status_code == 202
    await assert_all_there(healthy, Traffic(set(again.json()["ids"]), [body]))
    assert (await healthy.client.get("/readyz")).status_code == 200


async def test_a_commit_whose_answer_is_lost_is_not_promised_and_can_be_sent_again(
    healthy: Inlet,
) -> None:
    await healthy.kafka.refuse()
    first = await healthy.events(deal("before"))
    assert first.status_code == 202
    dropped = healthy.postgres.drop_reply_of(lambda piece: b"COMMIT" in piece, times=1)
    answers = []
    for _ in range(40):
        answers.append(await healthy.events(deal("unknown")))
        if dropped.happened.is_set():
            break
    again = await healthy.events(deal("unknown"))
    assert again.status_code == 202
    assert all(each.status_code == 202 or is_slow_kind(each) for each in answers)
    await healthy.kafka.accept()
    await assert_all_there(healthy, Traffic(set(again.json()["ids"]), []))


async def test_a_long_kafka_outage_is_relayed_in_full(healthy: Inlet) -> None:
    await healthy.kafka.refuse()
    async with traffic(healthy, senders=8) as seen:
        await asyncio.sleep(3)
    assert not seen.refused
    assert seen.slowest_s < SLOWEST_ANSWER_S
    await healthy.kafka.accept()
    await assert_all_there(healthy, seen)
    deadline = time.monotonic() + 10
    while await healthy.sql("SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT 1"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
