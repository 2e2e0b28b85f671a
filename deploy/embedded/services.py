"""The services' processes: what is started, in which order, with which settings."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx

from deploy.embedded.children import ProcessSpec
from deploy.embedded.ports import LOOPBACK
from deploy.embedded.state import State
from shared.http.keys import LOCAL_AUDIENCE, LOCAL_ISSUER

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 60.0
MIGRATE_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0


class Role(StrEnum):
    """What a process of a service does; the word after `python -m services.<name>`."""

    API = "api"
    CONSUMER = "consumer"


@dataclass(frozen=True, slots=True)
class Service:
    """One process. It serves `/readyz` on its port, a consumer too."""

    service: str
    role: Role

    @property
    def name(self) -> str:
        """Name of the process, of its log and, in capitals, of its port setting."""
        return f"{self.service}-{self.role}"


# Ingest comes last: when it accepts, everybody who reads is there.
SERVICES = (
    Service("metrics", Role.API),
    Service("metrics", Role.CONSUMER),
    Service("commissions", Role.API),
    Service("commissions", Role.CONSUMER),
    Service("notifications", Role.API),
    Service("notifications", Role.CONSUMER),
    Service("ingest", Role.API),
)
WITH_TABLES = ("ingest", "metrics", "commissions", "notifications")


@dataclass(frozen=True, slots=True)
class Infrastructure:
    """What every service is told about the rest of the stack."""

    database_url: str  # the administrator's; a service is given its own role's
    role_passwords: Mapping[str, str]  # by service
    kafka_bootstrap: str
    jwks_path: Path
    topic_prefix: str


def migrate_spec(service: str, infrastructure: Infrastructure) -> ProcessSpec:
    """Bring the service's schema up to date; runs to its end."""
    return ProcessSpec(
        name=f"{service}-migrate",
        argv=(sys.executable, "-m", f"services.{service}", "migrate"),
        env={**os.environ, **environment(service, infrastructure)},
        cwd=ROOT,
        ready_timeout_s=MIGRATE_TIMEOUT_S,
        secrets=tuple(infrastructure.role_passwords.values()),
    )


def service_spec(service: Service, infrastructure: Infrastructure, port: int) -> ProcessSpec:
    """How to run one process of a service on the given port."""
    url = f"http://{LOOPBACK}:{port}/readyz"

    async def ready() -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            try:
                return (await client.get(url)).is_success
            except httpx.HTTPError:
                return False

    prefix = f"ATTAIN_{service.service.upper()}_"
    return ProcessSpec(
        name=service.name,
        argv=(sys.executable, "-m", f"services.{service.service}", service.role),
        env={
            **os.environ,
            **environment(service.service, infrastructure),
            f"{prefix}HOST": LOOPBACK,
            f"{prefix}PORT": str(port),
        },
        cwd=ROOT,
        ready=ready,
        ready_timeout_s=READY_TIMEOUT_S,
        stop_timeout_s=STOP_TIMEOUT_S,
        secrets=tuple(infrastructure.role_passwords.values()),
    )


def environment(service: str, infrastructure: Infrastructure) -> dict[str, str]:
    """Environment variables that the service reads its settings from."""
    prefix = f"ATTAIN_{service.upper()}_"
    return {
        f"{prefix}DATABASE_URL": role_url(
            infrastructure.database_url, service, infrastructure.role_passwords[service]
        ),
        f"{prefix}KAFKA_BOOTSTRAP": infrastructure.kafka_bootstrap,
        f"{prefix}JWKS_PATH": str(infrastructure.jwks_path),
        f"{prefix}ISSUER": LOCAL_ISSUER,
        f"{prefix}AUDIENCE": LOCAL_AUDIENCE,
        f"{prefix}TOPIC_PREFIX": infrastructure.topic_prefix,
    }


def role_url(admin_url: str, service: str, password: str) -> str:
    """URL of the same database for the login role of a service."""
    parts = urlsplit(admin_url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"attain_{service}:{password}@{address}"))


def role_passwords(state: State) -> dict[str, str]:
    """Password of each service's login role, made at the first start."""
    return {service: state.secret(f"role_{service}") for service in WITH_TABLES}
