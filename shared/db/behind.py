"""Statements that run while this process goes on computing, in one transaction and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self


class Behind:
    """At most one piece of SQL at a time runs behind the caller's back; the next one waits for it.

    A connection takes one statement at a time: within the block nobody but what is given to `run`
    may use it. Leaving the block waits for the last one and raises what it raised. After an error
    nothing is left running, so that the transaction can be rolled back.
    """

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Nothing runs yet."""
        return self

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for what runs, then start `work`, which is on its way when this returns."""
        try:
            await self._finish()
        except BaseException:
            work.close()
            raise
        self._running = asyncio.create_task(work)
        await asyncio.sleep(0)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for what runs; its error is raised unless another one is on its way already."""
        if error is None:
            try:
                await self._finish()
            except BaseException as late:
                await self._give_up(late)
                raise
        else:
            await self._give_up(error)

    async def _give_up(self, error: BaseException) -> None:
        """Wait for what runs, cancelled where the caller is, and forget what came of it."""
        if self._running is None:
            return
        if not isinstance(error, Exception):
            self._running.cancel()
        await asyncio.wait({self._running})
        if not self._running.cancelled():
            self._running.exception()

    async def _finish(self) -> None:
        if self._running is not None:
            await asyncio.wait({self._running})
            running, self._running = self._running, None
            running.result()


async def breathe() -> None:
    """Let what runs behind send and receive; called often within long computations."""
    await asyncio.sleep(0)
