"""The README's tutorial, block by block, as a newcomer types it."""

from __future__ import annotations

import json
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


def run(page: Path, state: State) -> list[str]:
    """What each block of commands on a page prints, one after the other in one shell."""
    blocks = BLOCK.findall(page.read_text())
    ran = subprocess.run(
        ["bash", "-c", "set -eu\n" + "echo ------\n".join(blocks)],  # noqa: S607
        cwd=ROOT,
        env=stack_environment(state),
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.split("------\n")


@pytest.mark.timeout(240)
def test_the_tutorial_pays_what_it_says(state: State) -> None:
    """From one posted deal to the KPI, the statement line and its explanation."""
    *_, numbers = printed = run(ROOT / "README.md", state)
    assert len(printed) == 4, "the tutorial changed: look at what this test asserts"
    kpi, statement, explanation = numbers.strip().splitlines()
    assert '"value":"0.6"' in kpi
    assert '"5600' in statement
    assert "the line earns 5600 USD" in explanation


@pytest.mark.timeout(240)
def test_the_first_plan_pays_what_its_page_says(state: State) -> None:
    """From a plan in a file to a statement that was checked from its explanation alone."""
    printed = run(ROOT / "docs" / "domain" / "first-plan.md", state)
    _, linted, saved, sold, corrected, verified, estimated = printed
    assert "0 refused" in linted
    assert "ae-2025" in saved
    before, after = (json.loads(text.strip().splitlines()[-1]) for text in (sold, corrected))
    assert [(line["kind"], line["amount"]) for line in before["lines"]] == [
        ("credit", "7000"),
        ("hold", "-4200"),
    ]
    assert before["payable"] == "2800"
    assert after["lines"][0]["amount"] == "6000"
    # 2,400.00 at booking, and 60,000 of 110,000 release as much of the other 3,600.00.
    assert after["payable"] == "4363.64"
    assert "explanation.json" in verified
    (estimate,) = json.loads(estimated.splitlines()[0])["estimates"]
    assert (estimate["delta"], estimate["payable_after"]) == ("2000", "6363.64")
