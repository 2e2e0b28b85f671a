import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.embedded.errors import StackError
from deploy.embedded.state import Lock, State, lock_holder


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def test_a_second_stack_in_one_folder_is_refused_and_told_who_has_it(state: State) -> None:
    with (
        Lock(state),
        pytest.raises(StackError, match=rf"process {os.getpid()}\) is using .*ATTAIN_STATE_DIR"),
        Lock(state),
    ):
        pass
    assert lock_holder(state) is None


def test_the_lock_falls_with_its_holder(state: State) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from deploy.embedded.state import Lock, State\n"
        "Lock(State(Path(sys.argv[1]))).__enter__(); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(state.root)], capture_output=True, check=False
    )
    assert ended.returncode == -9, ended.stderr
    with Lock(state):
        assert lock_holder(state) == os.getpid()


def test_a_secret_is_made_once_and_only_its_owner_reads_it(state: State) -> None:
    first = state.secret("role_ingest")
    assert state.secret("role_ingest") == first != state.secret("role_metrics")
    assert State(state.root).secret("role_ingest") == first
    assert stat.S_IMODE((state.root / "secrets.json").stat().st_mode) == 0o600


def test_others_may_pass_through_the_folder_but_neither_list_it_nor_read_logs(
    state: State,
) -> None:
    assert stat.S_IMODE(state.root.stat().st_mode) == 0o711
    assert stat.S_IMODE(state.logs.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", ["{half", "[]", "\x00"])
def test_a_file_that_cannot_be_read_is_named(state: State, content: str) -> None:
    (state.root / "ports.json").write_text(content)
    with pytest.raises(StackError, match=r"ports\.json"):
        state.read_json("ports.json")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="ATTAIN_STATE_DIR"):
        State(tmp_path / "file" / "state")
