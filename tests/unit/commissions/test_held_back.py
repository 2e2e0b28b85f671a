"""What a merged deal keeps from its survivor, and when a change moves too much."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from services.commissions.domain.families import (
    Days,
    Families,
    KeptElsewhere,
    credited_elsewhere,
)
from services.commissions.held.judge import PeriodMoved, moved_of, share_of
from services.commissions.store import AccountKey
from services.commissions.whatif.compare import (
    AccountDifference,
    LineDifference,
    StatementDifference,
)

JANUARY: Days = (("p", date(2025, 1, 1), date(2025, 2, 1)),)
MIDDLE, LATER = date(2025, 1, 15), date(2025, 2, 1)


def test_a_family_is_everybody_who_redirects_to_a_deal() -> None:
    """Through others too; of a cycle the oldest redirect is cut."""
    families = Families({"a": ("b", "1"), "b": ("c", "2"), "x": ("c", "3")})
    assert families.upstream("c") == ["a", "b", "x"]
    assert families.upstream("b") == ["a"]
    assert families.upstream("a") == []
    cycle = Families({"a": ("b", "1"), "b": ("a", "2")})
    assert (cycle.upstream("a"), cycle.upstream("b")) == (["b"], [])


@pytest.mark.parametrize(
    ("event", "plan", "day", "own", "elsewhere"),
    [
        ("invoice:i", "p", MIDDLE, (), True),
        ("invoice:i", "other", MIDDLE, (), False),
        ("invoice:j", "p", MIDDLE, (), False),
        ("deal:s", "p", MIDDLE, (), True),
        ("deal:s~2", "p", MIDDLE, (), True),
        ("deal:s2", "p", MIDDLE, (), False),
        ("deal:s", "p", LATER, (), False),
        ("deal:s", "other", MIDDLE, (), False),
        ("deal:s", "p", MIDDLE, JANUARY, False),
    ],
)
def test_the_same_thing_is_credited_once(
    event: str, plan: str, day: date, own: Days, *, elsewhere: bool
) -> None:
    kept = KeptElsewhere("m", frozenset({("invoice:i", "p"), ("deal:m", "p")}), JANUARY)
    assert credited_elsewhere("s", event, plan, day, [kept], own) is elsewhere


def test_a_merged_deal_that_keeps_no_win_leaves_the_survivor_its_own() -> None:
    kept = KeptElsewhere("m", frozenset({("invoice:i", "p")}), JANUARY)
    assert not credited_elsewhere("s", "deal:s", "p", MIDDLE, [kept], ())


@pytest.mark.parametrize(
    ("before", "moved", "earlier", "exceeds"),
    [
        ("1000", "20", "0", False),
        ("1000", "20.01", "0", True),
        ("1000", "10", "10.01", True),
        ("1000", "0", "500", False),
        ("-1000", "20", "0", False),
        ("0", "0.01", "0", True),
        ("0", "0", "0", False),
    ],
)
def test_more_than_the_share_is_too_much(
    before: str, moved: str, earlier: str, *, exceeds: bool
) -> None:
    """2 % exactly is not more than 2 %; what moves nothing never exceeds."""
    share = share_of("0.02")
    assert share is not None
    amounts = (Decimal(before), Decimal(moved), Decimal(earlier))
    assert PeriodMoved("p", "2025-01", MIDDLE, "USD", *amounts).exceeds(share) is exceeds
    assert share_of("off") is None


def difference(payee: str, before: str, after: str, *lines: str, waited: bool) -> AccountDifference:
    """One statement; lines: `before>after`, where a line that was not there begins with `>`."""
    statement = StatementDifference(
        period="2025-01",
        start=date(2025, 1, 1),
        end=date(2025, 2, 1),
        closed=False,
        waited=waited,
        before=Decimal(before),
        after=Decimal(after),
        payable_before=Decimal(before),
        payable_after=Decimal(after),
    )
    found = tuple(
        LineDifference(
            "2025-01", text, "credit", "c", None,
            *(Decimal(side) if side else None for side in text.split(">")),
        )
        for text in lines
    )  # fmt: skip
    return AccountDifference(AccountKey(payee, "p"), "USD", (statement,), found)


def test_what_waited_was_nobodys_pay() -> None:
    """Of a statement on which something waited only the lines count that were there."""
    moved = moved_of(
        [
            difference("ana", "100", "90", waited=False),
            difference("ben", "100", "300", ">195", "100>105", waited=True),
            difference("cem", "50", "50", waited=False),
        ],
        {("p", "2025-01"): Decimal(250)},
    )
    (period,) = moved.periods
    assert (period.before, period.moved) == (Decimal(250), Decimal(15))
    assert moved.payees == {"ana", "ben"}
    assert moved.first_day == date(2025, 1, 1)
