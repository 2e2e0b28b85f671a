"""The containers and the embedded stack are one system: same processes, settings and versions.

The files are read here as text; no container engine is needed.
"""

from __future__ import annotations

import importlib
import re
import threading
import tomllib
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.containers import secret_files
from deploy.containers.database_roles import passwords
from deploy.containers.probe import is_ready
from deploy.containers.secret_files import make_secrets
from deploy.embedded import kafka, postgres
from deploy.embedded.jars import jar_list
from deploy.embedded.ports import setting_of
from deploy.embedded.services import (
    ROOT,
    WITH_TABLES,
    Infrastructure,
    Role,
    Service,
    environment,
    inlets,
    readers,
)
from shared.settings import SECRETS_DIRECTORY_VARIABLE, ServiceSettings, load

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PROCESSES: tuple[Service, ...] = (*readers(), *inlets())
NAMES = tuple(process.name for process in PROCESSES)
ONE_SHOT = ("roles", *(f"{service}-migrate" for service in WITH_TABLES), "tools")
OURS = (*NAMES, *ONE_SHOT)

# Variables that containers get beyond the embedded stack's: behind another address.
ADDED = {"ingest": {"ATTAIN_INGEST_PUBLIC_URL"}}

# Settings of the servers that differ on purpose. In a container others set the addresses; the
# embedded broker is tuned for a small machine and for tests that kill it and want it back at once.
KAFKA_ADDRESSES = {
    "listeners",
    "advertised.listeners",
    "controller.quorum.voters",
    "log.dirs",
}
KAFKA_EMBEDDED_ONLY = {
    "broker.session.timeout.ms",
    "broker.heartbeat.interval.ms",
    "group.min.session.timeout.ms",
    "controlled.shutdown.max.retries",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.threads",
    "num.network.threads",
    "num.io.threads",
    "background.threads",
    "num.recovery.threads.per.data.dir",
}
POSTGRES_EMBEDDED_ONLY = {
    "listen_addresses",  # the image's own default: every address of its isolated network
    "unix_socket_directories",  # the image fills a new cluster over its socket
    "max_wal_senders",  # base backups need some
}
POSTGRES_CHANGED = {"wal_level": "replica"}  # backups to a point in time


def interpolated(value: object, given: Mapping[str, str] | None = None) -> str:
    """A value of the file with `${NAME:-default}` replaced."""
    known = given or {}
    return re.sub(
        r"\$\{(\w+):-([^}]*)\}", lambda found: known.get(found[1]) or found[2], str(value)
    )


def variables(name: str) -> dict[str, str]:
    """What a service of the file finds in its environment."""
    return {key: interpolated(value) for key, value in SERVICES[name]["environment"].items()}


def secrets_of(name: str) -> list[str]:
    return list(SERVICES[name].get("secrets", []))


def embedded_variables(service: str) -> dict[str, str]:
    infrastructure = Infrastructure(
        database_url="postgresql://admin:secret@localhost:1/attain",
        role_passwords=dict.fromkeys(WITH_TABLES, "pw"),
        kafka_bootstrap="localhost:2",
        jwks_path=Path("/keys/jwks.json"),
        topic_prefix="",
        secrets_key="key",
    )
    return environment(service, infrastructure, 8080)


def service_of(name: str) -> str:
    return name.partition("-")[0]


def test_the_same_processes_run() -> None:
    cores = {name for name, entry in SERVICES.items() if "profiles" not in entry}
    assert cores == {"postgres", "kafka", *ONE_SHOT, *NAMES} - {"tools"}


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_processes_have_the_same_command(process: Service) -> None:
    assert 'ENTRYPOINT ["python", "-m"]' in DOCKERFILE
    assert SERVICES[process.name]["command"] == [f"services.{process.service}", process.role.value]


@pytest.mark.parametrize("service", WITH_TABLES)
def test_schemas_are_migrated_by_the_same_command(service: str) -> None:
    entry = SERVICES[f"{service}-migrate"]
    assert entry["command"] == [f"services.{service}", "migrate"]
    assert entry["depends_on"]["roles"]["condition"] == "service_completed_successfully"


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_processes_get_the_same_variables(process: Service) -> None:
    service, name = process.service, process.name
    given = {*variables(name), *secrets_of(name)} - {SECRETS_DIRECTORY_VARIABLE}
    assert given - ADDED.get(service, set()) == set(embedded_variables(service))
    assert variables(f"{service}-migrate") == variables(name)
    # What is the same everywhere has the same value everywhere.
    prefix = f"ATTAIN_{service.upper()}_"
    for setting in ("ISSUER", "AUDIENCE", "TOPIC_PREFIX"):
        assert variables(name)[prefix + setting] == embedded_variables(service)[prefix + setting]


@pytest.mark.parametrize("service", WITH_TABLES)
def test_settings_load_from_variables_and_secret_files(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_secrets(tmp_path)
    for name, value in variables(f"{service}-migrate").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(SECRETS_DIRECTORY_VARIABLE, str(tmp_path))
    module = importlib.import_module(f"services.{service}.settings")
    settings = load(getattr(module, f"{service.capitalize()}Settings"))
    assert isinstance(settings, ServiceSettings)
    url = settings.database_url.get_secret_value()
    assert url.startswith(f"postgresql://attain_{service}:")
    assert url.endswith("@postgres:5432/attain")


def test_things_start_in_the_embedded_stack_s_order() -> None:
    for process in PROCESSES:
        needs = SERVICES[process.name]["depends_on"]
        assert needs[f"{process.service}-migrate"] == {
            "condition": "service_completed_successfully"
        }
        assert needs["kafka"] == {"condition": "service_healthy"}
    for inlet in inlets():
        needs = SERVICES[inlet.name]["depends_on"]
        for reader in readers():
            assert needs[reader.name] == {"condition": "service_healthy"}
    assert SERVICES["roles"]["depends_on"]["postgres"] == {"condition": "service_healthy"}


def test_kafka_has_the_same_settings() -> None:
    given = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in SERVICES["kafka"]["environment"].items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }
    wanted = {k: v for k, v in kafka.SETTINGS.items() if k not in KAFKA_EMBEDDED_ONLY}
    assert {k: v for k, v in given.items() if k not in KAFKA_ADDRESSES} == wanted
    assert set(kafka.SETTINGS) >= KAFKA_EMBEDDED_ONLY
    assert given["auto.create.topics.enable"] == "false"
    assert given["log.retention.ms"] == given["log.retention.bytes"] == "-1"


def test_postgresql_has_the_same_settings() -> None:
    command = SERVICES["postgres"]["command"]
    assert command[0] == "postgres"
    given = dict(part.removeprefix("--").split("=", 1) for part in command[1:])
    wanted = {k: v for k, v in postgres.SETTINGS.items() if k not in POSTGRES_EMBEDDED_ONLY}
    assert given == {**wanted, **POSTGRES_CHANGED}
    assert given["password_encryption"] == "scram-sha-256"
    assert not {"fsync", "full_page_writes", "synchronous_commit"} & set(given)


def test_postgresql_s_cluster_is_made_the_same_way() -> None:
    site = postgres.Site(Path("bin"), Path("cluster"), None, None)
    argv = postgres._initdb(site, Path("scratch"), Path("password"), None).argv
    own = ("--pgdata=", "--username=", "--pwfile=", "--no-instructions")
    wanted = [part for part in argv[1:] if not part.startswith(own)]
    environ = SERVICES["postgres"]["environment"]
    assert environ["POSTGRES_INITDB_ARGS"].split() == wanted
    assert environ["POSTGRES_HOST_AUTH_METHOD"] == "scram-sha-256"
    assert environ["POSTGRES_USER"] == postgres.ADMIN == secret_files.ADMIN
    assert environ["POSTGRES_DB"] == postgres.DATABASE == secret_files.DATABASE


def test_versions_agree() -> None:
    image, _, tag = SERVICES["postgres"]["image"].partition(":")
    assert image == "postgres"
    assert tag.split(".")[0] == str(postgres.MAJOR)
    stack = (ROOT / "requirements" / "stack.txt").read_text()
    wheel = re.search(rf"^{postgres.WHEEL}==(\d+\.\d+)", stack, re.MULTILINE)
    assert wheel is not None
    assert tag == wheel[1]

    jars = {f"{jar.group}:{jar.artifact}": jar.version for jar in jar_list()}
    version = jars["org.apache.kafka:kafka_2.13"]
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert SERVICES["tools"]["image"] == f"attain:{project['project']['version']}"
    base = re.search(r"^ARG PYTHON=python:(\d+\.\d+)\.\d+-slim", DOCKERFILE, re.MULTILINE)
    assert base is not None
    assert project["project"]["requires-python"] == f">={base[1]}"
    assert project["tool"]["mypy"]["python_version"] == base[1]


def test_the_image_installs_from_the_hashed_lock_and_is_nobody() -> None:
    lock = (ROOT / "requirements" / "runtime.txt").read_text()
    assert "--hash=sha256:" in lock
    assert "--require-hashes --only-binary :all:" in DOCKERFILE
    assert "COPY requirements/runtime.txt" in DOCKERFILE
    assert "\nUSER 10001:10001\n" in DOCKERFILE
    assert "curl" not in DOCKERFILE
    assert "HEALTHCHECK" in DOCKERFILE
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert "*" in ignored
    assert not [kept for kept in ignored if kept.startswith("!") and "secret" in kept]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_do_little(name: str) -> None:
    entry = SERVICES[name]
    assert entry["user"] == "10001:10001"
    assert entry["read_only"] is True
    assert entry["init"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_bounded_and_pinned(name: str) -> None:
    entry = SERVICES[name]
    assert entry["cap_drop"] == ["ALL"]
    assert entry["security_opt"] == ["no-new-privileges:true"]
    assert entry["user"] not in {"root", "0", "0:0"}
    assert {"cpus", "memory", "pids"} <= entry["deploy"]["resources"]["limits"].keys()
    tag = entry["image"].partition(":")[2]
    assert re.search(r"\d+\.\d+", tag), f"{entry['image']} names no exact version"
    if name not in ONE_SHOT:
        assert entry["healthcheck"]["test"]
        assert entry["restart"] == "unless-stopped"
        assert "container_name" not in entry  # it could not be scaled


def test_servers_are_reached_from_inside_only() -> None:
    internal = {name for name, entry in COMPOSE["networks"].items() if entry.get("internal")}
    for name in ("postgres", "kafka"):
        assert set(SERVICES[name]["networks"]) <= internal
        assert "ports" not in SERVICES[name]
    assert set(SERVICES["postgres"]["networks"]).isdisjoint(SERVICES["kafka"]["networks"])
    for name, entry in SERVICES.items():
        for port in entry.get("ports", []):
            assert interpolated(port).startswith("127.0.0.1:"), name
            assert "edge" in entry["networks"]


def test_ports_are_named_as_in_the_embedded_stack() -> None:
    published = []
    for process in PROCESSES:
        entry = SERVICES[process.name]
        if process.role is Role.CONSUMER:
            assert "ports" not in entry  # several may run
            continue
        (port,) = entry["ports"]
        assert f"${{{setting_of(process.name)}:-" in port
        assert port.endswith(f":{variables(process.name)[_port_variable(process.service)]}")
        published.append(interpolated(port).split(":")[1])
    assert len(set(published)) == len(published)


def _port_variable(service: str) -> str:
    return f"ATTAIN_{service.upper()}_PORT"


def test_every_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    made = set(make_secrets(tmp_path))
    assert set(COMPOSE["secrets"]) <= made
    used = {secret for entry in SERVICES.values() for secret in entry.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    for name, entry in (COMPOSE["secrets"] | COMPOSE["configs"]).items():
        file = Path(interpolated(entry["file"])).name
        assert (tmp_path / file).read_text(), name
    assert tmp_path.stat().st_mode & 0o077 == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert make_secrets(tmp_path) == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    # No two passwords are the same, and the administrator's URL has the server's.
    roles = passwords(tmp_path)
    assert len({*roles.values()}) == len(WITH_TABLES) == len(roles)
    admin = (tmp_path / secret_files.ADMIN_PASSWORD).read_text()
    assert f":{admin}@" in (tmp_path / secret_files.ADMIN_URL).read_text()


@pytest.fixture
def answering() -> Iterator[HTTPServer]:
    class Readyz(BaseHTTPRequestHandler):
        status = 200

        def do_GET(self) -> None:
            self.send_response(type(self).status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """A test's server is quiet."""

    server = HTTPServer(("127.0.0.1", 0), Readyz)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_probe_says_what_readyz_says(
    answering: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = answering.server_address[1]
    assert is_ready(port)
    monkeypatch.setattr(answering.RequestHandlerClass, "status", 503)
    assert not is_ready(port)


def test_the_probe_finds_nobody(answering: HTTPServer) -> None:
    port = answering.server_address[1]
    answering.shutdown()
    answering.server_close()
    assert not is_ready(port)
