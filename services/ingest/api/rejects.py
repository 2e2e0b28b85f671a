"""`/v1/rejects`: what could not be read. Kept, shown, redriven or discarded with a reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from services.ingest import store
from services.ingest.api.shared import Administrator, RejectReader, ingest_of
from services.ingest.handlers import discard_reject, redrive_reject
from shared.errors import Refused
from shared.http.auth import Principal
from shared.http.idempotency import IdempotencyKey, IdempotencyStore, answer_of
from shared.http.models import Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of

if TYPE_CHECKING:
    from shared.db.pool import Connection

router = APIRouter(prefix="/v1/rejects", tags=["rejects"])

RejectId = Annotated[str, Path(max_length=64)]
State = Literal["open", "redriven", "discarded"]


class RejectView(WireModel):
    """One event of a delivery that could not be read."""

    id: str
    source: str = Field(description="the connection it came by")
    cause: str = Field(description="a stable code")
    message: str = Field(description="what is wrong and what to do")
    pointer: str = Field(description="where in the delivery, or in the event once redriven")
    raw_id: str = Field(description="the delivery, as it lies on crm.raw")
    excerpt: str = Field(description="the event's beginning, without addresses and tokens")
    received_at: Instant
    state: State
    resolution: dict[str, Any] | None = Field(description="who closed it, when and how")


class Discard(WireModel):
    """Why a reject is given up."""

    reason: str = Field(min_length=3, max_length=1_000)


@router.get("", response_model=Page[RejectView])
async def list_rejects(
    request: Request,
    page: Paging,
    _principal: RejectReader,
    state: Annotated[State | None, Query()] = None,
    source: Annotated[str | None, Query(max_length=100)] = None,
    cause: Annotated[str | None, Query(max_length=100)] = None,
) -> Page[RejectView] | Response:
    """Rejects, the newest first."""
    before = page.after(int)
    async with ingest_of(request).transaction() as tx:
        rows = await store.page_of_rejects(
            tx,
            state=state,
            source=source,
            cause=cause,
            before=None if before is None else int(before[0]),
            limit=page.fetch,
        )
    return listed(
        request, page_of(rows, page, key=lambda row: (row.number,), show=_view), RejectView
    )


@router.get("/{reject_id}")
async def get_reject(reject_id: RejectId, request: Request, _principal: RejectReader) -> RejectView:
    """One reject."""
    async with ingest_of(request).transaction() as tx:
        return await _shown(tx, reject_id)


@router.post("/{reject_id}/redrive", response_model=RejectView)
async def redrive(
    reject_id: RejectId,
    request: Request,
    principal: Administrator,
    _key: IdempotencyKey = None,
) -> Response:
    """Read it again with today's mapping. It stays open where it still cannot be read."""
    ingest = ingest_of(request)

    async def work(tx: Connection) -> None:
        await redrive_reject(ingest, tx, reject_id, actor=principal.subject)

    return await _once(request, principal, reject_id, work)


@router.post("/{reject_id}/discard", response_model=RejectView)
async def discard(
    reject_id: RejectId,
    body: Discard,
    request: Request,
    principal: Administrator,
    _key: IdempotencyKey = None,
) -> Response:
    """Give it up, for a reason that is kept."""
    ingest = ingest_of(request)

    async def work(tx: Connection) -> None:
        await discard_reject(ingest, tx, reject_id, actor=principal.subject, reason=body.reason)

    return await _once(request, principal, reject_id, work)


async def _once(
    request: Request,
    principal: Principal,
    reject_id: str,
    work: Callable[[Connection], Awaitable[None]],
) -> Response:
    ingest = ingest_of(request)
    keys: IdempotencyStore = request.app.state.idempotency
    now = ingest.clock.now()
    async with ingest.transaction() as tx, keys.slot(tx, request, principal, now=now) as slot:
        if slot.replay is None:
            await work(tx)
            slot.save(200, await _shown(tx, reject_id))
    return answer_of(slot)


async def _shown(tx: Connection, reject_id: str) -> RejectView:
    row = await store.load_reject(tx, reject_id)
    if row is None:
        raise Refused("not-found", "There is no such reject.", status=404)
    return _view(row)


def _view(row: store.StoredReject) -> RejectView:
    return RejectView(
        id=row.id,
        source=row.source,
        cause=row.cause,
        message=row.message,
        pointer=row.pointer,
        raw_id=row.raw_id,
        excerpt=row.excerpt,
        received_at=row.received_at,
        state=_STATES[row.state],
        resolution=None if row.resolution is None else dict(row.resolution),
    )


_STATES: dict[str, State] = {"open": "open", "redriven": "redriven", "discarded": "discarded"}
