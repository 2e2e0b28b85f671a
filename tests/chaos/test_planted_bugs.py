"""Every scenario passes on the code as it is, and each planted bug makes its own fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.chaos.interleavings import Ground, ground
from tests.chaos.planted import BUGS, PlantedBug, caught

SCENARIOS = tuple(dict.fromkeys(bug.scenario for bug in BUGS.values()))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_the_code_holds(
    scenario: Callable[[Ground], Awaitable[None]],
    database: str,
    kafka_bootstrap: str,
    topic_prefix: str,
) -> None:
    async with ground(database, kafka_bootstrap, topic_prefix) as on:
        await scenario(on)


@pytest.mark.parametrize("bug", BUGS.values(), ids=lambda bug: bug.name.replace(" ", "-"))
async def test_a_planted_bug_is_caught(
    bug: PlantedBug, database: str, kafka_bootstrap: str, topic_prefix: str
) -> None:
    assert await caught(bug, url=database, bootstrap=kafka_bootstrap, prefix=topic_prefix)
