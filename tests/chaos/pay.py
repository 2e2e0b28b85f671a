"""What people should have been paid, by the independent recomputation; months that were closed too.

A close fixes what followed from everything known then. What was learned later lands as one carried
difference in the first month that is open, or in the close after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.chaos.closing import Closed
from tests.chaos.known import known_history
from tests.chaos.script import PLAN_FROM_MONTH, Script
from tests.oracle.commissions import Statement, as_decimal, rounded, statements
from tests.oracle.dates import last_day_of_month, rate_on
from tests.oracle.deals import view
from tests.simulator.history import History
from tests.simulator.worktime import local_day

ZERO = Decimal(0)

Earned = Mapping[tuple[str, str], Statement]
"""(Payee, month) → statement."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """An amount of a statement that is not what it should be."""

    what: str
    expected: Decimal
    found: Decimal

    @property
    def by(self) -> Decimal:
        """How far off, 0 or more."""
        return abs(self.expected - self.found)

    def __str__(self) -> str:
        """For a person."""
        return f"{self.what}: should be {self.expected}, is {self.found}"


def finally_earned(script: Script) -> Earned:
    """Every month by all that happened, each by the version of the plan in force then."""
    history = script.history
    deals = [view(deal, history, history.ends_ms) for deal in history.deals]
    first = statements(history, deals)
    later = statements(_with_later_plans(script, history), deals)
    changed = f"{history.year}-{PLAN_FROM_MONTH:02d}"
    return {
        key: statement
        for made, is_later in ((first, False), (later, True))
        for key, statement in made.items()
        if (key[1] >= changed) is is_later
    }


def earned_at(script: Script, closed: Closed) -> Earned:
    """The months up to the one that was closed, by what had been accepted before it."""
    history = known_history(script.history, script.traffic[: closed.sent])
    quotas = [closed.quotas.get(quota.id, quota) for quota in history.quotas]
    history = replace(history, quotas=quotas)
    first_open = _month_after(closed.month)
    deals = [
        deal
        for deal in (view(deal, history, history.ends_ms) for deal in history.deals)
        # Later credits change no earlier line; what is known of them may be incomplete.
        if deal.credit_ms is not None and local_day(deal.credit_ms) < first_open
    ]
    return statements(history, deals)


def _with_later_plans(script: Script, history: History) -> History:
    starts = f"{history.year}-{PLAN_FROM_MONTH:02d}-01"
    plans = {
        plan: {**document, "effective": {"from": starts}}
        for plan, document in script.later_plans.items()
    }
    return replace(history, plans=plans)


def _month_after(month: str) -> date:
    year, number = int(month[:4]), int(month[5:])
    return date(year + number // 12, number % 12 + 1, 1)


def own(earned: Earned, payee: str, month: str) -> Decimal:
    """What a month earns by itself; nothing without a statement."""
    statement = earned.get((payee, month))
    return statement.earned if statement else ZERO


def wrong_pay(
    script: Script, closed: Sequence[Closed], rows: Sequence[dict[str, Any]]
) -> list[Wrong]:
    """Everything that differs on the statements, `rows` being the list as it is in the end."""
    final = finally_earned(script)
    found = {(row["payee"], row["period"]): row for row in rows}
    return [
        *_wrong_closes(script, closed),
        *_wrong_open(script, closed, final, found),
    ]


def _wrong_closes(script: Script, closed: Sequence[Closed]) -> Iterator[Wrong]:
    """What each close fixed: the month's own pay, and what it took over from those before."""
    fixed: dict[str, dict[str, dict[str, Any]]] = {}
    landed: dict[str, Decimal] = {}
    for one in closed:
        by_then = earned_at(script, one)
        rows = {row["payee"]: row for row in one.statements.values()}
        for assignment in script.history.assignments:
            payee = assignment.payee
            expected, got = own(by_then, payee, one.month), _amount(rows, payee, "own")
            if expected != got:
                yield Wrong(f"own pay of {payee} in {one.month}, as closed", expected, got)
            owed = ZERO
            for month, earlier in fixed.items():
                owed += own(by_then, payee, month) - _amount(earlier, payee, "own")
            expected = owed - landed.get(payee, ZERO)
            got = _amount(rows, payee, "difference")
            if expected != got:
                yield Wrong(f"difference of {payee} in {one.month}, as closed", expected, got)
            landed[payee] = landed.get(payee, ZERO) + got
        fixed[one.month] = rows


def _amount(rows: Mapping[str, Mapping[str, Any]], payee: str, name: str) -> Decimal:
    """An amount of somebody's statement; nothing without one."""
    return Decimal(rows[payee][name]) if payee in rows else ZERO


def _wrong_open(
    script: Script,
    closed: Sequence[Closed],
    final: Earned,
    found: Mapping[tuple[str, str], dict[str, Any]],
) -> Iterator[Wrong]:
    """Open months; the first of them takes over what closed ones should have been."""
    year = script.history.year
    months = [f"{year}-{number:02d}" for number in range(1, 13)]
    first_open = months[len(closed)]
    for assignment in script.history.assignments:
        payee, currency = assignment.payee, assignment.payout_currency
        owed = carry = ZERO
        for one in closed:
            rows = {row["payee"]: row for row in one.statements.values()}
            carry = _amount(rows, payee, "carry_out") if payee in rows else carry
            owed += own(final, payee, one.month)
            owed -= _amount(rows, payee, "own") + _amount(rows, payee, "difference")
        for month in months[len(closed) :]:
            row = found.get((payee, month))
            expected = own(final, payee, month)
            got = Decimal(row["own"]) if row else ZERO
            if expected != got:
                yield Wrong(f"own pay of {payee} in {month}", expected, got)
            difference = Decimal(row["difference"]) if row else ZERO
            due = owed if month == first_open else ZERO
            if difference != due:
                yield Wrong(f"difference of {payee} in {month}", due, difference)
            if row is None:
                continue
            payable, left = Decimal(row["payable"]), Decimal(row["carry_out"])
            total = got + difference + carry
            if total != payable + left:
                yield Wrong(f"payable and carry of {payee} in {month}", total, payable + left)
            carry = left
            yield from _wrong_payout(script, month, payee, currency, row, payable)


def _wrong_payout(  # noqa: PLR0913, PLR0917 - the parts of a payout
    script: Script,
    month: str,
    payee: str,
    currency: str,
    row: Mapping[str, Any],
    payable: Decimal,
) -> Iterator[Wrong]:
    history = script.history
    plan = history.plans[row["plan"]]
    day = last_day_of_month(month)
    rate = rate_on(history.rates, plan["fx"]["payout"]["table"], plan["currency"], currency, day)
    expected = as_decimal(rounded(Fraction(payable) * rate, plan["rounding"]["mode"]))
    got = Decimal(row["payout_amount"] or 0)
    if expected != got:
        yield Wrong(f"payout of {payee} in {month}", expected, got)
