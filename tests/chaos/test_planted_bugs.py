"""The interleavings pass on the code as it is, and each planted bug makes its scenario fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.chaos import interleavings
from tests.chaos.interleavings import Ground, ground
from tests.chaos.planted import PLANTED, PlantedBug

SCENARIOS = (
    interleavings.takeover_while_folding,
    interleavings.two_workers_on_one_root,
    interleavings.change_while_settling,
    interleavings.reference_changes_while_settling,
    interleavings.same_root_twice,
    interleavings.failure_after_handling,
    interleavings.overtaken_before_the_batch,
    interleavings.one_refused_record,
    interleavings.late_commit_in_the_outbox,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_the_code_holds(
    scenario: Callable[[Ground], Awaitable[None]],
    database: str,
    kafka_bootstrap: str,
    topic_prefix: str,
) -> None:
    async with ground(database, kafka_bootstrap, topic_prefix) as on:
        await scenario(on)


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name.replace(" ", "-"))
async def test_a_planted_bug_is_caught(
    bug: PlantedBug, database: str, kafka_bootstrap: str, topic_prefix: str
) -> None:
    async with ground(database, kafka_bootstrap, topic_prefix) as on:
        with bug.plant(), pytest.raises(AssertionError):
            await bug.scenario(on)
