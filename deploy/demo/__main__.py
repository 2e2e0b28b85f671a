"""`python -m deploy.demo`: the whole of Attain at work on a company's year; see `make help`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from rich.console import Console
from rich.text import Text

from deploy.demo.performance import Options, perform
from deploy.demo.story import DEFAULT_SCALE
from deploy.embedded.errors import StackError
from deploy.embedded.state import State, state_folder

FOLDER = "demo"
"""In the state folder, beside what `make up` keeps."""

EXIT_INTERRUPTED = 130
WIDTH_ELSEWHERE = 120
"""Columns where no terminal says how many it has: in a file, or in CI."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 0 if every figure agrees, 1 if not, 130 when interrupted before the end."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_ELSEWHERE)
    options = _options(arguments)
    try:
        return asyncio.run(_until_signal(State(state_folder() / FOLDER), options, console))
    except StackError as error:
        console.print(Text(str(error), style="red"))
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _options(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop everything after the summary")
    parser.add_argument(
        "--scale",
        type=float,
        default=DEFAULT_SCALE,
        help="size of the company: 0.85 (the default) has more than 50,000 facts, 0.05 has 3,000",
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed is another company")
    parser.add_argument(
        "--consumers", type=int, default=1, help="consumer processes of each service"
    )
    parser.add_argument("--falsify", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.scale <= 0 or chosen.consumers < 1:
        parser.error("--scale must be above 0 and --consumers at least 1")
    return Options(
        once=chosen.once,
        scale=chosen.scale,
        seed=chosen.seed,
        consumers=chosen.consumers,
        falsify=chosen.falsify,
    )


async def _until_signal(state: State, options: Options, console: Console) -> int:
    """Perform until it ends, or until Ctrl-C, SIGTERM or a closed terminal ends it."""
    loop = asyncio.get_running_loop()
    performing = asyncio.ensure_future(perform(state, options, console))
    asked: list[int] = []

    def stop(number: int) -> None:
        asked.append(number)
        performing.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    try:
        return await performing
    except asyncio.CancelledError:
        if not asked:
            raise
        console.print("Stopped")
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
