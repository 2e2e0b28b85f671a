"""Assignments: who is on which plan, from when to when."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
from fastapi import APIRouter, Request, Response

from services.commissions.api.assignment_changes import (
    AssignmentBody,
    AssignmentChange,
    AssignmentView,
    Currency,
    Stored,
    Text,
)
from services.commissions.api.context import (
    Decider,
    Id,
    IdFilter,
    PlanWriter,
    Reader,
    actor_of,
    decision,
    not_found,
    now_of,
    pool_of,
    snapshot,
)
from services.commissions.api.findings import finding_rows
from services.commissions.api.proposals import ProposalView, proposal_view, proposed, told
from services.commissions.begun import mark_uncredited
from services.commissions.events import write_events
from services.commissions.plans.proposals import (
    Proposal,
    closed_until,
    confirm,
    load_proposal,
    propose,
    withdraw,
)
from services.commissions.reference import Reference
from services.commissions.store import canonical_json
from shared.db.pool import Connection
from shared.errors import Refused
from shared.events.journals import ASSIGNMENT, AssignmentData
from shared.facts.settle import raise_reference_version
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import IfMatch, IfNoneMatch, check_write, etag

__all__ = ["AssignmentBody", "Currency", "Text", "router", "save_assignment"]

router = APIRouter(prefix="/v1/assignments", tags=["assignments"])


@router.put(
    "/{assignment_id}",
    response_model=AssignmentView,
    responses={201: {"model": AssignmentView}, 202: {"model": ProposalView}},
)
async def put_assignment(  # noqa: PLR0913, PLR0917 - one argument a header or part of the path
    request: Request,
    principal: PlanWriter,
    assignment_id: Id,
    body: AssignmentBody,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """State an assignment. The same again changes nothing; a change needs If-Match.

    A change of days before which all is closed is proposed (202): it is told what it moves, and
    counts when a second person has confirmed it.
    """

    def may(stored: Stored) -> None:
        check_write(
            None if stored.body is None else etag(stored.revision),
            if_match=if_match,
            if_none_match=if_none_match,
        )

    async with snapshot(request, principal) as view:
        stored = await _stored(view.tx, assignment_id)
        if stored.body == body:
            return _answer(stored.view(), 200)
        may(stored)
        await _refuse_unfit(view.tx, assignment_id, body)
        changed = AssignmentChange(assignment_id, stored, body)
        reference = view.reference if changed.since < await closed_until(view.tx) else None
    if reference is not None:
        asked = await _propose(request, changed, actor_of(principal), reference)
        return proposed(asked, sees_all=view.visible is None)
    now = await now_of(request)
    async with pool_of(request).acquire() as tx, tx.transaction():
        await raise_reference_version(tx)
        changed = AssignmentChange(assignment_id, await _stored(tx, assignment_id), body)
        may(changed.before)
        await _refuse_unfit(tx, assignment_id, body)
        await _refuse_closed(tx, changed)
        data = changed.data(actor_of(principal))
        await _save(tx, data, body, now)
    view_ = AssignmentView(
        **body.model_dump(by_alias=True), id=assignment_id, revision=data.revision
    )
    return _answer(view_, 201 if changed.before.body is None else 200)


@router.delete("/{assignment_id}", status_code=204, responses={202: {"model": ProposalView}})
async def delete_assignment(
    request: Request, principal: PlanWriter, assignment_id: Id, if_match: IfMatch = None
) -> Response:
    """Take an assignment back, as if it had never been: what it credited goes.

    Proposed (202), as a change is, where it began before the day until which all is closed.
    """
    async with snapshot(request, principal) as view:
        stored = await _stored(view.tx, assignment_id)
        if stored.body is None:
            raise not_found("assignment")
        check_write(etag(stored.revision), if_match=if_match)
        gone = AssignmentChange(assignment_id, stored, None)
        reference = view.reference
        reaches_back = gone.since < await closed_until(view.tx)
    if reaches_back:
        asked = await _propose(request, gone, actor_of(principal), reference)
        return proposed(asked, sees_all=view.visible is None)
    now = await now_of(request)
    async with pool_of(request).acquire() as tx, tx.transaction():
        await raise_reference_version(tx)
        gone = AssignmentChange(assignment_id, await _stored(tx, assignment_id), None)
        if gone.before.body is None:
            raise not_found("assignment")
        check_write(etag(gone.before.revision), if_match=if_match)
        await _refuse_closed(tx, gone)
        await _save(tx, gone.data(actor_of(principal)), gone.before.body, now)
    return Response(status_code=204)


@router.post("/{assignment_id}/confirm")
async def confirm_assignment(
    request: Request, principal: Decider, assignment_id: Id, if_match: IfMatch = None
) -> ProposalView:
    """Sign a change of closed days: it counts from now on.

    By a second person whose own pay it does not change, and who names in If-Match what they saw.
    """
    async with decision(request, principal) as by:
        await raise_reference_version(by.tx)
        asked = await load_proposal(by.tx, _subject(assignment_id), lock=True)
        if asked is None:
            raise not_found("proposal")
        check_write(etag(asked.revision), if_match=if_match)
        signed = await confirm(by.tx, asked, actor=by.person, now=by.now, one_seat=by.one_seat)
        stored = await _stored(by.tx, assignment_id)
        if stored.revision != asked.said["revision"]:
            msg = "the assignment was changed since it was asked; propose the change again"
            raise Refused("assignment-changed", msg)
        wanted = asked.said["assignment"]
        body = None if wanted is None else AssignmentBody.model_validate(wanted)
        if body is not None:
            await _refuse_unfit(by.tx, assignment_id, body)
        changed = AssignmentChange(assignment_id, stored, body)
        data = changed.data(asked.asked_by, confirmed_by=by.person)
        await _save(by.tx, data, changed.said, by.now)
    return proposal_view(signed)


@router.post("/{assignment_id}/withdraw")
async def withdraw_assignment(
    request: Request, principal: Decider, assignment_id: Id
) -> ProposalView:
    """Take a proposed change back."""
    async with decision(request, principal) as by:
        asked = await load_proposal(by.tx, _subject(assignment_id), lock=True)
        if asked is None:
            raise not_found("proposal")
        return proposal_view(await withdraw(by.tx, asked, actor=by.person, now=by.now))


@router.get("", response_model=Page[AssignmentView])
async def assignments(
    request: Request,
    principal: Reader,
    page: Paging,
    payee: IdFilter = None,
    plan: IdFilter = None,
) -> object:
    """Assignments of the people whom the caller sees."""
    after = page.after(str)
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            f"SELECT {_COLUMNS} FROM assignment WHERE NOT deleted "  # noqa: S608 - constants
            "AND ($1::text[] IS NULL OR payee = ANY($1)) AND ($2::text IS NULL OR payee = $2) "
            "AND ($3::text IS NULL OR plan_id = $3) AND assignment_id > $4 "
            "ORDER BY assignment_id LIMIT $5",
            view.visible,
            payee,
            plan,
            "" if after is None else after[0],
            page.fetch,
        )
    found = page_of(rows, page, key=lambda row: (row["assignment_id"],), show=_view)
    return listed(request, found, AssignmentView)


@router.get("/{assignment_id}")
async def assignment(
    request: Request, response: Response, principal: Reader, assignment_id: Id
) -> AssignmentView:
    """One assignment."""
    async with snapshot(request, principal) as view:
        stored = await _stored(view.tx, assignment_id)
        if stored.body is None or not view.sees(stored.body.payee):
            raise not_found("assignment")
    response.headers["ETag"] = etag(stored.revision)
    return stored.view()


_COLUMNS = (
    "assignment_id, payee, plan_id, first_day, last_day, quota::text AS quota, payout_currency, "
    "deleted, revision, target_pay, component_target_pay::text AS component_target_pay, "
    "ramp::text AS ramp, leave::text AS leave"
)


async def _stored(tx: Connection, assignment_id: str) -> Stored:
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM assignment WHERE assignment_id = $1",  # noqa: S608 - constants
        assignment_id,
    )
    if row is None:
        return Stored(assignment_id, None, None, 0)
    told = _view(row).model_dump(by_alias=True, exclude={"id", "revision"})
    body = AssignmentBody.model_validate(told)
    return Stored(assignment_id, None if row["deleted"] else body, body, row["revision"])


async def _refuse_closed(tx: Connection, changed: AssignmentChange) -> None:
    """From here on nobody closes a period before this is committed."""
    if changed.since < await closed_until(tx, lock=True):
        msg = "a period was closed just now, and this changes it; send it again to propose it"
        raise Refused("closed-meanwhile", msg)


async def _propose(
    request: Request, changed: AssignmentChange, actor: str, reference: Reference
) -> Proposal:
    now = await now_of(request)
    said = changed.said
    async with pool_of(request).acquire() as tx, tx.transaction():
        until = await closed_until(tx)
        asked = await propose(
            tx,
            _subject(changed.assignment_id),
            said.plan,
            {
                "revision": changed.before.revision,
                "assignment": None
                if changed.after is None
                else changed.after.model_dump(mode="json", by_alias=True),
            },
            until=until,
            actor=actor,
            now=now,
        )

    async def findings(difference: Decimal) -> list[dict[str, str]]:
        return finding_rows([changed.border(difference, until)])

    return await told(request, asked, changed.change(reference), findings)


def _subject(assignment_id: str) -> str:
    return f"assignment/{assignment_id}"


async def _refuse_unfit(tx: Connection, assignment_id: str, body: AssignmentBody) -> None:
    """The plan must exist, and no other assignment of the payee to it may share a day."""
    if not await tx.fetchval(
        "SELECT EXISTS (SELECT FROM plan_version WHERE plan_id = $1)", body.plan
    ):
        msg = f"there is no plan {body.plan}; save it first"
        raise Refused("unknown-plan", msg)
    other = await tx.fetchval(
        "SELECT assignment_id FROM assignment WHERE payee = $1 AND plan_id = $2 "
        "AND assignment_id <> $3 AND NOT deleted AND first_day <= coalesce($5, 'infinity'::date) "
        "AND coalesce(last_day, 'infinity'::date) >= $4 ORDER BY 1 LIMIT 1",
        body.payee,
        body.plan,
        assignment_id,
        body.from_,
        body.to,
    )
    if other is not None:
        msg = f"assignment {other} has {body.payee} on {body.plan} on some of these days already"
        raise Refused("assignment-overlaps", msg)


async def save_assignment(tx: Connection, data: AssignmentData, body: AssignmentBody) -> None:
    """Store an assignment, within the transaction that raised reference data."""
    await tx.execute(
        "INSERT INTO assignment AS a (assignment_id, payee, plan_id, first_day, last_day, quota, "
        "payout_currency, deleted, revision, changed_by, target_pay, component_target_pay, ramp, "
        "leave) VALUES ($1, $2, $3, $4, $5, $6::text::json, $7, $8, $9, $10, $11, "
        "$12::text::json, $13::text::json, $14::text::json) "
        "ON CONFLICT (assignment_id) DO UPDATE SET payee = excluded.payee, "
        "plan_id = excluded.plan_id, first_day = excluded.first_day, "
        "last_day = excluded.last_day, quota = excluded.quota, "
        "payout_currency = excluded.payout_currency, deleted = excluded.deleted, "
        "revision = excluded.revision, changed_by = excluded.changed_by, changed_at = now(), "
        "target_pay = excluded.target_pay, component_target_pay = excluded.component_target_pay, "
        "ramp = excluded.ramp, leave = excluded.leave",
        data.assignment,
        data.payee,
        data.plan,
        body.from_,
        body.to,
        canonical_json(data.quota),
        data.payout_currency,
        data.deleted,
        data.revision,
        data.actor,
        body.target_pay,
        canonical_json(data.component_target_pay),
        canonical_json(data.ramp),
        canonical_json(data.leave),
    )
    if not data.deleted:
        await mark_uncredited(tx, data.plan)


async def _save(tx: Connection, data: AssignmentData, body: AssignmentBody, now: datetime) -> None:
    await save_assignment(tx, data, body)
    await write_events(tx, ASSIGNMENT, [(_subject(data.assignment), data.revision, data)], now)


def _view(row: asyncpg.Record) -> AssignmentView:
    quota: dict[str, Any] = msgspec.json.decode(row["quota"])
    return AssignmentView.model_validate(
        {
            "id": row["assignment_id"],
            "payee": row["payee"],
            "plan": row["plan_id"],
            "from": row["first_day"],
            "to": row["last_day"],
            "quota": quota,
            "payout_currency": row["payout_currency"],
            "revision": row["revision"],
            "target_pay": row["target_pay"],
            "component_target_pay": msgspec.json.decode(row["component_target_pay"]),
            "ramp": msgspec.json.decode(row["ramp"]),
            "leave": msgspec.json.decode(row["leave"]),
        }
    )


def _answer(view: AssignmentView, status: int) -> Response:
    return Response(
        view.model_dump_json(by_alias=True),
        status_code=status,
        media_type="application/json",
        headers={"ETag": etag(view.revision)},
    )
