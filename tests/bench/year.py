"""After a company's year through all services: how fast it is read, and how much memory it takes.

The year is the demo's, sent to the public interfaces; the services live in its time.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from deploy.demo.caught_up import watching
from deploy.demo.stage import SLACK_CHANNELS, Stage
from deploy.demo.story import Script, introduce, tell, write
from deploy.embedded import children
from deploy.embedded.ports import free_port
from shared.http.auth import Role
from tests.bench.company import port_of, whole
from tests.bench.lab import Lab
from tests.bench.report import Goal, Result, at_most, compared, percentile
from tests.bench.wire import request, wire
from tests.simulator import Company
from tests.simulator.reference import quarters
from tests.support.slack_server import SlackServer

CLIENTS = 2
"""Who read at the same time, each waiting for its answer: more would measure their queue."""

WARM_UP = 50
"""Reads before the first that counts: prepared statements, plans, lookups."""

MEDIAN, TAIL = 50, 99
DEALS_SHOWN = 50
MILLISECONDS = "ms"
MEGABYTES = "MB"
KIB_PER_MB = 1_000_000 / 1_024
MEMORY_GOAL = at_most(300)
KPI_GOAL = at_most(30)
STATEMENT_GOAL = at_most(50)

_CLOCKED = {
    name: {f"ATTAIN_{name.upper()}_CLOCK": "external"} for name in ("metrics", "commissions")
}
_AS_IN_THE_DEMO = {
    "ATTAIN_METRICS_NEXT_STEP_DAYS": "3650",
    "ATTAIN_METRICS_STAGE_AGE_MULTIPLE": "5",
}


async def reads(lab: Lab, *, seed: int, scale: float, count: int) -> list[Result]:
    """Latency of `count` reads of each sort."""
    return (await _year(lab, seed, scale, count))["reads"]


async def memory(lab: Lab, *, seed: int, scale: float, count: int) -> list[Result]:
    """Resident memory of every process, when the year is through and has been read."""
    return (await _year(lab, seed, scale, count))["memory"]


async def _year(lab: Lab, seed: int, scale: float, count: int) -> dict[str, list[Result]]:
    """Both, measured once a run."""
    if not lab.year:
        script = await asyncio.to_thread(write, seed, scale)
        async with SlackServer(port=free_port()) as slack:
            more = {**_CLOCKED, "metrics": _CLOCKED["metrics"] | _AS_IN_THE_DEMO}
            more["notifications"] = {"ATTAIN_NOTIFICATIONS_SLACK_INTERVAL_S": "0"}
            async with whole(lab, slack, channels=SLACK_CHANNELS, more=more) as stage:
                await _live_through(stage, script)
                lab.year["reads"] = await _read(stage, script.company, count)
                lab.year["memory"] = _memory(stage)
    return lab.year


async def _live_through(stage: Stage, script: Script) -> None:
    async with watching(stage.stack.endpoints) as watch:
        await introduce(stage, script.company)
        await watch.caught_up()
        told = await tell(stage, script, watch, lambda _events: None)
        complaints = [*told.sent.failures, *await watch.dead_letters()]
    if complaints:
        msg = f"the year did not go through: {complaints[0]}"
        raise RuntimeError(msg)


# ---- reads -------------------------------------------------------------------------------------


async def _read(stage: Stage, company: Company, count: int) -> list[Result]:
    results: list[Result] = []
    floors: dict[int, Result] = {}
    for name, (service, asked, goal) in (await _paths(stage, company)).items():
        took_ms = await _closed_loop(stage, service, asked, count)
        for share in (MEDIAN, TAIL):
            value, held = percentile(took_ms, share), goal if share == TAIL else None
            full = f"reads: {name}, p{share}"
            if share in floors:
                results.append(compared(full, value, MILLISECONDS, floors[share], goal=held))
            else:
                floors[share] = Result(f"{full} (floor)", value, MILLISECONDS)
                results.append(floors[share])
    return results


async def _paths(
    stage: Stage, company: Company
) -> dict[str, tuple[str, Sequence[str], Goal | None]]:
    """What is read, by name: the service, the paths in turn, the goal of the 99th percentile."""
    history = company.history
    reps = [person.id for person in history.people if person.role == "rep"]
    periods = [name for name, _, _ in quarters(history.year)]
    kpis = ("K1", "K5", "K24")
    of_reps = [
        f"/v1/kpis/{kpi}?rep={rep}&period={period}"
        for rep in reps
        for period in periods
        for kpi in kpis
    ]
    of_all = [
        f"/v1/kpis/{kpi}?{scope}period={period}"
        for kpi in kpis
        for scope in ("", *(f"team={team.id}&" for team in history.teams))
        for period in periods
    ]
    lists = [f"/v1/deals?limit={DEALS_SHOWN}&rep={rep}" for rep in reps]
    lists += [f"/v1/deals?limit={DEALS_SHOWN}&status={status}" for status in ("open", "won")]
    statements = [
        f"/v1/statements/{row['payee']}/{row['plan']}/{row['period']}"
        for row in await _statements(stage)
    ]
    return {
        "KPI catalogue, token but no database": ("metrics", ["/v1/kpis"], None),
        "KPI of a rep": ("metrics", of_reps, KPI_GOAL),
        "KPI of a team or of all": ("metrics", of_all, KPI_GOAL),
        f"list of {DEALS_SHOWN} deals": ("metrics", lists, None),
        "statement": ("commissions", statements, STATEMENT_GOAL),
    }


async def _statements(stage: Stage) -> list[dict[str, Any]]:
    async with wire(port_of(stage, "commissions")) as connection:
        sent = request("GET", "/v1/statements?limit=500", _headers(stage))
        found: list[dict[str, Any]] = json.loads(await connection.exchange(sent))["data"]
    if not found:
        msg = "the year made no statement"
        raise RuntimeError(msg)
    return found


def _headers(stage: Stage) -> dict[str, str]:
    token = stage.token(Role.ADMIN, Role.COMP_ADMIN, Role.FINANCE, subject="bench")
    return {"Authorization": f"Bearer {token}"}


async def _closed_loop(
    stage: Stage, service: str, paths: Sequence[str], count: int
) -> Sequence[float]:
    """How long each of `count` reads took, in milliseconds."""
    asked = cycle([request("GET", path, _headers(stage)) for path in paths])
    left = iter(range(count + WARM_UP))
    took_ms: list[float] = []

    async def client() -> None:
        async with wire(port_of(stage, service)) as connection:
            for number in left:
                began = time.perf_counter()
                await connection.exchange(next(asked))
                if number >= WARM_UP:
                    took_ms.append(1_000 * (time.perf_counter() - began))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return took_ms


# ---- memory ------------------------------------------------------------------------------------


def _memory(stage: Stage) -> list[Result]:
    pids = children.running(stage.stack.state)
    results = [
        Result(f"memory: {name}, RSS", _status_mb(pid, "VmRSS"), MEGABYTES, goal=MEMORY_GOAL)
        for name, pid in sorted(pids.items())
    ]
    peak = max(_status_mb(pid, "VmHWM") for pid in pids.values())
    return [*results, Result("memory: the highest peak of any process", peak, MEGABYTES)]


def _status_mb(pid: int, field: str) -> float:
    """A size in `/proc/<pid>/status`, in megabytes of 1,000,000 bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) / KIB_PER_MB
