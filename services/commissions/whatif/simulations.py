"""Simulations: a draft over past periods, for the whole company, beside the work of the day.

A consumer process runs them, one at a time of all processes, and gives way: each chunk of accounts
is read in a short snapshot and rated in a thread, and while anything waits to be settled as much
time is left to that as the chunk took. A worker that is stopped gives its simulation back, and one
that is killed loses it when its lease ends; it begins anew, since what it had may be of then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog

from services.commissions.domain.parse import parse_plan
from services.commissions.domain.plan import Assignment, DayRange
from services.commissions.reference import Reference, ReferenceCache
from services.commissions.whatif import simulation_store as kept
from services.commissions.whatif.differences import (
    AccountDifference,
    Question,
    compare,
    recalculating,
    with_versions,
)
from services.commissions.whatif.simulation_results import Summary
from services.commissions.whatif.simulation_store import Simulation
from shared.db.pool import DATABASE_ERRORS
from shared.errors import InvalidValue
from shared.money import parse_decimal
from shared.runtime.ticks import service_now

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger()

LOOK_S = 1.0
"""Pause between two looks for a simulation to run."""

TOLD_S = 0.5
"""Progress is written this often, or after each chunk that takes longer."""


class _GivenUpError(Exception):
    """It was cancelled or removed, this process ends, or another one has it."""


def question_of(request: Mapping[str, Any], present: Reference) -> Question:
    """What is simulated, of a stored request, with present reference data.

    Raises InvalidValue, PlanInvalid among them, where a draft cannot stand beside what there is.
    """
    from_ = request["in_force_from"]
    drafts = [parse_plan(dict(document)) for document in request["plans"]]
    changed = with_versions(
        present, drafts, in_force_from=None if from_ is None else date.fromisoformat(from_)
    )
    assignments = {plan: list(found) for plan, found in changed.assignments.items()}
    for plan_id in request["without_plans"]:
        assignments.pop(plan_id, None)
    stated = [assignment_of(body) for body in request["assignments"]]
    for plan_id, payee in {(a.plan_id, a.payee) for a in stated}:
        if plan_id not in changed.plans:
            msg = f"there is no plan {plan_id} to be assigned to"
            raise InvalidValue(msg)
        others = [a for a in assignments.get(plan_id, ()) if a.payee != payee]
        assignments[plan_id] = others
    for assignment in stated:
        assignments[assignment.plan_id].append(assignment)
    if stated or request["without_plans"]:
        changed = replace(changed, assignments=assignments)
    first, last = present.period(request["from"]), present.period(request["to"])
    return Question(changed, first.start, last.end, present, detail=True)


def assignment_of(body: Mapping[str, Any]) -> Assignment:
    """An assignment as the API has it."""
    last = body.get("to")
    pays: Mapping[str, str] = body.get("component_target_pay", {})
    quota: Mapping[str, str] = body.get("quota", {})
    target_pay = body.get("target_pay")
    return Assignment(
        payee=body["payee"],
        plan_id=body["plan"],
        days=DayRange(
            date.fromisoformat(body["from"]), None if last is None else date.fromisoformat(last)
        ),
        quota=tuple((name, parse_decimal(amount)) for name, amount in sorted(quota.items())),
        payout_currency=body.get("payout_currency"),
        target_pay=None if target_pay is None else parse_decimal(target_pay),
        component_target_pay=tuple(
            (name, parse_decimal(amount)) for name, amount in sorted(pays.items())
        ),
        ramp=tuple(Decimal(share.removesuffix("%")).scaleb(-2) for share in body.get("ramp", ())),
        leave=tuple(
            DayRange(date.fromisoformat(away["from"]), date.fromisoformat(away["to"]))
            for away in body.get("leave", ())
        ),
    )


@dataclass(slots=True)
class Simulations:
    """Runs what is queued. clock: as the settings have it. worker: no other process's name."""

    pool: Pool
    clock: str
    worker: str = field(default_factory=lambda: uuid4().hex)
    cache: ReferenceCache = field(default_factory=ReferenceCache)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. A failing database is waited for."""
        while not stop.is_set():
            try:
                ran = await self.run_next(stop)
            except DATABASE_ERRORS as error:
                log.warning("simulation.retry", error=type(error).__name__)
                ran = False
            if not ran:
                await _pause(stop, LOOK_S)

    async def run_next(self, stop: asyncio.Event) -> bool:
        """Run one, if one waits; whether one did."""
        simulation = await kept.claim(self.pool, self.worker)
        if simulation is None:
            return False
        try:
            await _Running(self, simulation, stop).run()
        except _GivenUpError:
            await kept.release(self.pool, simulation.id, self.worker)
        except DATABASE_ERRORS:
            raise
        except InvalidValue as error:
            await kept.fail(self.pool, simulation.id, self.worker, error.message)
        except Exception as error:
            # Nobody's pay hangs on it: what facts are read for goes on, and the row says it.
            log.exception("simulation.failed", simulation=simulation.id)
            problem = f"a fault of the service ({type(error).__name__}); it has been logged"
            await kept.fail(self.pool, simulation.id, self.worker, problem)
        return True


@dataclass(slots=True)
class _Running:
    """One simulation under way."""

    of: Simulations
    simulation: Simulation
    stop: asyncio.Event
    place: tuple[str, int, int] = ("credits", 0, 0)
    told_at: float = 0.0
    chunk_began: float = field(default_factory=time.monotonic)

    async def run(self) -> None:
        pool = self.of.pool
        async with (
            pool.acquire() as tx,
            tx.transaction(isolation="repeatable_read", readonly=True),
        ):
            present = await self.of.cache.at(tx)
        question = question_of(self.simulation.request, present)
        under_way = await recalculating(pool)
        summary = Summary(question.changed)

        async def take(accounts: Sequence[AccountDifference]) -> None:
            async with pool.acquire() as tx, tx.transaction():
                await self._hold(kept.holds(tx, self.simulation.id, self.of.worker, *self.place))
                await kept.add_accounts(tx, self.simulation.id, accounts)
            summary.add(accounts)

        await compare(pool, question, take, self._progress)
        result = await summary.result(pool, self.simulation.id, recalculating=under_way)
        now = await service_now(pool, clock=self.of.clock)
        await kept.finish(pool, self.simulation.id, self.of.worker, result, now)

    async def _progress(self, phase: str, done: int, total: int) -> None:
        self.place = (phase, done, total)
        now = time.monotonic()
        if now - self.told_at > TOLD_S:
            self.told_at = now
            await self._hold(
                kept.holds(self.of.pool, self.simulation.id, self.of.worker, *self.place)
            )
        if self.stop.is_set():
            raise _GivenUpError
        if await self.of.pool.fetchval("SELECT EXISTS (SELECT FROM mark)"):
            # Live facts first: as long again as this chunk took.
            await _pause(self.stop, now - self.chunk_began)
        self.chunk_began = time.monotonic()

    async def _hold(self, held: Awaitable[bool]) -> None:
        if not await held:
            raise _GivenUpError


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
