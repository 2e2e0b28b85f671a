"""One deployment of the service: a database, topics, a mail server, a Slack, and its processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
from aiokafka import TopicPartition

from services.notifications import wiring
from services.notifications.domain.signals import Signal, signal_document
from services.notifications.settings import NotificationsSettings
from shared.clock import to_text
from shared.db.migrate import upgrade
from shared.events.catalogue import METRICS_SIGNALS, RECORD_KINDS, topics
from shared.events.envelope import Envelope, encode, encode_data, sequence_of
from shared.events.signals import SIGNAL
from shared.http.auth import Role
from shared.http.keys import LOCAL_ISSUER, generate_key_pair, read_private_key, sign_token
from shared.kafka.clients import ensure_topics, make_consumer, make_producer
from shared.runtime.service import Parts, build_parts
from shared.settings import load
from tests.support.listen import bound_socket
from tests.support.mail_server import MailServer
from tests.support.slack_server import TOKEN, SlackServer

ROOT = Path(__file__).resolve().parents[3]
PREFIX = "ATTAIN_NOTIFICATIONS_"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE_S = 30.0


def person_fact(person: str, **fields: Any) -> Envelope:  # noqa: ANN401 - JSON values
    """What is stated about somebody, from 2026 on."""
    return _reference_fact("person", person, fields)


def team_fact(team: str, **fields: Any) -> Envelope:  # noqa: ANN401 - JSON values
    """What is stated about a team, from 2026 on."""
    return _reference_fact("team", team, fields)


def _reference_fact(kind: str, record_id: str, fields: Mapping[str, Any]) -> Envelope:
    return Envelope(
        id=f"{kind}-{record_id}-{sorted(fields)}",
        source="/test",
        type=RECORD_KINDS[kind].type,
        subject=f"{kind}/{record_id}",
        time=to_text(SINCE),
        recordedtime=to_text(SINCE),
        sequence=sequence_of(SINCE),
        data=encode_data({"effective_from": "2026-01-01", **fields}),
    )


def signal_event(said: Signal) -> Envelope:
    """The event by which metrics states `said`."""
    return Envelope(
        id=f"{said.episode}-{said.revision}",
        source="/attain/metrics",
        type=SIGNAL.type,
        subject=f"episode/{said.episode}",
        time=to_text(said.judged_at),
        recordedtime=to_text(said.judged_at),
        sequence=sequence_of(said.judged_at),
        revision=said.revision,
        data=encode_data(signal_document(said)),
    )


COMPANY = (
    person_fact("rep-1", name="Rep", email="rep@example.com", manager="boss", active=True),
    person_fact("rep-2", name="Other", email="other@example.com", manager="peer", active=True),
    person_fact("boss", name="Boss", email="boss@example.com", manager="", active=True),
    person_fact("peer", name="Peer", email="peer@example.com", manager="", active=True),
)
"""Two reps with a manager each."""


@dataclass
class Deployment:
    """What a test talks to. Settings are environment variables, as for the real processes."""

    database_url: str
    bootstrap: str
    topic_prefix: str
    keys: Path
    slack: SlackServer
    mail: MailServer
    settings: dict[str, str] = field(default_factory=dict)
    produced: int = 0
    port: int = 0

    def environment(self) -> dict[str, str]:
        """Variables of the service's processes."""
        told = {
            "DATABASE_URL": self.database_url,
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "TOPIC_PREFIX": self.topic_prefix,
            "PORT": "0",
            "JWKS_PATH": str(self.keys / "jwks.json"),
            "ISSUER": LOCAL_ISSUER,
            "SLACK_TOKEN": TOKEN,
            "SLACK_BASE_URL": self.slack.api_url,
            "ALLOW_INSECURE_SLACK_BASE_URL": "true",
            "SLACK_DEFAULT_CHANNEL": "C0SALES",
            "SLACK_INTERVAL_S": "0",
            "SMTP_HOST": self.mail.host,
            "SMTP_PORT": str(self.mail.port),
            "SMTP_SECURITY": "none",
            "MAIL_SENDER": "alerts@attain.example.com",
            "WEB_URL": "https://attain.example.com",
            "RETRY_DELAYS_S": "[1]",
            "LEASE_S": "2",
            **self.settings,
        }
        return {PREFIX + name: value for name, value in told.items() if value}

    async def send(self, *events: Envelope) -> None:
        """Produce events to their topics."""
        producer = make_producer(self.bootstrap, client_id="test")
        await producer.start()
        try:
            for event in events:
                kind = RECORD_KINDS.get(event.subject.partition("/")[0])
                topic = METRICS_SIGNALS if kind is None else kind.topic
                await producer.send_and_wait(
                    self.topic_prefix + topic, key=event.subject.encode(), value=encode(event)
                )
                self.produced += 1
        finally:
            await producer.stop()

    async def say(self, *signals: Signal) -> None:
        """Produce signals."""
        await self.send(*(signal_event(said) for said in signals))

    @asynccontextmanager
    async def parts(self) -> AsyncIterator[Parts[NotificationsSettings]]:
        """The parts of one process of the service, in this process."""
        with _environment(self.environment()):
            settings = load(NotificationsSettings)
        parts = await build_parts("notifications", settings)
        try:
            yield parts
        finally:
            for close in reversed(parts.closing):
                await close()
            await parts.pool.close()

    @asynccontextmanager
    async def consumer(self) -> AsyncIterator[Parts[NotificationsSettings]]:
        """The consumer, running in this process."""
        async with self.parts() as parts:
            _, tasks = await wiring.build_consumer(parts)
            stop = asyncio.Event()
            running = [asyncio.create_task(task(stop), name=name) for name, task in tasks.items()]
            try:
                yield parts
                assert not [task for task in running if task.done()]
            finally:
                stop.set()
                await asyncio.gather(*running)

    @asynccontextmanager
    async def api(
        self, *roles: Role, person: str | None = None
    ) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the API with a token of these roles."""
        async with self.parts() as parts:
            app, _ = await wiring.build_api(parts)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(
                transport=transport,
                base_url="http://test",
                headers=self.bearer(*roles, person=person),
            ) as client:
                yield client

    def bearer(self, *roles: Role, person: str | None = None) -> dict[str, str]:
        """Headers with a token."""
        token = sign_token(
            read_private_key(self.keys / "signing.json"),
            subject=person or "machine",
            person_id=person,
            roles=roles,
            now=datetime.now(UTC),
        )
        return {"Authorization": f"Bearer {token}"}

    @asynccontextmanager
    async def process(self, command: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A real process of the service on `port`; ended afterwards when it still runs."""
        listener = bound_socket()
        port = self.port = listener.getsockname()[1]
        listener.close()
        log = (self.keys / "process.log").open("ab")
        started = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.notifications",
            command,
            cwd=ROOT,
            env={**_plain_environment(), **self.environment(), f"{PREFIX}PORT": str(port), **more},
            stderr=log.fileno(),
        )
        try:
            yield started
        finally:
            if started.returncode is None:
                started.send_signal(signal.SIGTERM)
            await asyncio.wait_for(started.wait(), PATIENCE_S)
            log.close()

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """What a query finds in the service's schema."""
        connection = await asyncpg.connect(
            self.database_url, server_settings={"search_path": "notifications"}
        )
        try:
            found: list[asyncpg.Record] = await connection.fetch(query, *arguments)
        finally:
            await connection.close()
        return found

    async def statuses(self) -> list[tuple[str, str, str]]:
        """(channel, transition, status) of every delivery, sorted."""
        rows = await self.rows("SELECT channel, transition, status FROM delivery")
        return sorted((row["channel"] or "", row["transition"], row["status"]) for row in rows)

    async def consumed(self) -> None:
        """Wait until everything that was produced has been read."""

        async def done() -> bool:
            rows = await self.rows(
                "SELECT coalesce(sum(greatest(next_offset, 0)), 0) AS read FROM consumer_offset"
            )
            return bool(rows[0]["read"] >= self.produced)

        await until(done)

    async def settled(self) -> None:
        """Wait until everything has been read and nothing waits to be sent."""
        await self.consumed()

        async def done() -> bool:
            return not await self.rows("SELECT 1 FROM delivery WHERE status = 'pending'")

        await until(done)

    async def published(self, topic: str, count: int) -> list[dict[str, Any]]:
        """The first `count` values of a topic with one partition."""
        place = TopicPartition(self.topic_prefix + topic, 0)
        reader = make_consumer(self.bootstrap, group=f"{self.topic_prefix}r", client_id="test")
        await reader.start()
        try:
            reader.assign([place])
            reader.seek(place, 0)
            found: list[dict[str, Any]] = []
            async with asyncio.timeout(PATIENCE_S):
                while len(found) < count:
                    for records in (await reader.getmany(timeout_ms=200)).values():
                        found += [msgspec.json.decode(record.value) for record in records]
        finally:
            await reader.stop()
        return found


async def until(
    done: Callable[[], Awaitable[bool] | bool], *, timeout_s: float = PATIENCE_S
) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(timeout_s):
        while True:
            answer = done()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def deployed(
    database_url: str, bootstrap: str, topic_prefix: str, folder: Path
) -> AsyncIterator[Deployment]:
    """A deployment with its tables and topics made, and nobody running yet."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP SCHEMA IF EXISTS notifications CASCADE")
    await connection.execute("CREATE SCHEMA notifications")
    await connection.close()
    await asyncio.to_thread(upgrade, "notifications", database_url)
    await ensure_topics(bootstrap, topics(topic_prefix))
    generate_key_pair(folder / "signing.json", folder / "jwks.json")
    async with SlackServer() as slack, MailServer() as mail:
        yield Deployment(database_url, bootstrap, topic_prefix, folder, slack, mail)


def later(said: Signal, episode: str) -> Signal:
    """The same signal about another episode."""
    return replace(said, episode=episode)


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ATTAIN_")}


@contextlib.contextmanager
def _environment(told: Mapping[str, str]) -> Any:  # noqa: ANN401 - a context manager
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(told)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def texts(received: Sequence[Any]) -> list[str]:
    """First lines of what Slack received, in order."""
    return [str(entry.body["text"]).splitlines()[0] for entry in received]
