"""The services' processes: what is started, in which order, with which settings."""

import asyncio
import base64
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from deploy.embedded.children import ProcessSpec
from deploy.embedded.keys import ensure_keys
from deploy.embedded.ports import LOOPBACK
from deploy.embedded.state import State
from shared.http.keys import LOCAL_AUDIENCE, LOCAL_ISSUER
from shared.telemetry.traces import VARIABLES as TRACES_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 60.0
SCHEMAS_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
SECRETS_KEY_BYTES = 32
PROBE_TIMEOUT_S = 2.0


class Role(StrEnum):
    """What a process of a service does; the word after `python -m services.<name>`."""

    API = "api"
    CONSUMER = "consumer"


@dataclass(frozen=True, slots=True)
class Service:
    """One process. It serves `/readyz` on its port, a consumer too. number: among its like."""

    service: str
    role: Role
    number: int = 1

    @property
    def name(self) -> str:
        """Name of the process, of its log and, in capitals, of its port setting."""
        return f"{self.service}-{self.role}" + (f"-{self.number}" if self.number > 1 else "")


WITH_TABLES = ("ingest", "metrics", "commissions", "notifications")
# The others read; when ingest accepts, everybody who reads is there.
READERS = ("metrics", "commissions", "notifications")


def readers(consumers: int = 1) -> list[Service]:
    """The processes of the services that read topics, with so many consumers each."""
    return [
        process
        for name in READERS
        for process in (
            Service(name, Role.API),
            *(Service(name, Role.CONSUMER, number) for number in range(1, consumers + 1)),
        )
    ]


def inlets() -> list[Service]:
    """The processes that accept from outside."""
    return [Service("ingest", Role.API)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Infrastructure:
    """What every service is told about the rest of the stack.

    more: further variables by service, which win over those made here.
    """

    database_url: str  # the administrator's; a service is given its own role's
    role_passwords: Mapping[str, str]  # by service
    kafka_bootstrap: str
    jwks_path: Path
    topic_prefix: str
    secrets_key: str  # encrypts the secrets of connections
    more: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log line may show."""
        return (*self.role_passwords.values(), self.secrets_key)


def infrastructure_of(
    state: State,
    database_url: str,
    kafka_bootstrap: str,
    topic_prefix: str,
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> Infrastructure:
    """What the services of a stack are told; keys and passwords are made at its first start."""
    return Infrastructure(
        database_url=database_url,
        role_passwords=role_passwords(state),
        kafka_bootstrap=kafka_bootstrap,
        jwks_path=ensure_keys(state),
        topic_prefix=topic_prefix,
        secrets_key=state.secret("ingest_secrets_key", _encryption_key),
        more=more or {},
    )


def schemas_spec(database_url: str, passwords: Mapping[str, str]) -> ProcessSpec:
    """Bring the schemas of all services up to date; runs to its end.

    database_url: the administrator's; each service's role changes its own schema.
    """
    urls = {
        database_variable(service): role_url(database_url, service, passwords[service])
        for service in WITH_TABLES
    }
    return ProcessSpec(
        name="schemas",
        argv=(sys.executable, "-m", "deploy.embedded.schemas"),
        env={**os.environ, **urls},
        cwd=ROOT,
        ready_timeout_s=SCHEMAS_TIMEOUT_S,
        secrets=tuple(passwords.values()),
    )


def service_spec(service: Service, infrastructure: Infrastructure, port: int) -> ProcessSpec:
    """How to run one process of a service on the given port."""

    async def ready() -> bool:
        return await is_ready(port)

    return ProcessSpec(
        name=service.name,
        argv=(sys.executable, "-m", f"services.{service.service}", service.role),
        env={**os.environ, **environment(service.service, infrastructure, port)},
        cwd=ROOT,
        ready=ready,
        ready_timeout_s=READY_TIMEOUT_S,
        stop_timeout_s=STOP_TIMEOUT_S,
        secrets=infrastructure.secrets,
    )


async def is_ready(port: int) -> bool:
    """Whether the process on the port answers 2xx at `/readyz`.

    By hand: an HTTP client would load certificates anew at each of very many looks.
    """
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET /readyz HTTP/1.0\r\nHost: {LOOPBACK}\r\n\r\n".encode())
                await writer.drain()
                return (await reader.readline()).partition(b" ")[2].startswith(b"2")
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False


def environment(service: str, infrastructure: Infrastructure, port: int) -> dict[str, str]:
    """Environment variables that a process of the service, listening on `port`, reads."""
    prefix = f"ATTAIN_{service.upper()}_"
    own = {f"{prefix}SECRETS_KEY": infrastructure.secrets_key} if service == "ingest" else {}
    return {
        database_variable(service): role_url(
            infrastructure.database_url, service, infrastructure.role_passwords[service]
        ),
        f"{prefix}KAFKA_BOOTSTRAP": infrastructure.kafka_bootstrap,
        f"{prefix}JWKS_PATH": str(infrastructure.jwks_path),
        f"{prefix}ISSUER": LOCAL_ISSUER,
        f"{prefix}AUDIENCE": LOCAL_AUDIENCE,
        f"{prefix}TOPIC_PREFIX": infrastructure.topic_prefix,
        f"{prefix}STATIC_MEMBER": "true",
        f"{prefix}HOST": LOOPBACK,
        f"{prefix}PORT": str(port),
        **{name: os.environ.get(name, "") for name in TRACES_VARIABLES},
        **own,
        **infrastructure.more.get(service, {}),
    }


def database_variable(service: str) -> str:
    """The environment variable that holds a service's database URL."""
    return f"ATTAIN_{service.upper()}_DATABASE_URL"


def role_url(admin_url: str, service: str, password: str) -> str:
    """URL of the same database for the login role of a service."""
    parts = urlsplit(admin_url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"attain_{service}:{password}@{address}"))


def role_passwords(state: State) -> dict[str, str]:
    """Password of each service's login role, made at the first start."""
    return {service: state.secret(f"role_{service}") for service in WITH_TABLES}


def _encryption_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(SECRETS_KEY_BYTES)).decode()
