"""A run from beginning to end: the story, the lanes of faults beside it, and the verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random

import asyncpg
from aiokafka.errors import KafkaError

from deploy.demo.caught_up import StuckError, watching
from shared.http.auth import Role
from tests.chaos.arena import Arena
from tests.chaos.calls import Caller
from tests.chaos.closing import CLOSED_BY, SUBMITTED_BY, Closer
from tests.chaos.injection import Injector, Note
from tests.chaos.matrix import Group, Spot
from tests.chaos.plan import Plan
from tests.chaos.script import Close, RightQuota, Say, Script, Step, Tick
from tests.chaos.traffic import Pace, Traffic, client
from tests.simulator import Delivery
from tests.simulator.history import Quota
from tests.simulator.worktime import instant_text

ADMIN = "acme-cora"
SERVERS_FROM, SERVERS_UNTIL = 0.1, 0.85
SETTLES_WITHIN_S = 300.0
POLL_S = 0.5
CLOCKED = ("metrics", "commissions")
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError)
HIRING = frozenset({"consume", "facts"})
"""Failpoints that notifications passes for each change of a person, signals being rare."""


@dataclass(slots=True)
class Run:
    """One run. on_events, on_fault: for the progress bars."""

    arena: Arena
    script: Script
    plan: Plan
    seed: int
    note: Note
    on_events: Callable[[int], None]
    on_fault: Callable[[], None]
    quotas: dict[str, Quota] = field(default_factory=dict)
    injector: Injector = field(init=False)
    traffic: Traffic = field(init=False)
    closer: Closer = field(init=False)
    admin: Caller = field(init=False)
    _extra: count[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        stage = self.arena.stage
        rng = Random(f"chaos/{self.seed}/injection")
        self.injector = Injector(self.arena, rng, self.note, self.provoke, self.on_fault)
        self.traffic = Traffic(
            [victim.url for victim in self.arena.of(Group.INGEST)],
            stage.token(Role.ADMIN, subject="chaos-machine"),
            Pace(self.script.events, self.plan.total, lambda: self.injector.faults),
            self.on_events,
        )
        closing = list(self.plan.lanes[Group.CLOSING])
        self.closer = Closer(
            Caller(stage, SUBMITTED_BY),
            Caller(stage, CLOSED_BY),
            self.injector,
            closing,
            self.script.closes,
        )
        self.admin = Caller(stage, ADMIN)
        self.quotas = dict(self.script.wrong_quotas)

    async def introduce(self) -> None:
        """Say who the company is, before anything breaks."""
        await self.admin.say(self.script.setup())
        await self.settled()

    async def perform(self) -> None:
        """Tell the story while the faults strike; returns when all is told, struck and settled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell(self.script.steps()))
            group.create_task(self._strike_servers())
            for name in Group:
                if name is not Group.CLOSING:
                    group.create_task(self._lane(name))
        await self.settled()
        await self.closer.take_back()
        await self.settled(whole=True)

    # ---- the story ----------------------------------------------------------------------------

    async def _tell(self, steps: list[Step]) -> None:
        waiting: list[Delivery] = []
        async with client() as session:
            for step in steps:
                if isinstance(step, Delivery):
                    waiting.append(step)
                    continue
                await self.traffic.send(session, waiting)
                waiting = []
                await self._step(step)
            await self.traffic.send(session, waiting)

    async def _step(self, step: Tick | Close | RightQuota | Say) -> None:
        match step:
            case Tick(at_ms):
                for service in CLOCKED:
                    body = {"now": instant_text(at_ms)}
                    await self.admin.insist("PUT", service, "/v1/clock", body)
            case Close(month, sent):
                self.injector.traffic_waits = True
                await self.settled()
                await self.closer.close(month, sent, dict(self.quotas))
                self.injector.traffic_waits = False
            case RightQuota(quota):
                await self.admin.put_quota(quota)
                self.quotas.pop(quota.id, None)
            case Say(what, calls):
                self.note(what)
                await self.admin.say(calls)

    async def settled(self, *, whole: bool = False) -> None:
        """Wait until all that was accepted is worked in. whole: messages and due timers too.

        Raises: StuckError when it never is.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLES_WITHIN_S
        while True:
            try:
                async with watching(self.arena.stage.stack.endpoints) as watch:
                    left = await watch.look(settled=whole)
                    while left.left and loop.time() < deadline:
                        await asyncio.sleep(POLL_S)
                        left = await watch.look(settled=whole)
                    if not left.left:
                        return
            except AWAY as error:
                await asyncio.sleep(POLL_S)
                if loop.time() < deadline:
                    continue
                msg = f"the servers do not answer: {error}"
                raise StuckError(msg) from error
            msg = f"Not everything is worked in after {SETTLES_WITHIN_S:.0f} s. Left: {left}."
            raise StuckError(msg)

    # ---- the faults ---------------------------------------------------------------------------

    async def _lane(self, group: Group) -> None:
        for spot in self.plan.lanes[group]:
            while self.traffic.pace.faults_are_ahead(self.traffic.events):
                await asyncio.sleep(POLL_S)
            await self.injector.strike(spot)

    async def _strike_servers(self) -> None:
        """Spread over the faults at failpoints: when so many of those have struck."""
        servers = self.plan.servers
        others = self.plan.total - len(servers)
        for number, kind in enumerate(servers):
            share = SERVERS_FROM + (SERVERS_UNTIL - SERVERS_FROM) * number / len(servers)
            while self.injector.faults < share * others and not self._over():
                await asyncio.sleep(POLL_S)
            await self.injector.strike_server(kind)

    def _over(self) -> bool:
        return self.traffic.events >= self.script.events

    async def provoke(self, spot: Spot) -> None:
        """Do something that leads a process to the failpoint and changes no figure."""
        kind = spot.failpoint.partition(".")[0]
        if spot.failpoint == "consume.claimed":
            # Whoever loses the database during a batch claims anew.
            for victim in self.arena.of(spot.group):
                victim.database.cut()
        match spot.group:
            case Group.NOTIFICATIONS if kind in HIRING:
                await self._hire()
            case Group.METRICS if kind == "relay":
                await self._restate_quota()
            case Group.COMMISSIONS if kind == "relay":
                await self._assign(await self._hire())
            case _:
                pass

    async def _hire(self) -> str:
        """Somebody who sells nothing."""
        person = f"acme-extra-{next(self._extra)}"
        body = {
            "name": "Extra",
            "role": "ae",
            "effective_from": f"{self.script.history.year}-01-01",
        }
        await self.admin.insist("PUT", "ingest", f"/v1/people/{person}", body)
        return person

    async def _assign(self, person: str) -> None:
        row = self.script.history.assignments[0]
        body = {"payee": person, "plan": row.plan, "from": row.start}
        await self.admin.insist("PUT", "commissions", f"/v1/assignments/{person}", body)

    async def _restate_quota(self) -> None:
        """A target that nobody is measured by, new each time."""
        number = next(self._extra)
        quota = self.script.history.quotas[0]
        body = {
            "person": quota.person,
            "team": quota.team,
            "measure": f"extra-{number}",
            "period": quota.period,
            "amount": "1",
            "currency": quota.currency,
        }
        await self.admin.insist("PUT", "metrics", f"/v1/quotas/extra-{number}", body)
