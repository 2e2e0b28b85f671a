"""One run's servers, and the services' own processes on databases and topics of their own."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
from aiokafka.admin import AIOKafkaAdminClient

from deploy.embedded.ports import LOOPBACK, free_port
from deploy.embedded.services import ROOT, Infrastructure, environment, is_ready, role_url
from shared.db.migrate import upgrade
from shared.db.roles import create_roles
from shared.events.catalogue import topics
from shared.http.auth import Role
from shared.http.keys import generate_key_pair, read_private_key, sign_token
from shared.kafka.clients import ensure_topics, make_producer
from tests.bench.traffic import YEAR_END, Record
from tests.support.stack import Servers, fresh_database

READY_S = 60.0
STOP_S = 20.0
LOOK_S = 0.02
STILL_S = 120.0
"""A consumer that moves nothing for so long has failed."""

PASSWORD = "only-in-measurements"
AHEAD = 5_000
"""Records given to the producer before it is waited for."""

CLOCK_HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Span:
    """What a consumer did: events handled in so much time.

    consumer_cpu_s and database_cpu_s: processor time of its process and of PostgreSQL's.
    """

    events: int
    elapsed_s: float
    consumer_cpu_s: float
    database_cpu_s: float

    @property
    def per_second(self) -> float:
        """Events per second."""
        return self.events / self.elapsed_s

    @property
    def per_thousand_s(self) -> float:
        """Seconds per 1,000 events."""
        return 1_000 * self.elapsed_s / self.events

    @property
    def cpu_per_thousand_s(self) -> float:
        """Processor seconds per 1,000 events, of consumer and database."""
        return 1_000 * (self.consumer_cpu_s + self.database_cpu_s) / self.events


@dataclass(slots=True)
class Lab:
    """Where measurements run. folder: for keys and logs of this run.

    profiles: a folder in which consumers leave what cProfile saw of their last run, if any.
    """

    servers: Servers
    folder: Path
    profiles: Path | None = None
    _secrets: dict[str, str] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        """Address of Kafka."""
        return self.servers.kafka_bootstrap

    def token(self, *roles: Role) -> dict[str, str]:
        """Authorization header of a caller with these roles."""
        signed = sign_token(
            read_private_key(self.folder / "signing.json"),
            subject="bench",
            roles=roles,
            now=datetime.now(UTC),
        )
        return {"Authorization": f"Bearer {signed}"}

    @asynccontextmanager
    async def topics(self) -> AsyncIterator[str]:
        """The prefix of a set of empty topics; they go again."""
        prefix = f"b{secrets.token_hex(4)}."
        await ensure_topics(self.bootstrap, topics(prefix))
        try:
            yield prefix
        finally:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                await admin.delete_topics(list(topics(prefix)))
            finally:
                await admin.close()

    async def produce(self, prefix: str, records: Iterable[Record]) -> int:
        """Send `records`; how many they were."""
        producer = make_producer(self.bootstrap, client_id="bench")
        await producer.start()
        count = 0
        try:
            for record in records:
                await producer.send(prefix + record.topic, key=record.key, value=record.value)
                count += 1
                if count % AHEAD == 0:
                    await producer.flush()
            await producer.flush()
        finally:
            await producer.stop()
        return count

    @asynccontextmanager
    async def service(self, name: str, prefix: str) -> AsyncIterator[Bench]:
        """A service on an empty database of its own; no process of it runs yet."""
        if not (self.folder / "jwks.json").exists():
            generate_key_pair(self.folder / "signing.json", self.folder / "jwks.json")
        async with fresh_database(self.servers.postgres_url) as database:
            # Roles belong to the server, not to a database: another run on it must agree.
            password = f"{name}-{PASSWORD}"
            await create_roles(database, {name: password})
            await asyncio.to_thread(upgrade, name, role_url(database, name, password))
            key = self._secrets.setdefault("key", _encryption_key())
            clock = {f"ATTAIN_{name.upper()}_CLOCK": "external"} if name != "ingest" else {}
            told = Infrastructure(
                database_url=database,
                role_passwords={name: password},
                kafka_bootstrap=self.bootstrap,
                jwks_path=self.folder / "jwks.json",
                topic_prefix=prefix,
                secrets_key=key,
                more={name: {**clock, f"ATTAIN_{name.upper()}_LOG_LEVEL": "warning"}},
            )
            connection = await asyncpg.connect(database, server_settings={"search_path": name})
            try:
                if clock:
                    await connection.execute(
                        "INSERT INTO simulated_clock (instant) VALUES ($1)", YEAR_END
                    )
                yield Bench(self, name, prefix, told, connection)
            finally:
                await connection.close()

    @asynccontextmanager
    async def running(
        self, argv: tuple[str, ...], env: Mapping[str, str], log: str, port: int
    ) -> AsyncIterator[int]:
        """A process that answers at `/readyz`; its id. It is stopped in the end."""
        path = self.folder / f"{log}.log"
        with path.open("ab") as output:
            child = subprocess.Popen(
                argv, cwd=ROOT, env={**os.environ, **env}, stdout=output, stderr=output
            )
        try:
            deadline = time.monotonic() + READY_S
            while not await is_ready(port):
                if child.poll() is not None or time.monotonic() > deadline:
                    msg = f"{log} did not start:\n{path.read_text()[-2_000:]}"
                    raise RuntimeError(msg)
                await asyncio.sleep(0.05)
            yield child.pid
        finally:
            child.terminate()
            try:
                await asyncio.to_thread(child.wait, STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def database_cpu_s(self) -> float:
        """Processor time of PostgreSQL's processes so far; 0 where it is not ours to look at."""
        try:
            postmaster = self.servers.pid("postgres")
        except KeyError:
            return 0.0
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return sum(map(cpu_s, [postmaster, *map(int, children)]))


@dataclass(slots=True)
class Bench:
    """One service that is measured."""

    lab: Lab
    name: str
    prefix: str
    told: Infrastructure
    connection: asyncpg.Connection[asyncpg.Record]

    @asynccontextmanager
    async def api(self) -> AsyncIterator[httpx.AsyncClient]:
        """Its API process."""
        port = free_port()
        argv = (sys.executable, "-m", f"services.{self.name}", "api")
        env = environment(self.name, self.told, port)
        async with (
            self.lab.running(argv, env, f"{self.name}-api", port),
            httpx.AsyncClient(
                base_url=f"http://{LOOPBACK}:{port}", timeout=30, trust_env=False
            ) as client,
        ):
            yield client

    async def consume(self, records: Iterable[Record]) -> Span:
        """Put `records` on Kafka, then let one consumer process take them up, and time it.

        From the commit of the first batch, which pays for starting, until everything is read and
        nothing waits to be settled.
        """
        before = await self._read()
        target = before + await self.lab.produce(self.prefix, records)
        port = free_port()
        argv = (sys.executable, *self._profiled(), "-m", f"services.{self.name}", "consumer")
        env = environment(self.name, self.told, port)
        async with self.lab.running(argv, env, f"{self.name}-consumer", port) as pid:
            first = await self._reach(before + 1)
            began, cpu, database_cpu = _now(pid, self.lab)
            await self._reach(target)
            while await self.connection.fetchval(_WAITING):
                await asyncio.sleep(LOOK_S)
            ended, cpu_end, database_end = _now(pid, self.lab)
        buried = await self.connection.fetchval("SELECT count(*) FROM dead_letter")
        if buried:
            msg = f"{self.name} refused {buried} events: the traffic is not what it should be"
            raise RuntimeError(msg)
        return Span(target - first, ended - began, cpu_end - cpu, database_end - database_cpu)

    def _profiled(self) -> tuple[str, ...]:
        if self.lab.profiles is None:
            return ()
        return ("-m", "cProfile", "-o", str(self.lab.profiles / f"{self.name}.pstats"))

    async def _reach(self, wanted: int) -> int:
        """Wait until so many events are read; how many are. Raises when nothing moves."""
        seen, since = -1, time.monotonic()
        while (read := await self._read()) < wanted:
            if read != seen:
                seen, since = read, time.monotonic()
            elif time.monotonic() - since > STILL_S:
                msg = f"{self.name} stands at {read} of {wanted} events"
                raise RuntimeError(msg)
            await asyncio.sleep(LOOK_S)
        return read

    async def _read(self) -> int:
        return int(await self.connection.fetchval(_READ))


_READ = (
    "SELECT coalesce(sum(next_offset) FILTER (WHERE next_offset > 0), 0) FROM consumer_offset "
    "WHERE topic LIKE 'crm.%' OR topic = 'metrics.targets'"
)
_WAITING = (
    "SELECT EXISTS (SELECT FROM mark) OR EXISTS (SELECT FROM root r, reference_version v "
    "WHERE r.reference_version < v.version)"
)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / CLOCK_HZ


def _now(pid: int, lab: Lab) -> tuple[float, float, float]:
    return time.monotonic(), cpu_s(pid), lab.database_cpu_s()


def _encryption_key() -> str:

    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
