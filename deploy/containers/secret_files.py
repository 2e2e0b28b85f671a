"""The secrets of a container deployment: one file each, made at random, never replaced.

A service's secret is called as the variable that it stands for, so that the service finds it in
the folder that `ATTAIN_SECRETS_DIR` names.
"""

import base64
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from shared.db.roles import SERVICES, role_name
from shared.errors import Misconfigured
from shared.http.keys import generate_key_pair

ADMIN = "attain_admin"
DATABASE = "attain"
DATABASE_ADDRESS = "postgres:5432"
ADMIN_PASSWORD = "POSTGRES_ADMIN_PASSWORD"  # noqa: S105 - a file's name
ADMIN_URL = "ATTAIN_ADMIN_DATABASE_URL"
ENCRYPTION_KEY = "ATTAIN_INGEST_SECRETS_KEY"
GRAFANA_PASSWORD = "GRAFANA_ADMIN_PASSWORD"  # noqa: S105 - a file's name
SIGNING_KEY = "signing.json"
PUBLIC_KEYS = "jwks.json"
PASSWORD_BYTES = 24
KEY_BYTES = 32
# Containers read the files under ids that the host does not know; the folder is what keeps
# other people of the host out.
READABLE = 0o444
PRIVATE_FOLDER = 0o700


def url_file(service: str) -> str:
    """Name of the file with the service's database URL."""
    return f"ATTAIN_{service.upper()}_DATABASE_URL"


def make_secrets(folder: Path) -> list[str]:
    """Make what is missing in the folder; names of what was made. What is there stays.

    Raises: Misconfigured when the folder is not the caller's own.
    """
    made = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(PRIVATE_FOLDER)
        for name, content in _contents(folder).items():
            if not (folder / name).exists():
                _write(folder / name, content())
                made.append(name)
        if not (folder / SIGNING_KEY).exists():
            made.append(SIGNING_KEY)
        generate_key_pair(folder / SIGNING_KEY, folder / PUBLIC_KEYS)
    except OSError as error:
        raise Misconfigured(
            f"{folder} cannot be used ({error.strerror}): give a folder of your own"
        ) from error
    return made


def _contents(folder: Path) -> Mapping[str, Callable[[], str]]:
    """What each file holds. The URLs repeat passwords, so they come after them."""

    def admin_url() -> str:
        return _url(ADMIN, (folder / ADMIN_PASSWORD).read_text())

    def service_url(service: str) -> Callable[[], str]:
        return lambda: _url(role_name(service), _password())

    return {
        ADMIN_PASSWORD: _password,
        ADMIN_URL: admin_url,
        **{url_file(service): service_url(service) for service in SERVICES},
        ENCRYPTION_KEY: _key,
        GRAFANA_PASSWORD: _password,
    }


def _password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)


def _key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _url(role: str, password: str) -> str:
    return f"postgresql://{role}:{password}@{DATABASE_ADDRESS}/{DATABASE}"


def _write(path: Path, content: str) -> None:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, READABLE), "w") as file:
        os.fchmod(file.fileno(), READABLE)
        file.write(content)
    draft.replace(path)
