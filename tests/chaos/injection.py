"""Injects faults: gives an order, waits for the victim that takes it, and lets it recover."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos.arena import Arena, Victim, until_ready
from tests.chaos.matrix import AUTOCOMMITTED, KAFKA_AWAY, ONE_OF_MANY, Group, Kind, ServerKind, Spot
from tests.support.proxy import Direction

POLL_S = 0.02
REACHED_WITHIN_S = 90.0
"""No process came to its failpoint for this long: the fault is given up, and the run fails."""

PROVOKE_EVERY_S = 4.0
STOPPED_FOR_S = 13.0
"""Longer than a Kafka session (10 s) and than a transaction may be idle (10 s)."""

RECOVERED_WITHIN_S = 60.0
REPLACED_WITHIN_S = 30.0
"""A killed process is replaced within this time; one of which a task was cancelled drains first."""

COMMITS_WITHIN_S = 20.0
WITHHELD_FOR_S = 0.3
KAFKA_AWAY_S = 3.0
DOWN_WITHIN_S = 30.0

_ORDERS = {
    Kind.KILL: "kill",
    Kind.STOP: "stop",
    Kind.CANCEL: "cancel",
    Kind.CUT: "hold",
    Kind.COMMIT_LOST: "hold",
}

Note = Callable[[str], None]
Provoke = Callable[[Spot], Awaitable[None]]


def commits(piece: bytes) -> bool:
    """Whether a request to PostgreSQL asks to commit."""
    return b"COMMIT;" in piece


@dataclass(slots=True)
class Injector:
    """Strikes, and keeps the books.

    failures: what could not be injected, or did not recover. traffic_waits: while it does, nobody
    is expected at a failpoint.
    """

    arena: Arena
    rng: Random
    note: Note
    provoke: Provoke
    on_fault: Callable[[], None]
    by_kind: Counter[str] = field(default_factory=Counter)
    struck: set[Spot] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    longest_recovery_s: float = 0.0
    traffic_waits: bool = False

    @property
    def faults(self) -> int:
        """How many faults have struck."""
        return self.by_kind.total()

    async def strike(self, spot: Spot) -> bool:
        """One fault at a failpoint, until its victim is back; whether it was struck."""
        taken = await self._taken(spot)
        if taken is None:
            self.failures.append(f"{spot.group}: {spot.failpoint} was not reached for {spot.kind}")
            self.note(self.failures[-1])
            return False
        pid = int(taken.suffix.removeprefix("."))
        victim = self.arena.victim_of(pid)
        if victim is None:
            self.failures.append(f"process {pid}, which is nobody's, took {spot}")
            return False
        self.note(f"{spot.kind:18} {spot.failpoint:16} {victim.name}")
        if not await self._befall(spot, victim, pid, taken):
            self.failures.append(f"{victim.name}: no COMMIT followed {spot.failpoint}")
            self.note(self.failures[-1])
            return False
        self.by_kind[spot.kind] += 1
        self.struck.add(spot)
        await self._recovered(victim)
        self.on_fault()
        return True

    async def strike_server(self, kind: ServerKind) -> None:
        """Kill a server and wait until everybody has found it again."""
        name = "kafka" if kind is ServerKind.BROKER else "postgres"
        pid = self.arena.pid(name)
        self.note(f"{kind:18} {'':16} {name}")
        os.kill(pid, signal.SIGKILL)
        self.by_kind[kind] += 1
        with suppress(TimeoutError, KeyError):
            async with asyncio.timeout(DOWN_WITHIN_S):
                while self.arena.pid(name) == pid:
                    await asyncio.sleep(POLL_S)
        for victim in self.arena.victims.values():
            await self._recovered(victim)
        self.on_fault()

    # ---- orders -------------------------------------------------------------------------------

    async def _taken(self, spot: Spot) -> Path | None:
        """The order as its victim took it; None if nobody came to the failpoint in time."""
        folder = self.arena.orders / spot.group
        for old in folder.glob(f"{spot.failpoint}*"):
            old.unlink()
        draft = folder / f".{spot.failpoint}"
        draft.write_text(_ORDERS[spot.kind], encoding="ascii")
        order = folder / spot.failpoint
        draft.rename(order)
        provoking = asyncio.create_task(self._provoke(spot))
        left_s = REACHED_WITHIN_S
        try:
            while order.exists() and left_s > 0:
                self.arena.note_pids()
                await asyncio.sleep(POLL_S)
                if not self.traffic_waits or spot.group is Group.CLOSING:
                    left_s -= POLL_S
            if order.exists():
                with suppress(FileNotFoundError):
                    order.unlink()
                    return None
        finally:
            provoking.cancel()
            await asyncio.gather(provoking, return_exceptions=True)
            await self._kafka_back(spot)
        return next(folder.glob(f"{spot.failpoint}.*"))

    async def _provoke(self, spot: Spot) -> None:
        """See to it that the failpoint is passed, where ordinary traffic does not for a while."""
        away = spot.group is Group.INGEST and spot.failpoint in KAFKA_AWAY
        while True:
            if away:
                for victim in self.arena.of(Group.INGEST):
                    await victim.kafka.refuse()
                await asyncio.sleep(KAFKA_AWAY_S)
                await self._kafka_back(spot)
            await asyncio.sleep(PROVOKE_EVERY_S)
            await self.provoke(spot)

    async def _kafka_back(self, spot: Spot) -> None:
        if spot.group is Group.INGEST:
            for victim in self.arena.of(Group.INGEST):
                await victim.kafka.accept()

    # ---- what befalls a victim ----------------------------------------------------------------

    async def _befall(self, spot: Spot, victim: Victim, pid: int, taken: Path) -> bool:
        """Whether it did."""
        match spot.kind:
            case Kind.STOP:
                try:
                    await asyncio.sleep(STOPPED_FOR_S)
                finally:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
            case Kind.CUT:
                self._cut(victim)
                taken.unlink()
            case Kind.COMMIT_LOST:
                return await self._lose_commit(spot, victim, taken)
            case Kind.KILL:
                await self._replaced(victim, pid)
            case Kind.CANCEL:
                if spot.failpoint not in ONE_OF_MANY and not await self._replaced(victim, pid):
                    self.failures.append(f"{victim.name} goes on without {spot.failpoint}")
                    self.note(self.failures[-1])
        return True

    def _cut(self, victim: Victim) -> None:
        ways = (victim.database, victim.kafka)
        for way in self.rng.choice((ways[:1], ways[1:], ways)):
            way.cut()

    async def _lose_commit(self, spot: Spot, victim: Victim, taken: Path) -> bool:
        if spot.failpoint in AUTOCOMMITTED:
            victim.database.black_hole(Direction.TO_CLIENT)
            taken.unlink()
            await asyncio.sleep(WITHHELD_FOR_S)
            victim.database.cut()
            victim.database.resume()
            return True
        away = spot.failpoint == "ingest.received"
        if away:  # only then a transaction follows
            await victim.kafka.refuse()
        drop = victim.database.drop_reply_of(commits)
        taken.unlink()
        try:
            await asyncio.wait_for(drop.happened.wait(), COMMITS_WITHIN_S)
        except TimeoutError:
            return False
        finally:
            drop.left = 0
            if away:
                await victim.kafka.accept()
        return True

    async def _replaced(self, victim: Victim, pid: int) -> bool:
        """Wait until the process is another one; whether it is, in time."""
        try:
            async with asyncio.timeout(REPLACED_WITHIN_S):
                while self.arena.pid(victim.name) == pid:
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return False
        return True

    async def _recovered(self, victim: Victim) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        if not await until_ready(victim, RECOVERED_WITHIN_S):
            self.failures.append(f"{victim.name} was not ready again in {RECOVERED_WITHIN_S:.0f} s")
            self.note(self.failures[-1])
        self.longest_recovery_s = max(self.longest_recovery_s, loop.time() - began)
