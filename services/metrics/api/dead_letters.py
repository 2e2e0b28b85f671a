"""Dead letters: what could not be read or handled, until it is redriven or given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request

from services.metrics.api.models import DeadLetterView, DiscardBody
from shared.http.auth import Principal, Role, require
from shared.http.paging import Page, Paging, listed, page_of
from shared.runtime.dead_letters import discard, list_dead_letters, redrive

if TYPE_CHECKING:
    from shared.db.pool import Pool

Admin = Annotated[Principal, require(Role.ADMIN, scopes=["metrics:admin"])]
Auditor = Annotated[Principal, require(Role.ADMIN, Role.AUDITOR, scopes=["metrics:admin"])]

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])


@router.get("", response_model=Page[DeadLetterView])
async def dead_letters(
    request: Request,
    _: Auditor,
    page: Paging,
    state: Literal["open", "redriven", "discarded"] = "open",
) -> object:
    """Dead letters by id, without their bytes."""
    after = page.after(int)
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        rows = await list_dead_letters(
            tx, after=0 if after is None else int(after[0]), limit=page.fetch, state=state
        )

    def show(row: dict[str, Any]) -> DeadLetterView:
        return DeadLetterView(**row)

    found = page_of(rows, page, key=lambda row: (row["id"],), show=show)
    return listed(request, found, DeadLetterView)


@router.post("/{letter_id}/redrive", status_code=204)
async def redrive_letter(request: Request, principal: Admin, letter_id: int) -> None:
    """Send a letter's bytes to its topic again."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        await redrive(tx, letter_id, actor=principal.subject)


@router.post("/{letter_id}/discard", status_code=204)
async def discard_letter(
    request: Request, principal: Admin, letter_id: int, body: DiscardBody
) -> None:
    """Give a letter up, for a reason that is kept."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        await discard(tx, letter_id, actor=principal.subject, reason=body.reason)
