"""Fixtures of all tests: the servers of the session, databases and topic names of one's own."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio

from tests.support.stack import Servers, fresh_database, servers


@pytest.fixture(scope="session")
def stack() -> Iterator[Servers]:
    """PostgreSQL and Kafka, started at first use, stopped when the session ends."""
    with servers() as found:
        yield found


@pytest.fixture(scope="session")
def postgres_url(stack: Servers) -> str:
    """URL of the server's main database for its administrator."""
    return stack.postgres_url


@pytest.fixture(scope="session")
def kafka_bootstrap(stack: Servers) -> str:
    """Bootstrap address of the broker."""
    return stack.kafka_bootstrap


@pytest.fixture
def topic_prefix() -> str:
    """Prefix of topic and group names that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}."


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def database_factory(postgres_url: str) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Give a function that makes a fresh database and returns its administrator's URL."""
    async with contextlib.AsyncExitStack() as made:

        async def make() -> str:
            return await made.enter_async_context(fresh_database(postgres_url))

        yield make


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_url: str) -> AsyncIterator[str]:
    """URL, for the administrator, of a database that the tests of one module have to themselves."""
    async with fresh_database(postgres_url) as url:
        yield url
