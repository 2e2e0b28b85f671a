"""Starts processes in order, keeps them running, and stops them in reverse order."""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from deploy.embedded import children
from deploy.embedded.children import ProcessSpec
from deploy.embedded.errors import StackError, StartFailed
from deploy.embedded.state import State

T = TypeVar("T")

PROBE_EVERY_S = 0.05
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0
# More crashes than this within the window and a person has to look: the fault does not pass.
CRASHES_TOLERATED = 8
TOLERATED_VARIABLE = "ATTAIN_CRASHES_TOLERATED"
CRASH_WINDOW_S = 60.0


@dataclass
class _Managed:
    spec: ProcessSpec
    child: subprocess.Popen[bytes]
    log_start: int
    crashes: list[float] = field(default_factory=list)
    watcher: asyncio.Task[None] | None = None


class Supervisor:
    """Owns a set of processes. Leaving its `async with` stops them all, whatever happened."""

    def __init__(self, state: State, report: Callable[[str], None]) -> None:
        """`report` is told, in one line each, what is worth a person's notice."""
        self._state = state
        self._report = report
        self._managed: list[_Managed] = []
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hurry = asyncio.Event()
        self._stopping = False

    async def __aenter__(self) -> Self:
        """Nothing to do: processes come by `start`."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything, even when cancelled again meanwhile."""
        stopping = asyncio.ensure_future(self.stop())
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                self.hurry()
        stopping.result()
        if self._failure.done():
            self._failure.exception()  # seen by whoever waited, if anybody did
        else:
            self._failure.cancel()

    async def start(self, spec: ProcessSpec) -> None:
        """Start a process, wait until it is ready, and keep it running from then on.

        Raises: StartFailed if it ends before it is ready, or is not ready in time.
        """
        managed = await self._spawn(spec)
        self._managed.append(managed)
        try:
            await self._until_ready(managed)
        except BaseException:
            await children.end(managed.child, spec.stop_signal, spec.stop_timeout_s)
            self._managed.remove(managed)
            children.forget(spec.name, self._state)
            raise
        managed.watcher = asyncio.create_task(self._watch(managed), name=f"watch {spec.name}")

    async def start_all(self, specs: Iterable[ProcessSpec]) -> None:
        """Start several at once, which need not wait for one another."""
        await together(self.start(spec) for spec in specs)

    async def run(self, spec: ProcessSpec) -> None:
        """Run a process to its end, within its `ready_timeout_s`.

        Raises: StartFailed unless it exits with 0 in time.
        """
        managed = await self._spawn(spec)
        self._managed.append(managed)
        try:
            async with asyncio.timeout(spec.ready_timeout_s):
                code = await children.wait_exit(managed.child)
        except TimeoutError as error:
            raise self._start_failed(
                managed, f"not done after {spec.ready_timeout_s:g} s"
            ) from error
        finally:
            await children.end(managed.child, spec.stop_signal, spec.stop_timeout_s)
            self._managed.remove(managed)
            children.forget(spec.name, self._state)
        if code != 0:
            raise self._start_failed(managed, _ended(code))

    async def run_all(self, specs: Iterable[ProcessSpec]) -> None:
        """Run several to their ends at once."""
        await together(self.run(spec) for spec in specs)

    async def until_failure(self) -> None:
        """Wait until a process cannot be kept running; raises the StackError that says which."""
        await asyncio.shield(self._failure)

    def pids(self) -> dict[str, int]:
        """Process ids by name, as of now."""
        return {managed.spec.name: managed.child.pid for managed in self._managed}

    def hurry(self) -> None:
        """Kill what has not stopped yet, without further waiting."""
        self._hurry.set()

    async def stop(self) -> None:
        """Stop every process, the last started first, each before the next is asked."""
        self._stopping = True
        for managed in list(self._managed):
            if managed.watcher:
                managed.watcher.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await managed.watcher
        while self._managed:
            managed = self._managed[-1]
            await self._end(managed)
            self._managed.remove(managed)
            children.forget(managed.spec.name, self._state)

    async def _end(self, managed: _Managed) -> None:
        spec = managed.spec
        ending = asyncio.ensure_future(
            children.end(managed.child, spec.stop_signal, spec.stop_timeout_s)
        )
        hurried = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait({ending, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ending.done() and managed.child.returncode is None:
            managed.child.kill()
        await ending

    async def _spawn(self, spec: ProcessSpec) -> _Managed:
        if spec.before_start:
            await spec.before_start()
        log = children.log_path(self._state, spec.name)
        log_start = log.stat().st_size if log.exists() else 0
        try:
            child = children.spawn(spec, self._state)
        except (OSError, subprocess.SubprocessError) as error:
            raise StartFailed(spec.name, f"{spec.argv[0]}: {error}", "") from error
        return _Managed(spec, child, log_start)

    async def _until_ready(self, managed: _Managed) -> None:
        spec = managed.spec
        if spec.ready is None:
            return
        ended = asyncio.ensure_future(children.wait_exit(managed.child))
        try:
            async with asyncio.timeout(spec.ready_timeout_s):
                while not await spec.ready():
                    await asyncio.wait({ended}, timeout=PROBE_EVERY_S)
                    if ended.done():
                        raise self._start_failed(managed, _ended(ended.result()))
        except TimeoutError as error:
            raise self._start_failed(
                managed, f"not ready after {spec.ready_timeout_s:g} s"
            ) from error
        finally:
            ended.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ended

    async def _watch(self, managed: _Managed) -> None:
        """Restart the process each time it ends, until it ends too often."""
        name = managed.spec.name
        while True:
            reason = _ended(await children.wait_exit(managed.child))
            restarted = False
            while not restarted:
                if not self._note_crash(managed, reason):
                    return
                await asyncio.sleep(_backoff_s(len(managed.crashes)))
                try:
                    await self._restart(managed)
                    restarted = True
                except StackError as error:
                    reason = str(error)
            self._report(f"{name} is back (process {managed.child.pid})")

    def _note_crash(self, managed: _Managed, reason: str) -> bool:
        """Count a crash; False, and the failure is made known, when they are too many."""
        name = managed.spec.name
        now = time.monotonic()
        managed.crashes = [at for at in managed.crashes if now - at < CRASH_WINDOW_S] + [now]
        if len(managed.crashes) <= int(os.environ.get(TOLERATED_VARIABLE, CRASHES_TOLERATED)):
            self._report(f"{name} {reason}; starting it again")
            return True
        text = (
            f"{name} ended {len(managed.crashes)} times in {CRASH_WINDOW_S:g} s, last: {reason}. "
            f"Its log is {children.log_path(self._state, name)}."
        )
        self._report(text)
        if not self._failure.done():
            self._failure.set_exception(StackError(text))
        return False

    async def _restart(self, managed: _Managed) -> None:
        fresh = await self._spawn(managed.spec)
        managed.child, managed.log_start = fresh.child, fresh.log_start
        try:
            await self._until_ready(managed)
        except StartFailed:
            await children.end(managed.child, managed.spec.stop_signal, managed.spec.stop_timeout_s)
            raise

    def _start_failed(self, managed: _Managed, reason: str) -> StartFailed:
        tail = children.log_tail(self._state, managed.spec.name, managed.log_start)
        for secret in managed.spec.secrets:
            tail = tail.replace(secret, "***")
        return StartFailed(managed.spec.name, reason, tail)


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all at once; the results in order. The first error ends the others and is raised bare."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]


def _backoff_s(crashes: int) -> float:
    return min(FIRST_BACKOFF_S * 2.0 ** (crashes - 1), LONGEST_BACKOFF_S)


def _ended(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
