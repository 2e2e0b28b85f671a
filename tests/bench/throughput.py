"""Events a second of one consumer process, beside reading and decoding the same topic."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.events.catalogue import PARTITIONS, RECORD_KIND_BY_TYPE
from shared.events.envelope import decode
from shared.http.auth import Role
from shared.runtime.consume import BATCH_RECORDS
from tests.bench.lab import Bench, Lab
from tests.bench.report import Result, compared
from tests.bench.traffic import (
    OF_COMMISSIONS,
    OF_METRICS,
    company_facts,
    quota_facts,
    reference_facts,
)
from tests.simulator import Company, setup_calls

UNIT = "events/s"

THIRD_COMPONENT: Mapping[str, Any] = {
    "id": "every-deal",
    "kind": "commission",
    "credit": {"on": "deal.won", "amount": "deal.amount", "to": "splits"},
    "rates": {"method": "flat", "rate": "0.5%"},
}


async def metrics(lab: Lab, *, seed: int, scale: float) -> list[Result]:
    """One consumer process of metrics on a company's year of deals and activities."""
    company = Company.generate(seed, scale)
    records = company_facts(company, OF_METRICS, seed)
    async with lab.topics() as prefix, lab.service("metrics", prefix) as bench:
        await bench.consume(reference_facts(company))
        span = await bench.consume(records)
        floor = await consume_and_decode(lab, prefix, {record.topic for record in records})
    named = Result("metrics: consume and decode (floor)", floor, UNIT)
    return [
        named,
        compared("metrics: one consumer process", span.per_second, UNIT, named),
        Result("metrics: consumer CPU", span.events / span.consumer_cpu_s, "events/CPU-s"),
        _both("metrics", span.cpu_per_thousand_s),
    ]


async def commissions(lab: Lab, *, seed: int, scale: float) -> list[Result]:
    """One consumer process of commissions, with plans of three components, on the same deals."""
    company = Company.generate(seed, scale)
    records = company_facts(company, OF_COMMISSIONS, seed)
    async with lab.topics() as prefix, lab.service("commissions", prefix) as bench:
        async with bench.api() as api:
            await say(api, lab, _plan_calls(company))
        await bench.consume([*reference_facts(company), *quota_facts(company.history.quotas)])
        span = await bench.consume(records)
        await expect_lines(bench)
        floor = await consume_and_decode(lab, prefix, {record.topic for record in records})
    named = Result("commissions: consume and decode (floor)", floor, UNIT)
    return [
        named,
        compared("commissions: one consumer process", span.per_second, UNIT, named),
        Result("commissions: consumer CPU", span.events / span.consumer_cpu_s, "events/CPU-s"),
        _both("commissions", span.cpu_per_thousand_s),
    ]


def _both(name: str, cpu_per_thousand_s: float) -> Result:
    return Result(f"{name}: consumer and PostgreSQL CPU", cpu_per_thousand_s, "CPU-s/1,000 events")


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


async def consume_and_decode(lab: Lab, prefix: str, topics: Iterable[str]) -> float:
    """Events a second when batches are read, and envelopes and data decoded, and no more."""
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
        wanted: int = sum((await consumer.end_offsets(places)).values())
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
