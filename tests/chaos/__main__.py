"""`python -m tests.chaos`: a company's year under faults, compared to the penny."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from deploy.demo.caught_up import watching
from deploy.embedded.errors import StackError
from deploy.embedded.state import State, state_folder
from tests.chaos.arena import Arena, arena, write_json
from tests.chaos.injection import Injector
from tests.chaos.plan import Plan, full_plan, quick_plan
from tests.chaos.planting import Planting, plant_all
from tests.chaos.run import Run
from tests.chaos.script import Script
from tests.chaos.verdict import Verdict, judge

RESULTS = Path("chaos-results.json")
FOLDER = "chaos"
EXIT_INTERRUPTED = 130
WIDTH_ELSEWHERE = 120
SHOWN = 40
EVENTS, FAULTS, FENCES = 100_000, 160, 10
QUICK_EVENTS = 4_000
CLOSES, QUICK_CLOSES = 6, 2
TICK_DAYS, QUICK_TICK_DAYS = 3, 7


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. fences: fewer of them fail the run. plants: plant bugs afterwards."""

    seed: int
    events: int
    faults: int
    quick: bool
    plants: bool
    results: Path

    @property
    def fences(self) -> int:
        """How many batches must have been fenced."""
        return 1 if self.quick else FENCES


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a run found. missing: faults of the plan that did not strike."""

    verdict: Verdict
    injector: Injector
    events: int
    fences: int
    planting: Planting
    missing: list[str]
    elapsed_s: float

    def document(self, options: Options) -> dict[str, object]:
        """What is written for programs."""
        verdict = self.verdict
        return {
            "seed": options.seed,
            "faults": self.injector.faults,
            "events": self.events,
            "fences": self.fences,
            "lost": verdict.lost,
            "doubled": verdict.doubled,
            "difference": f"{verdict.difference:f}",
            "by_kind": dict(sorted(self.injector.by_kind.items())),
            "planted_bugs": {"total": self.planting.total, "caught": self.planting.caught},
        }

    def complaints(self, options: Options) -> list[str]:
        """Everything that fails the run."""
        found = [*self.verdict.complaints, *self.injector.failures]
        found += [f"did not strike: {name}" for name in self.missing]
        found += [f"planted and not noticed: {name}" for name in self.planting.missed]
        if self.fences < options.fences:
            found.append(f"only {self.fences} batches were fenced, not {options.fences}")
        return found


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if nothing was lost, doubled or different, 1 if anything was, 130 when interrupted."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_ELSEWHERE)
    options = _options(arguments)
    # The driver's own clients complain of every server that is killed.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        return asyncio.run(_until_signal(options, console))
    except StackError as error:
        console.print(Text(str(error), style="red"))
        return 1
    except BaseExceptionGroup as errors:
        for leaf in _leaves(errors):
            console.print(Text(f"{type(leaf).__name__}: {leaf}", style="red"))
        return 1


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _options(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides company, faults and victims")
    parser.add_argument("--events", type=int, help=f"at least so many; {EVENTS:,} if not given")
    parser.add_argument("--faults", type=int, help=f"at least so many; {FAULTS} if not given")
    parser.add_argument("--quick", action="store_true", help="each failpoint once, in 2 minutes")
    parser.add_argument("--no-planted-bugs", action="store_true", help="leave them to their tests")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where figures are written")
    given = parser.parse_args(arguments)
    return Options(
        seed=given.seed,
        events=given.events or (QUICK_EVENTS if given.quick else EVENTS),
        faults=given.faults or FAULTS,
        quick=given.quick,
        plants=not given.no_planted_bugs,
        results=given.results,
    )


async def _until_signal(options: Options, console: Console) -> int:
    """Run until the end, or until Ctrl-C, SIGTERM or a closed terminal ends it."""
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(_run(options, console))
    asked: list[int] = []

    def stop(number: int) -> None:
        asked.append(number)
        running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    try:
        return await running
    except asyncio.CancelledError:
        if not asked:
            raise
        console.print("Stopped")
        return EXIT_INTERRUPTED


async def _run(options: Options, console: Console) -> int:
    began = time.monotonic()
    state = State(state_folder() / FOLDER)

    def note(line: str) -> None:
        console.print(Text(f"{datetime.now().astimezone():%H:%M:%S}  {line}"))

    plan = quick_plan(options.seed) if options.quick else full_plan(options.seed, options.faults)
    closes = QUICK_CLOSES if options.quick else CLOSES
    ticks = QUICK_TICK_DAYS if options.quick else TICK_DAYS
    note(f"Seed {options.seed}, {plan.total} faults; starting PostgreSQL, Kafka and all services")
    script = await asyncio.to_thread(
        Script.write, options.seed, options.events, closes=closes, tick_days=ticks
    )
    async with arena(state, note) as ready:
        run, verdict = await _attack(ready, script, plan, options, console)
        fences = ready.fences()
        planting = Planting()
        if options.plants:
            note("Planting bugs")
            planting = await plant_all(ready.stage.stack.endpoints, note)
        note("Stopping everything")
    outcome = Outcome(
        verdict,
        run.injector,
        run.traffic.events,
        fences,
        planting,
        sorted(" ".join(spot) for spot in set(plan.spots) - run.injector.struck),
        time.monotonic() - began,
    )
    write_json(options.results, outcome.document(options))
    return _report(outcome, options, console, state)


async def _attack(
    ready: Arena, script: Script, plan: Plan, options: Options, console: Console
) -> tuple[Run, Verdict]:
    def note(line: str) -> None:
        console.print(Text(f"{datetime.now().astimezone():%H:%M:%S}  {line}"))

    with _progress(console) as progress:
        events = progress.add_task("events", total=script.events)
        faults = progress.add_task("faults", total=plan.total)
        run = Run(
            ready,
            script,
            plan,
            options.seed,
            note,
            on_events=lambda sent: progress.advance(events, sent),
            on_fault=lambda: progress.advance(faults),
        )
        await run.introduce()
        note(f"Sending {script.events:,} events")
        await run.perform()
    note("Everything is settled; comparing")
    verdict = await judge(ready, script, run.closer)
    verdict.complaints += run.traffic.failures
    verdict.complaints += await _dead_letters(ready)
    return run, verdict


async def _dead_letters(ready: Arena) -> list[str]:
    async with watching(ready.stage.stack.endpoints) as watch:
        return [f"dead letter: {line}" for line in await watch.dead_letters()]


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        yield progress


def _report(outcome: Outcome, options: Options, console: Console, state: State) -> int:
    complaints = outcome.complaints(options)
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(outcome.injector.by_kind.items()))
    console.print(
        f"{outcome.injector.faults} faults ({kinds}) in {outcome.elapsed_s:,.0f} s; "
        f"{outcome.events:,} events, {outcome.fences} batches fenced; "
        f"slowest recovery {outcome.injector.longest_recovery_s:.1f} s"
    )
    for complaint in complaints[:SHOWN]:
        console.print(Text(complaint, style="red"))
    if len(complaints) > SHOWN:
        console.print(f"… and {len(complaints) - SHOWN} more")
    verdict = outcome.verdict
    said = f"lost {verdict.lost}, doubled {verdict.doubled}, difference {verdict.difference:f}"
    if complaints:
        logs = os.path.relpath(state.logs)
        console.print(f"[red]The run failed: {said}. Logs: {logs}, figures: {options.results}[/]")
        return 1
    console.print(
        f"[green]All {verdict.compared:,} comparisons agree with the independent recomputation, "
        f"money to the penny: {said}. Figures: {options.results}[/]"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
