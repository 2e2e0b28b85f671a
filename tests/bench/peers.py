"""The core's work against Quix Streams' on one same topic, by `PEERS=1 make bench`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from deploy.embedded.services import ROOT, role_url
from deploy.embedded.state import state_folder
from shared.events.catalogue import CRM_DEALS
from tests.bench.lab import Bench, Lab, Produced
from tests.bench.report import Result, compared, ratio_at_least
from tests.bench.traffic import OF_COMMISSIONS, Record, company_facts, reference_facts
from tests.simulator import Company

PEERS = "PEERS"
"""The environment variable that asks for this measurement."""

LOCK = ROOT / "requirements" / "peers.txt"
UNIT = "events/s"
GOAL = ratio_at_least(2.0)
TIMEOUT_S = 600.0

Answer = dict[str, Any]


async def peers(lab: Lab, *, seed: int, scale: float) -> list[Result]:
    """Both read the same deals and must come to the same cells. Raises when they do not."""
    python = await asyncio.to_thread(_environment)
    company = Company.generate(seed, scale)
    records = company_facts(company, OF_COMMISSIONS, seed)
    async with lab.topics() as prefix:
        produced = await lab.produce(prefix, records)
        try:
            folds = await _quix(lab, python, prefix, "folds")
            whole = await _quix(lab, python, prefix, "whole")
        finally:
            await _delete_quix_topics(lab, prefix)
        async with lab.service("metrics", prefix) as bench:
            ours = await _core(bench, produced)
    _same(whole["totals"], ours["totals"])
    service = await _full_service(lab, company, records)
    count, same = len(records), "peers: metrics' core, the same work"
    peer = Result("peers: Quix Streams, the same work", count / whole["elapsed_s"], UNIT)
    return [
        peer,
        Result(
            "peers: Quix Streams, no cells: fold and differences", count / folds["elapsed_s"], UNIT
        ),
        compared(same, count / ours["elapsed_s"], UNIT, peer, goal=GOAL),
        compared("peers: metrics, the full service", service, UNIT, peer),
    ]


def _environment() -> Path:
    """The interpreter of the peers' environment, made where it is missing or outdated."""
    folder = state_folder() / "peers"
    stamp = folder / ".installed"
    wanted = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
    python = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, clear=True, with_pip=True)
        pip = (python, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")
        subprocess.run([*pip, "install", "--require-hashes", "-r", str(LOCK)], check=True)
        stamp.write_text(wanted)
    return python


async def _quix(lab: Lab, python: Path, prefix: str, extent: str) -> Answer:
    folder = lab.folder / f"quix-{prefix}{extent}"
    argv = [python, "-m", "tests.bench.quix_work", lab.bootstrap, prefix + CRM_DEALS, folder]
    return await _run(lab, f"quix-{extent}", argv, [extent])


async def _core(bench: Bench, produced: Produced) -> Answer:
    ends = {number: end for (_, number), end in produced.ends.items()}
    url = role_url(bench.told.database_url, bench.name, bench.told.role_passwords[bench.name])
    argv = [sys.executable, "-m", "tests.bench.core_work", bench.lab.bootstrap, bench.prefix, url]
    return await _run(bench.lab, "core-work", argv, [json.dumps(ends)])


async def _run(lab: Lab, name: str, argv: Sequence[object], more: Sequence[str]) -> Answer:
    """Run a process that writes its answer to a file, which it is given before `more`."""
    path, log = lab.folder / f"{name}.json", lab.folder / f"{name}.log"
    words = [*map(str, argv), str(path), *more]
    with log.open("wb") as output:
        child = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=output)
    try:
        code = await asyncio.to_thread(child.wait, TIMEOUT_S)
    finally:
        child.kill()
        child.wait()
    if code != 0:
        msg = f"{name} failed:\n{log.read_text(errors='replace')[-2_000:]}"
        raise RuntimeError(msg)
    answer: Answer = json.loads(path.read_text())
    return answer


def _same(theirs: Sequence[Sequence[Any]], ours: Sequence[Sequence[Any]]) -> None:
    """Raises unless both came to the same cells."""
    left, right = _by_name(theirs), _by_name(ours)
    if not left or left != right:
        differ = sorted(name for name in {*left, *right} if left.get(name) != right.get(name))
        msg = f"{len(differ)} of {len(right)} cells differ, the first: {differ[:3]}"
        raise RuntimeError(msg)


def _by_name(totals: Sequence[Sequence[Any]]) -> Mapping[tuple[str, ...], tuple[int, ...]]:
    return {(owner, measure, day): (c, n) for owner, measure, day, c, n in totals}


async def _full_service(lab: Lab, company: Company, records: Sequence[Record]) -> float:
    """The whole metrics service on the same deals, on topics of its own."""
    async with (
        lab.topics() as prefix,
        lab.service("metrics", prefix) as bench,
        bench.consumers() as crew,
    ):
        await crew.load(reference_facts(company))
        return (await crew.consume(records)).per_second


async def _delete_quix_topics(lab: Lab, prefix: str) -> None:
    """Changelogs and repartitioned topics, which name the topic that they belong to."""
    admin = AIOKafkaAdminClient(bootstrap_servers=lab.bootstrap)
    await admin.start()
    try:
        mine = [t for t in await admin.list_topics() if prefix in t and not t.startswith(prefix)]
        if mine:
            await admin.delete_topics(mine)
    finally:
        await admin.close()


def asked_for() -> bool:
    """Whether this run includes the peers."""
    return os.environ.get(PEERS) == "1"
