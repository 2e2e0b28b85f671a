"""Pay runs: made by one person of finance, approved by another, paid, exported for payroll."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field, StringConstraints

from services.commissions.api.assignments import Text
from services.commissions.api.context import (
    Finance,
    Id,
    Overseer,
    decision,
    snapshot,
)
from services.commissions.paying import payruns
from services.commissions.paying.payrun_store import COLUMNS, PayRun, pay_run_of
from shared.http.models import DecimalText, Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of

router = APIRouter(prefix="/v1/payruns", tags=["pay runs"])

Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class PayRunBody(WireModel):
    """Everything closed and unpaid until the end of `through`, for payroll's file of `template`.

    parameters: what the template has to be told once, such as a company code. employees: the
    prefix of the identities that hold employee numbers (`adp:ABC`), where the template shows them.
    """

    through: Word
    pay_date: date
    template: Word = "generic"
    parameters: Annotated[dict[Word, Word], Field(max_length=20)] = Field(default_factory=dict)
    employees: Text | None = None


class ControlTotalView(WireModel):
    """What the lines of one currency come to."""

    currency: str
    lines: int
    amount: DecimalText


class PayRunView(PayRunBody):
    """A pay run. hash: over its lines; whoever approves says which they saw."""

    id: str
    state: str
    hash: str
    control: list[ControlTotalView]
    made_by: str
    made_at: Instant
    approved_by: str | None
    approved_at: Instant | None
    paid_on: date | None
    one_seat: bool


class PayLineView(WireModel):
    """One statement in a pay run. amount: in payout currency; plan_amount: as the ledger has it."""

    payee: str
    name: str
    plan: str
    period: str
    amount: DecimalText
    currency: str
    plan_amount: DecimalText
    plan_currency: str
    statement_hash: str
    state: str
    reason: str | None


class Approval(WireModel):
    """hash: of the pay run as it was looked at."""

    hash: Word


class Payment(WireModel):
    """When the bank paid."""

    paid_on: date


class PaymentReturned(WireModel):
    """A payment that came back, and why."""

    payee: Text
    plan: Text
    period: Word
    reason: Annotated[str, StringConstraints(min_length=3, max_length=2_000)]


@router.put("/{pay_run}", response_model=PayRunView, responses={201: {"model": PayRunView}})
async def put_pay_run(
    request: Request, response: Response, principal: Finance, pay_run: Id, body: PayRunBody
) -> PayRunView:
    """Gather what is closed and unpaid. The same again is the same run: send it until answered."""
    async with decision(request, principal) as by:
        wanted = payruns.Request(
            id=pay_run,
            through=by.reference.period(body.through),
            pay_date=body.pay_date,
            template=body.template,
            parameters=body.parameters,
            employees=body.employees,
        )
        run, created = await payruns.make_pay_run(
            by.tx, wanted, by.reference, actor=by.person, now=by.now
        )
    response.status_code = 201 if created else 200
    return _view(run)


@router.get("", response_model=Page[PayRunView])
async def pay_runs(request: Request, principal: Overseer, page: Paging) -> object:
    """Pay runs by id."""
    after = page.after(str)
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            f"SELECT {COLUMNS} FROM pay_run WHERE pay_run_id > $1 "  # noqa: S608
            "ORDER BY pay_run_id LIMIT $2",
            "" if after is None else after[0],
            page.fetch,
        )
    found = page_of(
        rows,
        page,
        key=lambda row: (row["pay_run_id"],),
        show=lambda row: _view(PayRun.of(row)),
    )
    return listed(request, found, PayRunView)


@router.get("/{pay_run}")
async def pay_run(request: Request, principal: Overseer, pay_run: Id) -> PayRunView:
    """One pay run with its control totals."""
    async with snapshot(request, principal) as view:
        return _view(await pay_run_of(view.tx, pay_run))


@router.get("/{pay_run}/lines", response_model=Page[PayLineView])
async def lines(request: Request, principal: Overseer, pay_run: Id, page: Paging) -> object:
    """What it pays, by payee, plan and period."""
    after = page.after(str, str, str) or ("", "", "")
    async with snapshot(request, principal) as view:
        await pay_run_of(view.tx, pay_run)
        rows = await view.tx.fetch(
            "SELECT * FROM pay_run_line WHERE pay_run_id = $1 "
            "AND (payee, plan_id, period) > ($2, $3, $4) "
            "ORDER BY payee, plan_id, period LIMIT $5",
            pay_run,
            *after,
            page.fetch,
        )
    found = page_of(
        rows,
        page,
        key=lambda row: (row["payee"], row["plan_id"], row["period"]),
        show=lambda row: PayLineView(
            plan=row["plan_id"],
            **{name: row[name] for name in PayLineView.model_fields if name != "plan"},
        ),
    )
    return listed(request, found, PayLineView)


@router.get("/{pay_run}/file", response_class=Response)
async def file(request: Request, principal: Overseer, pay_run: Id) -> Response:
    """The file for payroll, once approved: the same bytes however often it is fetched."""
    async with snapshot(request, principal) as view:
        content = await payruns.payroll_file_of(view.tx, pay_run)
    return Response(
        content,
        media_type="text/csv; charset=utf-8; header=present",
        headers={"Content-Disposition": "attachment"},
    )


@router.post("/{pay_run}/approve")
async def approve(request: Request, principal: Finance, pay_run: Id, body: Approval) -> PayRunView:
    """Approve it as it was shown. Not by its maker, and not by anybody it pays."""
    async with decision(request, principal) as by:
        run = await payruns.approve(
            by.tx,
            pay_run,
            hash_=body.hash,
            actor=by.person,
            now=by.now,
            one_seat=by.one_seat,
        )
    return _view(run)


@router.post("/{pay_run}/cancel")
async def cancel(request: Request, principal: Finance, pay_run: Id) -> PayRunView:
    """Give a draft up: its statements can be paid by another run."""
    async with decision(request, principal) as by:
        run = await payruns.cancel(by.tx, pay_run, actor=by.person, now=by.now)
    return _view(run)


@router.post("/{pay_run}/paid")
async def paid(request: Request, principal: Finance, pay_run: Id, body: Payment) -> PayRunView:
    """The bank has paid all of it."""
    async with decision(request, principal) as by:
        run = await payruns.mark_paid(
            by.tx, pay_run, paid_on=body.paid_on, actor=by.person, now=by.now
        )
    return _view(run)


@router.post("/{pay_run}/returns")
async def returned(
    request: Request, principal: Finance, pay_run: Id, body: PaymentReturned
) -> PayRunView:
    """One payment came back: its statement is payable again, by a later run."""
    async with decision(request, principal) as by:
        run = await payruns.return_line(
            by.tx,
            pay_run,
            payee=body.payee,
            plan=body.plan,
            period=body.period,
            reason=body.reason,
            actor=by.person,
            now=by.now,
        )
    return _view(run)


def _view(run: PayRun) -> PayRunView:
    return PayRunView(
        id=run.id,
        through=run.through,
        pay_date=run.pay_date,
        template=run.template,
        parameters=dict(run.parameters),
        employees=run.employees,
        state=run.state,
        hash=run.hash,
        control=[
            ControlTotalView(currency=t.currency, lines=t.lines, amount=t.amount)
            for t in run.control
        ],
        made_by=run.made_by,
        made_at=run.made_at,
        approved_by=run.approved_by,
        approved_at=run.approved_at,
        paid_on=run.paid_on,
        one_seat=run.one_seat,
    )
