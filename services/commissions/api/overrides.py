"""Overrides: terms that two persons agree on in place of a component's, from a day to a day."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field, StringConstraints, model_validator

from services.commissions.agreements.overrides import (
    COLUMNS,
    OverrideWanted,
    StoredOverride,
    approve_override,
    ask_to_end,
    override_of,
    percentage,
    propose_override,
    reject_override,
    withdraw_override,
)
from services.commissions.api.adjustments import State
from services.commissions.api.agreeing import (
    AgreementId,
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
from shared.money import parse_decimal

router = APIRouter(prefix="/v1/overrides", tags=["overrides"])

Percentage = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}(\.[0-9]{1,8})?%$")]


class OverrideBody(WireModel):
    """Terms in place of a component's, for credits from the first to the last day, both included.

    deal: only its credits. amount: what the deal pays in all, in plan currency, whatever the plan
    computes; rate: of the credited amount, such as `5%`. One of the two; an amount needs a deal.
    dispute: which it answers.
    """

    payee: Name
    plan: Name
    component: Name
    deal: Name | None = None
    amount: Annotated[DecimalText, Field(ge=0)] | None = None
    rate: Percentage | None = None
    from_: date = Field(alias="from")
    until: date
    reason: Said
    dispute: Name | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> OverrideBody:
        if (self.amount is None) == (self.rate is None):
            msg = "give either amount or rate"
            raise ValueError(msg)
        if self.amount is not None and self.deal is None:
            msg = "an amount is what a deal pays: name the deal, or give a rate"
            raise ValueError(msg)
        return self


class NewOverride(OverrideBody):
    """What somebody asks for."""

    @model_validator(mode="after")
    def _days_rise(self) -> NewOverride:
        if self.until < self.from_:
            msg = "until lies before from"
            raise ValueError(msg)
        return self


class Ending(WireModel):
    """Until which day it is to hold, and why; the day before its first takes it back wholly."""

    until: date
    reason: Said


class EndingView(Ending):
    """An earlier end that was asked for. decided_by: who agreed; null while nobody has."""

    asked_by: str
    decided_by: str | None


class OverrideView(OverrideBody):
    """An override. It counts once it is approved. until: its last day, as agreed by now.

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
    ending: EndingView | None
    one_seat: bool
    revision: int


@router.post("", status_code=201, response_model=OverrideView)
async def propose(
    request: Request,
    principal: Proposer,
    body: NewOverride,
    _key: IdempotencyKey = None,
) -> Response:
    """Ask for an override; a second person of finance or compensation decides on it."""
    store: IdempotencyStore = request.app.state.idempotency
    async with decision(request, principal) as by:
        check_sees(by, principal, body.payee, "payee")
        async with store.slot(by.tx, request, principal, now=by.now) as slot:
            if slot.replay is None:
                made = await propose_override(
                    by.tx,
                    by.reference,
                    _wanted(body),
                    override_id=new_id(request, "override", by),
                    actor=by.person,
                    now=by.now,
                )
                slot.save(201, _view(made), headers={"ETag": etag(made.revision)})
    return answer_of(slot)


@router.get("", response_model=Page[OverrideView])
async def overrides(  # noqa: PLR0913, PLR0917 - one argument a filter
    request: Request,
    principal: Reader,
    page: Paging,
    payee: IdFilter = None,
    plan: IdFilter = None,
    state: State | None = None,
    dispute: IdFilter = None,
) -> object:
    """Overrides of the people whom the caller sees."""
    after = page.after(str)
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            f"SELECT {COLUMNS} FROM override "  # noqa: S608 - constants
            "WHERE ($1::text[] IS NULL OR payee = ANY($1)) AND ($2::text IS NULL OR payee = $2) "
            "AND ($3::text IS NULL OR plan_id = $3) AND ($4::text IS NULL OR state = $4) "
            "AND ($5::text IS NULL OR dispute_id = $5) AND override_id > $6 "
            "ORDER BY override_id LIMIT $7",
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
        key=lambda row: (row["override_id"],),
        show=lambda row: _view(StoredOverride.of(row)),
    )
    return listed(request, found, OverrideView)


@router.get("/{override}")
async def override(
    request: Request, response: Response, principal: Reader, override: AgreementId
) -> OverrideView:
    """One override."""
    async with snapshot(request, principal) as view:
        found = await override_of(view.tx, override)
        if not view.sees(found.payee):
            raise not_found("override")
    response.headers["ETag"] = etag(found.revision)
    return _view(found)


@router.post("/{override}/approve")
async def approve(request: Request, principal: Decider, override: AgreementId) -> OverrideView:
    """Approve what is proposed: the override, or its earlier end.

    Not by whoever asked, nor by whose pay it is, nor where it would change what is closed.
    """
    async with decision(request, principal) as by:
        found = await approve_override(
            by.tx, by.reference, override, actor=by.person, now=by.now, one_seat=by.one_seat
        )
    return _view(found)


@router.post("/{override}/end")
async def end(
    request: Request, principal: Proposer, override: AgreementId, body: Ending
) -> OverrideView:
    """Ask that it ends earlier. Nothing happens before a second person approves that."""
    async with decision(request, principal) as by:
        found = await override_of(by.tx, override)
        check_sees(by, principal, found.payee, "override")
        found = await ask_to_end(
            by.tx, override, until=body.until, reason=body.reason, actor=by.person, now=by.now
        )
    return _view(found)


@router.post("/{override}/reject")
async def reject(
    request: Request, principal: Decider, override: AgreementId, body: Reason
) -> OverrideView:
    """Decide against what is proposed: the override, or its earlier end."""
    async with decision(request, principal) as by:
        found = await reject_override(
            by.tx, override, reason=body.reason, actor=by.person, now=by.now
        )
    return _view(found)


@router.post("/{override}/withdraw")
async def withdraw(request: Request, principal: Proposer, override: AgreementId) -> OverrideView:
    """Take back what one has asked for, before it is decided."""
    async with decision(request, principal) as by:
        found = await override_of(by.tx, override)
        check_sees(by, principal, found.payee, "override")
        found = await withdraw_override(by.tx, override, actor=by.person, now=by.now)
    return _view(found)


def _wanted(body: NewOverride) -> OverrideWanted:
    return OverrideWanted(
        payee=body.payee,
        plan=body.plan,
        component=body.component,
        deal=body.deal,
        amount=body.amount,
        rate=None if body.rate is None else _fraction(body.rate),
        first_day=body.from_,
        last_day=body.until,
        reason=body.reason,
        dispute=body.dispute,
    )


def _fraction(percent: str) -> Decimal:
    return parse_decimal(percent.removesuffix("%")).scaleb(-2)


def _view(found: StoredOverride) -> OverrideView:
    ending = None
    if found.ending_last_day and found.ending_reason and found.ending_asked_by:
        ending = EndingView(
            until=found.ending_last_day,
            reason=found.ending_reason,
            asked_by=found.ending_asked_by,
            decided_by=found.ending_decided_by,
        )
    return OverrideView.model_validate({
        "id": found.override_id,
        "payee": found.payee,
        "plan": found.plan_id,
        "component": found.component_id,
        "deal": found.deal_id,
        "amount": found.amount,
        "rate": None if found.rate is None else percentage(found.rate),
        "from": found.first_day,
        "until": found.last_day,
        "reason": found.reason,
        "dispute": found.dispute_id,
        "currency": found.currency,
        "state": found.state,
        "asked_by": found.asked_by,
        "asked_at": found.asked_at,
        "decided_by": found.decided_by,
        "decided_at": found.decided_at,
        "decision": found.decision,
        "ending": ending,
        "one_seat": found.one_seat,
        "revision": found.revision,
    })  # fmt: skip
