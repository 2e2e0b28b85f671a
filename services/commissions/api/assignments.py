"""Assignments: who is on which plan, from when to when."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import Annotated, Any

import asyncpg
import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import Field, StringConstraints, model_validator

from services.commissions.api.context import (
    ID_PATTERN,
    Id,
    IdFilter,
    PlanWriter,
    Reader,
    actor_of,
    not_found,
    now_of,
    pool_of,
    snapshot,
)
from services.commissions.begun import mark_uncredited
from services.commissions.events import write_events
from services.commissions.store import canonical_json
from shared.db.pool import Connection
from shared.errors import Refused
from shared.events.journals import ASSIGNMENT, AssignmentData, LeaveData
from shared.facts.settle import raise_reference_version
from shared.http.models import DecimalText, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import IfMatch, IfNoneMatch, check_write, etag
from shared.money import to_text

router = APIRouter(prefix="/v1/assignments", tags=["assignments"])

Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=ID_PATTERN)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
TargetPay = Annotated[DecimalText, Field(ge=0)]
Percentage = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}(\.[0-9]{1,8})?%$")]


class Leave(WireModel):
    """Days away, both included."""

    from_: date = Field(alias="from")
    to: date

    @model_validator(mode="after")
    def _days_rise(self) -> Leave:
        if self.to < self.from_:
            msg = "to lies before from"
            raise ValueError(msg)
        return self


class AssignmentBody(WireModel):
    """A payee is on a plan from the first day to the last, both included.

    quota: measure → amount for each measure period, in plan currency, in place of what is
    published. payout_currency: what the payable is paid in; the plan's own when not given.
    target_pay: in plan currency for a whole measure period; component_target_pay: component → in
    its place. ramp: shares of draw, floor and target pay in the first, second, … calendar month of
    the assignment. leave: days that do not count for them, both included.
    """

    payee: Text
    plan: Text
    from_: date = Field(alias="from")
    to: date | None = None
    quota: dict[Text, DecimalText] = Field(default_factory=dict)
    payout_currency: Currency | None = None
    target_pay: DecimalText | None = Field(default=None, ge=0)
    component_target_pay: dict[Text, TargetPay] = Field(default_factory=dict, max_length=100)
    ramp: list[Percentage] = Field(default_factory=list, max_length=60)
    leave: list[Leave] = Field(default_factory=list, max_length=100)

    @model_validator(mode="after")
    def _days_rise(self) -> AssignmentBody:
        if self.to is not None and self.to < self.from_:
            msg = "to lies before from"
            raise ValueError(msg)
        for earlier, later in pairwise(self.leave):
            if later.from_ <= earlier.to:
                msg = "leaves stand in order and do not overlap"
                raise ValueError(msg)
        return self


class AssignmentView(AssignmentBody):
    """An assignment as it is."""

    id: str
    revision: int


@router.put(
    "/{assignment_id}",
    response_model=AssignmentView,
    responses={201: {"model": AssignmentView}},
)
async def put_assignment(  # noqa: PLR0913, PLR0917 - one argument a header or part of the path
    request: Request,
    principal: PlanWriter,
    assignment_id: Id,
    body: AssignmentBody,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """State an assignment. The same again changes nothing; a change needs If-Match."""
    now = await now_of(request)
    async with pool_of(request).acquire() as tx, tx.transaction():
        await raise_reference_version(tx)
        row = await _stored(tx, assignment_id)
        known = None if row is None or row["deleted"] else _view(row)
        if known is not None and known.model_dump(exclude={"id", "revision"}) == body.model_dump():
            return _answer(known, 200)
        check_write(
            None if known is None else etag(known.revision),
            if_match=if_match,
            if_none_match=if_none_match,
        )
        await _refuse_unfit(tx, assignment_id, body)
        revision = 1 if row is None else row["revision"] + 1
        data = _data(assignment_id, body, revision, actor_of(principal), deleted=False)
        await _save(tx, data, body)
        await write_events(tx, ASSIGNMENT, [(f"assignment/{assignment_id}", revision, data)], now)
    view = AssignmentView(**body.model_dump(by_alias=True), id=assignment_id, revision=revision)
    return _answer(view, 201 if known is None else 200)


@router.delete("/{assignment_id}", status_code=204)
async def delete_assignment(
    request: Request, principal: PlanWriter, assignment_id: Id, if_match: IfMatch = None
) -> None:
    """Take an assignment back, as if it had never been: what it credited goes."""
    now = await now_of(request)
    async with pool_of(request).acquire() as tx, tx.transaction():
        await raise_reference_version(tx)
        row = await _stored(tx, assignment_id)
        if row is None or row["deleted"]:
            raise not_found("assignment")
        check_write(etag(row["revision"]), if_match=if_match)
        body = AssignmentBody(**_view(row).model_dump(by_alias=True, exclude={"id", "revision"}))
        data = _data(assignment_id, body, row["revision"] + 1, actor_of(principal), deleted=True)
        await _save(tx, data, body)
        await write_events(
            tx, ASSIGNMENT, [(f"assignment/{assignment_id}", data.revision, data)], now
        )


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
        row = await _stored(view.tx, assignment_id)
        if row is None or row["deleted"] or not view.sees(row["payee"]):
            raise not_found("assignment")
    response.headers["ETag"] = etag(row["revision"])
    return _view(row)


_COLUMNS = (
    "assignment_id, payee, plan_id, first_day, last_day, quota::text AS quota, payout_currency, "
    "deleted, revision, target_pay, component_target_pay::text AS component_target_pay, "
    "ramp::text AS ramp, leave::text AS leave"
)


async def _stored(tx: Connection, assignment_id: str) -> asyncpg.Record | None:
    return await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM assignment WHERE assignment_id = $1",  # noqa: S608 - constants
        assignment_id,
    )


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


def _data(
    assignment_id: str, body: AssignmentBody, revision: int, actor: str, *, deleted: bool
) -> AssignmentData:
    return AssignmentData(
        assignment=assignment_id,
        payee=body.payee,
        plan=body.plan,
        from_=body.from_.isoformat(),
        to=None if body.to is None else body.to.isoformat(),
        quota={measure: to_text(amount) for measure, amount in body.quota.items()},
        payout_currency=body.payout_currency,
        deleted=deleted,
        revision=revision,
        actor=actor,
        target_pay=None if body.target_pay is None else to_text(body.target_pay),
        component_target_pay={
            component: to_text(amount) for component, amount in body.component_target_pay.items()
        },
        ramp=body.ramp,
        leave=[
            LeaveData(from_=away.from_.isoformat(), to=away.to.isoformat()) for away in body.leave
        ],
    )


async def _save(tx: Connection, data: AssignmentData, body: AssignmentBody) -> None:
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
