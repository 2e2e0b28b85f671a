"""The simulated clock's route, mounted only where a deployment's time comes from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Request

from shared.http.auth import Principal, Role, require
from shared.http.models import Instant, WireModel
from shared.runtime.ticks import service_now, set_simulated_now

if TYPE_CHECKING:
    from shared.db.pool import Pool

Setter = Annotated[Principal, require(Role.ADMIN, Role.SERVICE)]


class ClockBody(WireModel):
    """The instant it is."""

    now: Instant


CLOCK_ROUTER = APIRouter(prefix="/v1/clock", tags=["clock"])


@CLOCK_ROUTER.put("")
async def set_clock(request: Request, _: Setter, body: ClockBody) -> ClockBody:
    """Move the clock on; it never goes back. The answer is where it stands."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        await set_simulated_now(tx, body.now)
        now = await service_now(tx, clock="external")
    return ClockBody(now=now)
