"""What every service's `__main__` does: read settings, build, run, and end in order."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import asyncpg
import structlog
from fastapi import APIRouter, FastAPI

from shared.db.pool import Pool, create_pool
from shared.errors import AttainError, Misconfigured
from shared.http.app import create_app
from shared.http.client import create_client
from shared.http.clock import CLOCK_ROUTER
from shared.http.idempotency import IdempotencyStore
from shared.http.middleware import Limits
from shared.http.server import serve
from shared.http.tokens import TokenVerifier, create_verifier
from shared.runtime.failpoints import arm_from_environment
from shared.runtime.lifecycle import Task, run_until_signal
from shared.settings import ServiceSettings, load
from shared.telemetry.catalogue import Telemetry
from shared.telemetry.logs import configure_logging
from shared.telemetry.traces import is_wanted, sampling_of, traces_of

S = TypeVar("S", bound=ServiceSettings)

log = structlog.get_logger()

DATABASE_WAIT_S = 30.0
"""How long a starting process waits for a database that is not there yet."""


@dataclass(slots=True)
class Parts(Generic[S]):
    """What a process is made of. Built once here, passed down; nothing else constructs them."""

    name: str
    settings: S
    pool: Pool
    telemetry: Telemetry
    verifier: TokenVerifier
    closing: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)

    @property
    def member(self) -> str | None:
        """This process's static name in its consumer group, where it is to have one."""
        if not self.settings.static_member:
            return None
        return f"{self.name}-{socket.gethostname()}-{self.settings.port}"

    def app(
        self,
        routers: Sequence[APIRouter] = (),
        *,
        title: str,
        state: Mapping[str, object] | None = None,
        readiness: Mapping[str, Callable[[], Awaitable[Any]]] | None = None,
    ) -> FastAPI:
        """The HTTP application: the given routers, probes, metrics and problems."""
        if routers and self.settings.clock == "external":
            routers = [*routers, CLOCK_ROUTER]
        return create_app(
            title=title,
            service=self.name,
            routers=routers,
            verifier=self.verifier,
            readiness={"database": self._database_answers, **(readiness or {})},
            telemetry=self.telemetry,
            limits=Limits(max_body_bytes=self.settings.max_body_bytes),
            idempotency=IdempotencyStore(self.name),
            state={"parts": self, **(state or {})},
        )

    async def _database_answers(self) -> None:
        await self.pool.fetchval("SELECT 1")


Builder = Callable[[Parts[S]], Awaitable[tuple[FastAPI, Mapping[str, Task]]]]
"""Builds a process: the application it serves, and the tasks that run beside it."""


@dataclass(frozen=True, slots=True)
class Service(Generic[S]):
    """One service. builders: by the word after `python -m services.<name>`."""

    name: str
    settings: type[S]
    builders: Mapping[str, Builder[S]]
    commands: Mapping[str, Callable[[Parts[S]], Awaitable[None]]] = field(default_factory=dict)


def main(service: Service[S], arguments: Sequence[str] | None = None) -> int:
    """Run `python -m services.<name> <command>`; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    known = [*service.builders, "migrate", "check-config", *service.commands]
    if len(given) != 1 or given[0] not in known:
        sys.stderr.write(f"usage: python -m services.{service.name} {' | '.join(known)}\n")
        return 2
    try:
        settings = load(service.settings)
        arm_from_environment(f"{service.name}-{given[0]}")
        configure_logging(service.name, settings.log_level)
        return _run(service, settings, given[0])
    except Misconfigured as fault:
        sys.stderr.write(f"{service.name}: {fault}\n")
        return 1
    except AttainError as fault:
        log.exception("process.failed", error=type(fault).__name__)
        return 1


def _run(service: Service[S], settings: S, command: str) -> int:
    if command == "check-config":
        is_wanted(os.environ)
        sampling_of(os.environ)
        sys.stdout.write(f"{service.name}: the configuration is complete\n")
    elif command == "migrate":
        # Alembic and SQLAlchemy take a second to import, which no other command needs.
        from shared.db.migrate import upgrade  # noqa: PLC0415

        upgrade(service.name, settings.database_url.get_secret_value())
    else:
        _collect_seldom()
        asyncio.run(_live(service, settings, command))
    return 0


def _collect_seldom() -> None:
    """Look for cycles seldom: neither a request nor a batch leaves any to speak of.

    Every 700 allocations, as Python does by default, took a quarter of a consumer's time. What is
    loaded by now lives as long as the process, and looking through it paused every webhook.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def _live(service: Service[S], settings: S, command: str) -> None:
    parts = await build_parts(service.name, settings)
    try:
        if command in service.commands:
            await service.commands[command](parts)
            return
        app, tasks = await service.builders[command](parts)

        async def http(stop: asyncio.Event) -> None:
            await serve(app, host=settings.host, port=settings.port, stop=stop)

        await run_until_signal({**tasks, "http": http})
    finally:
        for close in reversed(parts.closing):
            await close()
        await asyncio.wait_for(_close_pool(parts.pool), 10)


async def build_parts(name: str, settings: S) -> Parts[S]:
    """Connect to the database, waiting a while for it, and build what the process shares."""
    closing: list[Callable[[], Awaitable[Any]]] = []
    traces = traces_of(name)
    closing.append(traces.close)
    client = create_client(service=name)
    closing.append(client.aclose)
    verifier = create_verifier(settings, client)
    pool = await _connect(name, settings)
    return Parts(name, settings, pool, Telemetry(name, traces), verifier, closing)


async def _connect(name: str, settings: ServiceSettings) -> Pool:
    deadline = asyncio.get_running_loop().time() + DATABASE_WAIT_S
    while True:
        try:
            return await create_pool(
                settings.database_url.get_secret_value(), schema=name, name=name, max_size=10
            )
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError) as error:
            if asyncio.get_running_loop().time() > deadline:
                msg = f"the database does not answer within {DATABASE_WAIT_S:.0f} s"
                raise Misconfigured(msg) from error
            await asyncio.sleep(0.3)


async def _close_pool(pool: Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), 5)
    except TimeoutError:
        pool.terminate()
