"""Settings of a process: read once, checked once, frozen. No service starts on half of them."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args
from urllib.parse import unquote, urlsplit

from pydantic import (
    AnyHttpUrl,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from shared.errors import Misconfigured
from shared.kafka.security import Brokers, KafkaSecurity, Mechanism, Protocol

SECRETS_DIRECTORY_VARIABLE = "ATTAIN_SECRETS_DIR"
"""Names a folder with one file a setting, each called as its variable, for mounted secrets."""

_PLACEHOLDER_WORDS = frozenset(
    [
        "admin",
        "changeit",
        "changeme",
        "default",
        "dummy",
        "example",
        "none",
        "null",
        "passwd",
        "password",
        "placeholder",
        "postgres",
        "replaceme",
        "secret",
        "test",
        "todo",
        "token",
        "xxx",
        "yourpassword",
        "yoursecret",
    ]
)
_BROKER = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_TOPIC_PREFIX = re.compile(r"[a-z0-9._-]{0,64}")

LogLevel = Literal["debug", "info", "warning", "error"]


class ServiceSettings(BaseSettings):
    """What every service is told. A service subclasses it with the prefix `ATTAIN_<NAME>_`.

    Values come from the environment, or from files in the folder that `ATTAIN_SECRETS_DIR`
    names. There is no default for anything that is secret or that decides where data goes.
    """

    model_config = SettingsConfigDict(
        env_prefix="ATTAIN_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    database_url: SecretStr = Field(description="postgresql:// URL of this service's login role")
    kafka_bootstrap: str = Field(description="Kafka brokers as host:port, separated by commas")
    kafka_security: Protocol = Field(
        default="plaintext",
        description="how brokers are reached: plaintext, ssl, sasl_ssl or sasl_plaintext",
    )
    kafka_ca_path: FilePath | None = Field(
        default=None,
        description="PEM file of the authority that signs the brokers' certificates; "
        "the system's own when not set",
    )
    kafka_certificate_path: FilePath | None = Field(
        default=None, description="PEM file of this client's certificate; set with its key"
    )
    kafka_key_path: FilePath | None = Field(
        default=None, description="PEM file of this client's private key"
    )
    kafka_sasl_mechanism: Mechanism | None = Field(
        default=None, description="how this client proves who it is, with sasl_*"
    )
    kafka_sasl_user: str | None = Field(default=None, min_length=1, description="as whom")
    kafka_sasl_password: SecretStr | None = Field(default=None, description="that user's password")
    topic_prefix: str = Field(default="", description="put before every topic name")
    kafka_replication: int = Field(
        default=1, ge=1, le=32_767, description="copies of each topic that this service creates"
    )
    static_member: bool = Field(
        default=False,
        description="keep a consumer's partitions over its restart at the same host name and "
        "port: a crash costs no session timeout, but a clean stop holds them for one",
    )
    host: str = Field(default="127.0.0.1", description="address the HTTP server listens on")
    port: int = Field(ge=0, le=65_535, description="port of the HTTP server; 0 takes a free one")
    jwks_path: Path | None = Field(default=None, description="file with the public token keys")
    jwks_url: AnyHttpUrl | None = Field(default=None, description="URL of the public token keys")
    issuer: str = Field(min_length=1, description="`iss` that access tokens must carry")
    audience: str = Field(default="attain", min_length=1, description="`aud` tokens must carry")
    log_level: LogLevel = Field(default="info", description="least urgent level that is logged")
    max_body_bytes: int = Field(
        default=1_048_576, ge=1_024, le=67_108_864, description="largest request body, in bytes"
    )
    public_url: AnyHttpUrl | None = Field(
        default=None,
        description="how the outside world reaches this service; made from host "
        "and port when not set",
    )
    clock: Literal["wall", "external"] = Field(
        default="wall", description="`external`: time comes from tick messages, as in the demo"
    )

    @field_validator("database_url")
    @classmethod
    def _database_url_names_postgresql(cls, url: SecretStr) -> SecretStr:
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in {"postgresql", "postgres"} or not parts.path.strip("/"):
            msg = "must be a URL like postgresql://role:password@host:5432/database"
            raise ValueError(msg)
        return url

    @field_validator("kafka_bootstrap")
    @classmethod
    def _brokers_have_ports(cls, brokers: str) -> str:
        if not all(_BROKER.fullmatch(broker.strip()) for broker in brokers.split(",")):
            msg = "must be host:port, several separated by commas"
            raise ValueError(msg)
        return brokers

    @field_validator("topic_prefix")
    @classmethod
    def _topic_prefix_is_plain(cls, prefix: str) -> str:
        if not _TOPIC_PREFIX.fullmatch(prefix):
            msg = "may hold only lower-case letters, digits, dot, dash and underscore"
            raise ValueError(msg)
        return prefix

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> Self:
        if (self.jwks_path is None) == (self.jwks_url is None):
            prefix = str(self.model_config.get("env_prefix", ""))
            msg = f"set exactly one of {prefix}JWKS_PATH and {prefix}JWKS_URL"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _kafka_security_is_whole(self) -> Self:
        prefix = f"{self.model_config.get('env_prefix', '')}KAFKA_"
        sasl = (self.kafka_sasl_mechanism, self.kafka_sasl_user, self.kafka_sasl_password)
        fault = None
        if self.kafka_security.startswith("sasl"):
            if None in sasl:
                fault = (
                    f"{prefix}SECURITY {self.kafka_security} needs SASL_MECHANISM, _USER, _PASSWORD"
                )
            elif self.kafka_security == "sasl_plaintext" and self.kafka_sasl_mechanism == "PLAIN":
                fault = f"{prefix}SASL_MECHANISM PLAIN shows the password: use it with sasl_ssl"
        elif sasl != (None, None, None):
            fault = f"{prefix}SASL_* needs {prefix}SECURITY sasl_ssl or sasl_plaintext"
        files = (self.kafka_ca_path, self.kafka_certificate_path, self.kafka_key_path)
        if not self.kafka_security.endswith("ssl") and files != (None, None, None):
            fault = f"{prefix}CA_PATH, _CERTIFICATE_PATH, _KEY_PATH need SECURITY ssl or sasl_ssl"
        if (self.kafka_certificate_path is None) != (self.kafka_key_path is None):
            fault = f"set both {prefix}CERTIFICATE_PATH and {prefix}KEY_PATH, or neither"
        if fault is not None:
            raise ValueError(fault)
        return self

    @property
    def kafka(self) -> Brokers:
        """The brokers, and how they are reached."""
        return Brokers(
            self.kafka_bootstrap,
            KafkaSecurity(
                protocol=self.kafka_security,
                ca=self.kafka_ca_path,
                certificate=self.kafka_certificate_path,
                key=self.kafka_key_path,
                mechanism=self.kafka_sasl_mechanism,
                user=self.kafka_sasl_user,
                password=self.kafka_sasl_password,
            ),
        )

    @property
    def base_url(self) -> str:
        """`public_url`, or else the address made of host and port; without a final slash."""
        if self.public_url is not None:
            return str(self.public_url).rstrip("/")
        return f"http://{self.host}:{self.port}"


S = TypeVar("S", bound=BaseSettings)


def load(settings_class: type[S]) -> S:
    """The settings from the environment and the secrets folder, complete and believable.

    Raises Misconfigured with one line for each fault, naming the variable; no value is repeated,
    because it may be a secret.
    """
    folder = os.environ.get(SECRETS_DIRECTORY_VARIABLE)
    if folder is not None and not Path(folder).is_dir():
        msg = f"{SECRETS_DIRECTORY_VARIABLE} names {folder}, which is not a folder"
        raise Misconfigured(msg)
    _refuse_unknown_variables(settings_class)
    # pydantic-settings takes this argument at run time; the class's own signature hides it.
    options: dict[str, Any] = {"_secrets_dir": folder}
    try:
        settings = settings_class(**options)
    except ValidationError as failure:
        faults = [_fault(settings_class, error) for error in failure.errors(include_input=False)]
        raise Misconfigured("\n".join(faults)) from None
    except SettingsError as failure:
        raise Misconfigured(str(failure)) from None
    _refuse_placeholders(settings)
    return settings


def variable(settings_class: type[BaseSettings], field: str) -> str:
    """The environment variable that sets `field`."""
    return f"{settings_class.model_config.get('env_prefix', '')}{field}".upper()


def _fault(settings_class: type[BaseSettings], error: Any) -> str:  # noqa: ANN401 - pydantic's TypedDict
    path = [str(part) for part in error["loc"]]
    message = str(error["msg"]).removeprefix("Value error, ")
    if not path:
        return message
    name = variable(settings_class, path[0])
    if error["type"] == "missing":
        about = settings_class.model_fields[path[0]].description
        return f"{name} is not set" + (f": {about}" if about else "")
    return f"{name}: {message[:1].lower()}{message[1:]}"


def _refuse_unknown_variables(settings_class: type[BaseSettings]) -> None:
    """A misspelt variable would silently leave a default in force."""
    prefix = variable(settings_class, "")
    if prefix.count("_") < 2:  # noqa: PLR2004 - "ATTAIN_" alone is shared by all services
        return
    known = {variable(settings_class, name): name for name in settings_class.model_fields}
    for name in os.environ:
        first = name.upper().split("__")[0]
        if first.startswith(prefix) and first not in known:
            near = difflib.get_close_matches(first, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            msg = f"{name} is not a setting of this service{hint}"
            raise Misconfigured(msg)


def _refuse_placeholders(settings: BaseSettings) -> None:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if not isinstance(value, SecretStr):
            continue
        text = value.get_secret_value()
        if "://" in text:
            password = urlsplit(text).password
            if password is None:
                continue
            text = unquote(password)
        plain = re.sub(r"[^a-z0-9<>]", "", text.lower())
        wanted = SecretStr in (field.annotation, *get_args(field.annotation))
        if wanted and (
            not plain or plain in _PLACEHOLDER_WORDS or "changeme" in plain or text.startswith("<")
        ):
            msg = (
                f"{variable(type(settings), name)} holds a placeholder: "
                "set a secret of your own, made at random"
            )
            raise Misconfigured(msg)
