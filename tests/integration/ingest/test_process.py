"""The real process: it starts from its environment, ends when told, and survives being killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from services.ingest.wiring import NAME
from shared.db.roles import create_roles
from shared.http.auth import Role
from shared.http.keys import LOCAL_AUDIENCE, LOCAL_ISSUER
from tests.integration.ingest.conftest import (
    BATCH_TYPE,
    SECRETS_KEY,
    Keys,
    deal,
    read_topic,
)
from tests.support.listen import bound_socket
from tests.support.proxy import TcpProxy, kafka_proxy

ROOT = Path(__file__).resolve().parents[3]
COMMAND = (sys.executable, "-m", "services.ingest")


def environment(
    database: str, bootstrap: str, prefix: str, keys: Keys, port: int
) -> dict[str, str]:
    """What the process is told, and nothing of this shell's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATTAIN_")}
    settings = {
        "DATABASE_URL": database,
        "KAFKA_BOOTSTRAP": bootstrap,
        "TOPIC_PREFIX": prefix,
        "JWKS_PATH": str(keys.jwks_path),
        "ISSUER": LOCAL_ISSUER,
        "AUDIENCE": LOCAL_AUDIENCE,
        "PORT": str(port),
        "SECRETS_KEY": SECRETS_KEY,
    }
    return kept | {f"ATTAIN_INGEST_{name}": value for name, value in settings.items()}


@contextmanager
def started(told: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The process, killed at the end where it still lives."""
    process = subprocess.Popen((*COMMAND, "api"), cwd=ROOT, env=dict(told), stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def until_ready(client: httpx.AsyncClient, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        try:
            if (await client.get("/readyz")).is_success:
                return
        except httpx.HTTPError:
            pass
        await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own_database(database: str) -> str:
    """The service's own role and schema, brought up by its own command."""
    await create_roles(database, {NAME: "a-password-of-tests"})

    address = database.rpartition("@")[2]
    return f"postgresql://attain_{NAME}:a-password-of-tests@{address}"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the process runs: its environment, and the broker that it sees."""

    told: Mapping[str, str]
    url: str
    kafka: TcpProxy
    bootstrap: str
    prefix: str
    bearer: Mapping[str, str]


@pytest_asyncio.fixture(loop_scope="session")
async def stage(
    own_database: str, kafka_bootstrap: str, topic_prefix: str, keys: Keys
) -> AsyncIterator[Stage]:
    """A database brought up by the process's own command, and a broker that can go away."""
    with bound_socket() as free:
        port: int = free.getsockname()[1]
    async with kafka_proxy(kafka_bootstrap) as kafka:
        told = environment(own_database, kafka.address, topic_prefix, keys, port)
        subprocess.run((*COMMAND, "migrate"), cwd=ROOT, env=told, check=True)
        url = f"http://127.0.0.1:{port}"
        bearer = keys.bearer(Role.ADMIN) | BATCH_TYPE
        yield Stage(told, url, kafka, kafka_bootstrap, topic_prefix, bearer)


async def send_until_killed(stage: Stage, client: httpx.AsyncClient) -> set[str]:
    """Ids of the facts that were promised before the process died."""
    promised: set[str] = set()
    for number in range(400):
        if number == 10:
            await stage.kafka.accept()
        body = json.dumps([deal(f"kill-{number}")])
        try:
            answer = await client.post("/v1/events", content=body, headers=stage.bearer)
        except httpx.HTTPError:
            return promised
        assert answer.status_code == 202
        promised.update(answer.json()["ids"])
        await asyncio.sleep(0.01)
    message = "the process was not killed"
    raise AssertionError(message)


@pytest.mark.parametrize(
    ("failpoint", "kafka_at_first"),
    [
        ("ingest.received", True),
        ("ingest.sent", True),
        ("ingest.outboxed", False),
        ("relay.sent", False),
    ],
)
async def test_killed_anywhere_nothing_promised_is_lost(
    stage: Stage, failpoint: str, *, kafka_at_first: bool
) -> None:
    if not kafka_at_first:
        await stage.kafka.refuse()
    hit = 1 if failpoint == "relay.sent" else 3
    armed = {**stage.told, "ATTAIN_FAILPOINTS": f"{failpoint}=kill@{hit}"}
    async with httpx.AsyncClient(base_url=stage.url, timeout=10, trust_env=False) as client:
        with started(armed) as process:
            await until_ready(client, process)
            promised = await send_until_killed(stage, client)
            assert process.wait(10) == -signal.SIGKILL
        await stage.kafka.accept()
        with started(stage.told) as process:
            await until_ready(client, process)
            again = json.dumps([deal("kill-again")])
            answer = await client.post("/v1/events", content=again, headers=stage.bearer)
            assert answer.status_code == 202
            await assert_all_come(stage, promised | set(answer.json()["ids"]))
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


async def assert_all_come(stage: Stage, promised: set[str]) -> None:
    """Every promised fact lies on the topic, or will soon."""
    deadline = time.monotonic() + 20
    while True:
        found = await read_topic(stage.bootstrap, stage.prefix + "crm.deals")
        if promised <= {json.loads(value)["id"] for _, value in found}:
            return
        assert time.monotonic() < deadline, "a promised fact is lost"
        await asyncio.sleep(0.2)


def test_a_key_that_is_none_is_said(keys: Keys) -> None:
    told = environment("postgresql://a:b@localhost:1/x", "localhost:1", "", keys, 8)
    told["ATTAIN_INGEST_SECRETS_KEY"] = "short"
    ended = subprocess.run(
        (*COMMAND, "check-config"), cwd=ROOT, env=told, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("ingest: ATTAIN_INGEST_SECRETS_KEY: must be 32 random bytes")
