"""A small company, run by all four services with canaries as secrets.

Their consumers and their HTTP servers, on ports of their own, are built as each process is.

Everything that belongs to a person holds the person's marker in its id or name, so that one look
at any answer tells whose numbers it shows.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import structlog
from fastapi import FastAPI
from joserfc.jwk import ECKey, RSAKey

from services.commissions.wiring import SERVICE as COMMISSIONS
from services.ingest.adapters.hubspot_signature import sign_v3
from services.ingest.wiring import SERVICE as INGEST
from services.metrics.wiring import SERVICE as METRICS
from services.notifications.wiring import SERVICE as NOTIFICATIONS
from shared.db.migrate import upgrade
from shared.db.roles import SERVICES, create_roles
from shared.http.auth import Role
from shared.http.keys import LOCAL_AUDIENCE, LOCAL_ISSUER, sign_token
from shared.http.server import serve
from shared.kafka.clients import make_producer
from shared.runtime.service import Service, build_parts
from shared.settings import load
from shared.telemetry.logs import configure_logging
from tests.support.mail_server import MailServer
from tests.support.slack_server import SlackServer

WIRING: Sequence[Service[Any]] = (INGEST, METRICS, COMMISSIONS, NOTIFICATIONS)
SETTLED_TIMEOUT_S = 60.0
CRM = "crm:t"
SOURCE = "hubspot-main"
WON_DAYS_AGO = 3.0
HOOK_URL = f"https://attain.example/v1/hooks/{SOURCE}"
ALL_PEOPLE = "people:all"

MANAGER_OF = {"zzmia": "zzboss", "zzana": "zzmia", "zzben": "zzmia", "zzcem": "zzboss"}
"""Who reports to whom. Each of them sells; zzboss, whose report zzcem is, does not."""
PEOPLE = tuple(sorted(MANAGER_OF))
TEAM_OF = {"zzmia": None, "zzana": "emea", "zzben": "emea", "zzcem": "us"}


@dataclass(frozen=True, slots=True)
class Canaries:
    """Every secret that the processes are told or handle. None may show anywhere."""

    database: Mapping[str, str]
    secrets_key: str
    slack_token: str
    slack_hook: str
    smtp_password: str
    hook_secret: str

    @classmethod
    def fresh(cls) -> Canaries:
        """New ones, which no other text holds by accident."""

        def canary(name: str) -> str:
            return f"canary-{name}-{secrets.token_hex(12)}"

        return cls(
            database={service: canary(f"db-{service}") for service in SERVICES},
            secrets_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            slack_token=f"xoxb-{canary('slack')}",
            slack_hook=f"/services/T0/B0/{canary('hook')}",
            smtp_password=canary("smtp"),
            hook_secret=canary("webhook"),
        )

    def texts(self) -> list[str]:
        """Each as it would show."""
        return [
            *self.database.values(),
            self.secrets_key,
            self.slack_token,
            self.slack_hook,
            self.smtp_password,
            self.hook_secret,
        ]


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with a token, or without one. sees: the people whose numbers are theirs to see."""

    name: str
    roles: tuple[Role, ...] = ()
    person: str | None = None
    scopes: tuple[str, ...] = ()
    sees: frozenset[str] = frozenset()
    token: bool = True


EVERYBODY = frozenset(PEOPLE)
NOBODY_AT_ALL = Caller("no token", token=False)
WITHOUT_ROLE = Caller("without a role", person="zzana")
PERSONS = (
    Caller("rep", (Role.REP,), "zzana", sees=frozenset({"zzana"})),
    Caller("manager", (Role.MANAGER,), "zzmia", sees=frozenset({"zzmia", "zzana", "zzben"})),
    Caller("comp_admin", (Role.COMP_ADMIN,), "zzcora", sees=EVERYBODY),
    Caller("finance", (Role.FINANCE,), "zzfin", sees=EVERYBODY),
    Caller("auditor", (Role.AUDITOR,), "zzaud", sees=EVERYBODY),
    Caller("admin", (Role.ADMIN,), "zzadmin", sees=EVERYBODY),
)


def machine(*scopes: str) -> Caller:
    """A client with these scopes and everybody's numbers."""
    return Caller(
        f"machine {' '.join(scopes)}", (Role.SERVICE,), None, (*scopes, ALL_PEOPLE), EVERYBODY
    )


def blind_machine(*scopes: str) -> Caller:
    """A client with these scopes and nobody's numbers."""
    return Caller(f"blind machine {' '.join(scopes)}", (Role.SERVICE,), None, scopes)


@dataclass(frozen=True, slots=True)
class Process:
    """What would be one process of a service, and where it listens."""

    service: str
    command: str
    app: FastAPI
    port: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(slots=True)
class Company:
    """The running services and what speaks with them."""

    folder: Path
    database_url: str
    bootstrap: str
    prefix: str
    canaries: Canaries
    slack: SlackServer
    mail: MailServer
    key: ECKey
    output: io.StringIO
    processes: list[Process] = field(default_factory=list)
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)

    def token(self, caller: Caller) -> str:
        """A caller's access token; the same one each time."""
        if caller.name not in self._tokens:
            self._tokens[caller.name] = sign_token(
                self.key,
                subject=caller.person or caller.name.replace(" ", "-"),
                person_id=caller.person,
                roles=caller.roles,
                scopes=caller.scopes,
                now=datetime.now(UTC),
                lifetime_s=3_600,
            )
        return self._tokens[caller.name]

    def role_url(self, service: str) -> str:
        """URL of the database for a service's own role, with its canary as the password."""
        parts = urlsplit(self.database_url)
        password = self.canaries.database[service]
        address = f"attain_{service}:{password}@{parts.netloc.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=address))

    @property
    def tokens(self) -> list[str]:
        """Every token that was sent."""
        return list(self._tokens.values())

    def headers(self, caller: Caller) -> dict[str, str]:
        """What a caller sends to be known."""
        return {"Authorization": f"Bearer {self.token(caller)}"} if caller.token else {}

    async def call(
        self,
        caller: Caller,
        service: str,
        method: str,
        path: str,
        **more: Any,  # noqa: ANN401 - httpx's
    ) -> httpx.Response:
        """One request over a real connection."""
        headers = {**self.headers(caller), **more.pop("headers", {})}
        return await self.clients[service].request(method, path, headers=headers, **more)

    async def hook(self, body: bytes) -> httpx.Response:
        """A signed delivery of the CRM."""
        sent_ms = str(round(time.time() * 1000))
        return await self.clients["ingest"].post(
            f"/v1/hooks/{SOURCE}",
            content=body,
            headers={
                "Content-Type": "application/json",
                "X-HubSpot-Signature-v3": sign_v3(
                    self.canaries.hook_secret, "POST", HOOK_URL, body, sent_ms
                ),
                "X-HubSpot-Request-Timestamp": sent_ms,
            },
        )

    async def produce(self, topic: str, values: Iterable[bytes]) -> None:
        """Put bytes on a topic that no service would put there."""
        producer = make_producer(self.bootstrap, client_id="test")
        await producer.start()
        try:
            for value in values:
                await producer.send_and_wait(self.prefix + topic, key=b"deal/x", value=value)
        finally:
            await producer.stop()

    async def dead_letters(self, service: str, *, at_least: int) -> list[dict[str, Any]]:
        """A service's open dead letters, once there are so many."""
        async with asyncio.timeout(30):
            while True:
                answer = await self.call(ADMIN, service, "GET", "/v1/dead-letters")
                found: list[dict[str, Any]] = answer.json()["data"]
                if len(found) >= at_least:
                    return found
                await asyncio.sleep(0.1)

    def logs(self) -> str:
        """All that the services have written so far."""
        return self.output.getvalue()


ADMIN = PERSONS[-1]
AUDITOR = PERSONS[-2]
COMP_ADMIN = PERSONS[2]


def keys(folder: Path) -> ECKey:
    """The signing key, and in the key set a few that must not be used for tokens."""
    own = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
    sealing = ECKey.generate_key("P-256", {"use": "enc", "kid": "for-encryption"})
    rsa = RSAKey.generate_key(2048, {"use": "sig", "kid": "rsa"})
    for name, key in (("own", own), ("sealing", sealing), ("rsa", rsa)):
        (folder / f"{name}.json").write_text(json.dumps(key.as_dict(private=True)))
    public = [
        {**own.as_dict(private=False), "use": "sig", "alg": "ES256"},
        {**sealing.as_dict(private=False), "use": "enc"},
        rsa.as_dict(private=False),
    ]
    (folder / "jwks.json").write_text(json.dumps({"keys": public}))
    return own


@asynccontextmanager
async def running(database: str, bootstrap: str, folder: Path) -> AsyncIterator[Company]:
    """The company, with nothing to do yet."""
    canaries = Canaries.fresh()
    await create_roles(database, canaries.database)
    async with AsyncExitStack() as exits:
        slack = await exits.enter_async_context(SlackServer(token=canaries.slack_token))
        mail = await exits.enter_async_context(MailServer())
        company = Company(
            folder,
            database,
            bootstrap,
            f"sec{secrets.token_hex(5)}.",
            canaries,
            slack,
            mail,
            keys(folder),
            exits.enter_context(_logged("info")),
        )
        for service in SERVICES:
            await asyncio.to_thread(upgrade, service, company.role_url(service))
        for wired in WIRING:
            for command in wired.builders:
                process = await exits.enter_async_context(_process(company, wired, command))
                company.processes.append(process)
                if command == "api":
                    company.clients[process.service] = await exits.enter_async_context(
                        httpx.AsyncClient(base_url=process.url, timeout=30, trust_env=False)
                    )
        yield company


@contextmanager
def _logged(level: str) -> Iterator[io.StringIO]:
    """Logs as a process writes them; afterwards logging is as it was."""
    root, output = logging.getLogger(), io.StringIO()
    handlers, before = root.handlers[:], root.level
    configure_logging("company", level, output)
    for stand_in in ("mail.log", "aiohttp.access"):  # of the tests' own servers
        logging.getLogger(stand_in).setLevel(logging.ERROR)
    try:
        yield output
    finally:
        root.handlers[:] = handlers
        root.setLevel(before)
        structlog.reset_defaults()


@asynccontextmanager
async def _process(company: Company, service: Service[Any], command: str) -> AsyncIterator[Process]:
    """What `python -m services.<name> <command>` runs, in this process."""
    with _told(_environment(company, service.name)):
        settings = load(service.settings)
    parts = await build_parts(service.name, settings)
    app, tasks = await service.builders[command](parts)
    stop = asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    work = [asyncio.create_task(task(stop), name=name) for name, task in tasks.items()]
    work.append(
        asyncio.create_task(
            serve(app, host="127.0.0.1", port=0, stop=stop, started=port.set_result)
        )
    )
    try:
        yield Process(service.name, command, app, await asyncio.wait_for(port, 20))
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*work), 20)
        for close in reversed(parts.closing):
            await close()
        parts.pool.terminate()


@contextmanager
def _told(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("ATTAIN_")]:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _environment(company: Company, service: str) -> dict[str, str]:
    told = {
        "DATABASE_URL": company.role_url(service),
        "KAFKA_BOOTSTRAP": company.bootstrap,
        "TOPIC_PREFIX": company.prefix,
        "JWKS_PATH": str(company.folder / "jwks.json"),
        "ISSUER": LOCAL_ISSUER,
        "AUDIENCE": LOCAL_AUDIENCE,
        "PORT": "0",
        **_OWN[service](company),
    }
    return {f"ATTAIN_{service.upper()}_{name}": value for name, value in told.items()}


def _notifications(company: Company) -> dict[str, str]:
    hook = f"{company.slack.api_url.removesuffix('/').removesuffix('/api')}"
    return {
        "SLACK_TOKEN": company.canaries.slack_token,
        "SLACK_BASE_URL": company.slack.api_url,
        "ALLOW_INSECURE_SLACK_BASE_URL": "true",
        "SLACK_WEBHOOKS": json.dumps({"sales": hook + company.canaries.slack_hook}),
        "SLACK_DEFAULT_CHANNEL": "C0SALES",
        "SLACK_INTERVAL_S": "0",
        "SMTP_HOST": company.mail.host,
        "SMTP_PORT": str(company.mail.port),
        "SMTP_SECURITY": "starttls",  # which the server does not offer: the password stays here
        "SMTP_USERNAME": "attain",
        "SMTP_PASSWORD": company.canaries.smtp_password,
        "MAIL_SENDER": "alerts@attain.example.com",
        "PEOPLE_WAIT_S": "2",
        "RETRY_DELAYS_S": "[1]",
        "RETRY_ATTEMPTS": "2",
    }


_OWN: Mapping[str, Callable[[Company], dict[str, str]]] = {
    "ingest": lambda company: {
        "SECRETS_KEY": company.canaries.secrets_key,
        "SOURCES_REFRESH_S": "0.2",
    },
    "metrics": lambda _: {"CLOCK": "external", "TICK_INTERVAL_S": "0.1", "IMPORT_QUIET_S": "0"},
    "commissions": lambda _: {"CLOSE_WAIT_S": "1"},
    "notifications": _notifications,
}
