"""A running metrics service for the tests of one module."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.metrics.harness import Metrics, running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def metrics(
    database: str, kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Metrics]:
    """One service with one consumer and a clock that the tests move."""
    folder: Path = tmp_path_factory.mktemp("metrics")
    prefix = f"m{uuid.uuid4().hex[:12]}."
    async with running(database, kafka_bootstrap, prefix, folder) as service:
        yield service
