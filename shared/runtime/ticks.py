"""Ticks: work that time causes, and the clock it is judged by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from shared.clock import WallClock
from shared.db.pool import DATABASE_ERRORS

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

RETRY_S = 1.0

PATIENCE_S = 1.0
MOST_PATIENCE_S = 30.0
"""What waits for a backlog is done all the same after so long."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Periodic:
    """Work repeated every `interval_s`; again at once while it returns that there is more."""

    name: str
    interval_s: float
    work: Callable[[], Awaitable[bool | int | None]]

    async def run(self, stop: asyncio.Event) -> None:
        """Repeat until `stop`. A failing database is waited for; other errors end the process."""
        while not stop.is_set():
            try:
                more = await self.work()
            except DATABASE_ERRORS as error:
                log.warning("tick.retry", tick=self.name, error=type(error).__name__)
                await _pause(stop, RETRY_S)
                continue
            if not more:
                await _pause(stop, self.interval_s)


@dataclass(slots=True)
class Patient:
    """Work that is better done seldom while facts come in great batches, which make it again.

    Once begun it goes on until nothing is left. Then it waits for the end of the backlog, or four
    times as long as it took: at least `PATIENCE_S`, at most `MOST_PATIENCE_S`.
    """

    work: Callable[[], Awaitable[int]]
    catching_up: Callable[[], bool]
    _begun_s: float | None = None
    _not_before_s: float = float("-inf")

    async def __call__(self) -> int:
        """Work, if it is time; how much was done."""
        now_s = time.monotonic()
        if self.catching_up() and now_s < self._not_before_s:
            return 0
        begun_s = self._begun_s = now_s if self._begun_s is None else self._begun_s
        done = await self.work()
        if not done:
            now_s = time.monotonic()
            rest_s = min(MOST_PATIENCE_S, max(PATIENCE_S, 4 * (now_s - begun_s)))
            self._begun_s, self._not_before_s = None, now_s + rest_s
        return done


async def service_now(tx: Connection | Pool, *, clock: str) -> datetime:
    """The instant at which a service judges.

    clock: `wall`, or `external` for the instant that was last set with `set_simulated_now` (the
    beginning of time before that, so that nothing is judged early).
    """
    if clock == "wall":
        return WallClock().now()
    instant = await tx.fetchval("SELECT instant FROM simulated_clock")
    return instant or datetime(1970, 1, 1, tzinfo=UTC)


async def set_simulated_now(tx: Connection, instant: datetime) -> None:
    """Move the simulated clock on; it never goes back."""
    await tx.execute(
        "INSERT INTO simulated_clock (instant) VALUES ($1) ON CONFLICT (only_row) "
        "DO UPDATE SET instant = greatest(simulated_clock.instant, excluded.instant)",
        instant,
    )


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
