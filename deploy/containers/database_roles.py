"""The schema and the login role of each service, with the passwords that the services are given."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from deploy.containers.secret_files import ADMIN_URL, url_file
from shared.db.roles import SERVICES, create_roles
from shared.errors import Misconfigured


async def make_roles(folder: Path) -> None:
    """Create or update the roles; the folder holds the administrator's URL and each service's.

    Repeatable: after a password was changed in a service's file, it changes the role's.
    Raises: Misconfigured naming the file that is missing or holds no password.
    """
    await create_roles(_read(folder, ADMIN_URL), passwords(folder))


def passwords(folder: Path) -> dict[str, str]:
    """Password of each service's role, as its own URL has it."""
    return {service: _password(folder, url_file(service)) for service in SERVICES}


def _password(folder: Path, name: str) -> str:
    password = urlsplit(_read(folder, name)).password
    if not password:
        raise Misconfigured(f"{folder / name} holds no postgresql:// URL with a password")
    return unquote(password)


def _read(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text().strip()
    except OSError as error:
        raise Misconfigured(f"{folder / name} cannot be read ({error.strerror})") from error
