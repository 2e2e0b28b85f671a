"""Quotas: stated here, published on `metrics.targets`, every version on the journal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request, Response

from services.metrics import quotas as store
from services.metrics.api.common import PeriodName, Reader, Rep, Team, period_of
from services.metrics.api.models import QuotaBody, QuotaView
from services.metrics.api.sight import not_found, sight_of
from services.metrics.quotas import Quota
from shared.errors import InvalidValue
from shared.http.auth import Principal, Role, require
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import IfMatch, IfNoneMatch, check_write, etag

if TYPE_CHECKING:
    from shared.db.pool import Pool

Writer = Annotated[Principal, require(Role.COMP_ADMIN, Role.ADMIN, scopes=["metrics:write"])]
QuotaId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f|@/*]+$")]

router = APIRouter(prefix="/v1/quotas", tags=["quotas"])


@router.get("", response_model=Page[QuotaView])
async def quotas(  # noqa: PLR0913, PLR0917 - one argument a filter
    request: Request,
    principal: Reader,
    page: Paging,
    rep: Rep = None,
    team: Team = None,
    period: PeriodName = None,
) -> object:
    """Quotas of the people and teams that the caller sees, by id."""
    after = page.after(str)
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        window = period_of(sight, period, None, None)
        rows = await store.list_quotas(
            tx,
            people=sight.people,
            teams=sight.teams,
            person=rep,
            team=team,
            period=None if window is None else (window.start_day, window.end_day),
            after=None if after is None else str(after[0]),
            limit=page.fetch,
        )
    found = page_of(rows, page, key=lambda quota: (quota.id,), show=_view)
    return listed(request, found, QuotaView)


@router.get("/{quota_id}")
async def quota(
    request: Request, response: Response, principal: Reader, quota_id: QuotaId
) -> QuotaView:
    """One quota."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        found = await store.quota_of(tx, quota_id)
    seen = found is not None and (
        sight.people is None or found.person in sight.people or found.team in sight.teams
    )
    if found is None or found.deleted or not seen:
        raise not_found("There is no such quota, or it is not yours to see.")
    response.headers["ETag"] = etag(found.revision)
    return _view(found)


@router.put("/{quota_id}")
async def put_quota(  # noqa: PLR0913, PLR0917 - one argument a header or part of the path
    request: Request,
    response: Response,
    principal: Writer,
    quota_id: QuotaId,
    body: QuotaBody,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> QuotaView:
    """State a quota, new or changed; a change names the version that it changes by If-Match."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        stored = await store.quota_of(tx, quota_id, lock=True)
        exists = stored is not None and not stored.deleted
        current = etag(stored.revision) if stored is not None and exists else None
        check_write(current, if_match=if_match, if_none_match=if_none_match)
        try:
            period = sight.calendar.period(body.period)
        except InvalidValue as fault:
            raise fault.at("/period") from None
        saved = Quota(
            id=quota_id,
            person=body.person,
            team=body.team,
            measure=body.measure,
            period=body.period,
            start_day=period.start_day,
            end_day=period.end_day,
            amount=body.amount,
            currency=body.currency,
            revision=1 if stored is None else stored.revision + 1,
            deleted=False,
            changed_at=sight.now,
            changed_by=principal.subject,
        )
        await store.save_quota(tx, saved)
    response.headers["ETag"] = etag(saved.revision)
    return _view(saved)


@router.delete("/{quota_id}", status_code=204)
async def delete_quota(
    request: Request, principal: Writer, quota_id: QuotaId, if_match: IfMatch = None
) -> None:
    """Take a quota back. Its history stays on the journal."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        stored = await store.quota_of(tx, quota_id, lock=True)
        if stored is None or stored.deleted:
            raise not_found("There is no such quota.")
        check_write(etag(stored.revision), if_match=if_match)
        gone = replace(
            stored,
            deleted=True,
            revision=stored.revision + 1,
            changed_at=sight.now,
            changed_by=principal.subject,
        )
        await store.save_quota(tx, gone)


def _view(found: Quota) -> QuotaView:
    return QuotaView(
        id=found.id,
        person=found.person,
        team=found.team,
        measure=found.measure,
        period=found.period,
        start=found.start_day,
        end=found.end_day,
        amount=found.amount,
        currency=found.currency,
        revision=found.revision,
        changed_at=found.changed_at,
        changed_by=found.changed_by,
    )
