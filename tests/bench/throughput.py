"""Events a second of one consumer process, beside reading and decoding the same topic."""

from __future__ import annotations

import copy
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import httpx
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.events.catalogue import PARTITIONS, RECORD_KIND_BY_TYPE
from shared.events.envelope import decode
from shared.http.auth import Role
from shared.runtime.consume import BATCH_RECORDS
from tests.bench.lab import Bench, Lab, Span
from tests.bench.report import Goal, Result, at_least, compared
from tests.bench.traffic import (
    OF_COMMISSIONS,
    OF_METRICS,
    Record,
    company_facts,
    quota_facts,
    reference_facts,
)
from tests.simulator import Company, setup_calls

UNIT = "events/s"
METRICS_GOAL = at_least(8_000)
COMMISSIONS_GOAL = at_least(5_000)

THIRD_COMPONENT: Mapping[str, Any] = {
    "id": "every-deal",
    "kind": "commission",
    "credit": {"on": "deal.won", "amount": "deal.amount", "to": "splits"},
    "rates": {"method": "flat", "rate": "0.5%"},
}


async def metrics(lab: Lab, *, seed: int, scale: float) -> list[Result]:
    """Consumer processes of metrics on a company's year of deals and activities."""
    company = Company.generate(seed, scale)
    records = company_facts(company, OF_METRICS, seed)

    async def taken_up(consumers: int) -> tuple[Span, float]:
        async with lab.topics() as prefix, lab.service("metrics", prefix) as bench:
            async with bench.consumers(consumers) as crew:
                await crew.load(reference_facts(company))
                span = await crew.consume(records)
            return span, await _floor(lab, prefix, records, consumers)

    return await _one_against_two("metrics", taken_up, goal=METRICS_GOAL)


async def commissions(lab: Lab, *, seed: int, scale: float) -> list[Result]:
    """Consumer processes of commissions, with plans of three components, on the same deals."""
    company = Company.generate(seed, scale)
    records = company_facts(company, OF_COMMISSIONS, seed)

    async def taken_up(consumers: int) -> tuple[Span, float]:
        async with lab.topics() as prefix, lab.service("commissions", prefix) as bench:
            async with bench.api() as api:
                await say(api, lab, _plan_calls(company))
            known = [*reference_facts(company), *quota_facts(company.history.quotas)]
            async with bench.consumers(consumers) as crew:
                await crew.load(known)
                span = await crew.consume(records)
            await expect_lines(bench)
            return span, await _floor(lab, prefix, records, consumers)

    return await _one_against_two("commissions", taken_up, goal=COMMISSIONS_GOAL)


async def _floor(lab: Lab, prefix: str, records: Sequence[Record], consumers: int) -> float:
    """The floor, once: beside the measurement of one process."""
    if consumers > 1:
        return 0.0
    return await consume_and_decode(lab, prefix, {record.topic for record in records}, len(records))


async def _one_against_two(
    name: str, taken_up: Callable[[int], Awaitable[tuple[Span, float]]], *, goal: Goal
) -> list[Result]:
    one, read = await taken_up(1)
    two, _ = await taken_up(2)
    floor = Result(f"{name}: consume and decode (floor)", read, UNIT)
    alone = compared(f"{name}: one consumer process", one.per_second, UNIT, floor, goal=goal)
    return [
        floor,
        alone,
        compared(f"{name}: two consumer processes", two.per_second, UNIT, alone),
        Result(f"{name}: consumer CPU", one.events / one.consumer_cpu_s, "events/CPU-s"),
        Result(
            f"{name}: consumer and PostgreSQL CPU", one.cpu_per_thousand_s, "CPU-s/1,000 events"
        ),
    ]


def _plan_calls(company: Company) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for call in setup_calls(company, secret="unused"):
        if call.service != "commissions":
            continue
        body = copy.deepcopy(call.body)
        if "components" in body:
            body["components"].append(dict(THIRD_COMPONENT))
        yield call.path, body


async def say(
    api: httpx.AsyncClient, lab: Lab, calls: Iterable[tuple[str, Mapping[str, Any]]]
) -> None:
    """PUT each body at its path. Raises for an answer that is no success."""
    headers = lab.token(Role.ADMIN, Role.COMP_ADMIN)
    for path, body in calls:
        answer = await api.put(path, json=body, headers=headers)
        if not answer.is_success:
            msg = f"PUT {path}: {answer.status_code} {answer.text}"
            raise RuntimeError(msg)


async def expect_lines(bench: Bench) -> None:
    """Raises where no money was posted: a fast service that pays nobody proves nothing."""
    if not await bench.connection.fetchval("SELECT EXISTS (SELECT FROM posting)"):
        msg = "nothing was posted"
        raise RuntimeError(msg)


async def consume_and_decode(lab: Lab, prefix: str, topics: Iterable[str], wanted: int) -> float:
    """Events a second when batches are read, and envelopes and data decoded, and no more.

    wanted: how many events there are.
    """
    decoders = {
        name: msgspec.json.Decoder(kind.model) for name, kind in RECORD_KIND_BY_TYPE.items()
    }
    consumer = AIOKafkaConsumer(
        bootstrap_servers=lab.bootstrap, fetch_max_wait_ms=100, max_partition_fetch_bytes=4_194_304
    )
    await consumer.start()
    try:
        places = [
            TopicPartition(prefix + topic, number)
            for topic in sorted(topics)
            for number in range(PARTITIONS[topic])
        ]
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)
        count, began = 0, time.perf_counter()
        while count < wanted:
            polled = await consumer.getmany(timeout_ms=100, max_records=BATCH_RECORDS)
            for records in polled.values():
                count += len(records)
                for record in records:
                    envelope = decode(record.value)
                    decoders[envelope.type].decode(envelope.data)
        return wanted / (time.perf_counter() - began)
    finally:
        await consumer.stop()
