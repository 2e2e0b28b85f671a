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
from shared.ids import derived_id
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
    "notifications-consumer": (CONSUMING - {"facts.folded"}) | {"deliver.sending", "deliver.sent"},
}
"""Failpoints that each process passes in the demo.

commissions publishes nothing before a period is closed: its relay is killed after that.
notifications folds people, all of whom are known by then: it is killed when one more comes. ingest
passes `ingest.outboxed` only while Kafka is away: tests/integration/ingest kills it there.
"""

AFTER_THE_YEAR = {
    "notifications-consumer": {"facts.folded"},
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
    killed = set().union(*WHERE.values(), *AFTER_THE_YEAR.values(), ELSEWHERE)
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
                # What a killed sender held is taken up after its lease: by default 90 s.
                "ATTAIN_NOTIFICATIONS_LEASE_S": "6",
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
        asyncio.run(_after_the_year(State(state.root / "demo")))
        _until_killed(tmp_path, demo, log)
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(60)
    left = {
        f"{process}.{name}"
        for where in (WHERE, AFTER_THE_YEAR)
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
    wanted = [folder / f"{p}.{name}" for p, names in AFTER_THE_YEAR.items() for name in names]
    deadline = time.monotonic() + 60
    while not all(flag.exists() for flag in wanted) and time.monotonic() < deadline:
        assert demo.poll() is None, log.read_text()
        time.sleep(0.2)


async def _after_the_year(state: State) -> None:
    """Somebody is hired, and two persons close January; services are killed on the way."""
    endpoints = endpoints_of(state)
    assert endpoints is not None
    key = read_private_key(state.root / "keys" / "signing.json")
    urls = endpoints.services
    hired = f"{urls['ingest-api']}/v1/people/acme-hired"
    month = f"{urls['commissions-api']}/v1/periods/2025-01"
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        for method, url, body, person, role in (
            ("PUT", hired, {"name": "Hanna", "role": "ae"}, "acme-frank", Role.ADMIN),
            ("POST", f"{month}/submit", {}, "acme-frank", Role.FINANCE),
            ("POST", f"{month}/close", {}, "acme-grace", Role.FINANCE),
        ):
            now = datetime.now(UTC)
            token = sign_token(key, subject=person, person_id=person, roles=[role], now=now)
            await _insist(client, method, url, body, token)


async def _insist(
    client: httpx.AsyncClient, method: str, url: str, body: dict[str, str], token: str
) -> None:
    """Ask until it is answered: a killed service is back within seconds."""
    deadline = time.monotonic() + 120
    key = derived_id(str(os.getpid()), url)
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    answer = None
    while time.monotonic() < deadline:
        try:
            answer = await client.request(method, url, headers=headers, json=body)
        except httpx.HTTPError:
            await asyncio.sleep(0.5)
            continue
        if answer.is_success:
            return
        assert answer.status_code in {409, 503, 504}, answer.text
        await asyncio.sleep(0.5)
    raise AssertionError(answer.text if answer is not None else "no answer")
