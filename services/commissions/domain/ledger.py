"""Double entry: what a statement's postings must come to, and the difference to what is posted.

Postings are only ever added. Each transaction sums to zero in each currency; undoing is the
mirrored transaction; recalculating posts the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from services.commissions.domain.rates import ZERO
from services.commissions.domain.statement import Statement
from shared.errors import MoneyDisagrees
from shared.ids import derived_id
from shared.money import EXACT, to_text


class Account(StrEnum):
    """Whose side an amount stands on. `company` is the counterpart of everything earned."""

    EARNED = "earned"
    HELD = "held"
    PAYABLE = "payable"
    PAID = "paid"
    CARRY = "carry"
    DRAW = "draw"
    COMPANY = "company"


class Place(NamedTuple):
    """Where an amount is posted: an account, and the line of a payee's statement it is for."""

    account: Account
    payee: str
    plan_id: str
    period: str
    key: str
    currency: str


@dataclass(frozen=True, slots=True)
class Posting:
    """An amount added to a place; below 0 it is taken."""

    place: Place
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a transaction is made: the events read, the plan version, and who or what acted."""

    event_ids: tuple[str, ...]
    plan_hash: str
    actor: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """Postings that belong together and sum to zero in each currency."""

    id: str
    cause: Cause
    postings: tuple[Posting, ...]
    reverses: str | None = None


def transaction(
    cause: Cause, postings: Iterable[Posting], reverses: str | None = None
) -> Transaction:
    """A transaction over `postings`, its id derived from its cause and content.

    Raises MoneyDisagrees when they do not sum to zero in some currency.
    """
    kept = tuple(sorted(postings, key=lambda posting: posting.place))
    sums: dict[str, Decimal] = {}
    for posting in kept:
        currency = posting.place.currency
        sums[currency] = EXACT.add(sums.get(currency, ZERO), posting.amount)
    open_sums = {currency: total for currency, total in sums.items() if total}
    if open_sums:
        said = ", ".join(f"{to_text(total)} {currency}" for currency, total in open_sums.items())
        msg = f"postings must sum to zero and leave {said}"
        raise MoneyDisagrees(msg)
    content = [f"{'|'.join(posting.place)}={to_text(posting.amount)}" for posting in kept]
    identity = derived_id(
        "transaction", *cause.event_ids, cause.plan_hash, cause.actor, reverses or "", *content
    )
    return Transaction(identity, cause, kept, reverses)


def reversal(original: Transaction, cause: Cause) -> Transaction:
    """The mirrored transaction: together with `original` every place nets to zero."""
    mirrored = [Posting(posting.place, -posting.amount) for posting in original.postings]
    return transaction(cause, mirrored, reverses=original.id)


def difference(
    posted: Mapping[Place, Decimal], wanted: Mapping[Place, Decimal]
) -> tuple[Posting, ...]:
    """What has to be posted so that every place holds what is wanted; nothing where it does."""
    found = []
    for place in sorted({*posted, *wanted}):
        amount = EXACT.subtract(wanted.get(place, ZERO), posted.get(place, ZERO))
        if amount:
            found.append(Posting(place, amount))
    return tuple(found)


def wanted_balances(statement: Statement) -> dict[Place, Decimal]:
    """What an open statement's places must hold.

    Each line moves from the company to earned, or to held as long as it waits; so does the carried
    difference; the whole then moves on to payable, what is still to be recovered to carry, and an
    advance comes out of the draw. Raises MoneyDisagrees when the statement's own totals do not
    come out even.
    """
    balances: dict[Place, Decimal] = {}

    def put(account: Account, key: str, amount: Decimal) -> None:
        if amount:
            place = Place(
                account,
                statement.payee,
                statement.plan_id,
                statement.period.label,
                key,
                statement.currency,
            )
            balances[place] = EXACT.add(balances.get(place, ZERO), amount)

    for line in statement.lines:
        put(Account.EARNED, line.key, line.amount)
        held = line.basis.to_held if line.basis is not None else ZERO
        put(Account.HELD, line.key, held)
        put(Account.COMPANY, line.key, -EXACT.add(line.amount, held))
    put(Account.EARNED, "difference", statement.difference)
    put(Account.COMPANY, "difference", -statement.difference)
    carried = EXACT.subtract(statement.carry_out, statement.carry_in)
    put(Account.EARNED, "settlement", -EXACT.add(statement.own, statement.difference))
    put(Account.PAYABLE, "settlement", statement.payable)
    put(Account.CARRY, "settlement", carried)
    advanced = ZERO
    if statement.draw is not None:
        advanced = EXACT.subtract(statement.draw.balance_out, statement.draw.balance_in)
    put(Account.DRAW, "settlement", -advanced)
    even = EXACT.subtract(EXACT.add(statement.payable, carried), advanced)
    if even != EXACT.add(statement.own, statement.difference):
        msg = f"statement {statement.payee} {statement.period.label} does not come out even"
        raise MoneyDisagrees(msg)
    return balances
