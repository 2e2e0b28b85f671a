"""What every route leans on: a consistent snapshot, who sees whom, and what time it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Path, Query, Request

from services.commissions.domain.periods import Period
from services.commissions.reference import Reference, ReferenceCache
from services.commissions.settings import CommissionsSettings
from shared.errors import Refused
from shared.http.auth import Forbidden, Principal, Role, require
from shared.org.visibility import visible_filter, visible_people
from shared.runtime.ticks import service_now

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

PEOPLE = (Role.REP, Role.MANAGER, Role.COMP_ADMIN, Role.FINANCE, Role.AUDITOR, Role.ADMIN)
Reader = Annotated[Principal, require(*PEOPLE, scopes=["commissions:read"])]
PlanWriter = Annotated[Principal, require(Role.COMP_ADMIN, scopes=["commissions:write"])]
Finance = Annotated[Principal, require(Role.FINANCE)]
PlanReviewer = Annotated[
    Principal,
    require(Role.FINANCE, Role.COMP_ADMIN, Role.AUDITOR, Role.ADMIN, scopes=["commissions:write"]),
]
Decider = Annotated[Principal, require(Role.FINANCE, Role.COMP_ADMIN)]
Overseer = Annotated[Principal, require(Role.FINANCE, Role.COMP_ADMIN, Role.AUDITOR, Role.ADMIN)]

ID_PATTERN = r"^[^\x00-\x1f\x7f|@/*]+$"
Id = Annotated[str, Path(min_length=1, max_length=200, pattern=ID_PATTERN)]
IdFilter = Annotated[str | None, Query(max_length=200, pattern=ID_PATTERN)]


@dataclass(slots=True)
class Context:
    """One a process."""

    settings: CommissionsSettings
    cache: ReferenceCache = field(default_factory=ReferenceCache)
    foretelling: set[asyncio.Task[Any]] = field(default_factory=set)
    one_foretold: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of everything, for one caller. visible: None lets everybody's numbers through."""

    tx: Connection
    reference: Reference
    now: datetime
    visible: list[str] | None

    @property
    def today(self) -> date:
        """The organisation's calendar day."""
        return self.now.astimezone(self.reference.org.zone).date()

    def sees(self, person: str) -> bool:
        """Whether this person's numbers show."""
        return self.visible is None or person in self.visible

    def period(self, label: str) -> Period:
        """The period of that name. Raises InvalidValue."""
        return self.reference.period(label)


def context_of(request: Request) -> Context:
    """The process's context."""
    context: Context = request.app.state.commissions
    return context


def pool_of(request: Request) -> Pool:
    """The process's pool."""
    pool: Pool = request.app.state.parts.pool
    return pool


async def now_of(request: Request) -> datetime:
    """The instant at which this service judges."""
    return await service_now(pool_of(request), clock=context_of(request).settings.clock)


@asynccontextmanager
async def snapshot(request: Request, principal: Principal) -> AsyncIterator[Snapshot]:
    """A read-only view of one moment, with what the caller may see of it."""
    context = context_of(request)
    async with (
        pool_of(request).acquire() as tx,
        tx.transaction(isolation="repeatable_read", readonly=True),
    ):
        reference = await context.cache.at(tx)
        now = await service_now(tx, clock=context.settings.clock)
        today = now.astimezone(reference.org.zone).date()
        visible = visible_people(
            principal.roles, principal.person_id, reference.org, today, principal.scopes
        )
        yield Snapshot(tx, reference, now, visible_filter(visible))


@dataclass(frozen=True, slots=True)
class Decision:
    """A person deciding something, in the open transaction that will hold it."""

    tx: Connection
    reference: Reference
    person: str
    now: datetime
    one_seat: bool

    @property
    def today(self) -> date:
        """The organisation's calendar day."""
        return self.now.astimezone(self.reference.org.zone).date()


@asynccontextmanager
async def decision(request: Request, principal: Principal) -> AsyncIterator[Decision]:
    """A transaction for what the caller decides, committed at the end of the block.

    Raises Forbidden for a token that names no person.
    """
    context, person = context_of(request), person_of(principal)
    async with pool_of(request).acquire() as tx:
        # Reference data is remembered by its version, so both are read of one moment.
        async with tx.transaction(isolation="repeatable_read", readonly=True):
            reference = await context.cache.at(tx)
            now = await service_now(tx, clock=context.settings.clock)
        async with tx.transaction():
            yield Decision(tx, reference, person, now, context.settings.one_seat)


def actor_of(principal: Principal) -> str:
    """Who did it, for journals: the person, or the machine's subject."""
    return principal.person_id or principal.subject


def person_of(principal: Principal) -> str:
    """The person who decides. Raises Forbidden for a token without one."""
    if principal.person_id is None:
        msg = "This is decided by a person: the token must name one."
        raise Forbidden(msg)
    return principal.person_id


def not_found(what: str) -> Refused:
    """The same answer for what is absent and for what the caller may not see."""
    return Refused("not-found", f"There is no such {what}, or it is not yours to see.", status=404)
