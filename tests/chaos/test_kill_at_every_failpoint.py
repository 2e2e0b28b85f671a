"""Every process is killed -9 at every failpoint while a company's year goes through.

The demo itself is the judge: it compares every figure with the independent recomputation, to the
cent, and fails on any dead letter or refused delivery.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from deploy.embedded.stack import endpoints_of, wipe
from deploy.embedded.state import State
from shared.http.auth import Role
from shared.http.keys import read_private_key, sign_token
from shared.runtime.failpoints import NAMES, VARIABLE
from tests.support.stack import ROOT, stack_environment

CONSUMING = {
    *("consume.claimed", "consume.polled", "consume.fenced", "consume.handled"),
    *("consume.committed", "facts.folded", "relay.read", "relay.sent", "relay.marked"),
}
SETTLING = {"settle.locked", "settle.projected", "settle.applied"}
WHERE: dict[str, set[str]] = {
    "ingest-api": {"ingest.received", "ingest.sent", "relay.read", "relay.sent", "relay.marked"},
    "metrics-consumer": CONSUMING | SETTLING | {"tick.judged"},
    "commissions-consumer": (CONSUMING | SETTLING) - {"relay.read", "relay.sent", "relay.marked"},
    "notifications-consumer": CONSUMING | {"deliver.sending", "deliver.sent"},
}
"""Failpoints that each process passes in the demo.

commissions publishes nothing before a period is closed: its relay is killed after that. ingest
passes `ingest.outboxed` only while Kafka is away: tests/integration/ingest kills it there.
"""

AT_THE_CLOSE = {
    "commissions-api": {"close.waited", "close.locked"},
    "commissions-consumer": {"relay.read", "relay.sent", "relay.marked"},
}
ELSEWHERE = {"ingest.outboxed"}
WITHIN_S = 420.0


@pytest.fixture
def state() -> Iterator[State]:
    folder = Path(tempfile.mkdtemp(prefix="attain-kill-"))
    folder.chmod(0o711)
    own = State(folder / "state")
    yield own
    wipe(State(own.root / "demo"))
    shutil.rmtree(folder, ignore_errors=True)


def test_every_failpoint_has_its_kill() -> None:
    killed = set().union(*WHERE.values(), *AT_THE_CLOSE.values(), ELSEWHERE)
    assert killed == NAMES


@pytest.mark.timeout(WITHIN_S + 60)
def test_nothing_is_lost_or_doubled(state: State, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    armed = ";".join(f"{name}=kill!{tmp_path}" for name in sorted(NAMES))
    log = tmp_path / "output"
    with log.open("w") as output:
        demo = subprocess.Popen(
            (sys.executable, "-m", "deploy.demo", "--scale", "0.04"),
            cwd=ROOT,
            env={
                **stack_environment(state),
                "PYTHONUNBUFFERED": "1",
                "ATTAIN_CRASHES_TOLERATED": "100",
                VARIABLE: armed,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _until(demo, log, "Sending")
        (tmp_path / "armed").touch()
        _until(demo, log, "everything stays up")
        said = log.read_text()
        assert "differ" not in said.rpartition("Everything is settled")[2], said
        asyncio.run(_close_a_period(State(state.root / "demo")))
        _until_killed(tmp_path, demo, log)
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(60)
    left = {
        f"{process}.{name}"
        for where in (WHERE, AT_THE_CLOSE)
        for process, names in where.items()
        for name in names
    } - {entry.name for entry in tmp_path.iterdir()}
    assert not left, f"not killed at {sorted(left)}\n{log.read_text()}"


def _until(demo: subprocess.Popen[bytes], log: Path, words: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while words not in log.read_text():
        assert demo.poll() is None, log.read_text()
        assert time.monotonic() < deadline, f"no {words!r} in time:\n{log.read_text()}"
        time.sleep(0.2)


def _until_killed(folder: Path, demo: subprocess.Popen[bytes], log: Path) -> None:
    """The relay publishes what the close wrote, and dies at each of its failpoints."""
    wanted = [folder / f"commissions-consumer.{name}" for name in ("relay.sent", "relay.marked")]
    deadline = time.monotonic() + 60
    while not all(flag.exists() for flag in wanted) and time.monotonic() < deadline:
        assert demo.poll() is None, log.read_text()
        time.sleep(0.2)


async def _close_a_period(state: State) -> None:
    """Two persons close January; the one who closes finds the service killed twice on the way."""
    endpoints = endpoints_of(state)
    assert endpoints is not None
    url = endpoints.services["commissions-api"]
    key = read_private_key(state.root / "keys" / "signing.json")
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        for step, person in (("submit", "acme-frank"), ("close", "acme-grace")):
            token = sign_token(
                key,
                subject=person,
                person_id=person,
                roles=[Role.FINANCE],
                now=datetime.now(UTC),
            )
            await _insist(client, f"/v1/periods/2025-01/{step}", token)


async def _insist(client: httpx.AsyncClient, path: str, token: str) -> None:
    """Ask until it is answered: a killed service is back within seconds."""
    deadline = time.monotonic() + 120
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"kill-{os.getpid()}-{path}"}
    answer = None
    while time.monotonic() < deadline:
        try:
            answer = await client.post(path, headers=headers, json={})
        except httpx.HTTPError:
            await asyncio.sleep(0.5)
            continue
        if answer.status_code in {200, 201}:
            return
        assert answer.status_code in {409, 503, 504}, answer.text
        await asyncio.sleep(0.5)
    raise AssertionError(answer.text if answer is not None else "no answer")
