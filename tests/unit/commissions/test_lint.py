from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from services.commissions.domain.lint import LintContext, Severity, lint
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.plan import PlanVersion

QUOTA = {"measure": "new", "period": "quarter"}
TIERS = [{"from": "0%", "rate": "4%"}, {"from": "100%", "rate": "8%"}]
NOTHING = LintContext()
OF_QUOTA = LintContext(quotas={"new": Decimal(200_000)}, target_pay=Decimal(10_000))


def version(rates: dict[str, Any], **changes: Any) -> PlanVersion:  # noqa: ANN401 - as in a document
    part = {"id": "c", "credit": {"on": "deal.won"}, "rates": rates}
    part |= {k: changes.pop(k) for k in ("quota", "threshold", "cap", "gate") if k in changes}
    document = {
        "id": "p",
        "currency": "USD",
        "time_zone": "UTC",
        "effective": {"from": "2025-01-01"},
        "period": "month",
        "components": [part],
    }
    return parse_plan(document | changes)


def attainment(method: str, *tiers: tuple[str, str], **changes: Any) -> PlanVersion:  # noqa: ANN401 - as in a document
    table = [{"from": lower, "rate": rate} for lower, rate in tiers]
    return version({"method": method, "over": "attainment", "tiers": table}, quota=QUOTA, **changes)


def found(of: PlanVersion, context: LintContext = NOTHING) -> dict[str, Decimal]:
    return {finding.code: finding.figure for finding in lint(of, context)}


def test_a_flat_plan_is_clean() -> None:
    assert found(version({"method": "flat", "rate": "6%"})) == {}


def test_a_cliff_and_its_size() -> None:
    of = attainment("retroactive", ("0%", "12%"), ("125%", "15%"))
    assert found(of, OF_QUOTA)["cliff"] == 7500
    assert found(of)["cliff"] == Decimal("0.0375")


def test_a_threshold_from_the_first_dollar_is_a_cliff() -> None:
    threshold = {"attainment": "60%", "pays": "first_dollar"}
    of = attainment("marginal", ("0%", "4%"), ("50%", "8%"), threshold=threshold)
    assert found(of, OF_QUOTA)["cliff"] == 5600
    excess = attainment("marginal", ("0%", "4%"), threshold=threshold | {"pays": "excess_only"})
    assert "cliff" not in found(excess, OF_QUOTA)


def test_a_curve_that_begins_high_is_a_cliff() -> None:
    points = [{"at": "50%", "pays": "25%"}, {"at": "100%", "pays": "100%"}]
    of = version({"method": "curve", "over": "attainment", "points": points}, quota=QUOTA)
    assert found(of, OF_QUOTA)["cliff"] == 2500
    assert "negative_rate" not in found(of, OF_QUOTA)


def test_where_more_sales_pay_less() -> None:
    fewer = attainment("retroactive", ("0%", "10%"), ("100%", "8%"))
    assert found(fewer, OF_QUOTA)["negative_rate"] == 4000
    points = [
        {"at": "0%", "pays": "0%"},
        {"at": "100%", "pays": "100%"},
        {"at": "150%", "pays": "50%"},
    ]
    curve = version({"method": "curve", "over": "attainment", "points": points}, quota=QUOTA)
    assert found(curve)["negative_rate"] == 2
    count = {"method": "marginal", "over": "count"}
    of = version(count | {"tiers": [{"from": 0, "rate": "10%"}, {"from": 1, "rate": "5%"}]})
    assert found(of)["negative_rate"] == Decimal("0.05")
    assert found(version({"method": "flat", "rate": "-1%"}))["negative_rate"] == Decimal("0.01")


def test_a_rate_that_falls_is_told_also_where_nobody_loses() -> None:
    codes = found(attainment("marginal", ("0%", "10%"), ("100%", "8%")))
    assert codes["falling_rate"] == Decimal("0.02")
    assert "negative_rate" not in codes


def test_a_version_with_lower_rates_than_the_one_before() -> None:
    before = attainment("marginal", ("0%", "4%"), ("100%", "12%"))
    after = attainment("marginal", ("0%", "5%"), ("120%", "13%"))
    assert found(after, LintContext(previous=before))["falling_border"] == Decimal("0.07")
    assert "falling_border" not in found(before, LintContext(previous=before))


def test_a_border_inside_closed_periods_and_what_it_changes() -> None:
    of = version({"method": "flat", "rate": "6%"})
    closed = LintContext(closed_before=date(2025, 2, 1))
    assert found(of, closed)["closed_border"] == 31
    moved = replace(closed, border_difference=Decimal("-120.50"))
    assert found(of, moved)["closed_border"] == Decimal("-120.50")
    assert found(of, LintContext(closed_before=date(2025, 1, 1))) == {}


def test_paid_without_a_goal_and_the_reverse() -> None:
    gate = {"kpi": "csat", "at_least": 4, "otherwise": "hold"}
    of = version({"method": "flat", "rate": "6%"}, gate=gate, quota=QUOTA)
    codes = [f.code for f in lint(of, LintContext(goals=frozenset({"new", "calls"})))]
    assert sorted(codes) == ["goal_without_pay", "paid_without_goal"]


def test_moving_deals_over_a_period_border() -> None:
    of = attainment("marginal", ("0%", "4%"), ("100%", "12%"))
    assert found(of)["period_border"] == Decimal("0.08")
    capped = version({"method": "flat", "rate": "6%"}, cap={"amount": 5, "per": "statement"})
    assert found(capped)["period_border"] == Decimal("0.06")
    carried = {"amount": 5, "per": "statement", "excess": "carry"}
    assert found(version({"method": "flat", "rate": "6%"}, cap=carried)) == {}


def test_a_cap_that_last_year_would_have_hit() -> None:
    of = version({"method": "flat", "rate": "6%"}, cap={"amount": 100, "per": "deal"})
    last_year = {"c": [Decimal(90), Decimal(130), Decimal(170)]}
    assert found(of, LintContext(last_year=last_year))["cap_reached"] == 100
    whole = version({"method": "flat", "rate": "6%"}, cap={"amount": 100, "per": "deal"})
    assert "cap_reached" not in found(whole, LintContext(last_year={"": [Decimal(900)]}))


@pytest.mark.parametrize(
    ("context", "pointer"),
    [
        (LintContext(measures=frozenset({"other"})), "/components/0/quota/measure"),
        (LintContext(kpis=frozenset()), "/components/0/gate/kpi"),
        (LintContext(currencies=frozenset({"EUR", "USD"})), "/fx/credit/table"),
        (LintContext(payout_currencies=frozenset({"GBP"})), "/fx"),
    ],
)
def test_what_only_the_surroundings_show_is_refused(context: LintContext, pointer: str) -> None:
    gate = {"kpi": "csat", "at_least": 4, "otherwise": "hold"}
    fx = {"credit": {"table": "plan"}}
    of = version({"method": "flat", "rate": "6%"}, gate=gate, quota=QUOTA, fx=fx)
    known = replace(context, rate_pairs=frozenset({("plan", "GBP", "USD")}))
    refused = [f for f in lint(of, known) if f.severity is Severity.REFUSED]
    assert [f.pointer for f in refused] == [pointer]
