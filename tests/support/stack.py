"""A real PostgreSQL and a real Kafka for one test session, started by the stack's own command.

They run under a supervisor of their own process: a test may kill either and it comes back, and
whatever happens to the test run, the kernel tells the supervisor, which stops both.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from deploy.embedded import children, postgres
from deploy.embedded.stack import endpoints_of
from deploy.embedded.state import State, state_folder

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
# What would lead the stack, or a service, somewhere else than this run says.
STRAY_PREFIX = "ATTAIN_"
KEPT = ("ATTAIN_CACHE_DIR",)


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that the tests of one session share."""

    postgres_url: str  # of the administrator
    kafka_bootstrap: str
    state: State | None  # None: given by others, so not ours to kill

    def pid(self, name: str) -> int:
        """Process id of `postgres` or `kafka` as of now. Raises KeyError while it is down."""
        if self.state is None:
            raise KeyError(name)
        return children.running(self.state)[name]


@contextmanager
def servers() -> Iterator[Servers]:
    """Start both servers on free ports, in a folder of their own; stop and remove all afterwards.

    `DATABASE_URL` and `ATTAIN_KAFKA_BOOTSTRAP`, given together, name a stack that is up already
    and is used instead. A part that cannot be started raises: nothing is skipped.
    """
    url, bootstrap = os.environ.get("DATABASE_URL"), os.environ.get("ATTAIN_KAFKA_BOOTSTRAP")
    if url and bootstrap:
        yield Servers(url, bootstrap, _state_of(url))
        return
    folder = Path(tempfile.mkdtemp(prefix="attain-test-"))
    folder.chmod(0o711)  # as root the database runs under another id, which must pass
    try:
        with _supervised(State(folder / "state")) as found:
            yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _state_of(url: str) -> State | None:
    """State folder of a stack that is up already, if `ATTAIN_STATE_DIR` names the one of `url`."""
    if not state_folder().exists():
        return None
    state = State(state_folder())
    endpoints = endpoints_of(state)
    return state if endpoints and endpoints.database_url == url else None


@contextmanager
def _supervised(state: State) -> Iterator[Servers]:
    command = (sys.executable, "-m", "deploy.embedded", "up", "--no-services", "--stop-with-parent")
    log = children.log_path(state, "supervisor")
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            command,
            cwd=ROOT,
            env=stack_environment(state),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while (endpoints := endpoints_of(state)) is None:
            if supervisor.poll() is not None or time.monotonic() > deadline:
                message = f"The test stack did not start:\n{log.read_text()}"
                raise RuntimeError(message)
            time.sleep(0.05)
        yield Servers(endpoints.database_url, endpoints.kafka_bootstrap, state)
    finally:
        with suppress(ProcessLookupError):
            supervisor.send_signal(signal.SIGTERM)
        try:
            supervisor.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
        left = children.end_leftovers(state)
        postgres.wipe(state)
    if left:
        message = f"The test stack left processes behind: {', '.join(left)}"
        raise RuntimeError(message)


def stack_environment(state: State) -> dict[str, str]:
    """Environment for a stack of its own in the given folder, whatever this shell was told."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or (not name.startswith(STRAY_PREFIX) and name != "DATABASE_URL")
    }
    return {**inherited, "ATTAIN_STATE_DIR": str(state.root)}


@asynccontextmanager
async def fresh_database(admin_url: str) -> AsyncIterator[str]:
    """URL of a new, empty database for the administrator; dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    await _execute(admin_url, f'CREATE DATABASE "{name}" STRATEGY WAL_LOG')
    try:
        yield urlunsplit(urlsplit(admin_url)._replace(path=f"/{name}"))
    finally:
        await _execute(admin_url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
