"""The delivery log: who was told what, and how that went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request

from services.notifications.api.alerts import Reader
from services.notifications.api.models import DeliveryView, delivery_view
from services.notifications.api.sight import sight_of
from services.notifications.domain.deliveries import DeliveryStatus
from services.notifications.store import reading as reading_store
from shared.http.paging import Page, Paging, listed, page_of

if TYPE_CHECKING:
    from shared.db.pool import Pool

AlertFilter = Annotated[
    str | None, Query(alias="alert", max_length=100, description="only this alert's")
]

router = APIRouter(prefix="/v1/deliveries", tags=["deliveries"])


@router.get("", response_model=Page[DeliveryView])
async def deliveries(
    request: Request,
    principal: Reader,
    page: Paging,
    status: DeliveryStatus | None = None,
    alert_id: AlertFilter = None,
) -> object:
    """Deliveries, newest first: all for admins and auditors, for others those to themselves."""
    after = page.after(int)
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        rows = await reading_store.list_deliveries(
            tx,
            recipient=sight.recipient,
            alert_id=alert_id,
            status=status,
            before=None if after is None else int(after[0]),
            limit=page.fetch,
        )
    found = page_of(rows, page, key=lambda row: (row["number"],), show=delivery_view)
    return listed(request, found, DeliveryView)
