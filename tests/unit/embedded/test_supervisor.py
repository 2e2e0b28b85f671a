"""The supervisor with tiny processes; the real servers are in tests/integration."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.embedded import children
from deploy.embedded import supervisor as supervising
from deploy.embedded.children import ProcessSpec
from deploy.embedded.errors import StackError, StartFailed
from deploy.embedded.state import State
from deploy.embedded.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[3]

# Writes its name to the journal when it starts and when it is asked to stop.
NORMAL = """
import signal, sys, time
name, journal = sys.argv[1:3]
def note(what):
    with open(journal, "a") as file: file.write(f"{what} {name}\\n")
def stop(*_):
    note("stop"); sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note("start")
time.sleep(600)
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[2], "a") as file: file.write(f"child {child.pid}\\n")
time.sleep(600)
"""


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


Make = Callable[..., ProcessSpec]


@pytest.fixture
def make(tmp_path: Path, journal: Path) -> Make:
    def spec(name: str, code: str = NORMAL, **changes: object) -> ProcessSpec:
        async def started() -> bool:
            return journal.exists() and f"start {name}\n" in journal.read_text()

        settings: dict[str, object] = {
            "ready": started if code is NORMAL else None,
            "ready_timeout_s": 20.0,
            "stop_timeout_s": 10.0,
            **changes,
        }
        return ProcessSpec(
            name=name,
            argv=(sys.executable, "-c", code, name, str(journal)),
            env=dict(os.environ),
            cwd=tmp_path,
            **settings,  # type: ignore[arg-type] # tests change single fields
        )

    return spec


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.02)


def silent(_: str) -> None:
    """Report to nobody."""


async def test_starts_in_order_and_stops_in_reverse(
    state: State, make: Make, journal: Path
) -> None:
    async with Supervisor(state, silent) as supervisor:
        for name in ("first", "second", "third"):
            await supervisor.start(make(name))
        pids = supervisor.pids()
        assert children.running(state) == pids
    assert journal.read_text().split("\n")[:-1] == [
        *("start first", "start second", "start third"),
        *("stop third", "stop second", "stop first"),
    ]
    assert not any(map(alive, pids.values()))
    assert children.running(state) == {}


async def test_what_fails_to_start_is_told_with_its_last_words_and_no_secret(
    state: State, make: Make, journal: Path
) -> None:
    code = "import sys; print('cannot reach hunter2 at all'); sys.exit(7)"

    async def never() -> bool:
        return False

    async with Supervisor(state, silent) as supervisor:
        await supervisor.start(make("first"))
        with pytest.raises(StartFailed) as failure:
            await supervisor.start(make("second", code, ready=never, secrets=("hunter2",)))
    assert "second did not start: ended with exit code 7" in str(failure.value)
    assert "cannot reach *** at all" in str(failure.value)
    assert journal.read_text().endswith("stop first\n")


async def test_what_is_not_ready_in_time_is_stopped(state: State, make: Make) -> None:
    async def never() -> bool:
        return False

    async with Supervisor(state, silent) as supervisor:
        with pytest.raises(StartFailed, match=r"not ready after 0\.3 s"):
            await supervisor.start(make("slow", ready=never, ready_timeout_s=0.3))
        assert supervisor.pids() == children.running(state) == {}


async def test_a_program_that_is_not_there_is_named(state: State, tmp_path: Path) -> None:
    async with Supervisor(state, silent) as supervisor:
        with pytest.raises(StartFailed, match="/nowhere/program"):
            await supervisor.start(
                ProcessSpec(name="gone", argv=("/nowhere/program",), env={}, cwd=tmp_path)
            )


async def test_a_process_that_is_killed_comes_back(state: State, make: Make) -> None:
    told: list[str] = []
    async with Supervisor(state, told.append) as supervisor:
        await supervisor.start(make("first"))
        before = supervisor.pids()["first"]
        os.kill(before, signal.SIGKILL)
        await until(lambda: any("is back" in line for line in told))
        assert alive(supervisor.pids()["first"])
        assert children.running(state) == supervisor.pids() != {"first": before}
    assert told[0] == "first was killed by signal 9; starting it again"


async def test_a_process_that_keeps_crashing_is_given_up_loudly(
    state: State, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "LONGEST_BACKOFF_S", 0.01)
    monkeypatch.setattr(supervising, "CRASHES_TOLERATED", 3)
    async with Supervisor(state, silent) as supervisor:
        await supervisor.start(make("crashing", "import sys; sys.exit(3)"))
        with pytest.raises(StackError, match=r"crashing ended 4 times .*code 3.*crashing\.log"):
            await asyncio.wait_for(supervisor.until_failure(), 20)


async def test_what_does_not_listen_is_killed_with_its_children(
    state: State, make: Make, journal: Path
) -> None:
    async with Supervisor(state, silent) as supervisor:
        await supervisor.start(make("stubborn", STUBBORN, stop_timeout_s=0.3))
        await until(lambda: journal.exists() and "child" in journal.read_text())
        pid = supervisor.pids()["stubborn"]
    grandchild = int(journal.read_text().split()[1])
    await until(lambda: not alive(pid) and not alive(grandchild))


async def test_cancelling_in_the_middle_of_a_start_leaves_nothing(
    state: State, make: Make, journal: Path
) -> None:
    async def never() -> bool:
        return False

    async def start() -> None:
        async with Supervisor(state, silent) as supervisor:
            await supervisor.start(make("first"))
            await supervisor.start(make("second", ready=never))

    task = asyncio.create_task(start())
    await until(lambda: journal.exists() and "start second" in journal.read_text())
    pids = children.running(state)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(pids) == 2
    assert not any(map(alive, pids.values()))
    assert journal.read_text().endswith("stop second\nstop first\n")


async def test_a_hurried_stop_does_not_wait(state: State, make: Make, journal: Path) -> None:
    began = time.monotonic()
    async with Supervisor(state, silent) as supervisor:
        await supervisor.start(make("stubborn", STUBBORN, stop_timeout_s=60.0))
        await until(lambda: journal.exists() and "child" in journal.read_text())
        supervisor.hurry()
    assert time.monotonic() - began < 30


async def test_running_to_the_end_reports_its_exit_code(state: State, make: Make) -> None:
    async with Supervisor(state, silent) as supervisor:
        await supervisor.run(make("well", "pass"))
        with pytest.raises(StartFailed, match="exit code 4"):
            await supervisor.run(make("ill", "import sys; sys.exit(4)"))
        with pytest.raises(StartFailed, match=r"not done after 0\.2 s"):
            await supervisor.run(make("long", NORMAL, ready_timeout_s=0.2))


SUPERVISING = """
import asyncio, os, sys
from pathlib import Path
from deploy.embedded.children import ProcessSpec
from deploy.embedded.state import State
from deploy.embedded.supervisor import Supervisor

async def main():
    folder = Path(sys.argv[1])
    async with Supervisor(State(folder), print) as supervisor:
        await supervisor.start(ProcessSpec(
            name="orphan", argv=(sys.executable, "-c", "import time; time.sleep(600)"),
            env=dict(os.environ), cwd=folder))
        print("up", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_children_of_a_supervisor_that_is_killed_end_too(state: State) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISING, str(state.root)], stdout=subprocess.PIPE, cwd=ROOT
    ) as killed:
        assert killed.stdout
        assert killed.stdout.readline() == b"up\n"
        (pid,) = children.running(state).values()
        killed.kill()
    await until(lambda: not alive(pid))


def test_a_leftover_of_an_earlier_run_is_ended_and_a_stranger_is_not(
    state: State, make: Make
) -> None:
    leftover = children.spawn(make("leftover", "import time; time.sleep(600)"), state)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        entry = json.loads((state.pids / "leftover.json").read_text())
        entry |= {"pid": str(stranger.pid)}  # the number is the stranger's now, the start is not
        (state.pids / "reused.json").write_text(json.dumps(entry))
        (state.pids / "torn.json").write_text("{")
        assert children.end_leftovers(state) == ["leftover"]
        assert alive(stranger.pid)
        assert leftover.wait(10) == -signal.SIGKILL
        stranger.kill()
    assert list(state.pids.iterdir()) == []
