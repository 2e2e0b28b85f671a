from __future__ import annotations

from decimal import Decimal

import pytest

from services.commissions.domain.closes import Correction, Settled, corrections, settle
from services.commissions.domain.periods import PeriodKind, following, parse_period
from shared.errors import InvalidValue

D = Decimal
JANUARY = parse_period("2025-01")


def test_corrections_are_lines_that_differ_that_are_gone_and_that_are_new() -> None:
    fixed = {"a": D(1), "changed": D(2), "gone": D(3), "nothing": D(0)}
    recomputed = {"a": D("1.00"), "changed": D(5), "new": D(7), "nought": D(0)}
    found = corrections(JANUARY, fixed, recomputed)
    assert found == (
        Correction("2025-01", "changed", D(2), D(5)),
        Correction("2025-01", "gone", D(3), D(0)),
        Correction("2025-01", "new", D(0), D(7)),
    )
    assert [c.amount for c in found] == [D(3), D(-3), D(7)]


@pytest.mark.parametrize(
    ("own", "difference", "carry_in", "limit", "settled"),
    [
        ("100", "0", "0", "1", ("100", "0", "0")),
        ("100", "5", "0", "1", ("105", "0", "0")),
        ("100", "-30", "-20", "1", ("50", "0", "50")),
        ("100", "-300", "0", "1", ("0", "-200", "100")),
        ("100", "-300", "0", "0.5", ("50", "-250", "50")),
        ("0.01", "-300", "0", "0.5", ("0", "-299.99", "0.01")),
        ("0.5", "-300", "0", "1", ("0", "-299.5", "0.5")),
        ("0", "-10", "0", "1", ("0", "-10", "0")),
        ("-5", "-10", "0", "1", ("0", "-15", "0")),
        ("-5", "10", "0", "1", ("5", "0", "0")),
        ("100", "0.5", "0", "1", ("100.5", "0", "0")),
    ],
)
def test_settling(
    own: str, difference: str, carry_in: str, limit: str, settled: tuple[str, str, str]
) -> None:
    found = settle(D(own), D(difference), D(carry_in), D(limit), "USD")
    assert found == Settled(*map(D, settled))
    assert D(own) + D(difference) + D(carry_in) == found.payable + found.carry_out


def test_the_limit_is_rounded_in_the_plans_currency_and_never_above_own_pay() -> None:
    assert settle(D(333), D(-500), D(0), D("0.5"), "JPY").taken == D(167)
    assert settle(D("0.333"), D(-500), D(0), D("0.5"), "KWD").taken == D("0.167")
    assert settle(D("0.4"), D(-500), D(0), D(1), "JPY").taken == D(0)
    assert settle(D("0.6"), D(-500), D(0), D(1), "JPY").taken == D("0.6")


def test_what_is_no_period_is_refused_in_words() -> None:
    with pytest.raises(InvalidValue) as refused:
        parse_period("2025-Q5")
    message = "this is no period: write 2026-01, 2026-Q1, 2026-H1 or 2026"
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("label", "month", "start", "end"),
    [
        ("2025", 1, "2025-01-01", "2026-01-01"),
        ("2025", 4, "2024-04-01", "2025-04-01"),
        ("2025-Q1", 4, "2024-04-01", "2024-07-01"),
        ("2025-Q4", 1, "2025-10-01", "2026-01-01"),
        ("2025-H2", 4, "2024-10-01", "2025-04-01"),
        ("2025-02", 4, "2025-02-01", "2025-03-01"),
    ],
)
def test_periods_of_a_fiscal_year(label: str, month: int, start: str, end: str) -> None:
    found = parse_period(label, month)
    assert (found.start.isoformat(), found.end.isoformat()) == (start, end)
    assert found.label == label
    assert following(found, month).start == found.end


def test_the_calendar_year_is_meant_without_a_month() -> None:
    assert following(parse_period("2025")) == parse_period("2026")
    assert parse_period("2025-Q1").kind is PeriodKind.QUARTER
