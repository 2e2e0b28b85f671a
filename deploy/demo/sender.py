"""Sends deliveries as CRMs do: signed at the moment of sending, some at once, again when told to.

A delivery that is not accepted in the end is kept and shown; nothing is passed over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector

from tests.simulator import Delivery
from tests.simulator.setup import HOOK_PATH, PUBLIC_URL

EVENTS_PATH = "/v1/events"
AT_ONCE = 8
"""Requests under way at the same time."""

TRIES = 30
LONGEST_PAUSE_S = 5.0
FIRST_PAUSE_S = 0.1
TIMEOUT_S = 30.0
TOO_MANY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
SHOWN_CHARS = 300


@dataclass(slots=True)
class Sent:
    """What became of the deliveries. failures: what was answered to those that were refused."""

    deliveries: int = 0
    events: int = 0
    tried_again: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Sender:
    """Posts deliveries to ingest. token: of the machine that posts CloudEvents."""

    base_url: str
    token: str
    secret: str
    on_sent: Callable[[int], None]
    sent: Sent = field(default_factory=Sent)

    async def send(self, deliveries: Iterable[Delivery]) -> None:
        """Post all, `AT_ONCE` at a time; returns when each was accepted or given up."""
        waiting = iter(deliveries)
        async with (
            ClientSession(
                self.base_url,
                connector=TCPConnector(limit=AT_ONCE),
                timeout=ClientTimeout(total=TIMEOUT_S),
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(AT_ONCE):
                group.create_task(self._work(client, waiting))

    async def _work(self, client: ClientSession, waiting: Iterator[Delivery]) -> None:
        for delivery in waiting:
            answer = await self._post(client, delivery)
            if answer is not None:
                self.sent.failures.append(answer)
            self.sent.deliveries += 1
            self.sent.events += delivery.events
            self.on_sent(delivery.events)

    async def _post(self, client: ClientSession, delivery: Delivery) -> str | None:
        """None once accepted, else what was answered last."""
        path = HOOK_PATH if delivery.kind == "hubspot" else EVENTS_PATH
        answer = ""
        for attempt in range(TRIES):
            now_ms = time.time_ns() // 1_000_000
            headers = delivery.headers(
                secret=self.secret, url=PUBLIC_URL, now_ms=now_ms, token=self.token
            )
            pause_s = min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S)
            try:
                async with client.post(path, data=delivery.body, headers=headers) as response:
                    text = await response.text()
            except (ClientError, TimeoutError, OSError) as error:
                answer = f"POST {path}: {type(error).__name__}"
            else:
                if response.ok:
                    return None
                answer = f"POST {path}: {response.status} {text[:SHOWN_CHARS]}"
                if response.status not in TOO_MANY:
                    return answer
                pause_s = _retry_after_s(response, pause_s)
            self.sent.tried_again += 1
            await asyncio.sleep(pause_s)
        return answer


def _retry_after_s(response: ClientResponse, otherwise_s: float) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), LONGEST_PAUSE_S) if text.isdigit() else otherwise_s
