"""`/v1/accruals`, `/v1/capitalised-costs`, `/v1/commission-health`: what finance books and asks."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.commissions.api.context import Overseer, snapshot
from services.commissions.domain.capitalised import (
    Contract,
    MonthCost,
    MonthTotal,
    month_label,
    schedule,
    totals,
)
from services.commissions.paying import accounting
from services.commissions.paying.health import Health, health
from services.commissions.store import AccountKey
from shared.http.models import DecimalText, WireModel
from shared.http.paging import Page, Paging, encode_cursor, listed
from shared.money import EXACT

router = APIRouter(prefix="/v1", tags=["accounting"])

ACCOUNTS_AT_ONCE = 200


class AccrualView(WireModel):
    """One period's liability in one plan currency.

    due: settled for payment; liability: due and not yet paid, and what is held until cash comes.
    """

    period: str
    currency: str
    closed: bool
    statements: int
    earned: DecimalText
    difference: DecimalText
    due: DecimalText
    paid: DecimalText
    held: DecimalText
    carried: DecimalText
    liability: DecimalText


class MonthView(WireModel):
    """What one month bears."""

    month: str
    amortised: DecimalText
    written_off: DecimalText


class MonthTotalView(MonthView):
    """What one month bears of all contracts, and what is left after it."""

    currency: str
    remaining: DecimalText


class ContractView(WireModel):
    """One deal's cost by one component. ended: the month in which the deal was cancelled."""

    deal: str
    component: str
    currency: str
    cost: DecimalText
    over_months: int
    ended: str | None
    months: list[MonthView]


class AccountContracts(WireModel):
    """One payee's contracts under one plan."""

    payee: str
    plan: str
    contracts: list[ContractView]


class HealthView(WireModel):
    """Commission health in one plan currency; null where there is nothing to divide by."""

    currency: str
    statements: int
    payout: DecimalText
    bookings: DecimalText
    effective_rate: DecimalText | None
    corrected: DecimalText
    accuracy: DecimalText | None
    disputes: int
    dispute_rate: DecimalText | None
    days_to_resolve: DecimalText | None
    days_to_pay: DecimalText | None


@router.get("/accruals", response_model=Page[AccrualView])
async def accruals(request: Request, principal: Overseer) -> Page[AccrualView] | Response:
    """Liability by period and plan currency, the oldest first."""
    async with snapshot(request, principal) as view:
        rows = await accounting.liability(view.tx, view.visible)
    shown = [
        AccrualView(
            period=row["period"],
            currency=row["currency"],
            closed=row["closed"],
            statements=row["statements"],
            earned=row["own"],
            difference=row["difference"],
            due=row["due"],
            paid=row["paid"],
            held=row["held"],
            carried=row["carried"],
            liability=EXACT.add(EXACT.subtract(row["due"], row["paid"]), row["held"]),
        )
        for row in rows
    ]
    return listed(request, Page[AccrualView](data=shown), AccrualView)


@router.get("/capitalised-costs", response_model=Page[AccountContracts])
async def capitalised_costs(
    request: Request, principal: Overseer, page: Paging
) -> Page[AccountContracts] | Response:
    """Costs of won contracts and the months that bear them; `limit` counts payees' plans."""
    after = page.after(str, str) or ("", "")
    async with snapshot(request, principal) as view:
        accounts = await accounting.capitalising_accounts(
            view.tx,
            view.reference,
            view.visible,
            AccountKey(str(after[0]), str(after[1])),
            page.fetch,
        )
        found = await accounting.contracts_of(view.tx, view.reference, accounts[: page.limit])
    more = len(accounts) > page.limit
    shown = [
        AccountContracts(
            payee=account.payee,
            plan=account.plan_id,
            contracts=[_contract(contract) for contract in contracts],
        )
        for account, contracts in found.items()
    ]
    cursor = encode_cursor(accounts[page.limit - 1]) if more else None
    whole = Page[AccountContracts](data=shown, next_cursor=cursor)
    return listed(request, whole, AccountContracts)


@router.get("/capitalised-costs/months", response_model=Page[MonthTotalView])
async def months(request: Request, principal: Overseer) -> Page[MonthTotalView] | Response:
    """What each month bears of all contracts, by currency, and what is left after it."""
    contracts: list[Contract] = []
    after = AccountKey("", "")
    async with snapshot(request, principal) as view:
        while accounts := await accounting.capitalising_accounts(
            view.tx, view.reference, view.visible, after, ACCOUNTS_AT_ONCE
        ):
            after = accounts[-1]
            for found in (
                await accounting.contracts_of(view.tx, view.reference, accounts)
            ).values():
                contracts += found
    return listed(
        request,
        Page[MonthTotalView](data=[_total(one) for one in totals(contracts)]),
        MonthTotalView,
    )


@router.get("/commission-health", response_model=Page[HealthView])
async def commission_health(
    request: Request, principal: Overseer, period: str
) -> Page[HealthView] | Response:
    """Cost, accuracy, disputes and speed of pay (K37), of statements that lie in the period."""
    async with snapshot(request, principal) as view:
        asked = view.period(period)
        found = await health(view.tx, asked.start, asked.end, view.visible)
    return listed(request, Page[HealthView](data=[_health(one) for one in found]), HealthView)


def _contract(contract: Contract) -> ContractView:
    return ContractView(
        deal=contract.deal_id,
        component=contract.component_id,
        currency=contract.currency,
        cost=contract.cost,
        over_months=contract.over_months,
        ended=None if contract.ended is None else month_label(contract.ended),
        months=[_month(one) for one in schedule(contract)],
    )


def _month(one: MonthCost) -> MonthView:
    return MonthView(
        month=month_label(one.month), amortised=one.amortised, written_off=one.written_off
    )


def _total(one: MonthTotal) -> MonthTotalView:
    return MonthTotalView(
        month=month_label(one.month),
        currency=one.currency,
        amortised=one.amortised,
        written_off=one.written_off,
        remaining=one.remaining,
    )


def _health(found: Health) -> HealthView:
    return HealthView(
        currency=found.currency,
        statements=found.statements,
        payout=found.payout,
        bookings=found.bookings,
        effective_rate=found.effective_rate,
        corrected=found.corrected,
        accuracy=found.accuracy,
        disputes=found.disputes,
        dispute_rate=found.dispute_rate,
        days_to_resolve=found.days_to_resolve,
        days_to_pay=found.days_to_pay,
    )
