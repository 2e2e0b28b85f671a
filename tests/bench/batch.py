"""Batches of CloudEvents: events a second, beside decoding, encoding and sending them alone."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from shared.events.catalogue import RECORD_KIND_BY_TYPE
from shared.events.envelope import Envelope, encode
from shared.http.auth import Role
from shared.kafka.clients import make_producer, stop_quietly
from tests.bench.lab import Lab
from tests.bench.report import Result, compared, ratio_at_least
from tests.bench.wire import Wire, request, wire
from tests.simulator import Company
from tests.simulator.emit import CLOUDEVENTS_BATCH, record_event
from tests.simulator.history import Said

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

EVENTS_PER_BATCH = 500
AT_ONCE = 4
"""Batches under way at the same time, in both."""

ROUNDS = 3
WARM_UP_S = 1.0
UNIT = "events/s"
GOAL = ratio_at_least(0.6)
NO_SEQUENCE = "0" * 35

_KEPT = "SELECT count(*) FROM outbox"

Take = Callable[[bytes], Awaitable[None]]
"""What is done with a batch's body until all its events are durable."""


class Posted(msgspec.Struct):
    """Of a CloudEvent, what has to be read to send it on."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: msgspec.Raw


async def batch(lab: Lab, *, seed: int, round_s: float) -> list[Result]:
    """Ingest and the bare loop in turn, on the same bodies; the median round of each counts."""
    bodies = _bodies(seed)
    async with (
        lab.topics() as prefix,
        lab.service("ingest", prefix) as bench,
        bench.api() as api,
        _bare(lab, prefix) as bare,
        _posted(lab, int(api.base_url.port or 0)) as posted,
    ):
        takes = [bare, posted]
        for take in takes:
            # The first delivery of all tries Kafka alone; what comes with it is kept aside.
            await _rate(take, bodies, WARM_UP_S)
        kept = -await bench.connection.fetchval(_KEPT)
        rates: list[list[float]] = [[] for _ in takes]
        for _ in range(ROUNDS):
            for take, found in zip(takes, rates, strict=True):
                found.append(await _rate(take, bodies, round_s))
        kept += await bench.connection.fetchval(_KEPT)
    if kept:
        msg = f"{kept} messages went to the outbox: Kafka was too slow to measure anything"
        raise RuntimeError(msg)
    floor = Result("batch: decode, encode, acks=all send, no HTTP (floor)", median(rates[0]), UNIT)
    name = f"batch: ingest, CloudEvents in batches of {EVENTS_PER_BATCH}"
    return [floor, compared(name, median(rates[1]), UNIT, floor, goal=GOAL)]


def _bodies(seed: int) -> Sequence[bytes]:
    """A company's changes of deals, one CloudEvent each."""
    company = Company.generate(seed, 0.5)
    events = [
        record_event("deal", deal.id, Said(change.at_ms, {change.field: change.value}), number)
        for deal in company.history.deals
        for number, change in enumerate(deal.changes, 1)
        if change.field not in {"splits", "overlays"}
    ]
    full = len(events) // EVENTS_PER_BATCH * EVENTS_PER_BATCH
    starts = range(0, full, EVENTS_PER_BATCH)
    return [json.dumps(events[start : start + EVENTS_PER_BATCH]).encode() for start in starts]


async def _rate(take: Take, bodies: Sequence[bytes], duration_s: float) -> float:
    """Events a second over so long, some batches under way all the time."""
    waiting = cycle(bodies)
    began = time.monotonic()
    ends = began + duration_s

    async def work() -> int:
        count = 0
        while time.monotonic() < ends:
            await take(next(waiting))
            count += 1
        return count

    counts = await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return sum(counts) * EVENTS_PER_BATCH / (time.monotonic() - began)


@asynccontextmanager
async def _posted(lab: Lab, port: int) -> AsyncIterator[Take]:
    """Through `POST /v1/events`."""
    headers = {**lab.token(Role.ADMIN), "Content-Type": CLOUDEVENTS_BATCH}
    async with AsyncExitStack() as opened:
        idle: list[Wire] = [await opened.enter_async_context(wire(port)) for _ in range(AT_ONCE)]

        async def take(body: bytes) -> None:
            connection = idle.pop()
            await connection.exchange(request("POST", "/v1/events", headers, body))
            idle.append(connection)

        yield take


@asynccontextmanager
async def _bare(lab: Lab, prefix: str) -> AsyncIterator[Take]:
    """In this process: each event decoded with its data, encoded as a fact, sent to its topic.

    Nothing is checked, nothing is kept of the delivery, and there is no HTTP.
    """
    decoder = msgspec.json.Decoder(list[Posted])
    models = {name: msgspec.json.Decoder(kind.model) for name, kind in RECORD_KIND_BY_TYPE.items()}
    producer: AIOKafkaProducer = make_producer(lab.bootstrap, client_id="bare")
    await producer.start()

    async def take(body: bytes) -> None:
        sent = []
        for event in decoder.decode(body):
            models[event.type].decode(event.data)
            fact = Envelope(
                id=event.id,
                source=event.source,
                type=event.type,
                subject=event.subject,
                time=event.time,
                recordedtime=event.time,
                sequence=NO_SEQUENCE,
                data=event.data,
            )
            topic = prefix + RECORD_KIND_BY_TYPE[event.type].topic
            sent.append(await producer.send(topic, key=event.subject.encode(), value=encode(fact)))
        await asyncio.gather(*sent)

    try:
        yield take
    finally:
        await stop_quietly(producer)
