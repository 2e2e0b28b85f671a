"""Alerts: what asks for somebody's attention, and what did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request

from services.notifications.api.models import (
    AlertDetail,
    AlertView,
    alert_detail,
    alert_view,
    delivery_view,
)
from services.notifications.api.sight import sight_of
from services.notifications.domain.alerts import AlertState
from services.notifications.domain.signals import SignalKind
from services.notifications.store import reading as reading_store
from shared.errors import Refused
from shared.http.auth import Principal, Role, require
from shared.http.paging import MAX_LIMIT, Page, Paging, listed, page_of

if TYPE_CHECKING:
    from shared.db.pool import Pool

PEOPLE = (Role.REP, Role.MANAGER, Role.COMP_ADMIN, Role.FINANCE, Role.AUDITOR, Role.ADMIN)

Reader = Annotated[Principal, require(*PEOPLE, scopes=["notifications:read"])]
PersonFilter = Annotated[str | None, Query(max_length=200, description="only this owner's")]

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])


@router.get("", response_model=Page[AlertView])
async def alerts(  # noqa: PLR0913, PLR0917 - one argument a filter
    request: Request,
    principal: Reader,
    page: Paging,
    state: AlertState | None = None,
    kind: SignalKind | None = None,
    person: PersonFilter = None,
) -> object:
    """Alerts of the caller's people, newest first."""
    after = page.after(int)
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        rows = await reading_store.list_alerts(
            tx,
            people=sight.people,
            teams=sight.teams,
            state=state,
            kind=kind,
            person=person,
            before=None if after is None else int(after[0]),
            limit=page.fetch,
        )
    found = page_of(rows, page, key=lambda row: (row["number"],), show=alert_view)
    return listed(request, found, AlertView)


@router.get("/{alert_id}")
async def alert(request: Request, principal: Reader, alert_id: str) -> AlertDetail:
    """One alert, with those of its deliveries that the caller may see."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        row = None
        if "\x00" not in alert_id:
            row = await reading_store.read_alert(
                tx, alert_id, people=sight.people, teams=sight.teams
            )
        if row is None:
            code, msg = "not-found", "There is no such alert, or it is not yours to see."
            raise Refused(code, msg, status=404)
        deliveries = await reading_store.list_deliveries(
            tx,
            recipient=sight.recipient,
            alert_id=alert_id,
            status=None,
            before=None,
            limit=MAX_LIMIT,
        )
    return alert_detail(row, [delivery_view(delivery) for delivery in deliveries])
