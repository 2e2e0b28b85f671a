"""Episodes: what detectors found, from when to when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request

from services.metrics import episodes as store
from services.metrics.api.common import Reader, Rep
from services.metrics.api.models import EpisodeView, EvidenceView
from services.metrics.api.sight import sight_of
from services.metrics.domain.episodes import Detector
from shared.clock import from_epoch_ms
from shared.http.paging import Page, Paging, listed, page_of

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Pool

router = APIRouter(prefix="/v1/episodes", tags=["episodes"])


@router.get("", response_model=Page[EpisodeView])
async def episodes(  # noqa: PLR0913, PLR0917 - one argument a filter
    request: Request,
    principal: Reader,
    page: Paging,
    state: Literal["open", "closed"] | None = None,
    detector: Detector | None = None,
    rep: Rep = None,
    subject: Annotated[str | None, Query(max_length=300, description="deal/… or quota/…")] = None,
) -> object:
    """Episodes of people and teams that the caller sees, newest first."""
    after = page.after(int)
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        rows = await store.list_episodes(
            tx,
            people=sight.people,
            teams=sight.teams,
            detector=detector,
            state=state,
            person=rep,
            subject=subject,
            before=None if after is None else int(after[0]),
            limit=page.fetch,
        )
    found = page_of(rows, page, key=lambda row: (row["number"],), show=episode_view)
    return listed(request, found, EpisodeView)


def episode_view(row: asyncpg.Record) -> EpisodeView:
    """The episode in a row of the table."""
    closed_ms = row["closed_ms"]
    names = ("id", "detector", "subject", "person", "team", "title", "revision", "silent")
    return EpisodeView(
        **{name: row[name] for name in names},
        state="open" if closed_ms is None else "closed",
        opened_at=from_epoch_ms(row["opened_ms"]),
        closed_at=None if closed_ms is None else from_epoch_ms(closed_ms),
        judged_at=from_epoch_ms(row["judged_ms"]),
        rules=list(row["rules"]),
        evidence=[EvidenceView(**reason) for reason in json.loads(row["evidence"])],
        facts=json.loads(row["facts"]),
    )
