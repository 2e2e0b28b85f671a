"""The company that the security tests look at; one for all of them, because it takes long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from tests.security.company import Company, running
from tests.security.year import fill


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def company(
    database_factory: Callable[[], Awaitable[str]],
    kafka_bootstrap: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Company]:
    """All four services, with everybody's numbers settled."""
    folder = tmp_path_factory.mktemp("company")
    async with running(await database_factory(), kafka_bootstrap, folder) as found:
        await fill(found)
        yield found
