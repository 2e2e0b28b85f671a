"""Routes of dead letters, the same in every service that consumes."""

# No postponed annotations: the routes' demands are made for one service, within a function.
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import StringConstraints

from shared.http.auth import Principal, Role, require
from shared.http.models import Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.runtime.dead_letters import discard, list_dead_letters, redrive

if TYPE_CHECKING:
    from shared.db.pool import Pool

LetterId = Annotated[int, Path(ge=1, lt=2**63)]
LetterState = Annotated[Literal["open", "redriven", "discarded"], Query()]


class DeadLetterView(WireModel):
    """Something that could not be read or handled; the record it is about is incomplete.

    cause: a stable word; detail: what is wrong.
    """

    id: int
    topic: str
    partition: int
    message_offset: int
    subject: str
    cause: str
    detail: str
    state: str
    created_at: Instant


class Discard(WireModel):
    """Why a dead letter is given up."""

    reason: Annotated[str, StringConstraints(min_length=3, max_length=1_000)]


def dead_letter_router(service: str) -> APIRouter:
    """List, redrive and discard. Machines need the scope `<service>:admin`."""
    router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])
    scopes = [f"{service}:admin"]
    admin = require(Role.ADMIN, scopes=scopes)
    reader = require(Role.ADMIN, Role.AUDITOR, scopes=scopes)

    @router.get("", response_model=Page[DeadLetterView], dependencies=[reader])
    async def dead_letters(request: Request, page: Paging, state: LetterState = "open") -> object:
        """Dead letters in the order in which they were put aside, without their bytes."""
        after = page.after(int)
        async with _pool(request).acquire() as tx:
            rows = await list_dead_letters(
                tx, after=int(after[0]) if after else 0, limit=page.fetch, state=state
            )
        found = page_of(rows, page, key=_key, show=lambda row: DeadLetterView(**row))
        return listed(request, found, DeadLetterView)

    @router.post("/{letter_id}/redrive", status_code=204)
    async def redrive_letter(
        request: Request, principal: Annotated[Principal, admin], letter_id: LetterId
    ) -> None:
        """Send the event's bytes to its topic again."""
        async with _pool(request).acquire() as tx, tx.transaction():
            await redrive(tx, letter_id, actor=_actor(principal))

    @router.post("/{letter_id}/discard", status_code=204)
    async def discard_letter(
        request: Request,
        principal: Annotated[Principal, admin],
        letter_id: LetterId,
        body: Discard,
    ) -> None:
        """Give the event up, for a reason that is kept."""
        async with _pool(request).acquire() as tx, tx.transaction():
            await discard(tx, letter_id, actor=_actor(principal), reason=body.reason)

    return router


def _key(row: dict[str, Any]) -> tuple[int]:
    return (row["id"],)


def _pool(request: Request) -> "Pool":
    pool: Pool = request.app.state.parts.pool
    return pool


def _actor(principal: Principal) -> str:
    return principal.person_id or principal.subject
