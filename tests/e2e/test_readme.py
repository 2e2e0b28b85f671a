"""The README's tutorial, block by block, as a newcomer types it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded import children, postgres
from deploy.embedded.state import State
from tests.support.stack import ROOT, stack_environment

BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)


@pytest.fixture
def state() -> Iterator[State]:
    """A state folder of its own; whatever happens, nothing of it is left running."""
    with tempfile.TemporaryDirectory(prefix="attain-readme-") as folder:
        Path(folder).chmod(0o711)
        made = State(Path(folder) / "state")
        environment = stack_environment(made)
        try:
            yield made
        finally:
            subprocess.run(["make", "down"], cwd=ROOT, env=environment, check=False)  # noqa: S607
            left = children.end_leftovers(made)
            postgres.wipe(made)
    assert not left, f"processes were left behind: {left}"


@pytest.mark.timeout(240)
def test_the_tutorial_pays_what_it_says(state: State) -> None:
    """From one posted deal to the KPI, the statement line and its explanation."""
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert len(blocks) == 4, "the tutorial changed: look at what this test asserts"
    script = "set -eu\n" + "echo ------\n".join(blocks)
    ran = subprocess.run(
        ["bash", "-c", script],  # noqa: S607
        cwd=ROOT,
        env=stack_environment(state),
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    numbers = ran.stdout.rpartition("------")[2]
    kpi, statement, explanation = numbers.strip().splitlines()
    assert '"value":"0.6"' in kpi
    assert '"5600' in statement
    assert "the line earns 5600 USD" in explanation
