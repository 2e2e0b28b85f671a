"""The system under attack: real servers, two processes of each kind, a network to break for each.

Every process that can be a victim reaches PostgreSQL and Kafka through TCP proxies of its own, and
takes orders at its failpoints from its group's folder.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from deploy.demo.stage import MAIL, NOT_OURS, SLACK, Stage, neighbour, variables
from deploy.embedded.ports import LOOPBACK, free_port
from deploy.embedded.services import (
    Infrastructure,
    Role,
    Service,
    infrastructure_of,
    is_ready,
    role_passwords,
    schemas_spec,
    service_spec,
)
from deploy.embedded.stack import RunningStack, running_stack, wipe
from deploy.embedded.state import State
from deploy.embedded.supervisor import TOLERATED_VARIABLE, together
from shared.db.roles import create_roles
from shared.runtime.failpoints import DIRECTED, VARIABLE
from tests.chaos.matrix import Group
from tests.support.proxy import TcpProxy, kafka_proxy, postgres_proxy

FENCED = '"event": "consume.fenced"'
CRASHES_TOLERATED = 10_000
LEASE_S = 6
"""What a killed sender of messages held is taken up after this time; by default 90 s."""

_VICTIMS: Mapping[Group, tuple[Service, ...]] = {
    Group.METRICS: tuple(Service("metrics", Role.CONSUMER, number) for number in (1, 2)),
    Group.COMMISSIONS: tuple(Service("commissions", Role.CONSUMER, number) for number in (1, 2)),
    Group.NOTIFICATIONS: tuple(
        Service("notifications", Role.CONSUMER, number) for number in (1, 2)
    ),
    Group.CLOSING: (Service("commissions", Role.API),),
    Group.INGEST: tuple(Service("ingest", Role.API, number) for number in (1, 2)),
}
_BYSTANDERS = (Service("metrics", Role.API), Service("notifications", Role.API))


@dataclass(frozen=True, slots=True)
class Victim:
    """A process, and its ways to the servers."""

    name: str
    group: Group
    port: int
    database: TcpProxy
    kafka: TcpProxy

    @property
    def url(self) -> str:
        """Base URL of what it serves."""
        return f"http://{LOOPBACK}:{self.port}"

    async def is_ready(self) -> bool:
        """Whether it says so itself."""
        return await is_ready(self.port)


@dataclass(slots=True)
class Arena:
    """Everything that runs. orders: a folder a group, where its processes look for orders."""

    stage: Stage
    victims: dict[str, Victim]
    orders: Path
    _names: dict[int, str] = field(default_factory=dict)

    def of(self, group: Group) -> list[Victim]:
        """The processes of a group."""
        return [victim for victim in self.victims.values() if victim.group is group]

    def pid(self, name: str) -> int:
        """Process id of a server or a service's process, as of now."""
        return self.stage.stack.supervisor.pids()[name]

    def note_pids(self) -> None:
        """Remember who has which process id: a killed one's is needed afterwards."""
        for name, pid in self.stage.stack.supervisor.pids().items():
            self._names[pid] = name

    def victim_of(self, pid: int) -> Victim | None:
        """Whose process id that is, or was."""
        self.note_pids()
        return self.victims.get(self._names.get(pid, ""))

    def fences(self) -> int:
        """Batches that were fenced, of all processes that ever ran; their logs outlive them."""
        count = 0
        for log in self.stage.stack.state.logs.glob("*-consumer*.log*"):
            with log.open(errors="replace") as lines:
                count += sum(FENCED in line for line in lines)
        return count


@asynccontextmanager
async def arena(state: State, report: Callable[[str], None]) -> AsyncIterator[Arena]:
    """Empty the folder, start everything in it, and stop all of it afterwards.

    Raises: StackError, in words for the person at the terminal.
    """
    wipe(state)
    state = State(state.root)  # its folders anew
    os.environ[TOLERATED_VARIABLE] = str(CRASHES_TOLERATED)
    settings = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    orders = state.root / "orders"
    for group in Group:
        (orders / group).mkdir(parents=True)
    records = state.root / "mails.jsonl", state.root / "slack.jsonl"
    async with AsyncExitStack() as opened:
        stack = await opened.enter_async_context(
            running_stack(state, report, environment=settings, services=False)
        )
        infrastructure = await _prepared(stack, records)
        victims = await _victims(stack, opened)
        for group in (Group.METRICS, Group.COMMISSIONS, Group.NOTIFICATIONS, Group.CLOSING):
            await together(
                _start(stack, infrastructure, orders, service, victims[service.name])
                for service in _VICTIMS[group]
            )
        ports = {service.name: free_port() for service in _BYSTANDERS}
        await together(
            stack.supervisor.start(service_spec(service, infrastructure, ports[service.name]))
            for service in _BYSTANDERS
        )
        for service in _VICTIMS[Group.INGEST]:
            await _start(stack, infrastructure, orders, service, victims[service.name])
        report("All services are up, two processes of each kind")
        urls = {name: victim.url for name, victim in victims.items()}
        urls |= {name: f"http://{LOOPBACK}:{port}" for name, port in ports.items()}
        endpoints = replace(stack.endpoints, services=urls)
        stage = Stage(RunningStack(endpoints, stack.supervisor, state), *records)
        yield Arena(stage, victims, orders)


async def _prepared(stack: RunningStack, records: tuple[Path, Path]) -> Infrastructure:
    """Roles, schemas and stand-ins; what every service is told."""
    url, state = stack.endpoints.database_url, stack.state
    passwords = role_passwords(state)
    await create_roles(url, passwords)
    await stack.supervisor.run(schemas_spec(url, passwords))
    ports = {}
    modules = ("tests.support.mail_server", "tests.support.slack_server")
    for name, module, record in zip((MAIL, SLACK), modules, records, strict=True):
        ports[name] = free_port()
        await stack.supervisor.start(neighbour(name, module, record)(ports[name]))
    more = {service: dict(given) for service, given in variables(ports).items()}
    more["notifications"]["ATTAIN_NOTIFICATIONS_LEASE_S"] = str(LEASE_S)
    # Wrong quotas are righted in the middle of a year, and nobody is there to release them.
    more.setdefault("commissions", {})["ATTAIN_COMMISSIONS_HOLD_SHARE"] = "off"
    return infrastructure_of(state, url, stack.endpoints.kafka_bootstrap, "", more)


async def _victims(stack: RunningStack, opened: AsyncExitStack) -> dict[str, Victim]:
    parts = urlsplit(stack.endpoints.database_url)
    victims = {}
    for group, services in _VICTIMS.items():
        for service in services:
            database = postgres_proxy(parts.hostname or LOOPBACK, parts.port or 5432)
            kafka = kafka_proxy(stack.endpoints.kafka_bootstrap)
            for proxy in (database, kafka):
                await opened.enter_async_context(proxy)
            victims[service.name] = Victim(service.name, group, free_port(), database, kafka)
    return victims


async def _start(
    stack: RunningStack,
    infrastructure: Infrastructure,
    orders: Path,
    service: Service,
    victim: Victim,
) -> None:
    parts = urlsplit(infrastructure.database_url)
    address = f"{parts.netloc.rpartition('@')[0]}@{victim.database.address}"
    own = replace(
        infrastructure,
        database_url=urlunsplit(parts._replace(netloc=address)),
        kafka_bootstrap=victim.kafka.address,
    )
    spec = service_spec(service, own, victim.port)
    env = {**spec.env, VARIABLE: f"{DIRECTED}{orders / victim.group}"}
    await stack.supervisor.start(replace(spec, env=env))


async def until_ready(victim: Victim, within_s: float) -> bool:
    """Wait until a victim says it is ready; whether it did in time."""
    try:
        async with asyncio.timeout(within_s):
            while not await victim.is_ready():
                await asyncio.sleep(0.1)
    except TimeoutError:
        return False
    return True


def write_json(path: Path, content: object) -> None:
    """Write a result for people and programs."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
