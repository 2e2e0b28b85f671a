"""Quotas: stated here, published on `metrics.targets`, every version on the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request, Response

from services.metrics import quotas as store
from services.metrics.api.common import PeriodName, Reader, Rep, Team, period_of
from services.metrics.api.history import version_page
from services.metrics.api.quota_views import detail, said_of, view
from services.metrics.api.sight import Sight, not_found, sight_of
from services.metrics.api.target_models import QuotaBody, QuotaDetail, QuotaView, VersionView
from services.metrics.quota_figures import figured
from services.metrics.quotas import Quota
from services.metrics.reliefs import approved_reliefs
from services.metrics.versions import QUOTA
from shared.errors import InvalidValue
from shared.events.planned import TakenOffData
from shared.http.auth import Principal, Role, require
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import IfMatch, IfNoneMatch, check_write, etag

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

Writer = Annotated[Principal, require(Role.COMP_ADMIN, Role.ADMIN, scopes=["metrics:write"])]
QuotaId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f|@/*]+$")]

RESERVED = frozenset({"coverage", "import", "allocations"})
"""Names of other routes: a quota of that id could not be read."""

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
    found = page_of(rows, page, key=lambda quota: (quota.id,), show=view)
    return listed(request, found, QuotaView)


@router.get("/{quota_id}")
async def quota(
    request: Request, response: Response, principal: Reader, quota_id: QuotaId
) -> QuotaDetail:
    """One quota: as stated, the figure in force, and the figure by each method."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        found = await seen_quota(tx, sight, quota_id)
    response.headers["ETag"] = etag(found.revision)
    return detail(found, sight.org)


@router.get("/{quota_id}/history", response_model=Page[VersionView])
async def history(request: Request, principal: Reader, page: Paging, quota_id: QuotaId) -> object:
    """Every version of a quota, the newest first, a deleted one's too."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        stored = await store.quota_of(tx, quota_id)
        if stored is None or not _sees(sight, *stored.subject):
            raise not_found("There is no such quota, or it is not yours to see.")
        found = await version_page(tx, QUOTA, quota_id, page)
    # A quota that was somebody else's before: those versions are theirs.
    data = [v for v in found.data if _sees(sight, *_subject(v))]
    return listed(request, found.model_copy(update={"data": data}), VersionView)


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
        reliefs = (
            [] if stored is None else (await approved_reliefs(tx, [quota_id])).get(quota_id, [])
        )
        saved = quota_from(sight, quota_id, body, stored, principal.subject, reliefs)
        await store.state_quota(tx, saved, body.reason)
    response.headers["ETag"] = etag(saved.revision)
    return view(saved)


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


async def seen_quota(tx: Connection, sight: Sight, quota_id: str, *, lock: bool = False) -> Quota:
    """A quota that is there and the caller's to see; refuses (404) all others alike."""
    found = await store.quota_of(tx, quota_id, lock=lock)
    if found is None or found.deleted or not _sees(sight, *found.subject):
        raise not_found("There is no such quota, or it is not yours to see.")
    return found


def quota_from(  # noqa: PLR0913, PLR0917 - what was there and what is said
    sight: Sight,
    quota_id: str,
    body: QuotaBody,
    stored: Quota | None,
    by: str,
    reliefs: Sequence[TakenOffData],
) -> Quota:
    """The quota that a body states, with its figure; reliefs of the same quota go on."""
    if quota_id in RESERVED:
        raise InvalidValue("this id is the name of a route; choose another", pointer="#path")
    try:
        period = sight.calendar.period(body.period)
    except InvalidValue as fault:
        raise fault.at("/period") from None
    base = Quota(
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
        changed_by=by,
    )
    return figured(base, said_of(body, reliefs), sight.org)


def _sees(sight: Sight, person: str | None, team: str | None) -> bool:
    return sight.people is None or person in sight.people or team in sight.teams


def _subject(version: VersionView) -> tuple[str | None, str | None]:
    said = version.document["quota"]
    return said["person"], said["team"]
