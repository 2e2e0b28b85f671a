"""Deals that were deleted or merged away after a close: what becomes of what closes credited."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import StringConstraints

from services.commissions.api.context import (
    Finance,
    Id,
    Overseer,
    decision,
    not_found,
    snapshot,
)
from services.commissions.held.deletions import (
    DELETED_AFTER_CLOSE,
    HELD_IN,
    HeldDeletion,
    ask_decision,
    confirm_decision,
    load_decisions,
)
from shared.http.models import DecimalText, Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of

if TYPE_CHECKING:
    import asyncpg

router = APIRouter(prefix="/v1/held-deletions", tags=["held deletions"])

HELD_DEALS = f"""
    SELECT r.id AS deal, {HELD_IN} AS state, d.merged_into FROM (
        SELECT deal_id FROM credit_exception WHERE kind = '{DELETED_AFTER_CLOSE}'
        UNION SELECT deal_id FROM held_deletion WHERE superseded_at IS NULL
    ) h JOIN root r ON r.kind = 'deal' AND r.id = h.deal_id
    LEFT JOIN record d ON d.kind = 'deal' AND d.id = r.id
    WHERE {HELD_IN} IS NOT NULL
"""  # noqa: S608 - constants
"""Deals that are gone after a close credited them, as they were last settled."""


class ClosedDays(WireModel):
    """Days of a plan's statements that closes fixed: from `start` up to, and without, `end`."""

    plan: str
    start: date
    end: date


class DecisionView(WireModel):
    """What somebody asked for, and who confirmed it. It counts once it is confirmed.

    superseded_at: since when it counts no more: decided otherwise, or the deal came back.
    """

    number: int
    decision: Literal["keep", "reverse"]
    reason: str
    days: list[ClosedDays]
    asked_by: str
    asked_at: Instant
    confirmed_by: str | None
    confirmed_at: Instant | None
    one_seat: bool
    superseded_at: Instant | None


class HeldDeletionView(WireModel):
    """A deal that was deleted, or merged into another, after a close had credited it.

    state: `open` while nothing is decided; its credits of closed periods count. `keep`: they stay.
    `reverse`: they were taken back, and the difference is carried to the first open period.
    """

    deal: str
    merged_into: str | None
    state: Literal["open", "keep", "reverse"]


class CreditView(WireModel):
    """A credit that goes on counting; amount in the credit's own currency."""

    payee: str
    plan: str
    day: date
    amount: DecimalText
    currency: str


class HeldDeletionDetail(HeldDeletionView):
    """With what goes on counting, and everything that was asked and decided."""

    credits: list[CreditView]
    decisions: list[DecisionView]


class Wish(WireModel):
    """What is to become of the credits, and why."""

    decision: Literal["keep", "reverse"]
    reason: Annotated[str, StringConstraints(min_length=3, max_length=2_000)]


@router.get("", response_model=Page[HeldDeletionView])
async def held_deletions(
    request: Request,
    principal: Overseer,
    page: Paging,
    state: Literal["open", "keep", "reverse"] | None = None,
) -> object:
    """Deals that are gone after a close credited them, by id; those to be decided are `open`."""
    after = page.after(str)
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            f"SELECT * FROM ({HELD_DEALS}) h WHERE deal > $1 "  # noqa: S608 - constants
            "AND ($3::text IS NULL OR state = $3) ORDER BY deal LIMIT $2",
            "" if after is None else after[0],
            page.fetch,
            state,
        )
    found = page_of(
        rows,
        page,
        key=lambda row: (row["deal"],),
        show=lambda row: HeldDeletionView(**dict(row)),
    )
    return listed(request, found, HeldDeletionView)


@router.get("/{deal}")
async def held_deletion(request: Request, principal: Overseer, deal: Id) -> HeldDeletionDetail:
    """One of them, with what goes on counting and what was decided."""
    async with snapshot(request, principal) as view:
        row = await view.tx.fetchrow(f"{HELD_DEALS} AND r.id = $1", deal)
        if row is None:
            raise not_found("held deletion")
        credits_ = await view.tx.fetch(
            "SELECT payee, plan_id AS plan, day, original AS amount, currency FROM credit "
            "WHERE deal_id = $1 ORDER BY day, plan_id, payee, key",
            deal,
        )
        decided = await load_decisions(view.tx, [deal])
    return _detail(row, credits_, decided.get(deal, []))


@router.post("/{deal}/decision")
async def ask(request: Request, principal: Finance, deal: Id, body: Wish) -> DecisionView:
    """Ask that the credits stay, or go, with a reason. Nothing moves before it is confirmed."""
    async with decision(request, principal) as by:
        asked = await ask_decision(
            by.tx, deal, body.decision, reason=body.reason, actor=by.person, now=by.now
        )
    return _decision(asked)


@router.post("/{deal}/decision/confirm")
async def confirm(request: Request, principal: Finance, deal: Id) -> DecisionView:
    """Confirm it. Not by whoever asked, and not by anybody whose pay it is."""
    async with decision(request, principal) as by:
        confirmed = await confirm_decision(
            by.tx, deal, actor=by.person, now=by.now, one_seat=by.one_seat
        )
    return _decision(confirmed)


def _detail(
    row: asyncpg.Record, credits_: list[asyncpg.Record], decided: list[HeldDeletion]
) -> HeldDeletionDetail:
    return HeldDeletionDetail(
        **dict(row),
        credits=[CreditView(**dict(credit)) for credit in credits_],
        decisions=[_decision(entry) for entry in decided],
    )


def _decision(entry: HeldDeletion) -> DecisionView:
    return DecisionView(
        number=entry.number,
        decision=entry.wanted,
        reason=entry.reason,
        days=[ClosedDays(plan=plan, start=start, end=end) for plan, start, end in entry.days],
        asked_by=entry.asked_by,
        asked_at=entry.asked_at,
        confirmed_by=entry.confirmed_by,
        confirmed_at=entry.confirmed_at,
        one_seat=entry.one_seat,
        superseded_at=entry.superseded_at,
    )
