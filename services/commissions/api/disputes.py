"""Disputes: somebody says that a statement is wrong; others answer, and decide what follows."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Any

import asyncpg
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, StringConstraints

from services.commissions.agreements.disputes import (
    DisputeWanted,
    Shown,
    StoredDispute,
    comment_on,
    dispute_of,
    period_of_plan,
    raise_dispute,
    resolve_dispute,
    shown_of,
    withdraw_dispute,
)
from services.commissions.api.agreeing import (
    AgreementId,
    Label,
    Name,
    Raiser,
    Said,
    check_sees,
    new_id,
)
from services.commissions.api.context import (
    Decider,
    IdFilter,
    Reader,
    context_of,
    decision,
    not_found,
    snapshot,
)
from services.commissions.store import AccountKey
from shared.errors import Refused
from shared.http.auth import Principal, Role
from shared.http.idempotency import IdempotencyKey, IdempotencyStore, answer_of
from shared.http.models import DecimalText, Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import etag

router = APIRouter(prefix="/v1/disputes", tags=["disputes"])

LineKey = Annotated[
    str, StringConstraints(min_length=1, max_length=2_000, pattern=r"^[^\x00-\x1f\x7f]+$")
]
DECIDERS = frozenset({Role.FINANCE, Role.COMP_ADMIN})


class DisputeState(StrEnum):
    """open: it waits for an answer. answered: for whoever raised it. resolved: it is decided."""

    OPEN = "open"
    ANSWERED = "answered"
    RESOLVED = "resolved"


class Outcome(StrEnum):
    """How a dispute ended."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class Verdict(StrEnum):
    """How somebody decides a dispute."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class DisputeBody(WireModel):
    """What is wrong with a statement. line: a line's key; without one something is missing.

    deal: what it is about, where no line is.
    """

    payee: Name
    plan: Name
    period: Label
    line: LineKey | None = None
    deal: Name | None = None
    text: Said


class Saying(WireModel):
    """What somebody says."""

    text: Said


class Resolution(WireModel):
    """How it is decided, and why. Accepted, it names the approved decisions that it led to."""

    outcome: Verdict
    reason: Said
    adjustments: Annotated[list[Name], Field(max_length=50)] = Field(default_factory=list)
    overrides: Annotated[list[Name], Field(max_length=50)] = Field(default_factory=list)


class DisputeView(DisputeBody):
    """A dispute. due: the working day by whose end an answer is due; overdue: it has passed.

    statement_hash, amount: of the statement and the line as they were shown when it was raised.
    adjustments, overrides: what it led to; each of them names it as well.
    """

    id: str
    state: DisputeState
    outcome: Outcome | None
    statement_hash: str | None
    amount: DecimalText | None
    raised_by: str
    raised_at: Instant
    due: date
    overdue: bool
    resolved_by: str | None
    resolved_at: Instant | None
    resolution: str | None
    adjustments: list[str]
    overrides: list[str]
    one_seat: bool
    revision: int


class CommentView(WireModel):
    """What somebody said."""

    person: str
    text: str
    said_at: Instant


class DisputeDetail(DisputeView):
    """A dispute whole. explanation: of the line, as the statement had it when it was raised."""

    explanation: dict[str, Any] | None
    comments: list[CommentView]


@router.post("", status_code=201, response_model=DisputeDetail)
async def raise_(
    request: Request,
    principal: Raiser,
    body: DisputeBody,
    _key: IdempotencyKey = None,
) -> Response:
    """Say what is wrong: of one's own pay, or of whose numbers one sees.

    The statement's hash and the line's explanation are kept as they are shown now.
    """
    store: IdempotencyStore = request.app.state.idempotency
    shown = await _shown(request, principal, body)
    async with decision(request, principal) as by:
        check_sees(by, principal, body.payee, "payee")
        async with store.slot(by.tx, request, principal, now=by.now) as slot:
            if slot.replay is None:
                if isinstance(shown, Refused):
                    raise shown
                made = await raise_dispute(
                    by.tx,
                    by.reference,
                    DisputeWanted(**dict(body)),
                    shown,
                    dispute_id=new_id(request, "dispute", by),
                    actor=by.person,
                    now=by.now,
                    sla_days=context_of(request).settings.dispute_sla_days,
                )
                view = _detail(made, by.today)
                slot.save(201, view, headers={"ETag": etag(made.revision)})
    return answer_of(slot)


async def _shown(
    request: Request, principal: Principal, body: DisputeBody
) -> Shown | Refused | None:
    """What the statement shows, read at one moment; or why it is refused.

    A request that is sent again gets its first answer, though the line may be gone by then.
    """
    async with snapshot(request, principal) as view:
        if not view.sees(body.payee):
            raise not_found("payee")
        period = period_of_plan(view.reference, body.plan, body.period)
        account = AccountKey(body.payee, body.plan)
        try:
            return await shown_of(view.tx, view.reference, account, period, line=body.line)
        except Refused as refusal:
            return refusal


@router.get("", response_model=Page[DisputeView])
async def disputes(  # noqa: PLR0913, PLR0917 - one argument a filter
    request: Request,
    principal: Reader,
    page: Paging,
    payee: IdFilter = None,
    state: DisputeState | None = None,
    overdue: Annotated[bool | None, Query(description="whether an answer is overdue")] = None,
) -> object:
    """Disputes about the people whom the caller sees."""
    after = page.after(str)
    async with snapshot(request, principal) as view:
        today = view.today
        rows = await view.tx.fetch(
            f"SELECT {_LISTED} FROM dispute "  # noqa: S608 - constants
            "WHERE ($1::text[] IS NULL OR payee = ANY($1)) AND ($2::text IS NULL OR payee = $2) "
            "AND ($3::text IS NULL OR state = $3) "
            "AND ($4::boolean IS NULL OR (state = 'open' AND due_on < $5) = $4) "
            "AND dispute_id > $6 ORDER BY dispute_id LIMIT $7",
            view.visible,
            payee,
            state,
            overdue,
            today,
            "" if after is None else after[0],
            page.fetch,
        )

    def show(row: asyncpg.Record) -> DisputeView:
        found = StoredDispute.of({**row, "explanation": None})
        return DisputeView.model_validate(_fields(found, today))

    found = page_of(rows, page, key=lambda row: (row["dispute_id"],), show=show)
    return listed(request, found, DisputeView)


@router.get("/{dispute}")
async def dispute(
    request: Request, response: Response, principal: Reader, dispute: AgreementId
) -> DisputeDetail:
    """A dispute with what was shown, what was said, and what came of it."""
    async with snapshot(request, principal) as view:
        found = await dispute_of(view.tx, dispute)
        if not view.sees(found.payee):
            raise not_found("dispute")
    response.headers["ETag"] = etag(found.revision)
    return _detail(found, view.today)


@router.post("/{dispute}/comments")
async def comment(
    request: Request, principal: Raiser, dispute: AgreementId, body: Saying
) -> DisputeDetail:
    """Say something. Of finance or compensation it is an answer; of others it asks again."""
    async with decision(request, principal) as by:
        found = await dispute_of(by.tx, dispute)
        check_sees(by, principal, found.payee, "dispute")
        found = await comment_on(
            by.tx,
            by.reference,
            dispute,
            text=body.text,
            decides=not DECIDERS.isdisjoint(principal.roles),
            actor=by.person,
            now=by.now,
            sla_days=context_of(request).settings.dispute_sla_days,
        )
    return _detail(found, by.today)


@router.post("/{dispute}/resolve")
async def resolve(
    request: Request, principal: Decider, dispute: AgreementId, body: Resolution
) -> DisputeDetail:
    """Decide it. Not by whoever raised it, nor by whose pay it is."""
    async with decision(request, principal) as by:
        found = await resolve_dispute(
            by.tx,
            dispute,
            accepted=body.outcome is Verdict.ACCEPTED,
            reason=body.reason,
            adjustments=body.adjustments,
            overrides=body.overrides,
            actor=by.person,
            now=by.now,
            one_seat=by.one_seat,
        )
    return _detail(found, by.today)


@router.post("/{dispute}/withdraw")
async def withdraw(request: Request, principal: Raiser, dispute: AgreementId) -> DisputeDetail:
    """Take back what one has raised."""
    async with decision(request, principal) as by:
        found = await dispute_of(by.tx, dispute)
        check_sees(by, principal, found.payee, "dispute")
        found = await withdraw_dispute(by.tx, dispute, actor=by.person, now=by.now)
    return _detail(found, by.today)


_LISTED = ", ".join(n for n in StoredDispute.__slots__ if n not in {"explanation", "comments"})


def _fields(found: StoredDispute, today: date) -> dict[str, Any]:
    return {
        "id": found.dispute_id,
        "payee": found.payee,
        "plan": found.plan_id,
        "period": found.period,
        "line": found.line_key,
        "deal": found.deal_id,
        "text": found.text,
        "state": found.state,
        "outcome": found.outcome,
        "statement_hash": found.statement_hash,
        "amount": found.amount,
        "raised_by": found.raised_by,
        "raised_at": found.raised_at,
        "due": found.due_on,
        "overdue": found.state == "open" and found.due_on < today,
        "resolved_by": found.resolved_by,
        "resolved_at": found.resolved_at,
        "resolution": found.resolution,
        "adjustments": list(found.adjustments),
        "overrides": list(found.overrides),
        "one_seat": found.one_seat,
        "revision": found.revision,
    }


def _detail(found: StoredDispute, today: date) -> DisputeDetail:
    return DisputeDetail(
        **_fields(found, today),
        explanation=None if found.explanation is None else dict(found.explanation),
        comments=[
            CommentView(person=c.person, text=c.text, said_at=c.said_at) for c in found.comments
        ],
    )
