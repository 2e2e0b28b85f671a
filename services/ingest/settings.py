"""Settings of the ingest service, prefix `ATTAIN_INGEST_`."""

from __future__ import annotations

import base64
import binascii

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings

_KEY_BYTES = 32


class IngestSettings(ServiceSettings):
    """What ingest is told besides what every service is."""

    model_config = SettingsConfigDict(
        env_prefix="ATTAIN_INGEST_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    secrets_key: SecretStr = Field(
        description="encrypts connections' secrets: 32 random bytes in URL-safe base64; several, "
        "separated by commas, while one is rotated (the first encrypts)"
    )
    kafka_timeout_s: float = Field(
        default=2.0,
        ge=0.1,
        le=10,
        description="how long a delivery waits for Kafka before it goes to the outbox",
    )
    database_timeout_s: float = Field(
        default=1.5, ge=0.1, le=10, description="how long a delivery waits for the database"
    )
    sources_refresh_s: float = Field(
        default=2.0, ge=0.05, le=300, description="how often connections are read again"
    )
    max_events_bytes: int = Field(
        default=4_194_304, ge=1_024, le=67_108_864, description="largest body of POST /v1/events"
    )

    @field_validator("secrets_key")
    @classmethod
    def _keys_have_32_bytes(cls, keys: SecretStr) -> SecretStr:
        for key in keys.get_secret_value().split(","):
            try:
                length = len(base64.b64decode(key.strip(), altchars=b"-_", validate=True))
            except (binascii.Error, ValueError):
                length = 0
            if length != _KEY_BYTES:
                msg = "must be 32 random bytes in URL-safe base64 (44 characters)"
                raise ValueError(msg)
        return keys
