from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest

from services.commissions.domain.credit import CreditEvent, ExceptionKind, Waits
from services.commissions.domain.shares import credited_members, division
from services.commissions.domain.terms import CreditOn, CreditTo

D = Decimal


def event(  # noqa: PLR0913 - who has a part in it
    *,
    owner: str | None = "ana",
    splits: dict[str, str] | None = None,
    overlays: dict[str, str] | None = None,
    managers: dict[str, str] | None = None,
    amount: str = "1000",
    currency: str = "USD",
) -> CreditEvent:
    return CreditEvent(
        key="k",
        on=CreditOn.DEAL_WON,
        deal_id="d",
        instant=datetime(2025, 1, 1, tzinfo=UTC),
        amount=D(amount),
        currency=currency,
        owner=owner,
        splits=tuple((splits or {}).items()),
        overlays=tuple((overlays or {}).items()),
        managers=tuple((managers or {}).items()),
    )


def test_the_owner_alone_whatever_the_splits() -> None:
    split = event(splits={"ben": "100%"})
    assert credited_members(split, CreditTo.OWNER) == ["ana"]
    assert division(split, CreditTo.OWNER).amounts(D(5), "USD") == {"ana": D(5)}
    assert credited_members(event(owner=None), CreditTo.OWNER) == []


def test_weights_are_divided_by_their_sum() -> None:
    found = division(event(splits={"ana": "1", "ben": "2"}), CreditTo.SPLITS)
    assert found.shares == {"ana": Fraction(1, 3), "ben": Fraction(2, 3)}
    one = division(event(splits={"ana": "1"}), CreditTo.SPLITS)
    assert one.shares == {"ana": Fraction(1)}


@pytest.mark.parametrize(
    ("splits", "kind", "message"),
    [
        ({"a": "50%", "b": "49.5%"}, "splits",
         "the split shares sum to 99.5%, not 100%; correct them in the CRM (a third is 1/3)"),
        ({"a": "2/3", "b": "2/3"}, "splits",
         ("the split shares sum to 133.3333333333%, not 100%; "
          "correct them in the CRM (a third is 1/3)")),
        ({"a": "0"}, "splits",
         "the split shares sum to 0%, not 100%; correct them in the CRM (a third is 1/3)"),
        ({"a": "half"}, "splits",
         "this is no share: write a percentage (25%), a fraction (1/3) or a weight"),
    ],
)  # fmt: skip
def test_splits_that_are_no_whole_wait(splits: dict[str, str], kind: str, message: str) -> None:
    with pytest.raises(Waits) as waits:
        division(event(splits=splits), CreditTo.SPLITS)
    assert (waits.value.kind, waits.value.message) == (ExceptionKind(kind), message)


def test_a_deal_of_nobody_waits() -> None:
    with pytest.raises(Waits) as waits:
        division(event(owner=None), CreditTo.SPLITS)
    assert waits.value.kind is ExceptionKind.OWNER
    assert waits.value.message == (
        "the deal has no known owner; the credit waits until the source states one"
    )


def test_overlays_are_beside_the_whole_and_at_most_all_of_it() -> None:
    found = division(event(overlays={"sam": "100%", "pat": "1/3"}), CreditTo.OVERLAYS)
    assert found.shares == {}
    assert found.amounts(D(1000), "JPY") == {"pat": D(333), "sam": D(1000)}
    assert found.share_of("pat") == Fraction(1, 3)
    with pytest.raises(Waits) as waits:
        division(event(overlays={"sam": "101%"}), CreditTo.OVERLAYS)
    assert waits.value.kind is ExceptionKind.SPLITS
    assert waits.value.message == ("the overlay share of sam is above 100%; correct it in the CRM")


def test_a_manager_has_the_sum_of_the_reports_and_never_more_than_the_deal() -> None:
    shared = event(
        splits={"ana": "1/3", "ben": "2/3"},
        overlays={"sam": "1/4"},
        managers={"ana": "max", "sam": "max", "ben": "mia"},
    )
    assert credited_members(shared, CreditTo.MANAGER) == ["max", "mia"]
    found = division(shared, CreditTo.MANAGER)
    assert found.share_of("max") == Fraction(1, 3) + Fraction(1, 4)
    assert found.share_of("mia") == Fraction(2, 3)
    assert found.amounts(D(1000), "JPY") == {"max": D(583), "mia": D(667)}
    assert found.amounts(D("1.001"), "KWD") == {"max": D("0.584"), "mia": D("0.667")}
    third = event(overlays={"sam": "1/3"}, managers={"sam": "max"})
    assert division(third, CreditTo.MANAGER).amounts(D(1000), "JPY") == {"max": D(333)}
    all_of_it = event(overlays={"sam": "100%"}, managers={"ana": "max", "sam": "max"})
    whole = division(all_of_it, CreditTo.MANAGER)
    assert whole.share_of("max") == 1
    assert whole.amounts(D(1000), "USD") == {"max": D(1000)}
    assert whole.amounts(D(-1000), "USD") == {"max": D(-1000)}
    assert whole.amounts(D("0.5"), "USD") == {"max": D("0.5")}
    assert whole.amounts(D(0), "USD") == {"max": D(0)}
    # Of splits the manager has what the reports among them have, not the owner's.
    apart = event(splits={"ben": "100%"}, managers={"ana": "max", "ben": "mia"})
    assert credited_members(apart, CreditTo.MANAGER) == ["mia"]
