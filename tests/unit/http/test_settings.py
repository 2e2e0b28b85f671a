"""Settings: complete and believable, or one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from shared.errors import Misconfigured
from shared.settings import ServiceSettings, load

CANARY = "canary4711"


class RatingSettings(ServiceSettings):
    """A service's own settings."""

    model_config = SettingsConfigDict(env_prefix="ATTAIN_RATING_")

    hook_secret: SecretStr | None = None
    workers: int = Field(default=2, ge=1)


GOOD = {
    "ATTAIN_RATING_DATABASE_URL": "postgresql://rating:d8Kq2v@127.0.0.1:5433/attain",
    "ATTAIN_RATING_KAFKA_BOOTSTRAP": "127.0.0.1:9092,[::1]:9093",
    "ATTAIN_RATING_PORT": "8102",
    "ATTAIN_RATING_JWKS_PATH": "/keys/jwks.json",
    "ATTAIN_RATING_ISSUER": "urn:attain:local",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The good environment, to be spoilt."""
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_good_settings_are_frozen_and_keep_their_secret(
    environment: pytest.MonkeyPatch,
) -> None:
    del environment
    settings = load(RatingSettings)
    assert settings.port == 8102
    assert settings.base_url == "http://127.0.0.1:8102"
    assert "d8Kq2v" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]  # that it is read-only is the point


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DATABASE_URL", None, "ATTAIN_RATING_DATABASE_URL is not set: postgresql:// URL"),
        ("DATABASE_URL", f"mysql://{CANARY}@x/y", "ATTAIN_RATING_DATABASE_URL: must be a URL"),
        ("DATABASE_URL", "postgresql://rating:changeme@x/y", "DATABASE_URL holds a placeholder"),
        ("DATABASE_URL", "postgresql://postgres:postgres@x/y", "holds a placeholder"),
        ("DATABASE_URL", "postgresql://rating:%3Cpassword%3E@x/y", "holds a placeholder"),
        ("HOOK_SECRET", "Change-Me", "ATTAIN_RATING_HOOK_SECRET holds a placeholder"),
        ("HOOK_SECRET", "", "ATTAIN_RATING_HOOK_SECRET holds a placeholder"),
        ("KAFKA_BOOTSTRAP", "broker", "ATTAIN_RATING_KAFKA_BOOTSTRAP: must be host:port"),
        ("PORT", CANARY, "ATTAIN_RATING_PORT: input should be a valid integer"),
        ("PORT", "70000", "ATTAIN_RATING_PORT: "),
        ("JWKS_PATH", None, "exactly one of ATTAIN_RATING_JWKS_PATH and ATTAIN_RATING_JWKS_URL"),
        ("JWKS_URL", "https://id.example/keys", "exactly one of"),
        ("CLOCK", CANARY, "ATTAIN_RATING_CLOCK: input should be 'wall' or 'external'"),
        ("TOPIC_PREFX", "a", "ATTAIN_RATING_TOPIC_PREFX is not a setting .*TOPIC_PREFIX"),
    ],
)
def test_a_fault_names_its_variable_and_repeats_no_value(
    environment: pytest.MonkeyPatch, name: str, value: str | None, message: str
) -> None:
    if value is None:
        environment.delenv(f"ATTAIN_RATING_{name}")
    else:
        environment.setenv(f"ATTAIN_RATING_{name}", value)
    with pytest.raises(Misconfigured, match=message) as refusal:
        load(RatingSettings)
    assert CANARY not in str(refusal.value)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_every_fault_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTAIN_RATING_WORKERS", "0")
    with pytest.raises(Misconfigured) as refusal:
        load(RatingSettings)
    assert len(str(refusal.value).splitlines()) == 5


def test_a_secret_may_lie_in_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("ATTAIN_RATING_DATABASE_URL")
    environment.setenv("ATTAIN_SECRETS_DIR", str(tmp_path))
    (tmp_path / "attain_rating_database_url").write_text("postgresql://r:Zk3b9@db/attain\n")
    assert load(RatingSettings).database_url.get_secret_value() == "postgresql://r:Zk3b9@db/attain"
    environment.setenv("ATTAIN_SECRETS_DIR", str(tmp_path / "gone"))
    with pytest.raises(Misconfigured, match="ATTAIN_SECRETS_DIR"):
        load(RatingSettings)
