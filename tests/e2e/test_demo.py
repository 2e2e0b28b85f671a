"""`make demo` as people run it: the whole stack, a small company, and everything that goes wrong.

Each run is a process of its own in a state folder of its own, watched from outside.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded.ports import LOOPBACK, free_port
from deploy.embedded.stack import wipe
from deploy.embedded.state import State
from tests.support.stack import ROOT, stack_environment

WITHIN_S = 240.0


@pytest.fixture
def state() -> Iterator[State]:
    """An empty state folder, which everybody can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="attain-demo-"))
    folder.chmod(0o711)
    own = State(folder / "state")
    yield own
    wipe(own)
    shutil.rmtree(folder)


def started(state: State, *words: str, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (sys.executable, "-m", "deploy.demo", *words),
        cwd=ROOT,
        env={**stack_environment(state), "COLUMNS": "140", "PYTHONUNBUFFERED": "1", **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(demo: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = demo.communicate(timeout=WITHIN_S)
    return demo.returncode, output


def until_it_says(demo: subprocess.Popen[str], words: str) -> str:
    assert demo.stdout
    said = ""
    for line in demo.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(said)


def processes_of(state: State) -> list[str]:
    """Command lines of processes that work in the folder or were told of it."""
    folder = str(state.root).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                where = os.fsencode((entry / "cwd").readlink())
            except OSError:
                continue
            if folder in told or where.startswith(folder):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


def none_left(state: State, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while left := processes_of(state):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_after_a_killed_run_a_small_year_comes_out_right(state: State) -> None:
    killed = started(state, "--once", "--scale", "0.02")
    until_it_says(killed, "Schemas are up to date")
    killed.kill()
    killed.communicate(timeout=WITHIN_S)
    code, output = ended(started(state, "--once", "--scale", "0.05"))
    assert code == 0, output
    for words in ("figures agree", "Attainment", "explained", "Open alerts", "/docs"):
        assert words in output, output
    none_left(state)


def test_one_falsified_cent_is_noticed_also_when_the_stack_stays_up_until_ctrl_c(
    state: State,
) -> None:
    demo = started(state, "--scale", "0.02", "--falsify")
    said = until_it_says(demo, "everything stays up until Ctrl-C")
    assert re.search(r"\b1 of 1,\d+ figures differ", said), said
    assert processes_of(state)
    demo.send_signal(signal.SIGINT)
    code, output = ended(demo)
    assert code == 1, said + output
    assert "Traceback" not in output, output
    none_left(state)


@pytest.mark.parametrize("words", ["Kafka is up", "Sending"])
def test_an_interrupted_run_leaves_no_process(state: State, words: str) -> None:
    demo = started(state, "--once", "--scale", "0.05")
    until_it_says(demo, words)
    demo.send_signal(signal.SIGINT)
    code, output = ended(demo)
    assert code == 130, output
    assert "Traceback" not in output, output
    none_left(state)


def test_a_busy_port_is_named(state: State) -> None:
    port = free_port()
    with socket.create_server((LOOPBACK, port)):
        code, output = ended(started(state, "--once", ATTAIN_PORT_POSTGRES=str(port)))
    assert code == 1
    assert "ATTAIN_PORT_POSTGRES" in output, output
    assert "Traceback" not in output, output
    none_left(state)
