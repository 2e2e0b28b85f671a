"""Adjustments: amounts that two persons agree to add to a statement, or to take from it."""

from __future__ import annotations

from enum import StrEnum

from fastapi import APIRouter, Request, Response
from pydantic import model_validator

from services.commissions.agreements.adjustments import (
    COLUMNS,
    AdjustmentWanted,
    StoredAdjustment,
    adjustment_of,
    approve_adjustment,
    propose_adjustment,
    reject_adjustment,
    withdraw_adjustment,
)
from services.commissions.api.agreeing import (
    AgreementId,
    Label,
    Name,
    Proposer,
    Reason,
    Said,
    check_sees,
    new_id,
)
from services.commissions.api.context import (
    Decider,
    IdFilter,
    Reader,
    decision,
    not_found,
    snapshot,
)
from shared.http.idempotency import IdempotencyKey, IdempotencyStore, answer_of
from shared.http.models import DecimalText, Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import etag

router = APIRouter(prefix="/v1/adjustments", tags=["adjustments"])


class State(StrEnum):
    """How far what is proposed has come."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class AdjustmentBody(WireModel):
    """What is to be added to a statement, in plan currency; below 0 it is taken.

    period: of a statement of the plan. dispute: which it answers.
    """

    payee: Name
    plan: Name
    period: Label
    amount: DecimalText
    reason: Said
    dispute: Name | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> AdjustmentBody:
        if self.amount == 0:
            msg = "amount is 0, which changes nothing"
            raise ValueError(msg)
        return self


class AdjustmentView(AdjustmentBody):
    """An adjustment. It counts once it is approved: the line `adjustment:<id>` of its statement.

    decision: why it was rejected. one_seat: one person asked and approved, being the only one.
    """

    id: str
    currency: str
    state: State
    asked_by: str
    asked_at: Instant
    decided_by: str | None
    decided_at: Instant | None
    decision: str | None
    one_seat: bool
    revision: int


@router.post("", status_code=201, response_model=AdjustmentView)
async def propose(
    request: Request,
    principal: Proposer,
    body: AdjustmentBody,
    _key: IdempotencyKey = None,
) -> Response:
    """Ask for an adjustment; a second person of finance or compensation decides on it."""
    store: IdempotencyStore = request.app.state.idempotency
    async with decision(request, principal) as by:
        check_sees(by, principal, body.payee, "payee")
        async with store.slot(by.tx, request, principal, now=by.now) as slot:
            if slot.replay is None:
                made = await propose_adjustment(
                    by.tx,
                    by.reference,
                    AdjustmentWanted(**dict(body)),
                    adjustment_id=new_id(request, "adjustment", by),
                    actor=by.person,
                    now=by.now,
                )
                slot.save(201, _view(made), headers={"ETag": etag(made.revision)})
    return answer_of(slot)


@router.get("", response_model=Page[AdjustmentView])
async def adjustments(  # noqa: PLR0913, PLR0917 - one argument a filter
    request: Request,
    principal: Reader,
    page: Paging,
    payee: IdFilter = None,
    plan: IdFilter = None,
    state: State | None = None,
    dispute: IdFilter = None,
) -> object:
    """Adjustments of the people whom the caller sees."""
    after = page.after(str)
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            f"SELECT {COLUMNS} FROM adjustment "  # noqa: S608 - constants
            "WHERE ($1::text[] IS NULL OR payee = ANY($1)) AND ($2::text IS NULL OR payee = $2) "
            "AND ($3::text IS NULL OR plan_id = $3) AND ($4::text IS NULL OR state = $4) "
            "AND ($5::text IS NULL OR dispute_id = $5) AND adjustment_id > $6 "
            "ORDER BY adjustment_id LIMIT $7",
            view.visible,
            payee,
            plan,
            state,
            dispute,
            "" if after is None else after[0],
            page.fetch,
        )
    found = page_of(
        rows,
        page,
        key=lambda row: (row["adjustment_id"],),
        show=lambda row: _view(StoredAdjustment.of(row)),
    )
    return listed(request, found, AdjustmentView)


@router.get("/{adjustment}")
async def adjustment(
    request: Request, response: Response, principal: Reader, adjustment: AgreementId
) -> AdjustmentView:
    """One adjustment."""
    async with snapshot(request, principal) as view:
        found = await adjustment_of(view.tx, adjustment)
        if not view.sees(found.payee):
            raise not_found("adjustment")
    response.headers["ETag"] = etag(found.revision)
    return _view(found)


@router.post("/{adjustment}/approve")
async def approve(request: Request, principal: Decider, adjustment: AgreementId) -> AdjustmentView:
    """Approve it. Not by whoever asked, nor by whose pay it is, nor for a closed period."""
    async with decision(request, principal) as by:
        found = await approve_adjustment(
            by.tx, by.reference, adjustment, actor=by.person, now=by.now, one_seat=by.one_seat
        )
    return _view(found)


@router.post("/{adjustment}/reject")
async def reject(
    request: Request, principal: Decider, adjustment: AgreementId, body: Reason
) -> AdjustmentView:
    """Decide against it."""
    async with decision(request, principal) as by:
        found = await reject_adjustment(
            by.tx, adjustment, reason=body.reason, actor=by.person, now=by.now
        )
    return _view(found)


@router.post("/{adjustment}/withdraw")
async def withdraw(
    request: Request, principal: Proposer, adjustment: AgreementId
) -> AdjustmentView:
    """Take back what one has asked for, before it is decided."""
    async with decision(request, principal) as by:
        found = await adjustment_of(by.tx, adjustment)
        check_sees(by, principal, found.payee, "adjustment")
        found = await withdraw_adjustment(by.tx, adjustment, actor=by.person, now=by.now)
    return _view(found)


def _view(found: StoredAdjustment) -> AdjustmentView:
    return AdjustmentView(
        id=found.adjustment_id,
        payee=found.payee,
        plan=found.plan_id,
        period=found.period,
        amount=found.amount,
        reason=found.reason,
        dispute=found.dispute_id,
        currency=found.currency,
        state=State(found.state),
        asked_by=found.asked_by,
        asked_at=found.asked_at,
        decided_by=found.decided_by,
        decided_at=found.decided_at,
        decision=found.decision,
        one_seat=found.one_seat,
        revision=found.revision,
    )
