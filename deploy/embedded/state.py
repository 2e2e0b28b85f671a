"""The one folder that a stack keeps between runs: lock, secrets, pid files, logs, stores."""

import contextlib
import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.embedded.errors import StackError

# Of the checkout, wherever the command is given.
DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / ".state"
SECRET_BYTES = 24
PRIVATE = 0o600
# Others may pass through to what lies inside and has its own rights: as root the database runs
# under an id of its own, which must reach its files. They cannot list the folder.
PASSABLE = 0o711


def random_text() -> str:
    """A password that nobody guesses."""
    return secrets.token_urlsafe(SECRET_BYTES)


def state_folder() -> Path:
    """Folder named by `ATTAIN_STATE_DIR`, else `.state` in the checkout. Absolute."""
    return Path(os.environ.get("ATTAIN_STATE_DIR") or DEFAULT_FOLDER).absolute()


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; readable by its owner only."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


class State:
    """The state folder. Making one creates the folder; nothing is locked yet."""

    def __init__(self, root: Path) -> None:
        """Create the folder and its parts where they are missing."""
        self.root = root.absolute()
        self.logs = self.root / "logs"
        self.pids = self.root / "pids"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(PASSABLE)
            for folder in (self.logs, self.pids):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise StackError(
                f"The state folder {self.root} cannot be used ({error.strerror}). "
                "Give another one in ATTAIN_STATE_DIR."
            ) from error

    def secret(self, name: str, make: Callable[[], str] = random_text) -> str:
        """Return the named secret, made at its first use and kept in `secrets.json` (mode 0600)."""
        known = self.read_json("secrets.json")
        if name not in known:
            known[name] = make()
            self.write_json("secrets.json", known)
        value: str = known[name]
        return value

    def read_json(self, name: str) -> dict[str, Any]:
        """Content of a JSON file of the folder; empty if there is none.

        Raises: StackError for a file that cannot be read, naming it.
        """
        path = self.root / name
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise StackError(f"{path} cannot be read ({error}). Repair or remove it.") from error
        if not isinstance(content, dict):
            raise StackError(f"{path} holds no JSON object. Repair or remove it.")
        return content

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Replace a JSON file of the folder, readable by its owner only."""
        write_private(self.root / name, json.dumps(content, indent=1) + "\n")


class Lock:
    """Hold the folder for one stack. The kernel lets go of it when its holder ends, however."""

    def __init__(self, state: State) -> None:
        """Name the folder; `with` takes the lock."""
        self._state = state
        self._path = state.root / "lock"
        self._file = -1

    def __enter__(self) -> Self:
        """Take the lock, or raise StackError naming the stack that holds it."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 32).decode() or "unknown"
            os.close(self._file)
            raise StackError(
                f"Another stack (process {holder}) is using {self._state.root}. Stop it with "
                "`make down`, or give this one another folder in ATTAIN_STATE_DIR."
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the lock."""
        os.ftruncate(self._file, 0)
        os.close(self._file)


def lock_holder(state: State) -> int | None:
    """Process id of the stack that holds the folder; None if nobody does."""
    try:
        with Lock(state):
            return None
    except StackError:
        text = (state.root / "lock").read_text()
        return int(text) if text.isdigit() else None
