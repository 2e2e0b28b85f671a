from __future__ import annotations

from decimal import Decimal

import pytest

from services.commissions.domain.curve import Curve
from services.commissions.domain.rates import Base, Pricing, Slice
from services.commissions.domain.terms import (
    CurvePoint,
    Method,
    Over,
    RateTable,
    Threshold,
    ThresholdPays,
    Tier,
)

D = Decimal
TIERS = (Tier(D(0), D("0.04")), Tier(D("0.5"), D("0.08")), Tier(D(1), D("0.12")))
AT_60 = Threshold(D("0.6"), ThresholdPays.EXCESS_ONLY)
FROM_60 = Threshold(D("0.6"), ThresholdPays.FIRST_DOLLAR)


def pricing(
    method: Method = Method.MARGINAL,
    over: Over = Over.ATTAINMENT,
    threshold: Threshold | None = None,
    base: Base | None = None,
) -> Pricing:
    """Three tiers; over a quota of 100 unless over an amount or count, where they begin at 0."""
    table = RateTable(method, over, TIERS)
    return Pricing(table, D(100), threshold, base)


@pytest.mark.parametrize(
    ("credited", "marginal", "retroactive"),
    [("-10", "-0.4", "-0.4"), ("0", "0", "0"), ("50", "2", "4"), ("49.99", "1.9996", "1.9996"),
     ("100", "6", "12"), ("150", "12", "18")],
)  # fmt: skip
def test_earned(credited: str, marginal: str, retroactive: str) -> None:
    assert pricing().earned(D(credited)) == D(marginal)
    assert pricing(Method.RETROACTIVE).earned(D(credited)) == D(retroactive)


@pytest.mark.parametrize(
    ("credited", "slices"),
    [
        ("-10", [Slice(0, D(-10), D("0.04"))]),
        ("0", []),
        ("50", [Slice(0, D(50), D("0.04"))]),
        ("70", [Slice(0, D(50), D("0.04")), Slice(1, D(20), D("0.08"))]),
        (
            "120",
            [
                Slice(0, D(50), D("0.04")),
                Slice(1, D(50), D("0.08")),
                Slice(2, D(20), D("0.12")),
            ],
        ),
    ],
)
def test_slices_make_up_what_is_earned(credited: str, slices: list[Slice]) -> None:
    found = pricing().slices(D(credited))
    assert found == slices
    assert sum(s.amount * s.rate for s in found) == pricing().earned(D(credited))


@pytest.mark.parametrize(
    ("threshold", "method", "credited", "earned", "slices"),
    [
        (FROM_60, Method.MARGINAL, "59.99", "0", []),
        (FROM_60, Method.MARGINAL, "60", "2.8",
         [Slice(0, D(50), D("0.04")), Slice(1, D(10), D("0.08"))]),
        (AT_60, Method.MARGINAL, "59.99", "0", []),
        (AT_60, Method.MARGINAL, "60", "0", []),
        (AT_60, Method.MARGINAL, "110", "4.4",
         [Slice(1, D(40), D("0.08")), Slice(2, D(10), D("0.12"))]),
        (FROM_60, Method.RETROACTIVE, "110", "13.2", [Slice(2, D(110), D("0.12"))]),
        (AT_60, Method.RETROACTIVE, "110", "6", [Slice(2, D(50), D("0.12"))]),
    ],
)  # fmt: skip
def test_thresholds(
    threshold: Threshold, method: Method, credited: str, earned: str, slices: list[Slice]
) -> None:
    priced = pricing(method, threshold=threshold)
    assert priced.earned(D(credited)) == D(earned)
    assert priced.slices(D(credited)) == slices


def test_a_threshold_needs_a_quota_to_be_a_share_of() -> None:
    table = RateTable(Method.MARGINAL, Over.AMOUNT, (Tier(D(0), D("0.1")),))
    assert Pricing(table, None, FROM_60).earned(D(1)) == D("0.1")


def test_multiples_are_of_target_pay_over_quota_and_divided_once() -> None:
    thirds = pricing(base=Base(D(1), D(3)))
    assert thirds.earned(D(100)) == D(2)
    assert thirds.earned(D(10)) == D("0.1333333333")
    assert pricing().earned(D(10)) == D("0.4")


def counting(method: Method) -> Pricing:
    """10 % for the first two deals, 5 % from the third."""
    return Pricing(
        RateTable(method, Over.COUNT, (Tier(D(0), D("0.1")), Tier(D(2), D("0.05")))), None
    )


def test_over_count_marginally_each_line_has_the_rate_of_its_place() -> None:
    priced = counting(Method.MARGINAL)
    assert priced.counts_each
    assert priced.line(D(0), D(100), D(0), 0) == (D(10), D(0))
    assert priced.line(D(100), D(300), D(0), 1) == (D(20), D(0))
    assert priced.line(D(300), D(400), D(0), 2) == (D(5), D(0))


def test_over_count_retroactively_the_number_reached_rates_everything() -> None:
    priced = counting(Method.RETROACTIVE)
    assert not priced.counts_each
    assert priced.earned(D(100), 1) == D(10)
    assert priced.line(D(0), D(100), D(0), 0) == (D(10), D(10))
    assert priced.line(D(100), D(300), D(10), 1) == (D(5), D(15))
    assert priced.slices(D(300), 2) == [Slice(1, D(300), D("0.05"))]
    # Without a number nothing has been counted yet.
    assert priced.earned(D(100)) == D(10)
    assert priced.slices(D(100)) == [Slice(0, D(100), D("0.1"))]


def test_one_deal_is_not_yet_the_second() -> None:
    table = RateTable(Method.RETROACTIVE, Over.COUNT, (Tier(D(0), D("0.1")), Tier(D(1), D("0.05"))))
    priced = Pricing(table, None)
    assert priced.earned(D(100)) == D(10)
    assert priced.slices(D(100)) == [Slice(0, D(100), D("0.1"))]


def test_a_line_earns_what_all_earn_with_it_less_what_they_earned_before() -> None:
    assert pricing().line(D(40), D(60), D("1.6"), 1) == (D("1.2"), D("2.8"))


def test_a_curve_is_linear_between_its_points_and_flat_behind_them() -> None:
    points = (CurvePoint(D("0.5"), D("0.25")), CurvePoint(D(1), D(1)))
    curve = Curve(RateTable(Method.CURVE, Over.ATTAINMENT, points=points), D(100), D(1200))
    assert curve.over is Over.ATTAINMENT
    assert [curve.earned(D(c)) for c in ("49.99", "50", "75", "100", "200")] == [
        D(0), D(300), D(750), D(1200), D(1200)]  # fmt: skip
    assert curve.line(D(50), D(75), D(300), 1) == (D(450), D(750))
    assert [curve.tier_at(D(m)) for m in (0, 50, 99, 100)] == [0, 0, 0, 1]
