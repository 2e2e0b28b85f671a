"""Signed HubSpot webhooks a second, beside a bare inlet that does the least."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from deploy.embedded.ports import free_port
from tests.bench.lab import Lab
from tests.bench.report import Result, compared, ratio_at_least
from tests.bench.throughput import say
from tests.bench.wire import request, wire
from tests.simulator.hubspot import signed_headers
from tests.simulator.people import PORTAL
from tests.simulator.setup import HOOK_PATH, PUBLIC_URL, SOURCE

CONNECTIONS = 16
ROUNDS = 3
WARM_UP_S = 1.0
SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
UNIT = "webhooks/s"
GOAL = ratio_at_least(0.7)

_KEPT = "SELECT count(*) FROM outbox"


@dataclass(frozen=True, slots=True)
class Target:
    """Where webhooks go."""

    port: int
    path: str


async def webhooks(lab: Lab, *, round_s: float) -> list[Result]:
    """Both inlets run at once; they are loaded in turn, and the median round of each counts."""
    numbers = iter(range(1_000_000_000))
    async with lab.topics() as prefix, lab.service("ingest", prefix) as bench:
        bare_port = free_port()
        topic = f"{prefix}crm.raw"
        argv = (sys.executable, "-m", "tests.bench.bare", lab.bootstrap, topic, str(bare_port))
        env = {"BARE_SECRET": SECRET, "BARE_URL": PUBLIC_URL}
        async with bench.api() as api, lab.running(argv, env, "bare", bare_port):
            source = {
                "adapter": "hubspot",
                "tenant": PORTAL,
                "secret": SECRET,
                "public_url": PUBLIC_URL,
            }
            await say(api, lab, [(f"/v1/sources/{SOURCE}", source)])
            targets = [Target(bare_port, "/hook"), Target(int(api.base_url.port or 0), HOOK_PATH)]
            for target in targets:
                # The first delivery of all tries Kafka alone; what comes with it is kept aside.
                await _load(target, numbers.__next__, WARM_UP_S)
            kept = -await bench.connection.fetchval(_KEPT)
            rates = await _in_turn(targets, numbers.__next__, round_s)
            kept += await bench.connection.fetchval(_KEPT)
    if kept:
        msg = f"{kept} deliveries went to the outbox: Kafka was too slow to measure anything"
        raise RuntimeError(msg)
    floor = Result("webhooks: bare FastAPI, HMAC, acks=all (floor)", rates[0], UNIT)
    name = "webhooks: ingest, signed HubSpot, one event"
    return [floor, compared(name, rates[1], UNIT, floor, goal=GOAL)]


async def _in_turn(
    targets: Sequence[Target], number: Callable[[], int], round_s: float
) -> list[float]:
    rates: list[list[float]] = [[] for _ in targets]
    for _ in range(ROUNDS):
        for target, found in zip(targets, rates, strict=True):
            found.append(await _load(target, number, round_s))
    return [median(found) for found in rates]


async def _load(target: Target, number: Callable[[], int], duration_s: float) -> float:
    """Webhooks a second over so long, by connections that each wait for their answer."""
    began = time.monotonic()
    ends = began + duration_s
    counts = await asyncio.gather(*(_connection(target, number, ends) for _ in range(CONNECTIONS)))
    return sum(counts) / (time.monotonic() - began)


async def _connection(target: Target, number: Callable[[], int], ends: float) -> int:
    count = 0
    async with wire(target.port) as connection:
        while time.monotonic() < ends:
            sent = webhook(target.path, amount_event(number(), time.time_ns() // 1_000_000), SECRET)
            await connection.exchange(sent)
            count += 1
    return count


def amount_event(number: int, now_ms: int) -> dict[str, Any]:
    """HubSpot's event of a new amount of one of a thousand deals."""
    deal = 30_700_000_000 + number % 1_000
    return property_event(number, now_ms, deal, "amount", str(1_000 + number % 90_000))


def property_event(number: int, now_ms: int, deal: int, name: str, value: str) -> dict[str, Any]:
    """HubSpot's event of a changed property. number: of no other event."""
    return {
        "eventId": 5_000_000_000 + number,
        "subscriptionId": 771_003,
        "portalId": int(PORTAL),
        "appId": 2_209_114,
        "occurredAt": now_ms,
        "subscriptionType": "deal.propertyChange",
        "attemptNumber": 0,
        "changeSource": "CRM_UI",
        "objectId": deal,
        "propertyName": name,
        "propertyValue": value,
    }


def webhook(path: str, event: Mapping[str, Any], secret: str) -> bytes:
    """A signed request that carries one event."""
    body = json.dumps([event], separators=(",", ":")).encode()
    return request(
        "POST", path, signed_headers(secret, PUBLIC_URL, body, event["occurredAt"]), body
    )
