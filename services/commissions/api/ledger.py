"""The ledger: balances and the postings behind them."""

from __future__ import annotations

from typing import Any

import asyncpg
import msgspec
from fastapi import APIRouter, Request

from services.commissions.api.context import IdFilter, Reader, snapshot
from shared.http.models import DecimalText, Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of

router = APIRouter(prefix="/v1/ledger", tags=["ledger"])


class Balance(WireModel):
    """What stands on one account for one statement."""

    payee: str
    plan: str
    period: str
    account: str
    currency: str
    amount: DecimalText


class PostingView(WireModel):
    """One posting and the cause of its transaction."""

    transaction: str
    number: int
    payee: str
    plan: str
    period: str
    account: str
    line: str
    currency: str
    amount: DecimalText
    actor: str
    plan_hash: str
    events: list[str]
    recorded_at: Instant


_FILTER = (
    "($1::text[] IS NULL OR p.payee = ANY($1)) AND ($2::text IS NULL OR p.payee = $2) "
    "AND ($3::text IS NULL OR p.plan_id = $3) AND ($4::text IS NULL OR p.period = $4)"
)


@router.get("/balances", response_model=Page[Balance])
async def balances(  # noqa: PLR0913, PLR0917 - one argument a filter
    request: Request,
    principal: Reader,
    page: Paging,
    payee: IdFilter = None,
    plan: IdFilter = None,
    period: IdFilter = None,
) -> object:
    """Sums of postings by statement and account, of the people whom the caller sees."""
    after = page.after(str, str, str, str) or ("", "", "", "")
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            "SELECT p.payee, p.plan_id, p.period, p.account, p.currency, sum(p.amount) AS amount "  # noqa: S608 - constants
            f"FROM posting p WHERE {_FILTER} "
            "AND (p.payee, p.plan_id, p.period, p.account) > ($5, $6, $7, $8) "
            "GROUP BY p.payee, p.plan_id, p.period, p.account, p.currency "
            "ORDER BY p.payee, p.plan_id, p.period, p.account LIMIT $9",
            view.visible,
            payee,
            plan,
            period,
            *after,
            page.fetch,
        )
    found = page_of(rows, page, key=_balance_key, show=_balance)
    return listed(request, found, Balance)


@router.get("/postings", response_model=Page[PostingView])
async def postings(  # noqa: PLR0913, PLR0917 - one argument a filter
    request: Request,
    principal: Reader,
    page: Paging,
    payee: IdFilter = None,
    plan: IdFilter = None,
    period: IdFilter = None,
) -> object:
    """Postings in the order in which they were made, by account."""
    after = page.after(str, str, int, int) or ("", "", 0, 0)
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            "SELECT p.*, t.number, t.actor, t.plan_hash, t.event_ids::text AS events, "  # noqa: S608 - constants
            "t.recorded_at FROM posting p JOIN ledger_transaction t ON t.id = p.transaction_id "
            f"WHERE {_FILTER} AND (p.payee, p.plan_id, t.number, p.ordinal) > ($5, $6, $7, $8) "
            "ORDER BY p.payee, p.plan_id, t.number, p.ordinal LIMIT $9",
            view.visible,
            payee,
            plan,
            period,
            *after,
            page.fetch,
        )
    found = page_of(rows, page, key=_posting_key, show=_posting)
    return listed(request, found, PostingView)


def _balance_key(row: asyncpg.Record) -> tuple[str, str, str, str]:
    return (row["payee"], row["plan_id"], row["period"], row["account"])


def _balance(row: asyncpg.Record) -> Balance:
    return Balance(
        payee=row["payee"],
        plan=row["plan_id"],
        period=row["period"],
        account=row["account"],
        currency=row["currency"],
        amount=row["amount"],
    )


def _posting_key(row: asyncpg.Record) -> tuple[str, str, int, int]:
    return (row["payee"], row["plan_id"], row["number"], row["ordinal"])


def _posting(row: asyncpg.Record) -> PostingView:
    events: list[Any] = msgspec.json.decode(row["events"])
    return PostingView(
        transaction=row["transaction_id"],
        number=row["number"],
        payee=row["payee"],
        plan=row["plan_id"],
        period=row["period"],
        account=row["account"],
        line=row["line_key"],
        currency=row["currency"],
        amount=row["amount"],
        actor=row["actor"],
        plan_hash=row["plan_hash"],
        events=events,
        recorded_at=row["recorded_at"],
    )
