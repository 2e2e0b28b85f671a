"""What one person proposes and another decides: the rules that adjustments and overrides share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING

from services.commissions.domain.plan import Plan
from services.commissions.reference import Reference
from services.commissions.store import AccountKey
from shared.errors import InvalidValue, Refused
from shared.events.journals import AgreementState
from shared.facts.marks import RootKey, Touched, add_marks
from shared.money import round_to_minor

if TYPE_CHECKING:
    from decimal import Decimal

    from shared.db.pool import Connection


FIRST_YEAR, LAST_YEAR = 1970, 2199


async def plan_of_payee(tx: Connection, reference: Reference, payee: str, plan_id: str) -> Plan:
    """The plan, which the payee is or was on. Raises Refused (409)."""
    plan = reference.plans.get(plan_id)
    if plan is None:
        msg = f"there is no plan {plan_id}; save it first"
        raise Refused("unknown-plan", msg)
    if not await tx.fetchval(
        "SELECT EXISTS (SELECT FROM assignment WHERE payee = $1 AND plan_id = $2 AND NOT deleted)",
        payee,
        plan_id,
    ):
        msg = f"{payee} has never been on plan {plan_id}; assign them first"
        raise Refused("not-assigned", msg)
    return plan


def check_day(day: date, pointer: str) -> None:
    """Raises InvalidValue for a day that is nobody's pay: a mistyped year."""
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        msg = f"write a year from {FIRST_YEAR} to {LAST_YEAR}"
        raise InvalidValue(msg, pointer=pointer)


def check_minor_units(amount: Decimal, plan: Plan) -> None:
    """Raises InvalidValue for an amount that cannot be paid to the minor unit."""
    currency = plan.versions[0].currency
    if round_to_minor(amount, currency) != amount:
        msg = f"write whole minor units of {currency}, which is what lines are paid in"
        raise InvalidValue(msg, pointer="/amount")


async def check_dispute(tx: Connection, dispute_id: str | None, payee: str, plan_id: str) -> None:
    """Raises Refused (409) unless it is unresolved and about this payee and plan."""
    if dispute_id is None:
        return
    fits = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM dispute WHERE dispute_id = $1 AND payee = $2 AND plan_id = $3 "
        "AND state <> 'resolved')",
        dispute_id,
        payee,
        plan_id,
    )
    if not fits:
        msg = f"{payee} has no unresolved dispute {dispute_id} about plan {plan_id}"
        raise Refused("dispute-does-not-fit", msg)


async def hold_open(tx: Connection) -> date:
    """The first day that no close has fixed. No close moves it before this transaction ends."""
    day: date = await tx.fetchval("SELECT day FROM closed_until FOR SHARE")
    return day


def must_be_proposed(what: str, state: AgreementState) -> None:
    """Raises Refused (409) once it was decided."""
    if state != "proposed":
        msg = f"{what} is {state}; only what is proposed can be decided"
        raise Refused("not-proposed", msg)


def must_have_asked(what: str, asked_by: str, actor: str) -> None:
    """Raises Refused (409) for somebody else."""
    if asked_by != actor:
        msg = f"{what} was asked by {asked_by}, who alone can withdraw it; reject it instead"
        raise Refused("asked-by-another", msg)


async def mark_years(tx: Connection, account: AccountKey, years: Iterable[str]) -> None:
    """Have fiscal years of an account rated again."""
    root = RootKey("account", account.root_id)
    await add_marks(tx, [Touched(root, year) for year in years])
