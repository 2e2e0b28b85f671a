"""One run's servers, and the services' own processes on databases and topics of their own."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.embedded.ports import LOOPBACK, free_port
from deploy.embedded.services import ROOT, Infrastructure, environment, is_ready, role_url
from shared.db.migrate import upgrade
from shared.db.roles import create_roles
from shared.events.catalogue import PARTITIONS, topics
from shared.http.auth import Role
from shared.http.keys import generate_key_pair, read_private_key, sign_token
from shared.kafka.clients import ensure_topics, make_producer, stop_quietly
from tests.bench.report import Result
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

TRANSACTION_MS = 600_000
CLAIMED_S = 0.5
"""Consumers have shared the partitions among them when no claim changed for so long."""

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
    def cpu_s(self) -> float:
        """Processor seconds of consumer and database."""
        return self.consumer_cpu_s + self.database_cpu_s

    @property
    def cpu_per_thousand_s(self) -> float:
        """Processor seconds per 1,000 events, of consumer and database."""
        return 1_000 * self.cpu_s / self.events


Place = tuple[str, int]
"""A topic without prefix, and a partition."""


@dataclass(frozen=True, slots=True)
class Produced:
    """Records that lie in the logs. ends: by partition that has any, the offset after the last."""

    count: int
    ends: Mapping[Place, int]

    def left(self, positions: Mapping[Place, int]) -> int:
        """How many of them a reader at these positions still has before it."""
        behind = sum(max(0, end - positions.get(p, 0)) for p, end in self.ends.items())
        return min(self.count, behind)


@dataclass(slots=True)
class Lab:
    """Where measurements run. folder: for keys and logs of this run.

    profiles: a folder in which consumers leave what cProfile saw of their last run, if any. year:
    what was measured at the end of the company's year, which takes long to live through.
    """

    servers: Servers
    folder: Path
    profiles: Path | None = None
    year: dict[str, list[Result]] = field(default_factory=dict)
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

    async def produce(self, prefix: str, records: Iterable[Record]) -> Produced:
        """Send `records`, which can be read as soon as they are written."""
        return await self._produce(
            prefix, records, make_producer(self.bootstrap, client_id="bench")
        )

    async def produce_at_once(
        self, prefix: str, records: Iterable[Record], before: Callable[[], None]
    ) -> Produced:
        """Send `records` in one transaction: nobody reads any before all of them can be read.

        before: called when only the commit is left.
        """
        return await self._produce(prefix, records, self._transactional(), before)

    async def _produce(
        self,
        prefix: str,
        records: Iterable[Record],
        producer: AIOKafkaProducer,
        before: Callable[[], None] | None = None,
    ) -> Produced:
        old = await self._ends(prefix, PARTITIONS)
        await producer.start()
        count = 0
        named = set()
        try:
            if before is not None:
                await producer.begin_transaction()
            for record in records:
                await producer.send(prefix + record.topic, key=record.key, value=record.value)
                named.add(record.topic)
                count += 1
                if count % AHEAD == 0:
                    await producer.flush()
            await producer.flush()
            if before is not None:
                before()
                await producer.commit_transaction()
        finally:
            await producer.stop()
        new = await self._ends(prefix, named)
        # A transaction ends with a record of its own in each partition, which nobody is given.
        last = 0 if before is None else 1
        return Produced(
            count, {place: end - last for place, end in new.items() if end != old[place]}
        )

    def _transactional(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            transactional_id=f"bench-{secrets.token_hex(4)}",
            transaction_timeout_ms=TRANSACTION_MS,
            acks="all",
            linger_ms=2,
            max_batch_size=262_144,
            compression_type="lz4",
        )

    async def _ends(self, prefix: str, named: Iterable[str]) -> dict[Place, int]:
        """Where the logs of topics end, by topic (without prefix) and partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            places = [(topic, number) for topic in named for number in range(PARTITIONS[topic])]
            ends = await consumer.end_offsets([TopicPartition(prefix + t, n) for t, n in places])
        finally:
            await stop_quietly(consumer)
        return {(tp.topic.removeprefix(prefix), tp.partition): end for tp, end in ends.items()}

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
            prefixed = f"ATTAIN_{name.upper()}_"
            clock = {f"{prefixed}CLOCK": "external"} if name != "ingest" else {}
            # A static member that was stopped keeps its partitions from the next run for a while.
            told = {f"{prefixed}LOG_LEVEL": "warning", f"{prefixed}STATIC_MEMBER": "false"}
            infrastructure = Infrastructure(
                database_url=database,
                role_passwords={name: password},
                kafka_bootstrap=self.bootstrap,
                jwks_path=self.folder / "jwks.json",
                topic_prefix=prefix,
                secrets_key=key,
                more={name: {**clock, **told}},
            )
            connection = await asyncpg.connect(database, server_settings={"search_path": name})
            try:
                if clock:
                    await connection.execute(
                        "INSERT INTO simulated_clock (instant) VALUES ($1)", YEAR_END
                    )
                yield Bench(self, name, prefix, infrastructure, connection)
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
                    msg = f"{log} did not start:\n{self.log_tail(log)}"
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

    def log_tail(self, log: str) -> str:
        """The end of what processes of that name have logged."""
        return (self.folder / f"{log}.log").read_text(errors="replace")[-2_000:]

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
        argv = (sys.executable, *self._profiled("api"), "-m", f"services.{self.name}", "api")
        env = environment(self.name, self.told, port)
        async with (
            self.lab.running(argv, env, f"{self.name}-api", port),
            httpx.AsyncClient(
                base_url=f"http://{LOOPBACK}:{port}", timeout=30, trust_env=False
            ) as client,
        ):
            yield client

    @asynccontextmanager
    async def consumers(self, count: int = 1) -> AsyncIterator[Crew]:
        """So many consumer processes of one group, once they have shared the partitions."""
        epochs = await self._epochs()
        async with AsyncExitStack() as running:
            # One after the other: a start takes much of a small machine.
            pids = [await running.enter_async_context(self._consumer()) for _ in range(count)]
            await self._shared_out(count, epochs)
            yield Crew(self, pids)

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[int]:
        port = free_port()
        argv = (
            sys.executable,
            *self._profiled("consumer"),
            "-m",
            f"services.{self.name}",
            "consumer",
        )
        env = environment(self.name, self.told, port)
        async with self.lab.running(argv, env, f"{self.name}-consumer", port) as pid:
            yield pid

    async def _shared_out(self, consumers: int, epochs_before: int) -> None:
        """Wait until so many members share the partitions, and no claim changes any more."""
        seen, since, deadline = epochs_before, time.monotonic(), time.monotonic() + STILL_S
        admin = AIOKafkaAdminClient(bootstrap_servers=self.lab.bootstrap)
        await admin.start()
        try:
            while seen == epochs_before or time.monotonic() - since < CLAIMED_S:
                epochs = await self._epochs()
                if epochs != seen or await self._members(admin) != consumers:
                    seen, since = epochs, time.monotonic()
                if time.monotonic() > deadline:
                    msg = f"{self.name}'s consumers do not come to share the partitions"
                    raise RuntimeError(msg)
                await asyncio.sleep(0.1)
        finally:
            await admin.close()

    async def _members(self, admin: AIOKafkaAdminClient) -> int:
        """Members of the group while it is stable; 0 while it is not."""
        try:
            (answer,) = await admin.describe_consumer_groups([self.prefix + self.name])
        except KafkaError:  # the group's coordinator is not there yet
            return 0
        (_, _, state, _, _, members, *_) = answer.groups[0]
        return len(members) if state == "Stable" else 0

    async def _epochs(self) -> int:
        return int(await self.connection.fetchval(_EPOCHS))

    def _profiled(self, process: str) -> tuple[str, ...]:
        if self.lab.profiles is None:
            return ()
        return ("-m", "cProfile", "-o", str(self.lab.profiles / f"{self.name}-{process}.pstats"))


@dataclass(slots=True)
class Crew:
    """The running consumer processes of one service, by their ids."""

    bench: Bench
    pids: Sequence[int]

    async def load(self, records: Iterable[Record]) -> None:
        """Let them take up `records` while these are still written; unmeasured."""
        await self._all_done(await self.bench.lab.produce(self.bench.prefix, records))

    async def consume(self, records: Iterable[Record]) -> Span:
        """Let them take up `records`, which can all be read in one instant, and time it.

        From that instant until everything is read and nothing waits to be settled.
        """
        begun: list[tuple[float, float, float]] = []

        def begin() -> None:
            begun.append(self._now())

        lab, prefix = self.bench.lab, self.bench.prefix
        produced = await lab.produce_at_once(prefix, records, begin)
        await self._all_done(produced)
        ended, cpu_end, database_end = self._now()
        ((began, cpu, database_cpu),) = begun
        return Span(produced.count, ended - began, cpu_end - cpu, database_end - database_cpu)

    async def settle(self, change: Callable[[], Awaitable[None]], count: int) -> Span:
        """Time a change of reference data until nothing waits any more. count: what it concerns."""
        began, cpu, database_cpu = self._now()
        await change()
        await self._all_done(Produced(0, {}))
        ended, cpu_end, database_end = self._now()
        return Span(count, ended - began, cpu_end - cpu, database_end - database_cpu)

    def _now(self) -> tuple[float, float, float]:
        consumers = sum(map(cpu_s, self.pids))
        return time.monotonic(), consumers, self.bench.lab.database_cpu_s()

    async def _all_done(self, produced: Produced) -> None:
        """Wait until all is read and settled. Raises for dead letters, and at a standstill."""
        seen, since = -1, time.monotonic()
        while left := produced.left(await self._positions()):
            if left != seen:
                seen, since = left, time.monotonic()
            elif time.monotonic() - since > STILL_S:
                log = self.bench.lab.log_tail(f"{self.bench.name}-consumer")
                msg = f"{self.bench.name} stands still, {left} of {produced.count} to go:\n{log}"
                raise RuntimeError(msg)
            await asyncio.sleep(LOOK_S)
        while await self.bench.connection.fetchval(_WAITING):
            await asyncio.sleep(LOOK_S)
        buried = await self.bench.connection.fetchval("SELECT count(*) FROM dead_letter")
        if buried:
            msg = f"{self.bench.name} refused {buried} events: the traffic is not what it should be"
            raise RuntimeError(msg)

    async def _positions(self) -> dict[Place, int]:
        rows = await self.bench.connection.fetch(
            "SELECT topic, partition, next_offset FROM consumer_offset"
        )
        return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


_POSITIONS = "SELECT topic, partition, next_offset FROM consumer_offset"
_EPOCHS = "SELECT coalesce(sum(epoch), 0)::bigint FROM consumer_offset"
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


def _encryption_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
