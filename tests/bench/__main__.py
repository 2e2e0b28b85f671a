"""`python -m tests.bench`: measure, print a table, write `bench-results.json`; see `make help`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from deploy.demo.story import DEFAULT_SCALE
from tests.bench.batch import batch
from tests.bench.catalogue import flow
from tests.bench.freshness import freshness
from tests.bench.growth import growth
from tests.bench.lab import Lab
from tests.bench.pay import estimates, simulation
from tests.bench.peers import asked_for, peers
from tests.bench.recompute import recompute
from tests.bench.report import RESULTS, Result, table, write
from tests.bench.throughput import commissions, metrics
from tests.bench.webhooks import webhooks
from tests.bench.year import memory, reads
from tests.support.stack import servers

FEW = 10_000
MANY = 100_000
ACCOUNTS = 1_000
"""Of the company that is rated again, with a thousand credits each."""

EXIT_TERMINATED = 143

Measurement = Callable[[Lab], Awaitable[Sequence[Result]]]


def measurements(options: argparse.Namespace) -> Mapping[str, Measurement]:
    """Every measurement by name, as small or as large as `options` say."""
    seed, quick = options.seed, options.quick
    scale = 0.2 if quick else 1.0
    year_scale = 0.05 if quick else DEFAULT_SCALE
    many = options.deals or [3_000 if quick else MANY]
    grown = partial(
        growth,
        seed=seed,
        few=min(1_000 if quick else FEW, *many),
        many=many,
        events=6_000 if quick else 20_000,
    )
    known: dict[str, Measurement] = {
        "metrics": partial(metrics, seed=seed, scale=scale),
        "commissions": partial(commissions, seed=seed, scale=scale),
        "growth-metrics": partial(grown, service="metrics"),
        "growth-commissions": partial(grown, service="commissions"),
        "recompute": partial(recompute, seed=seed, accounts=20 if quick else ACCOUNTS),
        "flow": partial(flow, deals=5_000 if quick else MANY, count=20 if quick else 50),
        "webhooks": partial(webhooks, round_s=1.0 if quick else 5.0),
        "batch": partial(batch, seed=seed, round_s=1.0 if quick else 5.0),
        "freshness": partial(freshness, seed=seed, duration_s=5.0 if quick else 30.0),
        "estimate": partial(
            estimates, seed=seed, reps=20 if quick else 1_000, count=50 if quick else 400
        ),
        "simulation": partial(simulation, seed=seed, reps=20 if quick else 1_000),
        "reads": partial(reads, seed=seed, scale=year_scale, count=200 if quick else 2_000),
        "memory": partial(memory, seed=seed, scale=year_scale, count=200 if quick else 2_000),
    }
    if asked_for():
        known["peers"] = partial(peers, seed=seed, scale=0.5 if quick else 4.0)
    return known


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for; 0 once all of it is written."""
    options = _options(arguments)
    known = measurements(options)
    chosen = options.only.split(",") if options.only else list(known)
    if unknown := sorted(set(chosen) - known.keys()):
        sys.stderr.write(f"no measurement is called {', '.join(unknown)}; {', '.join(known)}\n")
        return 2
    results: list[Result] = []
    # An exit, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    with servers() as found, tempfile.TemporaryDirectory(prefix="attain-bench-") as folder:
        lab = Lab(found, Path(folder), options.profile)
        for name in chosen:
            began = time.monotonic()
            made = asyncio.run(_measured(known[name], lab))
            results += made
            if options.profile is None:
                write(results)
            took_s = time.monotonic() - began
            sys.stdout.write(f"\n{name} ({took_s:.0f} s)\n{table(made)}\n")
            sys.stdout.flush()
    sys.stdout.write(f"\n{RESULTS}\n")
    return 0


async def _measured(measurement: Measurement, lab: Lab) -> Sequence[Result]:
    return await measurement(lab)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", default="", help="names of measurements, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small: does it work, not how fast")
    parser.add_argument(
        "--deals",
        type=_sizes,
        metavar="N[,N]",
        help=f"the larger sizes of growth, beside {FEW:,}; {MANY}",
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed is other traffic")
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FOLDER",
        help="leave <service>-<process>.pstats there; the figures are then worthless",
    )
    return parser.parse_args(arguments)


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
