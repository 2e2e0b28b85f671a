"""Child processes that cannot outlive their supervisor unseen.

Three layers: the supervisor stops its children; if it is killed, the kernel sends each child its
`orphan_signal`; and what survives even that is found by the next run through its pid file, which
holds the start time too, so that a stranger who got the same number is left alone.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.embedded.errors import StackError
from deploy.embedded.state import State, write_private

PR_SET_PDEATHSIG = 1
LOG_LIMIT_BYTES = 16 * 1024 * 1024
TAIL_BYTES = 2_000
LEFTOVER_GRACE_S = 10.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
START_TIME_FIELD = 19  # of /proc/<pid>/stat, counted after the command's closing bracket

# Loaded before any fork: the child may only call what is there already.
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Owner:
    """Numeric user and group under which a process runs."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """How to start, know and end one process."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    ready: Callable[[], Awaitable[bool]] | None = None  # None: ready as soon as it runs
    ready_timeout_s: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 20.0
    orphan_signal: signal.Signals = signal.SIGKILL
    owner: Owner | None = None
    before_start: Callable[[], Awaitable[None]] | None = None  # also before each restart
    secrets: tuple[str, ...] = field(default=(), repr=False)  # struck out of quoted log lines


def die_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process the signal when its parent ends."""
    if _libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def spawn(spec: ProcessSpec, state: State) -> subprocess.Popen[bytes]:
    """Start the process as leader of a session of its own, its output going to its log.

    It gets no Ctrl-C of our terminal: the supervisor decides in which order things stop.
    """
    log = log_path(state, spec.name)
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    parent = os.getpid()

    def in_child() -> None:
        # After setuid, which would clear it. The parent may have died before it was set.
        die_with_parent(spec.orphan_signal)
        if os.getppid() != parent:
            os._exit(1)

    with log.open("ab") as output:
        child = subprocess.Popen(
            spec.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=spec.cwd,
            env=dict(spec.env),
            start_new_session=True,
            preexec_fn=in_child,  # noqa: PLW1509 - only the main thread forks
            user=spec.owner.uid if spec.owner else None,
            group=spec.owner.gid if spec.owner else None,
            extra_groups=[] if spec.owner else None,
        )
    _remember(spec, child.pid, state)
    return child


async def wait_exit(child: subprocess.Popen[bytes]) -> int:
    """Wait for the child to end, sweep its process group, reap it; its exit code."""
    if child.returncode is not None:
        return child.returncode
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(child.pid)
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    if child.returncode is None:
        # Not reaped yet, so its number cannot have been given to another group.
        _kill_group(child.pid)
    return child.wait()


async def end(child: subprocess.Popen[bytes], stop: signal.Signals, timeout_s: float) -> int:
    """Ask the child to stop; kill it and its process group if it is not gone in time."""
    if child.returncode is None:
        child.send_signal(stop)
    try:
        return await asyncio.wait_for(wait_exit(child), timeout_s)
    except TimeoutError:
        _kill_group(child.pid)
        return await wait_exit(child)


def forget(name: str, state: State) -> None:
    """Remove the pid file of a process that has ended."""
    (state.pids / f"{name}.json").unlink(missing_ok=True)


def log_path(state: State, name: str) -> Path:
    """Where the process of that name logs."""
    return state.logs / f"{name}.log"


def log_tail(state: State, name: str, since: int = 0) -> str:
    """End of the log of that name, from byte `since` on at the earliest."""
    try:
        with log_path(state, name).open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(since, size - TAIL_BYTES) if since <= size else 0)
            return log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def running(state: State) -> dict[str, int]:
    """Name and process id of what the pid files name and is still that very process."""
    found = {}
    for path in sorted(state.pids.glob("*.json")):
        entry = _read(path)
        if entry and _is_same(entry):
            found[path.stem] = int(entry["pid"])
    return found


def end_leftovers(state: State) -> list[str]:
    """Stop what an earlier run left behind, newest first; the names of what was found.

    Raises: StackError if something cannot be stopped.
    """
    ended = []
    for path in sorted(state.pids.glob("*.json"), key=lambda path: -path.stat().st_mtime):
        entry = _read(path)
        if entry and _is_same(entry):
            _end_leftover(entry)
            ended.append(path.stem)
        path.unlink(missing_ok=True)
    return ended


def _end_leftover(entry: Mapping[str, str]) -> None:
    pid = int(entry["pid"])
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, int(entry["stop_signal"]))
    deadline = time.monotonic() + LEFTOVER_GRACE_S
    while _is_same(entry):
        if time.monotonic() > deadline + LEFTOVER_GRACE_S:
            raise StackError(f"Process {pid}, left by an earlier run, cannot be stopped.")
        if time.monotonic() > deadline:
            _kill_group(pid)
        time.sleep(0.02)
    _kill_group(pid)


def _remember(spec: ProcessSpec, pid: int, state: State) -> None:
    entry = {
        "pid": str(pid),
        "started": _start_time(pid) or "",
        "boot": _boot(),
        "stop_signal": str(int(spec.orphan_signal)),
    }
    write_private(state.pids / f"{spec.name}.json", json.dumps(entry) + "\n")


def _read(path: Path) -> dict[str, str] | None:
    try:
        entry = json.loads(path.read_text())
        return {key: str(entry[key]) for key in ("pid", "started", "boot", "stop_signal")}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # half written by a run that died then and there; its child died with it


def _is_same(entry: Mapping[str, str]) -> bool:
    started = _start_time(int(entry["pid"]))
    return started is not None and started == entry["started"] and entry["boot"] == _boot()


def _start_time(pid: int) -> str | None:
    """Clock tick of the process's start; None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[START_TIME_FIELD]


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
