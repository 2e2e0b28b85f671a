"""Encrypted and authenticated ways to the broker: the settings, and a real broker that asks."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from deploy.embedded import kafka as broker
from services.ingest.settings import IngestSettings
from shared.errors import Misconfigured
from shared.kafka.clients import ensure_topics, make_consumer, make_producer, stop_quietly
from shared.kafka.security import Brokers, KafkaSecurity, Mechanism, client_options
from shared.settings import load
from tests.support.listen import bound_socket

USER, PASSWORD = "attain", "kafka-canary-password"
START_S = 90.0

# ---- settings: whole or refused ---------------------------------------------------------------

GIVEN = {
    "DATABASE_URL": "postgresql://attain_ingest:fjX29sk@localhost/attain",
    "KAFKA_BOOTSTRAP": "broker:9093",
    "PORT": "0",
    "JWKS_URL": "https://id.example/jwks.json",
    "ISSUER": "https://id.example",
    "SECRETS_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
}
SASL = {
    "KAFKA_SECURITY": "sasl_ssl",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USER": USER,
    "KAFKA_SASL_PASSWORD": PASSWORD,
}
FILE = __file__

Told = Callable[..., IngestSettings]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """The settings that these variables make."""

    def read(**variables: str) -> IngestSettings:
        for name, value in {**GIVEN, **variables}.items():
            monkeypatch.setenv(f"ATTAIN_INGEST_{name}", value)
        return load(IngestSettings)

    return read


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"KAFKA_SECURITY": "sasl_ssl"}, "needs SASL_MECHANISM"),
        ({**SASL, "KAFKA_SECURITY": "ssl"}, "SASL_"),
        ({**SASL, "KAFKA_SECURITY": "plaintext"}, "SASL_"),
        ({"KAFKA_SASL_PASSWORD": PASSWORD}, "SASL_"),
        ({"KAFKA_SECURITY": "sasl_ssl", "KAFKA_SASL_USER": USER}, "needs SASL_MECHANISM"),
        (
            {**SASL, "KAFKA_SECURITY": "sasl_plaintext", "KAFKA_SASL_MECHANISM": "PLAIN"},
            "shows the password",
        ),
        ({"KAFKA_CA_PATH": FILE}, "need SECURITY ssl or sasl_ssl"),
        ({"KAFKA_SECURITY": "ssl", "KAFKA_CERTIFICATE_PATH": FILE}, "set both"),
        ({"KAFKA_SECURITY": "ssl", "KAFKA_KEY_PATH": FILE}, "set both"),
        ({"KAFKA_SECURITY": "ssl", "KAFKA_CA_PATH": "/no/such/file"}, "KAFKA_CA_PATH"),
        ({"KAFKA_SECURITY": "tls"}, "KAFKA_SECURITY"),
        ({**SASL, "KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM"),
        ({**SASL, "KAFKA_SASL_PASSWORD": "changeme"}, "placeholder"),
    ],
)
def test_half_given_settings_are_refused_without_the_password(
    told: Told, variables: dict[str, str], said: str
) -> None:
    with pytest.raises(Misconfigured, match=said) as refusal:
        told(**variables)
    assert PASSWORD not in str(refusal.value)


def test_whole_settings_reach_the_clients(told: Told) -> None:
    settings = told(**SASL)
    assert settings.kafka == "broker:9093"
    options = client_options(settings.kafka)
    assert options.pop("ssl_context").verify_mode is ssl.CERT_REQUIRED
    assert options == {
        "bootstrap_servers": "broker:9093",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": USER,
        "sasl_plain_password": PASSWORD,
    }
    assert PASSWORD not in f"{settings!r} {settings.kafka!r} {settings.kafka.security!r}"


def test_without_settings_it_is_plaintext(told: Told) -> None:
    plain = {"bootstrap_servers": "broker:9093", "security_protocol": "PLAINTEXT"}
    assert client_options(told().kafka) == plain
    assert client_options("broker:9093") == plain


def test_a_file_that_is_no_certificate_is_said(told: Told) -> None:
    with pytest.raises(Misconfigured, match="certificate or key for Kafka"):
        client_options(told(KAFKA_SECURITY="ssl", KAFKA_CA_PATH=FILE).kafka)


# ---- a broker that asks -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Guarded:
    """A broker with one encrypted listener for passwords and one for certificates."""

    passwords: str
    certificates: str
    good: KafkaSecurity
    """With SCRAM-SHA-512, at `passwords`."""
    certified: KafkaSecurity
    strange_ca: Path


def certificate(folder: Path, name: str, issuer: tuple[Any, Any] | None) -> tuple[Any, Any]:
    """A key and its certificate, in `<name>.key` and `<name>.pem`; signed by itself or `issuer`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[1].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key if issuer is None else issuer[0], hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / f"{name}.pem").write_bytes(made.public_bytes(pem))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return key, made


def configuration(folder: Path, ports: dict[str, int]) -> Path:
    """The embedded broker's settings, with guarded listeners."""
    host = "127.0.0.1"
    listeners = {name: f"{name}://{host}:{port}" for name, port in ports.items()}
    asked = "org.apache.kafka.common.security"
    plain = f'{asked}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    settings = {
        **broker.SETTINGS,
        "listeners": ",".join(listeners.values()),
        "advertised.listeners": ",".join(
            text for name, text in listeners.items() if name != "CONTROLLER"
        ),
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
        "PASSWORDS:SASL_SSL,CERTIFICATES:SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.quorum.voters": f"{broker.NODE_ID}@{host}:{ports['CONTROLLER']}",
        "log.dirs": str(folder / "log"),
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        "listener.name.passwords.plain.sasl.jaas.config": plain,
        "listener.name.passwords.scram-sha-512.sasl.jaas.config": (
            f"{asked}.scram.ScramLoginModule required;"
        ),
        "listener.name.certificates.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker-both.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
    }
    path = folder / "broker.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """The embedded broker, started with listeners that ask."""
    folder = tmp_path_factory.mktemp("guarded")
    ca = certificate(folder, "ca", None)
    certificate(folder, "strange", None)
    for name in ("broker", "client"):
        certificate(folder, name, ca)
    (folder / "broker-both.pem").write_bytes(
        (folder / "broker.key").read_bytes() + (folder / "broker.pem").read_bytes()
    )
    ports = {}
    for name in ("PLAINTEXT", "CONTROLLER", "PASSWORDS", "CERTIFICATES"):
        with bound_socket() as free:
            ports[name] = free.getsockname()[1]
    broker._prepare(folder)
    command = broker._command(folder, broker._classpath())
    told = str(configuration(folder, ports))
    scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
    subprocess.run(
        (
            *(*command, "kafka.tools.StorageTool", "format", "--config", told),
            *("--cluster-id", broker._cluster_id(), "--add-scram", scram),
        ),
        env=broker._environment(),
        check=True,
        capture_output=True,
    )
    log = (folder / "broker.log").open("wb")
    process = subprocess.Popen(
        [*command, "kafka.Kafka", told], env=broker._environment(), stdout=log, stderr=log
    )
    try:
        async with asyncio.timeout(START_S):
            while not await broker.answers(f"127.0.0.1:{ports['PLAINTEXT']}"):
                assert process.poll() is None, (folder / "broker.log").read_text()
                await asyncio.sleep(0.2)
        good = KafkaSecurity(
            protocol="sasl_ssl",
            ca=folder / "ca.pem",
            mechanism="SCRAM-SHA-512",
            user=USER,
            password=SecretStr(PASSWORD),
        )
        yield Guarded(
            passwords=f"127.0.0.1:{ports['PASSWORDS']}",
            certificates=f"127.0.0.1:{ports['CERTIFICATES']}",
            good=good,
            certified=KafkaSecurity(
                protocol="ssl",
                ca=folder / "ca.pem",
                certificate=folder / "client.pem",
                key=folder / "client.key",
            ),
            strange_ca=folder / "strange.pem",
        )
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()
        shutil.rmtree(folder / "log", ignore_errors=True)


async def there_and_back(brokers: Brokers, topic: str) -> bytes | None:
    """A message by the producer, the admin client and the consumer that every service uses."""
    await ensure_topics(brokers, {topic: 1})
    producer = make_producer(brokers, client_id="test")
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"kept")
    finally:
        await stop_quietly(producer)
    consumer = make_consumer(brokers, group=topic, client_id="test")
    await consumer.start()
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        consumer.seek(place, 0)
        value: bytes | None = (await asyncio.wait_for(consumer.getone(), 20)).value
        return value
    finally:
        await stop_quietly(consumer)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_a_password_over_tls_lets_all_clients_in(
    guarded: Guarded, mechanism: Mechanism
) -> None:
    security = replace(guarded.good, mechanism=mechanism)
    assert await there_and_back(Brokers(guarded.passwords, security), f"t-{mechanism}") == b"kept"


async def test_a_client_s_certificate_lets_all_clients_in(guarded: Guarded) -> None:
    brokers = Brokers(guarded.certificates, guarded.certified)
    assert await there_and_back(brokers, "t-certificate") == b"kept"


@pytest.mark.parametrize(
    "way", ["wrong password", "unknown user", "strange authority", "nobody", "not encrypted"]
)
async def test_whoever_cannot_prove_it_stays_outside(
    guarded: Guarded, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = {
        "wrong password": replace(guarded.good, password=SecretStr("another-canary")),
        "unknown user": replace(guarded.good, user="mallory"),
        "strange authority": replace(guarded.good, ca=guarded.strange_ca),
        "nobody": KafkaSecurity(protocol="ssl", ca=guarded.good.ca),
        "not encrypted": KafkaSecurity(),
    }[way]
    producer = make_producer(
        Brokers(guarded.passwords, wrong), client_id="test", request_timeout_ms=2_000
    )
    with pytest.raises((KafkaError, TimeoutError)):
        await asyncio.wait_for(producer.start(), 15)
    await stop_quietly(producer)
    assert PASSWORD not in caplog.text
    assert "another-canary" not in caplog.text


async def test_without_a_certificate_nobody_enters_by_certificate(guarded: Guarded) -> None:
    wrong = replace(guarded.certified, certificate=None, key=None)
    producer = make_producer(
        Brokers(guarded.certificates, wrong), client_id="test", request_timeout_ms=2_000
    )
    with pytest.raises((KafkaError, TimeoutError)):
        await asyncio.wait_for(producer.start(), 15)
    await stop_quietly(producer)
