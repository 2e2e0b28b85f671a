"""The simulated clock, where a deployment has one: a demo or a test plays a year in a minute."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request

from services.commissions.api.context import context_of, pool_of
from shared.errors import Refused
from shared.http.auth import Principal, Role, require
from shared.http.models import Instant, WireModel
from shared.runtime.ticks import service_now, set_simulated_now

router = APIRouter(prefix="/v1/clock", tags=["clock"])


class ClockBody(WireModel):
    """The instant it is."""

    now: Instant


@router.put("")
async def put_clock(
    request: Request,
    principal: Annotated[Principal, require(Role.ADMIN, Role.SERVICE)],
    body: ClockBody,
) -> ClockBody:
    """Move the clock on; it never goes back. There is none where the wall clock rules."""
    del principal
    settings = context_of(request).settings
    if settings.clock != "external":
        code, msg = "no-simulated-clock", "This deployment goes by the wall clock."
        raise Refused(code, msg, status=409)
    async with pool_of(request).acquire() as tx, tx.transaction():
        await set_simulated_now(tx, body.now)
        now = await service_now(tx, clock=settings.clock)
    return ClockBody(now=now)
