"""Sends the company's deliveries as CRMs do, to whichever ingest is up, spread over all faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from deploy.demo.sender import EVENTS_PATH
from tests.chaos.script import WEBHOOK_SECRET
from tests.simulator import Delivery
from tests.simulator.setup import HOOK_PATH, PUBLIC_URL

AT_ONCE = 8
TIMEOUT_S = 6.0
PAUSE_S = 0.2
GIVEN_UP_AFTER_S = 180.0
TRANSIENT_FROM = 500
TRANSIENT = frozenset({408, 425, 429})
SHOWN_CHARS = 300
BURST = 12
"""So many deliveries go out together: workers get batches worth the name."""

LONGEST_PAUSE_S = 3.0
AHEAD = 0.15
"""Faults wait for the traffic when they are ahead of it by more than this share of the run."""

FIRST_GUESS_S = 4.0
"""Seconds a fault takes, until the run knows better."""


@dataclass(slots=True)
class Pace:
    """Spreads the traffic over the faults: neither runs out before the other.

    events, faults: in all. faults_done: how many have struck so far.
    """

    events: int
    faults: int
    faults_done: Callable[[], int]
    _began: float = field(default_factory=time.monotonic)

    def faults_are_ahead(self, sent: int) -> bool:
        """Whether faults are to wait until more has been sent."""
        return self.faults_done() / self.faults > sent / self.events + AHEAD

    def pause_s(self, sent: int, burst: int) -> float:
        """How long to wait after a burst of so many events, `sent` being all up to it."""
        done = self.faults_done()
        left = self.faults - done
        if left <= 0 or sent * self.faults < done * self.events:
            return 0.0
        a_fault_s = (time.monotonic() - self._began) / done if done else FIRST_GUESS_S
        return min(LONGEST_PAUSE_S, burst * left * a_fault_s / max(1, self.events - sent))


@dataclass(slots=True)
class Traffic:
    """Posts deliveries to several ingests. failures: what was refused in the end."""

    urls: Sequence[str]
    token: str
    pace: Pace
    on_sent: Callable[[int], None]
    events: int = 0
    tried_again: int = 0
    failures: list[str] = field(default_factory=list)
    _turn: int = 0

    async def send(self, client: ClientSession, deliveries: Sequence[Delivery]) -> None:
        """Post all, in bursts with pauses; returns when each was accepted or given up."""
        for start in range(0, len(deliveries), BURST):
            burst = deliveries[start : start + BURST]
            gate = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for delivery in burst:
                    group.create_task(self._post(client, gate, delivery))
            size = sum(delivery.events for delivery in burst)
            self.events += size
            self.on_sent(size)
            await asyncio.sleep(self.pace.pause_s(self.events, size))

    async def _post(
        self, client: ClientSession, gate: asyncio.Semaphore, delivery: Delivery
    ) -> None:
        path = HOOK_PATH if delivery.kind == "hubspot" else EVENTS_PATH
        deadline = time.monotonic() + GIVEN_UP_AFTER_S
        async with gate:
            while True:
                answer, final = await self._try(client, path, delivery)
                if answer is None:
                    return
                if final or time.monotonic() > deadline:
                    self.failures.append(f"POST {path}: {answer}")
                    return
                self.tried_again += 1
                await asyncio.sleep(PAUSE_S)

    async def _try(
        self, client: ClientSession, path: str, delivery: Delivery
    ) -> tuple[str | None, bool]:
        """None once accepted, else what was answered, and whether that is final."""
        self._turn += 1
        url = self.urls[self._turn % len(self.urls)] + path
        headers = delivery.headers(
            secret=WEBHOOK_SECRET,
            url=PUBLIC_URL,
            now_ms=time.time_ns() // 1_000_000,
            token=self.token,
        )
        try:
            async with client.post(url, data=delivery.body, headers=headers) as response:
                text = await response.text()
        except (ClientError, TimeoutError, OSError) as error:
            return type(error).__name__, False
        if response.ok:
            return None, True
        transient = response.status >= TRANSIENT_FROM or response.status in TRANSIENT
        return f"{response.status} {text[:SHOWN_CHARS]}", not transient


def client() -> ClientSession:
    """What deliveries are posted with."""
    return ClientSession(
        connector=TCPConnector(limit=AT_ONCE), timeout=ClientTimeout(total=TIMEOUT_S)
    )
