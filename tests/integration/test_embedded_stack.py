"""The embedded PostgreSQL and Kafka, through the command that people use."""

from __future__ import annotations  # asyncpg's classes take parameters only in its stubs

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.embedded import children, kafka, postgres
from deploy.embedded.errors import StackError
from deploy.embedded.ports import LOOPBACK, free_port
from deploy.embedded.stack import Endpoints, endpoints_of
from deploy.embedded.state import State
from tests.support.stack import ROOT, Servers, stack_environment

UP = (sys.executable, "-m", "deploy.embedded", "up", "--no-services")


@pytest.fixture
def state() -> Iterator[State]:
    """Folder of a stack of the test's own; whatever is left in it is stopped and removed."""
    folder = Path(tempfile.mkdtemp(prefix="attain-test-"))
    folder.chmod(0o711)
    own = State(folder / "state")
    yield own
    command(own, "down")
    command(own, "wipe")
    shutil.rmtree(folder)


def command(state: State, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "deploy.embedded", *words),
        cwd=ROOT,
        env={**stack_environment(state), **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


def started(state: State, **settings: str) -> Endpoints:
    done = command(state, "up", "--no-services", "--detach", **settings)
    assert done.returncode == 0, done.stderr
    endpoints = endpoints_of(state)
    assert endpoints
    return endpoints


async def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        yield connection
    finally:
        await connection.close()


async def test_the_database_is_safe_and_asks_for_a_password(postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums"):
            assert await connection.fetchval(f"SHOW {setting}") == "on", setting
        assert await connection.fetchval("SHOW server_version_num") >= "180000"
        await connection.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
    parts = urlsplit(postgres_url)
    for user in (postgres.ADMIN, f"{postgres.ADMIN}:guessed"):
        address = f"{user}@{parts.hostname}:{parts.port}"
        with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
            await asyncpg.connect(urlunsplit(parts._replace(netloc=address)), password="")


async def test_a_fresh_database_is_empty_and_ones_own(database: str, postgres_url: str) -> None:
    assert database != postgres_url
    async with connected(database) as connection:
        await connection.execute("CREATE TABLE only_here (id int)")
    async with connected(postgres_url) as connection:
        assert await connection.fetchval("SELECT to_regclass('only_here')") is None


async def test_the_database_comes_back_after_kill_9_with_what_was_committed(
    stack: Servers, database: str
) -> None:
    async with connected(database) as connection:
        await connection.execute("CREATE TABLE kept (id int)")
        await connection.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
        os.kill(stack.pid("postgres"), signal.SIGKILL)
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                async with connected(database) as connection:
                    assert await connection.fetchval("SELECT count(*) FROM kept") == 1000
                    return
            await asyncio.sleep(0.05)


async def test_the_broker_comes_back_after_kill_9_with_what_it_acknowledged(
    stack: Servers, kafka_bootstrap: str, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}kept"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all") as producer:
        await producer.send_and_wait(topic, b"acknowledged")
    killed = stack.pid("kafka")
    os.kill(killed, signal.SIGKILL)
    assert stack.state
    await until(lambda: children.running(stack.state).get("kafka", killed) != killed)  # type: ignore[arg-type] # seen above
    async with asyncio.timeout(60):
        while not await kafka.answers(kafka_bootstrap):
            await asyncio.sleep(0.05)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    try:
        record = await asyncio.wait_for(consumer.getone(), 30)
    finally:
        await consumer.stop()
    assert record.value == b"acknowledged"


async def test_a_stack_is_detached_shown_kept_and_stopped(state: State) -> None:
    first = started(state)
    second = command(state, "up", "--no-services")
    assert second.returncode == 1
    assert f"process {first.supervisor_pid}) is using {state.root}" in second.stderr
    assert first.kafka_bootstrap in command(state, "status").stdout
    assert f"ATTAIN_KAFKA_BOOTSTRAP={first.kafka_bootstrap}" in command(state, "env").stdout
    async with connected(first.database_url) as connection:
        await connection.execute("CREATE TABLE kept (id int)")
    # Even a supervisor that is killed leaves nothing in the way of the next run.
    os.kill(first.supervisor_pid, signal.SIGKILL)
    again = started(state)
    assert again.kafka_bootstrap == first.kafka_bootstrap
    async with connected(again.database_url) as connection:
        assert await connection.fetchval("SELECT to_regclass('kept')") == "kept"
    pids = children.running(state)
    assert set(pids) == {"kafka", "postgres"}
    assert command(state, "down").stdout == "Stopped\n"
    assert children.running(state) == {}
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
    assert command(state, "status").returncode == 3


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
async def test_asked_to_stop_in_the_middle_of_a_start_it_leaves_nothing(
    state: State, asked: signal.Signals
) -> None:
    with subprocess.Popen(
        UP, cwd=ROOT, env=stack_environment(state), stdout=subprocess.PIPE, text=True
    ) as starting:
        await until(lambda: "postgres" in children.running(state))
        pids = children.running(state)
        starting.send_signal(asked)
        output, _ = starting.communicate(timeout=60)
    assert starting.returncode == 0
    assert output.endswith("Stopped\n")
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
    assert children.running(state) == {}


@pytest.mark.parametrize("part", ["postgres", "kafka"])
async def test_a_configured_port_that_is_busy_is_named(state: State, part: str) -> None:
    port = free_port()
    with socket.create_server((LOOPBACK, port)):
        done = command(state, "up", "--no-services", **{f"ATTAIN_PORT_{part.upper()}": str(port)})
    assert done.returncode == 1
    assert f"Port {port} (ATTAIN_PORT_{part.upper()}) is already in use." in done.stderr
    assert "Traceback" not in done.stderr
    assert children.running(state) == {}


async def test_a_given_database_that_does_not_answer_is_an_error_naming_the_setting(
    state: State,
) -> None:
    url = f"postgresql://nobody:word@{LOOPBACK}:{free_port()}/none"
    done = command(state, "up", "--no-services", DATABASE_URL=url)
    assert done.returncode == 1
    assert "DATABASE_URL" in done.stderr
    assert "word" not in done.stderr
    assert children.running(state) == {}


async def test_a_given_database_that_is_too_old_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await postgres.given(postgres_url) == postgres_url
    monkeypatch.setattr(postgres, "OLDEST_ACCEPTED", 990_000)
    with pytest.raises(StackError, match=r"DATABASE_URL is PostgreSQL 18\.\d+.*; Attain needs"):
        await postgres.given(postgres_url)


async def test_a_state_folder_below_a_closed_one_works_too() -> None:
    """As root the server's id cannot pass through a 0700 folder; otherwise it is our own id."""
    closed = Path(tempfile.mkdtemp(prefix="attain-closed-"))  # mode 0700
    state = State(closed / "checkout" / ".state")
    try:
        endpoints = started(state)
        async with connected(endpoints.database_url) as connection:
            cluster = Path(await connection.fetchval("SHOW data_directory"))
        pid = children.running(state)["postgres"]
        if os.geteuid() == 0:
            assert cluster.stat().st_uid == Path(f"/proc/{pid}").stat().st_uid != 0
            assert cluster.parent.parent == postgres.PUBLIC_FOLDER
            assert cluster.parent.stat().st_uid == 0
        assert command(state, "down").returncode == 0
        assert command(state, "wipe").returncode == 0
        assert not cluster.exists()
        assert not cluster.parent.exists() or cluster.parent == state.root
    finally:
        command(state, "down")
        shutil.rmtree(closed)


async def test_without_a_way_to_the_programs_they_are_copied(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment below a 0700 folder, as in root's home."""
    reachable = postgres.reachable
    monkeypatch.setattr(
        postgres, "reachable", lambda folder: folder == state.root and reachable(folder)
    )
    site = await asyncio.to_thread(postgres.place, state)
    if os.geteuid() == 0:
        assert site.binaries.is_relative_to(state.root)
    began = time.monotonic()
    assert await asyncio.to_thread(postgres.place, state) == site
    assert time.monotonic() - began < 1, "copied twice"
    version = subprocess.run(
        (site.binaries / "initdb", "--version"), capture_output=True, text=True, check=True
    )
    assert " 18." in version.stdout
