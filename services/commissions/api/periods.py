"""Periods: submitted by one person of finance, approved by another, closed, and opened again."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import StringConstraints

from services.commissions.api.context import (
    Finance,
    Id,
    Overseer,
    Reader,
    context_of,
    decision,
    now_of,
    person_of,
    pool_of,
    snapshot,
)
from services.commissions.closing.checklist import Item, open_items
from services.commissions.closing.close import OpenItems, close_period
from services.commissions.closing.periods import (
    StoredPeriod,
    approve_period,
    figures_hash,
    submit_period,
)
from services.commissions.closing.reopening import ask_to_reopen, confirm_reopening
from shared.http.models import Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.problems import Fault, problem

router = APIRouter(prefix="/v1/periods", tags=["periods"])


class PeriodView(WireModel):
    """A period. state: open, reviewing, approved or closed. end: the first day after it.

    one_seat: one person submitted and approved, being the only one.
    """

    id: str
    start: date
    end: date
    state: str
    submitted_by: str | None
    submitted_at: Instant | None
    approved_by: str | None
    approved_at: Instant | None
    closed_by: str | None
    closed_at: Instant | None
    one_seat: bool


class ItemView(WireModel):
    """Something that keeps a period from being closed, and what to do about it."""

    kind: str
    deal: str | None
    payee: str | None
    plan: str | None
    period: str | None
    message: str


class Checklist(WireModel):
    """ready: whether the period could be closed now.

    hash: over the statements that a close would fix; whoever approves says which they saw.
    """

    period: str
    ready: bool
    hash: str
    items: list[ItemView]


class FiguresSeen(WireModel):
    """hash: of the checklist, as it was looked at."""

    hash: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Reason(WireModel):
    """Why a closed period is to be opened again."""

    reason: Annotated[str, StringConstraints(min_length=3, max_length=2_000)]


@router.get("", response_model=Page[PeriodView])
async def periods(request: Request, principal: Reader, page: Paging) -> object:
    """Periods that were submitted or closed, and those with statements."""
    after = page.after(str, str) or ("0001-01-01", "")
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            """
            SELECT * FROM (
                SELECT period, start_day, end_day, state, submitted_by, submitted_at,
                       approved_by, approved_at, approved_hash, closed_by, closed_at, one_seat,
                       revision FROM period
                UNION ALL
                SELECT DISTINCT s.period, s.start_day, s.end_day,
                       CASE WHEN s.end_day <= c.day THEN 'closed' ELSE 'open' END,
                       NULL::text, NULL::timestamptz, NULL::text, NULL::timestamptz, NULL::text,
                       NULL::text, NULL::timestamptz, false, 0::bigint
                FROM statement s CROSS JOIN closed_until c
                WHERE NOT EXISTS (SELECT FROM period p WHERE p.period = s.period)
                  AND ($4::text[] IS NULL OR s.payee = ANY($4))
            ) known WHERE (start_day, period) > ($1, $2) ORDER BY start_day, period LIMIT $3
            """,
            date.fromisoformat(str(after[0])),
            after[1],
            page.fetch,
            view.visible,
        )
    found = page_of(
        rows,
        page,
        key=lambda row: (row["start_day"].isoformat(), row["period"]),
        show=lambda row: period_view(StoredPeriod.of(row)),
    )
    return listed(request, found, PeriodView)


@router.get("/{period}/checklist")
async def checklist(request: Request, principal: Overseer, period: Id) -> Checklist:
    """What is open, each with what to do. An empty list does not wait for facts on their way."""
    async with snapshot(request, principal) as view:
        wanted = view.period(period)
        items = await open_items(view.tx, wanted.end)
        hash_ = await figures_hash(view.tx, wanted)
    return Checklist(
        period=wanted.label, ready=not items, hash=hash_, items=[_item(item) for item in items]
    )


@router.post("/{period}/submit")
async def submit(request: Request, principal: Finance, period: Id) -> PeriodView:
    """Say that a period may be closed, by somebody else."""
    async with decision(request, principal) as by:
        stored = await submit_period(
            by.tx, by.reference.period(period), actor=by.person, now=by.now, today=by.today
        )
    return period_view(stored)


@router.post("/{period}/approve")
async def approve(
    request: Request, principal: Finance, period: Id, body: FiguresSeen
) -> PeriodView:
    """Approve the figures as the checklist showed them. Not by whoever submitted the period."""
    async with decision(request, principal) as by:
        stored = await approve_period(
            by.tx,
            by.reference.period(period),
            hash_=body.hash,
            actor=by.person,
            now=by.now,
            one_seat=by.one_seat,
        )
    return period_view(stored)


@router.post("/{period}/reopen")
async def reopen(request: Request, principal: Finance, period: Id, body: Reason) -> PeriodView:
    """Ask to open the last close again. Nothing happens before somebody else confirms it."""
    async with decision(request, principal) as by:
        stored = await ask_to_reopen(
            by.tx,
            by.reference.period(period),
            reason=body.reason,
            actor=by.person,
            now=by.now,
        )
    return period_view(stored)


@router.post("/{period}/reopen/confirm")
async def confirm_reopen(request: Request, principal: Finance, period: Id) -> PeriodView:
    """Open it again. Not by whoever asked, and not by anybody whose pay it is."""
    async with decision(request, principal) as by:
        stored = await confirm_reopening(
            by.tx,
            by.reference.period(period),
            actor=by.person,
            now=by.now,
            one_seat=by.one_seat,
        )
    return period_view(stored)


@router.post("/{period}/close", response_model=PeriodView)
async def close(request: Request, principal: Finance, period: Id) -> PeriodView | Response:
    """Fix all statements until the period's end.

    Of an approved period exactly what was approved; of a submitted one by somebody else, who
    approves it with this.

    503: facts are still on their way; nothing has happened, try again. 409: see errors.
    """
    person = person_of(principal)
    async with snapshot(request, principal) as view:
        wanted = view.period(period)
    context = context_of(request)
    try:
        closed = await close_period(
            pool_of(request),
            context.settings,
            context.cache,
            period=wanted,
            actor=person,
            now=await now_of(request),
        )
    except OpenItems as refusal:
        faults = [Fault(pointer=_where(item), detail=item.message) for item in refusal.items]
        return problem(refusal.code, refusal.message, status=refusal.status, faults=faults)
    return period_view(closed)


def _where(item: Item) -> str:
    return f"#{item.kind}/{item.deal or item.payee or ''}"


def _item(item: Item) -> ItemView:
    return ItemView(
        kind=item.kind,
        deal=item.deal,
        payee=item.payee,
        plan=item.plan,
        period=item.period,
        message=item.message,
    )


def period_view(stored: StoredPeriod) -> PeriodView:
    """A period for readers."""
    return PeriodView(
        id=stored.period,
        start=stored.start_day,
        end=stored.end_day,
        state=stored.state,
        submitted_by=stored.submitted_by,
        submitted_at=stored.submitted_at,
        approved_by=stored.approved_by,
        approved_at=stored.approved_at,
        closed_by=stored.closed_by,
        closed_at=stored.closed_at,
        one_seat=stored.one_seat,
    )
