from __future__ import annotations

from datetime import date, time
from decimal import Decimal
from fractions import Fraction

import pytest

from deploy.demo.figures import (
    Difference,
    Name,
    Value,
    What,
    decimal,
    differences,
    expected,
    optional,
)
from deploy.demo.story import next_tick_ms
from tests.oracle import recompute
from tests.simulator import Company
from tests.simulator.worktime import local_ms

PAID = Name(What.PAYABLE, "acme-ana", "2025-03")
RATE = Name(What.WIN_RATE, "acme-ana", "2025-Q1")
STALLED = Name(What.STALLED, "hubspot:4821:7", "")


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        (PAID, Decimal("100.00"), Decimal("100.01"), False),
        (PAID, Decimal("100.00"), Decimal("100.0049"), True),
        (PAID, Decimal("100.00"), Decimal("99.995"), False),
        (PAID, Decimal(0), None, False),
        (RATE, Decimal("0.3333333333"), Decimal("0.33333333333"), True),
        (RATE, Decimal("0.333"), Decimal("0.334"), False),
        (RATE, None, None, True),
        (STALLED, "pushed", "pushed", True),
        (STALLED, "pushed", None, False),
    ],
)
def test_money_agrees_to_the_cent_and_the_rest_exactly(
    name: Name, one: Value, other: Value, *, same: bool
) -> None:
    found = differences({name: one}, {name: other})
    assert found == ([] if same else [Difference(name, one, other)])


def test_a_figure_that_only_one_side_has_differs() -> None:
    assert differences({PAID: Decimal(1)}, {}) == [Difference(PAID, Decimal(1), None)]
    assert differences({}, {STALLED: "pushed"}) == [Difference(STALLED, None, "pushed")]


def test_everybody_has_every_figure() -> None:
    history = Company.generate(1, 0.02).history
    figures = expected(recompute(history), history)
    by_what = {what: [name for name in figures if name.what is what] for what in What}
    reps, scopes = 24, 24 + 3 + 1
    assert len(by_what[What.BOOKINGS]) == len(by_what[What.WIN_RATE]) == scopes * 4
    assert len(by_what[What.PIPELINE]) == scopes
    assert len(by_what[What.EARNED]) == reps * 12
    assert all(by_what[what] for what in What if what is not What.STALLED)


def test_fractions_become_decimals_at_ten_places() -> None:
    assert decimal(Fraction(1, 3)) == Decimal("0.3333333333")
    assert decimal(Fraction(-5, 2)) == Decimal("-2.5")
    assert optional(None) is None


@pytest.mark.parametrize(
    ("at", "tick"),
    [
        ((date(2025, 1, 1), time(0)), date(2025, 1, 16)),
        ((date(2025, 1, 15), time(23, 59)), date(2025, 1, 16)),
        ((date(2025, 1, 16), time(9)), date(2025, 2, 1)),
        ((date(2025, 12, 31), time(22)), date(2026, 1, 1)),
    ],
)
def test_the_clock_moves_at_midnight_of_the_first_and_the_sixteenth(
    at: tuple[date, time], tick: date
) -> None:
    assert next_tick_ms(local_ms(*at)) == local_ms(tick, time(0))
