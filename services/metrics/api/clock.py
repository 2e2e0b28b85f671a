"""The clock, where time comes from outside: simulations and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Request

from services.metrics.api.models import ClockBody
from shared.http.auth import Principal, Role, require
from shared.runtime.ticks import service_now, set_simulated_now

if TYPE_CHECKING:
    from shared.db.pool import Pool

Setter = Annotated[Principal, require(Role.ADMIN, Role.SERVICE)]

router = APIRouter(prefix="/v1/clock", tags=["clock"])


@router.put("")
async def set_clock(request: Request, _: Setter, body: ClockBody) -> ClockBody:
    """Move the clock on; it never goes back. The answer is where it stands."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        await set_simulated_now(tx, body.now)
        return ClockBody(now=await service_now(tx, clock="external"))
