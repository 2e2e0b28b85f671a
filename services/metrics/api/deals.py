"""Deals: the list, one deal with everything behind it, and people's word about it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from services.metrics import episodes as episode_store
from services.metrics import rowreads
from services.metrics.api.common import (
    AsOf,
    EndDay,
    FirstDay,
    PeriodName,
    Reader,
    Rep,
    Team,
    as_of_ms,
    period_of,
)
from services.metrics.api.episodes import episode_view
from services.metrics.api.models import (
    DealDetail,
    DealView,
    DispositionBody,
    DispositionView,
    EventView,
    HygieneView,
    SpanView,
)
from services.metrics.api.sight import not_found, sight_of
from services.metrics.domain.log import disposition_event
from services.metrics.domain.stored import stored_deal
from services.metrics.rowreads import DealFilter
from shared.clock import from_epoch_ms, to_text
from shared.events.envelope import sequence_instant
from shared.events.journals import DISPOSITION, DispositionData
from shared.facts.record import Record
from shared.facts.store import load_records
from shared.http.auth import Principal, Role, require
from shared.http.idempotency import IdempotencyKey, IdempotencyStore, answer_of
from shared.http.paging import Page, Paging, listed, page_of
from shared.runtime.outbox import add_to_outbox

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection, Pool

DealId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f|@/*]+$")]
Writer = Annotated[
    Principal,
    require(Role.REP, Role.MANAGER, Role.COMP_ADMIN, Role.ADMIN, scopes=["metrics:write"]),
]
EPISODES_SHOWN = 50

router = APIRouter(prefix="/v1/deals", tags=["deals"])


@router.get("", response_model=Page[DealView])
async def deals(  # noqa: PLR0913, PLR0917 - one argument a filter
    request: Request,
    principal: Reader,
    page: Paging,
    rep: Rep = None,
    team: Team = None,
    status: Literal["open", "won", "lost"] | None = None,
    stage: Annotated[str | None, Query(max_length=200)] = None,
    stalled: Annotated[bool | None, Query(description="with an open episode, or without")] = None,
    period: PeriodName = None,
    start: FirstDay = None,
    end: EndDay = None,
    as_of: AsOf = None,
) -> object:
    """Deals that concern somebody whom the caller sees, by id."""
    after = page.after(str)
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        sight.check(rep=rep, team=team)
        window = period_of(sight, period, start, end)
        owner = None if rep is None else [rep]
        if team is not None:
            members = sight.org.members(team, sight.today)
            owner = sorted(members if owner is None else members & set(owner))
        rows = await rowreads.list_deals(
            tx,
            visible=sight.people,
            wanted=DealFilter(
                owner=owner,
                status=status,
                stage=stage,
                closes=None if window is None else (window.start_day, window.end_day),
                stalled=stalled,
            ),
            as_of_ms=as_of_ms(sight, as_of),
            after=None if after is None else str(after[0]),
            limit=page.fetch,
        )
    found = page_of(
        rows, page, key=lambda row: (row["deal_id"],), show=lambda row: DealView(**_fields(row))
    )
    return listed(request, found, DealView)


@router.get("/{deal_id}")
async def deal(request: Request, principal: Reader, deal_id: DealId) -> DealDetail:
    """A deal: how it came to be what it is, what it rests on, what was found and said about it."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        sight = await sight_of(request, principal, tx)
        spans = await rowreads.deal_history(tx, deal_id, sight.people)
        if not spans:
            raise not_found("There is no such deal, or it is not yours to see.")
        rows = await rowreads.list_deals(
            tx,
            visible=sight.people,
            wanted=DealFilter(ids=[deal_id]),
            as_of_ms=None,
            after=None,
            limit=1,
        )
        records = await load_records(tx, "deal", [deal_id])
        stored = await tx.fetchval(
            "SELECT contribution::text FROM root WHERE kind = 'deal' AND id = $1", deal_id
        )
        found = await episode_store.list_episodes(
            tx,
            people=None,
            teams=(),
            detector=None,
            state=None,
            person=None,
            subject=f"deal/{deal_id}",
            before=None,
            limit=EPISODES_SHOWN,
        )
        said = await episode_store.dispositions_of(tx, deal_id)
    return DealDetail(
        **_fields(rows[0]),
        timeline=[_span(row) for row in spans],
        events=_events(records[deal_id]),
        hygiene=[HygieneView(rule=r, text=t) for r, t in stored_deal(stored).hygiene],
        episodes=[episode_view(row) for row in found],
        dispositions=[DispositionView(deal=deal_id, **dict(row)) for row in said],
    )


@router.post("/{deal_id}/dispositions", status_code=201, response_model=DispositionView)
async def state_disposition(
    request: Request,
    principal: Writer,
    deal_id: DealId,
    body: DispositionBody,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Say that a deal is not stalled, and why; or take that back. It is judged at the next tick."""
    del idempotency_key  # read from the request, with its fingerprint
    pool: Pool = request.app.state.parts.pool
    store: IdempotencyStore = request.app.state.idempotency
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        if not await rowreads.deal_history(tx, deal_id, sight.people):
            raise not_found("There is no such deal, or it is not yours to see.")
        async with store.slot(tx, request, principal, now=sight.now) as slot:
            if slot.replay is None:
                view = await _state(tx, deal_id, body, principal.subject, sight.now)
                slot.save(201, view)
    return answer_of(slot)


async def _state(
    tx: Connection, deal_id: str, body: DispositionBody, by: str, now: datetime
) -> DispositionView:
    number = await episode_store.state_disposition(
        tx, deal_id, body.disposition, body.reason, by, now
    )
    await tx.execute("UPDATE root SET next_due = 'epoch' WHERE kind = 'deal' AND id = $1", deal_id)
    said = DispositionData(
        deal=deal_id,
        disposition=body.disposition,
        reason=body.reason,
        stated_by=by,
        number=number,
        stated_at=to_text(now),
    )
    await add_to_outbox(tx, DISPOSITION.topic, [disposition_event(said, now)])
    return DispositionView(
        number=number,
        deal=deal_id,
        disposition=body.disposition,
        reason=body.reason,
        stated_by=by,
        stated_at=now,
    )


def _fields(row: asyncpg.Record) -> dict[str, Any]:
    names = ("name", "owner", "status", "stage", "stage_name", "pipeline", "amount", "currency")
    return {
        "id": row["deal_id"],
        **{name: row[name] for name in names},
        "close_date": row["close_date"],
        "probability": row["probability"],
        "category": row["category"],
        "type": row["deal_type"],
        "account": row["account"],
        "created_at": _instant(row["created_ms"]),
        "stage_entered_at": _instant(row["stage_entered_ms"]),
        "closed_at": _instant(row["closed_ms"]),
        "stalled": row["episode"] is not None,
        "stalled_by": list(row["stalled_by"] or ()),
    }


def _span(row: asyncpg.Record) -> SpanView:
    names = ("status", "stage", "stage_name", "owner", "amount", "currency", "close_date")
    return SpanView(
        start=from_epoch_ms(row["valid_from_ms"]),
        end=_instant(row["valid_to_ms"]),
        **{name: row[name] for name in names},
    )


def _events(record: Record) -> list[EventView]:
    """The events of a record in source time, each with what it is still the statement of."""
    said: dict[tuple[str, str], dict[str, Any]] = {}
    statements = [(name, s) for name, s in record.fields.items()]
    statements += [(name, s) for name, kept in record.history.items() for s in kept]
    for name, statement in statements:
        said.setdefault((statement.sequence, statement.event_id), {})[name] = statement.value
    return [
        EventView(event_id=event_id, at=sequence_instant(sequence), says=dict(sorted(f.items())))
        for (sequence, event_id), f in sorted(said.items())
    ]


def _instant(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else from_epoch_ms(at_ms)
