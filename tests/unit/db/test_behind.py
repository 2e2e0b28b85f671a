"""Statements that run behind: one at a time, in order, and none left after an error."""

from __future__ import annotations

import asyncio

import pytest

from shared.db.behind import Behind


async def test_each_waits_for_the_one_before() -> None:
    seen: list[str] = []

    async def work(name: str) -> None:
        seen.append(f"{name} begins")
        await asyncio.sleep(0.01)
        seen.append(f"{name} ends")

    async with Behind() as behind:
        await behind.run(work("a"))
        seen.append("computing")
        await behind.run(work("b"))
    assert seen == ["a begins", "computing", "a ends", "b begins", "b ends"]


async def test_an_error_behind_is_raised_by_the_next_or_at_the_end() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("behind")

    with pytest.raises(KeyError):
        async with Behind() as behind:
            await behind.run(fails())
    async with Behind() as behind:
        await behind.run(fails())
        with pytest.raises(KeyError):
            await behind.run(fails())


async def test_after_an_error_of_the_caller_nothing_runs_any_more() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0.01)
        ended.set()

    async def caller() -> None:
        async with Behind() as behind:
            await behind.run(work())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await caller()
    assert ended.is_set()


async def test_cancelling_the_caller_cancels_what_runs() -> None:
    stopped = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async def caller() -> None:
        async with Behind() as behind:
            await behind.run(work())

    task = asyncio.create_task(caller())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()
