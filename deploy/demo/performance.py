"""The demo from curtain to curtain."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from rich.console import Console

from deploy.demo import summary
from deploy.demo.caught_up import watching
from deploy.demo.figures import HALF_A_CENT, Figures, Name, differences, expected
from deploy.demo.read import Office, read_figures
from deploy.demo.stage import Stage, stage
from deploy.demo.story import Script, Told, introduce, tell, write
from deploy.embedded.state import State

CENT = HALF_A_CENT * 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for. falsify: change one expected figure by a cent, which must be noticed."""

    once: bool = False
    scale: float = 1.0
    seed: int = 1
    consumers: int = 1
    falsify: bool = False


async def perform(state: State, options: Options, console: Console) -> int:
    """Start, tell, compare, show; and stay up until interrupted unless it is for once.

    The exit code: 0 if every figure agrees and nothing was refused or put aside.
    """
    began = time.monotonic()

    def report(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:5.1f} s[/]  {line}", markup=True)

    report("Starting PostgreSQL, Kafka and the services on empty stores")
    writing = asyncio.ensure_future(asyncio.to_thread(write, options.seed, options.scale))
    try:
        async with stage(state, report, consumers=options.consumers) as ready:
            script = await writing
            told, complaints = await _play(ready, script, options, console, report)
            report(f"Done after {time.monotonic() - began:.0f} s")
            code = 1 if complaints else 0
            if not options.once:
                console.print("\nEverything stays up until Ctrl-C.")
                await ready.stack.supervisor.until_failure()
            return code
    finally:
        writing.cancel()
