"""How the broker is reached: encrypted or not, and as whom."""

from __future__ import annotations

import functools
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import SecretStr

from shared.errors import Misconfigured

Protocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """What a client needs besides the brokers' addresses.

    ca: PEM file that signs the brokers' certificates; None for the system's own authorities.
    certificate, key: PEM files of this client, where brokers ask for one.
    """

    protocol: Protocol = "plaintext"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    mechanism: Mechanism | None = None
    user: str | None = None
    password: SecretStr | None = None

    def options(self) -> dict[str, Any]:
        """Keyword arguments of aiokafka's clients. Raises Misconfigured for unreadable files."""
        told: dict[str, Any] = {"security_protocol": self.protocol.upper()}
        if self.protocol.endswith("ssl"):
            told["ssl_context"] = _context(self.ca, self.certificate, self.key)
        if self.password is not None:
            told |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password.get_secret_value(),
            }
        return told


class Brokers(str):
    """Brokers' addresses, `host:port` separated by commas, that know how they are reached.

    A plain text, as tests have it, is reached without encryption and as nobody.
    """

    __slots__ = ("security",)

    security: KafkaSecurity

    def __new__(cls, addresses: str, security: KafkaSecurity) -> Self:
        """Addresses with their security."""
        made = super().__new__(cls, addresses)
        made.security = security
        return made


def client_options(bootstrap: str) -> dict[str, Any]:
    """Keyword arguments with which any client of aiokafka reaches these brokers."""
    security = bootstrap.security if isinstance(bootstrap, Brokers) else KafkaSecurity()
    return {"bootstrap_servers": str(bootstrap), **security.options()}


@functools.lru_cache(maxsize=8)  # loading the system's authorities takes a tenth of a second
def _context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as failure:  # ssl.SSLError is one
        msg = f"a certificate or key for Kafka cannot be read: {failure.strerror or failure}"
        raise Misconfigured(msg) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
