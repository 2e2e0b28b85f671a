"""Dead letters: events that could not be read, until somebody decides."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import StringConstraints

from services.commissions.api.context import Administrator, actor_of, pool_of
from shared.http.models import Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.runtime.dead_letters import discard, list_dead_letters, redrive

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])

LetterId = Annotated[int, Path(ge=1, lt=2**63)]


class DeadLetterView(WireModel):
    """One event that was put aside. cause: a stable word; detail: what is wrong."""

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
    """Why an event is given up."""

    reason: Annotated[str, StringConstraints(min_length=3, max_length=1_000)]


@router.get("", response_model=Page[DeadLetterView])
async def dead_letters(
    request: Request,
    principal: Administrator,
    page: Paging,
    state: Annotated[Literal["open", "redriven", "discarded"], Query()] = "open",
) -> object:
    """Dead letters in the order in which they were put aside."""
    del principal
    after = page.after(int)
    async with pool_of(request).acquire() as tx:
        rows = await list_dead_letters(
            tx, after=int(after[0]) if after else 0, limit=page.fetch, state=state
        )
    found = page_of(rows, page, key=_key, show=lambda row: DeadLetterView(**row))
    return listed(request, found, DeadLetterView)


def _key(row: dict[str, Any]) -> tuple[int]:
    return (row["id"],)


@router.post("/{letter_id}/redrive", status_code=204)
async def redrive_letter(request: Request, principal: Administrator, letter_id: LetterId) -> None:
    """Send the event to its topic again."""
    async with pool_of(request).acquire() as tx, tx.transaction():
        await redrive(tx, letter_id, actor=actor_of(principal))


@router.post("/{letter_id}/discard", status_code=204)
async def discard_letter(
    request: Request, principal: Administrator, letter_id: LetterId, body: Discard
) -> None:
    """Give the event up, for a reason that is kept."""
    async with pool_of(request).acquire() as tx, tx.transaction():
        await discard(tx, letter_id, actor=actor_of(principal), reason=body.reason)
