from __future__ import annotations

from decimal import Decimal

import pytest

from services.commissions.domain.ledger import (
    Account,
    Cause,
    Place,
    Posting,
    Transaction,
    difference,
    reversal,
    transaction,
)
from shared.errors import MoneyDisagrees

CAUSE = Cause(("e1", "e2"), "hash", "engine")


def place(account: Account, key: str = "A", currency: str = "USD") -> Place:
    return Place(account, "ana", "p", "2025-01", key, currency)


def pair(amount: str, key: str = "A", currency: str = "USD") -> list[Posting]:
    return [
        Posting(place(Account.EARNED, key, currency), Decimal(amount)),
        Posting(place(Account.COMPANY, key, currency), -Decimal(amount)),
    ]


def test_a_transaction_says_what_caused_it() -> None:
    made = transaction(CAUSE, pair("10"))
    assert made.cause is CAUSE
    assert made.reverses is None
    assert [p.amount for p in made.postings] == [Decimal(-10), Decimal(10)]


def test_postings_that_leave_something_open_are_refused_with_what_they_leave() -> None:
    postings = [*pair("10"), Posting(place(Account.EARNED, "B"), Decimal("2.50")),
                Posting(place(Account.EARNED, "C", "EUR"), Decimal(-1))]  # fmt: skip
    with pytest.raises(
        MoneyDisagrees, match=r"^postings must sum to zero and leave 2\.5 USD, -1 EUR$"
    ):
        transaction(CAUSE, postings)


def test_each_currency_comes_to_zero_by_itself() -> None:
    across = [Posting(place(Account.EARNED), Decimal(1)),
              Posting(place(Account.COMPANY, currency="EUR"), Decimal(-1))]  # fmt: skip
    with pytest.raises(MoneyDisagrees):
        transaction(CAUSE, across)


def test_the_id_follows_from_cause_and_content_and_from_nothing_else() -> None:
    made = transaction(CAUSE, pair("10"))
    assert transaction(CAUSE, reversed(pair("10"))).id == made.id
    others = [
        transaction(Cause(("e1",), "hash", "engine"), pair("10")),
        transaction(Cause(("e1", "e2"), "other", "engine"), pair("10")),
        transaction(Cause(("e1", "e2"), "hash", "ana"), pair("10")),
        transaction(CAUSE, pair("11")),
        transaction(CAUSE, pair("10", "B")),
        transaction(CAUSE, pair("10"), reverses="other"),
    ]
    assert len({made.id, *(other.id for other in others)}) == 1 + len(others)
    # It is stored: another way of deriving it would post the past again.
    assert made.id == "7a0aed85-67a5-5d19-9079-aae7e415831f"


def test_a_reversal_mirrors_each_posting_and_names_what_it_undoes() -> None:
    made = transaction(CAUSE, [*pair("10"), *pair("-3", "B")])
    why = Cause(("e3",), "hash", "finance")
    undone = reversal(made, why)
    assert undone == Transaction(
        undone.id, why, tuple(Posting(p.place, -p.amount) for p in made.postings), made.id
    )


def test_the_difference_is_what_is_missing_and_what_is_too_much() -> None:
    posted = {place(Account.EARNED, "A"): Decimal(10), place(Account.EARNED, "gone"): Decimal(4),
              place(Account.EARNED, "same"): Decimal(1)}  # fmt: skip
    wanted = {place(Account.EARNED, "A"): Decimal(7), place(Account.EARNED, "new"): Decimal(5),
              place(Account.EARNED, "same"): Decimal("1.00")}  # fmt: skip
    assert difference(posted, wanted) == (
        Posting(place(Account.EARNED, "A"), Decimal(-3)),
        Posting(place(Account.EARNED, "gone"), Decimal(-4)),
        Posting(place(Account.EARNED, "new"), Decimal(5)),
    )
