"""Changes of reference data and quotas that would move too much pay, until a person decides."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import StringConstraints

from services.commissions.api.context import Finance, Overseer, decision, snapshot
from services.commissions.handlers import handler_for
from services.commissions.held.changes import COLUMNS, HeldChange, change_of, decide
from services.commissions.projector import CommissionsProjector
from services.commissions.readers import read_body
from shared.http.models import DecimalText, Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of

router = APIRouter(prefix="/v1/held-changes", tags=["held changes"])

Number = Annotated[int, Path(ge=1, le=2**63 - 1)]
State = Literal["judging", "applied", "held", "released", "discarded", "refused"]


class MovedView(WireModel):
    """What the change moves of one plan's pay in one statement period, in plan currency.

    before: what all payees earn without it. moved: Σ |difference| over payees. earlier: what other
    changes had moved within the hour before.
    """

    plan: str
    period: str
    currency: str
    before: DecimalText
    moved: DecimalText
    earlier: DecimalText


class HeldChangeView(WireModel):
    """A change that people stated and that was put aside before it counts.

    state: `judging`; `applied`: it moves little and counts; `held`: it would move too much and does
    not count; `released`, `discarded`: what a person decided; `refused`: it is a dead letter.
    first_day: of the first period in which it moves anything.
    """

    id: int
    kind: str
    subject: str
    event: str
    source: str
    state: State
    noted_at: Instant
    judged_at: Instant | None
    first_day: date | None
    reason: str | None
    decided_by: str | None
    decided_at: Instant | None
    moved: list[MovedView]


class Why(WireModel):
    """Why it is released or discarded."""

    reason: Annotated[str, StringConstraints(min_length=3, max_length=2_000)]


@router.get("", response_model=Page[HeldChangeView])
async def held_changes(
    request: Request, principal: Overseer, page: Paging, state: State = "held"
) -> object:
    """Changes in one state, by number: those that a person has to decide about, unless asked."""
    after = page.after(int)
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            f"SELECT {COLUMNS} FROM held_change WHERE id > $1 AND state = $3 "  # noqa: S608
            "ORDER BY id LIMIT $2",
            0 if after is None else after[0],
            page.fetch,
            state,
        )
    found = page_of(
        rows, page, key=lambda row: (row["id"],), show=lambda row: _view(HeldChange.of(row))
    )
    return listed(request, found, HeldChangeView)


@router.get("/{change}")
async def held_change(request: Request, principal: Overseer, change: Number) -> HeldChangeView:
    """One change, with what it moves."""
    async with snapshot(request, principal) as view:
        return _view(await change_of(view.tx, change))


@router.post("/{change}/release")
async def release(
    request: Request, principal: Finance, change: Number, body: Why
) -> HeldChangeView:
    """Let it count after all. Not by anybody whose pay it moves."""
    return await _decide(request, principal, change, "released", body.reason)


@router.post("/{change}/discard")
async def discard(
    request: Request, principal: Finance, change: Number, body: Why
) -> HeldChangeView:
    """Give it up for good: it never counts. Whoever stated it may state it again."""
    return await _decide(request, principal, change, "discarded", body.reason)


async def _decide(
    request: Request,
    principal: Finance,
    change: int,
    wanted: Literal["released", "discarded"],
    reason: str,
) -> HeldChangeView:
    async with decision(request, principal) as by:
        decided = await decide(
            by.tx,
            change,
            wanted,
            reason=reason,
            actor=by.person,
            now=by.now,
            one_seat=by.one_seat,
            handle=handler_for(CommissionsProjector()),
            reader=read_body,
        )
    return _view(decided)


def _view(change: HeldChange) -> HeldChangeView:
    return HeldChangeView(
        id=change.id,
        kind=change.kind,
        subject=change.subject,
        event=change.event_id,
        source=change.source,
        state=change.state,
        noted_at=change.noted_at,
        judged_at=change.judged_at,
        first_day=change.first_day,
        reason=change.reason,
        decided_by=change.decided_by,
        decided_at=change.decided_at,
        moved=[
            MovedView(
                plan=m.plan,
                period=m.period,
                currency=m.currency,
                before=Decimal(m.before),
                moved=Decimal(m.moved),
                earlier=Decimal(m.earlier),
            )
            for m in change.moved
        ],
    )
