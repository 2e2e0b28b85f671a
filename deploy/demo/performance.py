"""The demo from beginning to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.demo.caught_up import Watch, watching
from deploy.demo.figures import (
    HALF_A_CENT,
    Difference,
    Name,
    Value,
    What,
    differences,
    expected,
)
from deploy.demo.read import office, read_figures
from deploy.demo.stage import Stage, stage
from deploy.demo.story import DEFAULT_SCALE, Script, Told, introduce, tell, write
from deploy.demo.summary import gather, show, show_verdict
from deploy.embedded.state import State

CENT = HALF_A_CENT * 2

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for. falsify: change one expected figure by a cent, which must be noticed."""

    once: bool = False
    scale: float = DEFAULT_SCALE
    seed: int = 1
    consumers: int = 1
    falsify: bool = False


async def perform(state: State, options: Options, console: Console) -> int:
    """Start, tell, show, compare; then stay up until interrupted, unless it is for once.

    The exit code: 0 if every figure agrees and nothing was refused or put aside, else 1.
    """
    began = time.monotonic()

    def report(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:5.1f} s[/]  {line}")

    report("Starting PostgreSQL, Kafka and all services on empty stores")
    writing = asyncio.ensure_future(asyncio.to_thread(write, options.seed, options.scale))
    try:
        async with stage(state, report, consumers=options.consumers) as ready:
            code = await _play(ready, await writing, options, console, report)
            if options.once:
                report("Done; stopping everything")
            else:
                report("Done; everything stays up until Ctrl-C")
                await _stay(ready)
    finally:
        writing.cancel()
    report("Stopped")
    return code


async def _play(
    ready: Stage, script: Script, options: Options, console: Console, report: Report
) -> int:
    history = script.company.history
    async with watching(ready.stack.endpoints) as watch:
        await introduce(ready, script.company)
        await watch.caught_up()
        report(
            f"Sending {script.events:,} facts: {history.year} of a company with "
            f"{len(history.people)} people"
        )
        told = await _told(ready, script, watch, console)
        report("Everything is settled")
        complaints = [*told.sent.failures, *await watch.dead_letters()]
    async with office(ready, history) as desk:
        show(console, await gather(desk, ready, history), history, told, ready)
        wanted = expected(script.outcome, history)
        if options.falsify:
            wanted = falsified(wanted)
        found = differences(wanted, await read_figures(desk, history))
    show_verdict(console, len(wanted), found, complaints)
    return 1 if found or complaints else 0


async def _told(ready: Stage, script: Script, watch: Watch, console: Console) -> Told:
    """Send the year under a progress bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        bar = progress.add_task("facts", total=script.events)
        return await tell(ready, script, watch, lambda events: progress.advance(bar, events))


async def _stay(ready: Stage) -> None:
    """Until Ctrl-C, which is how this is meant to end, or until a process cannot be kept up."""
    try:
        await ready.stack.supervisor.until_failure()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()


def falsified(wanted: dict[Name, Value]) -> dict[Name, Value]:
    """The same figures with one cent more in the greatest payable."""
    payable = {n: v for n, v in wanted.items() if n.what is What.PAYABLE and isinstance(v, Decimal)}
    name = max(payable, key=lambda name: payable[name])
    return {**wanted, name: payable[name] + CENT}


__all__ = ["Difference", "Options", "falsified", "perform"]
