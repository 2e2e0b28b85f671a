"""Apache Kafka's jars: fetched one by one by coordinates, each checked against its SHA-256.

`jars.txt` is the whole truth: no resolver chooses versions, and a jar whose hash differs is never
put where it could be used.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.errors import StackError
from deploy.embedded.state import DEFAULT_FOLDER

LIST = Path(__file__).with_name("jars.txt")
PARALLEL_DOWNLOADS = 6
SHA256_HEX = 64

Download = Callable[["Jar", Path], Path]


@dataclass(frozen=True, slots=True)
class Jar:
    """One artifact of a Maven repository and the hash that its content must have."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Name in the cache. The group is in it: two groups may have artifacts of one name."""
        return f"{self.group}.{self.artifact}-{self.version}.jar"

    def __str__(self) -> str:
        """Coordinates as Maven writes them."""
        return f"{self.group}:{self.artifact}:{self.version}"


def jar_list(path: Path = LIST) -> tuple[Jar, ...]:
    """Read the committed list: `group:artifact:version sha256` a line, `#` starts a comment."""
    jars = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.partition("#")[0].split()
        if not text:
            continue
        match text:
            case [coordinates, sha256] if len(sha256) == SHA256_HEX and coordinates.count(":") == 2:  # noqa: PLR2004 - the format below
                group, artifact, version = coordinates.split(":")
                jars.append(Jar(group, artifact, version, sha256))
            case _:
                raise StackError(
                    f"{path}, line {number}: expected `group:artifact:version sha256`."
                )
    return tuple(jars)


def jar_folder() -> Path:
    """Where the jars are kept: in `ATTAIN_CACHE_DIR`, which checkouts may share, or here."""
    return Path(os.environ.get("ATTAIN_CACHE_DIR") or DEFAULT_FOLDER).absolute() / "jars"


def fetch(folder: Path, jars: Sequence[Jar], download: Download | None = None) -> int:
    """Bring every jar into the folder; how many had to be downloaded.

    Several may fetch into one folder at once: the second waits, and finds all there.
    Raises: StackError naming the jar that cannot be had, or has another hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        missing = [jar for jar in jars if _hash(folder / jar.file_name) != jar.sha256]
        if missing:
            scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
            try:
                _fetch_all(missing, folder, scratch, download or _download)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return len(missing)


def verified(folder: Path, jars: Sequence[Jar]) -> tuple[Path, ...]:
    """Paths of the jars, each read and found right.

    Raises: StackError for the first that is missing or has another content.
    """
    paths = []
    for jar in jars:
        path = folder / jar.file_name
        found = _hash(path)
        if found is None:
            raise StackError(f"{path} is missing. Run `make setup`.")
        if found != jar.sha256:
            raise StackError(
                f"{path} is not {jar}: its SHA-256 is {found} and should be {jar.sha256}. "
                "Run `make setup`, which fetches it again."
            )
        paths.append(path)
    return tuple(paths)


def _fetch_all(jars: Sequence[Jar], folder: Path, scratch: Path, download: Download) -> None:
    def one(jar: Jar) -> None:
        try:
            path = download(jar, scratch)
            found = _hash(path)
        except Exception as error:
            raise StackError(
                f"{jar} could not be downloaded ({str(error) or type(error).__name__}). "
                "Check the network connection and run `make setup` again."
            ) from error
        if found != jar.sha256:
            raise StackError(
                f"What was downloaded as {jar} has SHA-256 {found}, and {LIST.name} says "
                f"{jar.sha256}. It was thrown away. A proxy may have changed it; if not, do not "
                "trust the download."
            )
        path.replace(folder / jar.file_name)

    with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        for _ in pool.map(one, jars):
            pass


def _download(jar: Jar, scratch: Path) -> Path:
    from jgo.maven import MavenContext  # noqa: PLC0415 - slow to import, seldom needed

    logging.getLogger("jgo").setLevel(logging.ERROR)
    # Its own empty cache: never a jar that somebody else left in the home folder.
    context = MavenContext(repo_cache=scratch, local_repos=[])
    project = context.project(jar.group, jar.artifact)
    return Path(project.at_version(jar.version).artifact().resolve())


def _hash(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Fetch what is missing; the last step of `make setup`."""
    folder = jar_folder()
    try:
        count = fetch(folder, jar_list())
    except StackError as error:
        raise SystemExit(str(error)) from error
    if count:
        print(f"{count} jars fetched into {folder}")  # noqa: T201 - the command's answer


if __name__ == "__main__":
    main()
