"""A deployment for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.integration.notifications.deployment import Deployment, deployed


@pytest_asyncio.fixture(loop_scope="session")
async def deployment(
    database: str,
    kafka_bootstrap: str,
    topic_prefix: str,
    tmp_path: Path,
) -> AsyncIterator[Deployment]:
    """Tables, topics, a mail server and a Slack, with no process running yet."""
    async with deployed(database, kafka_bootstrap, topic_prefix, tmp_path) as found:
        yield found
