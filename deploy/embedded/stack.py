"""One stack: PostgreSQL, Kafka and, unless it is told not to, the services."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from deploy.embedded import children, kafka, postgres
from deploy.embedded.children import ProcessSpec
from deploy.embedded.errors import StackError, StartFailed
from deploy.embedded.keys import signing_environment
from deploy.embedded.ports import LOOPBACK, Ports, is_free
from deploy.embedded.services import (
    Infrastructure,
    Role,
    Service,
    infrastructure_of,
    inlets,
    readers,
    role_passwords,
    schemas_spec,
    service_spec,
)
from deploy.embedded.state import Lock, State
from deploy.embedded.supervisor import Supervisor, together

STACK_FILE = "stack.json"  # present while a stack is up
PORTS_FILE = "ports.json"
PORT_TRIES = 5
KEPT_BY_WIPE = ("jars", "lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where a running stack answers."""

    supervisor_pid: int
    database_url: str  # of the administrator
    kafka_bootstrap: str
    topic_prefix: str = ""
    services: Mapping[str, str] = field(default_factory=dict)  # process → base URL

    def environment(self) -> dict[str, str]:
        """Variables that lead a client, or a test run, to this stack."""
        found = {
            "DATABASE_URL": self.database_url,
            "ATTAIN_KAFKA_BOOTSTRAP": self.kafka_bootstrap,
        }
        for name, url in self.services.items():
            if name.endswith(f"-{Role.API}"):
                found[f"ATTAIN_URL_{name.removesuffix(f'-{Role.API}').upper()}"] = url
        return found


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack that is up."""

    endpoints: Endpoints
    supervisor: Supervisor
    state: State


def _no_variables(_ports: Mapping[str, int]) -> Mapping[str, Mapping[str, str]]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What somebody wants beyond the usual stack.

    neighbours: other servers by name, as made for a port; they start before the services.
    variables: further variables by service, as made for the neighbours' ports.
    consumers: consumer processes of each service.
    """

    neighbours: Mapping[str, Callable[[int], ProcessSpec]] = field(default_factory=dict)
    variables: Callable[[Mapping[str, int]], Mapping[str, Mapping[str, str]]] = _no_variables
    consumers: int = 1


NOTHING_MORE = Additions()


@contextlib.asynccontextmanager
async def running_stack(
    state: State,
    report: Callable[[str], None],
    *,
    environment: Mapping[str, str] | None = None,
    services: bool = True,
    additions: Additions = NOTHING_MORE,
) -> AsyncIterator[RunningStack]:
    """Start a stack, hold it while the block runs, stop all of it afterwards, whatever happens.

    environment: may give `DATABASE_URL`, `ATTAIN_KAFKA_BOOTSTRAP`, `ATTAIN_PORT_<PROCESS>` and
    `ATTAIN_TOPIC_PREFIX`; by default the environment of this process.
    Raises: StackError, in words for the person at the terminal.
    """
    settings = os.environ if environment is None else environment
    with Lock(state):
        if found := children.end_leftovers(state):
            report(f"Stopped what an earlier run left behind: {', '.join(found)}")
        (state.root / STACK_FILE).unlink(missing_ok=True)
        ports = Ports(settings, _numbers(state.read_json(PORTS_FILE)))
        async with Supervisor(state, report) as supervisor:
            endpoints = await _start(
                supervisor, state, ports, settings, report, additions if services else None
            )
            state.write_json(PORTS_FILE, dict(ports.chosen))
            state.write_json(STACK_FILE, asdict(endpoints))
            try:
                yield RunningStack(endpoints, supervisor, state)
            finally:
                (state.root / STACK_FILE).unlink(missing_ok=True)


def endpoints_of(state: State) -> Endpoints | None:
    """Where the stack of this folder answers; None if none is up."""
    content = state.read_json(STACK_FILE)
    return Endpoints(**content) if content else None


async def _start(  # noqa: PLR0913, PLR0917 - the parts of one stack
    supervisor: Supervisor,
    state: State,
    ports: Ports,
    settings: Mapping[str, str],
    report: Callable[[str], None],
    additions: Additions | None,
) -> Endpoints:
    """Start the servers and, unless `additions` is None, the services."""

    async def database() -> str:
        url = await _postgres(supervisor, state, ports, settings)
        report("PostgreSQL is up")
        if additions:
            passwords = role_passwords(state)
            await _create_roles(url, passwords)
            await supervisor.run(schemas_spec(url, passwords))
            report("Schemas are up to date")
        return url

    async def broker() -> str:
        bootstrap = await _kafka(supervisor, state, ports, settings)
        report("Kafka is up")
        return bootstrap

    database_url, bootstrap = await together((database(), broker()))
    prefix = settings.get("ATTAIN_TOPIC_PREFIX", "")
    urls: dict[str, str] = {}
    # The signing key is made in either case.
    infrastructure = infrastructure_of(state, database_url, bootstrap, prefix)
    if additions:
        for name, spec_for in additions.neighbours.items():
            await _start_on_port(supervisor, ports, name, spec_for)
        infrastructure = replace(infrastructure, more=additions.variables(ports.chosen))
        urls = await _start_services(supervisor, ports, infrastructure, additions.consumers)
        report("All services are up")
    return Endpoints(
        supervisor_pid=os.getpid(),
        database_url=database_url,
        kafka_bootstrap=bootstrap,
        topic_prefix=prefix,
        services=urls,
    )


async def _postgres(
    supervisor: Supervisor, state: State, ports: Ports, settings: Mapping[str, str]
) -> str:
    if url := settings.get("DATABASE_URL"):
        return await postgres.given(url)
    return await postgres.start(supervisor, state, ports)


async def _kafka(
    supervisor: Supervisor, state: State, ports: Ports, settings: Mapping[str, str]
) -> str:
    if bootstrap := settings.get("ATTAIN_KAFKA_BOOTSTRAP"):
        return await kafka.given(bootstrap)
    return await kafka.start(supervisor, state, ports)


async def _create_roles(database_url: str, passwords: Mapping[str, str]) -> None:
    from shared.db.roles import create_roles  # noqa: PLC0415 - servers alone do without services

    await create_roles(database_url, passwords)


async def _start_services(
    supervisor: Supervisor, ports: Ports, infrastructure: Infrastructure, consumers: int
) -> dict[str, str]:
    """Start all that read, then what accepts from outside; base URL by process."""
    urls: dict[str, str] = {}

    async def one(service: Service) -> None:
        def on(port: int) -> ProcessSpec:
            return service_spec(service, infrastructure, port)

        port = await _start_on_port(supervisor, ports, service.name, on)
        urls[service.name] = f"http://{LOOPBACK}:{port}"

    for stage in (readers(consumers), inlets()):
        await together(one(service) for service in stage)
    return urls


async def _start_on_port(
    supervisor: Supervisor, ports: Ports, name: str, spec_for: Callable[[int], ProcessSpec]
) -> int:
    """Start a server on the port of that name, or on another while it is taken; the port."""
    busy: int | None = None
    for _ in range(PORT_TRIES):
        port = ports.take(name, avoid=busy)
        try:
            await supervisor.start(spec_for(port))
        except StartFailed:
            if is_free(port):
                raise
            busy = port  # somebody was faster between the look and the binding
        else:
            return port
    raise StackError(f"{name} found its port taken {PORT_TRIES} times in a row.")


def wipe(state: State) -> None:
    """Remove everything the stacks of this folder and of those in it keep. Fetched jars stay.

    Raises: StackError while one of them is up.
    """
    for lock in state.root.glob("*/lock"):
        wipe(State(lock.parent))
    with Lock(state):
        children.end_leftovers(state)
        postgres.wipe(state)
        for path in state.root.iterdir():
            if path.name in KEPT_BY_WIPE:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _numbers(content: Mapping[str, Any]) -> dict[str, int]:
    return {name: port for name, port in content.items() if isinstance(port, int)}


__all__ = [
    "Additions",
    "Endpoints",
    "RunningStack",
    "endpoints_of",
    "running_stack",
    "signing_environment",
    "wipe",
]
