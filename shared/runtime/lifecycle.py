"""A process's life: everything starts together, one failure ends all, signals end it in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

log = structlog.get_logger()

Task = Callable[[asyncio.Event], Coroutine[Any, Any, None]]

DRAIN_TIMEOUT_S = 15.0
"""How long tasks may take to finish what they hold after a signal."""


async def run_until_signal(tasks: Mapping[str, Task]) -> None:
    """Run named tasks until SIGINT or SIGTERM, or until one of them ends or fails.

    Each gets the event that asks it to stop. Raises what the first failing task raised.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    running = {asyncio.create_task(task(stop), name=name) for name, task in tasks.items()}
    stopped = asyncio.create_task(stop.wait(), name="signal")
    done, _ = await asyncio.wait({*running, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    for task in done - {stopped}:
        log.error("process.task_ended", task=task.get_name())
    _, late = await asyncio.wait(running, timeout=DRAIN_TIMEOUT_S)
    for task in late:
        log.error("process.task_cancelled", task=task.get_name())
        task.cancel()
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    stopped.cancel()
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
