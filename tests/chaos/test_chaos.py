"""The quick form of `make chaos`: every failpoint killed -9, every other fault a few times.

It compares every figure with the independent recomputation, to the penny, and fails on anything
lost, doubled or different, on any dead letter, and on any fault that did not strike.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded import children
from deploy.embedded.stack import wipe
from deploy.embedded.state import State
from shared.runtime.failpoints import NAMES
from tests.chaos.__main__ import FOLDER
from tests.chaos.matrix import Kind, ServerKind
from tests.support.stack import ROOT, stack_environment

WITHIN_S = 540.0


@pytest.fixture
def state() -> Iterator[State]:
    folder = Path(tempfile.mkdtemp(prefix="attain-chaos-"))
    folder.chmod(0o711)  # as root the database runs under another id, which must pass
    own = State(folder / "state")
    yield own
    wipe(State(own.root / FOLDER))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(WITHIN_S + 60)
def test_nothing_is_lost_doubled_or_different(state: State, tmp_path: Path) -> None:
    results, log = tmp_path / "results.json", tmp_path / "output"
    command = ("--quick", "--no-planted-bugs", "--results", str(results))
    with log.open("w") as output:
        driver = subprocess.Popen(
            (sys.executable, "-m", "tests.chaos", *command),
            cwd=ROOT,
            env={**stack_environment(state), "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        code = driver.wait(WITHIN_S)
    finally:
        if driver.poll() is None:
            driver.send_signal(signal.SIGINT)
            driver.wait(60)
    assert code == 0, log.read_text()
    found = json.loads(results.read_text())
    assert (found["lost"], found["doubled"], found["difference"]) == (0, 0, "0")
    assert found["by_kind"].keys() == {*Kind, *ServerKind}
    assert found["by_kind"][Kind.KILL] == len(NAMES)
    assert not children.running(State(state.root / FOLDER)), "processes are left behind"
