"""Named places at which a test may kill, pause, fail or cancel this process. Off by default.

`ATTAIN_FAILPOINTS` holds entries separated by `;`, each `name=action[@hit][!folder]`:
action `kill` (SIGKILL to itself), `stop` (SIGSTOP), `error`, `cancel` or `sleep:<seconds>`; `@hit`
acts at that hit only, counted from 1 (default: the first). With a folder it acts once over all
restarts of a process, from that hit on, and not before the folder holds a file `armed`; what acted
leaves a file `<process>.<name>` there.

`@<folder>` alone lets a test direct running processes. Whoever reaches a failpoint while the folder
holds an order, a file called as the failpoint that contains the action, takes it: it renames the
order to `<name>.<process id>` and acts. The action `hold` waits there until that file is removed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.errors import AttainError, Misconfigured

VARIABLE = "ATTAIN_FAILPOINTS"
DIRECTED = "@"
HOLD_POLL_S = 0.01

NAMES = frozenset(
    {
        "consume.claimed",
        "consume.polled",
        "consume.fenced",
        "consume.handled",
        "consume.committed",
        "facts.folded",
        "settle.locked",
        "settle.projected",
        "settle.applied",
        "relay.read",
        "relay.sent",
        "relay.marked",
        "ingest.received",
        "ingest.sent",
        "ingest.outboxed",
        "tick.judged",
        "close.waited",
        "close.locked",
        "deliver.sending",
        "deliver.sent",
    }
)
"""Every failpoint there is; a name that is not here refuses to start."""


class FailpointError(AttainError):
    """Raised by the action `error`."""


@dataclass(slots=True)
class _Armed:
    action: str
    hit: int
    folder: Path | None
    process: str
    hits: int = 0


Hook = Callable[[], Awaitable[None]]

_armed: dict[str, _Armed | Hook] = {}


@dataclass(frozen=True, slots=True)
class _Director:
    """Passes on to this process what a folder orders at one failpoint."""

    name: str
    folder: Path

    async def __call__(self) -> None:
        taken = self.folder / f"{self.name}.{os.getpid()}"
        try:
            (self.folder / self.name).rename(taken)
        except FileNotFoundError:
            return
        action = taken.read_text(encoding="ascii")
        if action == "hold":
            while taken.exists():  # noqa: ASYNC110 - another process removes it
                await asyncio.sleep(HOLD_POLL_S)
        else:
            await _do(self.name, action)


def arm(specification: str, process: str = "") -> None:
    """Arm failpoints from text, replacing what was armed. Raises Misconfigured.

    process: how this process calls itself in the files it leaves.
    """
    _armed.clear()
    if specification.startswith(DIRECTED):
        orders = Path(specification.removeprefix(DIRECTED))
        _armed.update({name: _Director(name, orders) for name in NAMES})
        return
    for entry in filter(None, (part.strip() for part in specification.split(";"))):
        name, _, action = entry.partition("=")
        action, _, folder = action.partition("!")
        action, _, hit = action.partition("@")
        known = action in {"kill", "stop", "error", "cancel"} or action.startswith("sleep:")
        if name not in NAMES or not known:
            msg = f"{VARIABLE}: {entry!r} names no failpoint or no action"
            raise Misconfigured(msg)
        _armed[name] = _Armed(action, int(hit or 1), Path(folder) if folder else None, process)


def arm_from_environment(process: str) -> None:
    """Arm what `ATTAIN_FAILPOINTS` says; nothing when it is unset."""
    arm(os.environ.get(VARIABLE, ""), process)


@contextmanager
def hooked(name: str, hook: Hook) -> Iterator[None]:
    """Await `hook` at the failpoint while the context is open: for tests in one process."""
    if name not in NAMES:
        msg = f"no failpoint is called {name!r}"
        raise Misconfigured(msg)
    _armed[name] = hook
    try:
        yield
    finally:
        _armed.pop(name, None)


async def failpoint(name: str) -> None:
    """Act here, when armed. Costs one test when nothing is armed."""
    if _armed and (armed := _armed.get(name)) is not None:
        await (_act(name, armed) if isinstance(armed, _Armed) else armed())


def _first_time(name: str, armed: _Armed, folder: Path) -> bool:
    """Whether the folder is armed and this process has not acted here before; notes that it has."""
    if not (folder / "armed").exists():
        return False
    try:
        (folder / f"{armed.process}.{name}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


async def _act(name: str, armed: _Armed) -> None:
    armed.hits += 1
    if armed.folder is None:
        if armed.hits != armed.hit:
            return
    elif armed.hits < armed.hit or not _first_time(name, armed, armed.folder):
        return
    await _do(name, armed.action)


async def _do(name: str, action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "error":
        msg = f"failpoint {name}"
        raise FailpointError(msg)
    elif action == "cancel":
        raise asyncio.CancelledError
    else:
        await asyncio.sleep(float(action.removeprefix("sleep:")))
