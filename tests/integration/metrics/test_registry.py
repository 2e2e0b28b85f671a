"""Versions of definitions, filters, series by month and labels, through the running service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import Decimal

import pytest
import pytest_asyncio

from services.metrics.answers import BOOK, Book, Question
from services.metrics.domain.catalogue import BUILT_IN, KPIS, Kind, Kpi, Registry, Unit
from services.metrics.domain.kpis import KpiValue
from shared.clock import to_text
from shared.http.auth import Role
from tests.integration.metrics.company import at, company, deal, won
from tests.integration.metrics.harness import Metrics, fact

SECOND_FROM = date(2026, 2, 1)


def _won(version: int, since: date, formula: str, minimum_sample: int = 1) -> Kpi:
    return Kpi(
        "T1",
        "Deals won",
        Unit.COUNT,
        Kind.LAGGING,
        formula,
        "too few",
        "deal rows",
        version=version,
        effective_from=since,
        minimum_sample=minimum_sample,
    )


FIRST = _won(1, date(2025, 1, 1), "won deals")
SECOND = _won(2, SECOND_FROM, "won deals above 100", minimum_sample=2)


async def _all_won(asked: Question) -> KpiValue:
    deals = await asked.won_deals()
    return KpiValue(Decimal(len(deals)), sample=len(deals))


async def _large_won(asked: Question) -> KpiValue:
    deals = [d for d in await asked.won_deals() if d.amount is not None and d.amount > 100]
    return KpiValue(Decimal(len(deals)), sample=len(deals))


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def told(metrics: Metrics) -> AsyncIterator[None]:
    """Wins of two months, open deals of two types and segments; T1 is registered twice."""
    await metrics.send(company())
    await metrics.send(
        [
            *won(1, at(10), "ana", "1000", type="new", account="acme"),
            *won(2, at(11), "ana", "50", type="expansion"),
            *won(3, at(35), "ana", "1000", type="new"),
            *won(4, at(36), "ana", "50", type="new", account="acme"),
            *won(5, at(61), "ana", "2000", type="new", account="acme"),
            *won(6, at(62), "ana", "3000", type="new"),
            fact("account", "acme", at(1), name="Acme", segment="enterprise"),
            deal(7, at(3), stage="lead", owner="ana", amount="10", currency="USD", type="new"),
            deal(8, at(3), stage="lead", owner="ana", amount="20", currency="USD", account="acme"),
            deal(8, at(40), stage="proposal", amount="25"),
            deal(9, at(3), stage="proposal", owner="ben", currency="USD", close_date="2026-01-20"),
        ]
    )
    await metrics.drain()
    await metrics.at(at(90))
    state = metrics.api._transport.app.state  # type: ignore[attr-defined]
    registry = Registry([*(v for k in BUILT_IN.ids for v in BUILT_IN.versions(k)), FIRST, SECOND])
    formulas = {**BOOK.formulas, ("T1", 1): _all_won, ("T1", 2): _large_won}
    state.book = Book(registry, formulas)
    yield
    state.book = BOOK


async def test_a_period_is_read_by_the_version_of_its_first_day(metrics: Metrics) -> None:
    for period, version, value in (
        ("2026-01", 1, "2"),
        ("2026-Q1", 1, "6"),
        ("2026-03", 2, "2"),
        ("2026-01-31..2026-04-01", 1, "4"),
    ):
        days = {"period": period}
        if ".." in period:
            days = dict(zip(("from", "to"), period.split(".."), strict=True))
        answer = await metrics.get("/v1/kpis/T1", rep="ana", **days)
        assert (answer["version"], answer["value"]) == (version, value), period


async def test_a_small_sample_has_no_value(metrics: Metrics) -> None:
    answer = await metrics.get("/v1/kpis/T1", rep="ana", period="2026-02")
    assert (answer["version"], answer["value"], answer["reason"]) == (2, None, "too_few")


async def test_the_catalogue_shows_every_version(metrics: Metrics) -> None:
    shown = {kpi["id"]: kpi for kpi in (await metrics.get("/v1/kpis"))["data"]}
    assert [v["version"] for v in shown["T1"]["versions"]] == [1, 2]
    assert shown["T1"]["formula"] == SECOND.formula
    assert shown["T1"]["versions"][1]["effective_from"] == "2026-02-01"
    assert {"owner", "measures", "minimum_sample", "unit", "kind"} <= shown["K22"].keys()
    assert set(KPIS) < set(shown)


async def test_a_filter_holds_for_all_four_inputs_of_velocity(metrics: Metrics) -> None:
    for which, won_size, open_deals in (
        ({"deal_type": "new"}, "1410", "1"),
        ({"segment": "enterprise"}, "1016.6666666667", "1"),
        ({"deal_type": "new", "segment": "enterprise"}, "1016.6666666667", "0"),
    ):
        answer = await metrics.get("/v1/kpis/K14", rep="ana", period="2026-Q1", **which)
        assert (answer["parts"]["size"], answer["parts"]["open_deals"]) == (won_size, open_deals)
        listed = await metrics.get("/v1/kpis/K12/records", rep="ana", period="2026-Q1", **which)
        size = await metrics.get("/v1/kpis/K12", rep="ana", period="2026-Q1", **which)
        assert len(listed["data"]) == int(size["parts"]["deals"])


async def test_what_is_no_sum_of_deal_rows_cannot_be_filtered(metrics: Metrics) -> None:
    headers = metrics.token(Role.ADMIN)
    asked = {"period": "2026-Q1", "segment": "enterprise"}
    refused = await metrics.api.get("/v1/kpis/K1", headers=headers, params=asked)
    assert refused.status_code == 422


async def test_a_series_by_month(metrics: Metrics) -> None:
    trend = await metrics.get("/v1/kpis/K12/trend", rep="ana", period="2026-Q1")
    assert [p["value"] for p in trend["data"]] == ["525", "525", "2500"]
    assert (trend["slope"], trend["level"], trend["flat"]) == ("987.5", "525", False)
    headers = metrics.token(Role.ADMIN)
    none = await metrics.api.get("/v1/kpis/K9/trend", headers=headers, params={"period": "2026"})
    assert none.status_code == 404


async def test_records_say_what_they_are_counted_as(metrics: Metrics) -> None:
    asked = {"since": to_text(at(5)), "as_of": to_text(at(50))}
    page = await metrics.get("/v1/kpis/K22/records", rep="ana", **asked)
    labels = {row["record"]: (row["labels"], row["counted"]) for row in page["data"]}
    assert labels["deal/crm:t:8"] == (["up"], "5")
    assert labels["deal/crm:t:7"] == (["unchanged"], "0")
    page = await metrics.get("/v1/kpis/K35/records", rep="ben")
    assert page["data"][0]["labels"] == ["close_date_past", "amount", "next_step", "fresh"]
    page = await metrics.get("/v1/kpis/K8/records", rep="ana", period="2026-02")
    entered = {row["record"]: row["labels"] for row in page["data"]}
    assert entered["deal/crm:t:8"] == ["proposal"]


async def test_a_rep_is_shown_a_deal_that_left_as_it_was_when_it_was_theirs(
    metrics: Metrics,
) -> None:
    await metrics.send([deal(7, at(70), owner="cem", amount="999")])
    await metrics.drain()
    headers = metrics.token(Role.REP, person="ana")
    asked = {"since": to_text(at(60))}
    flow = await metrics.get("/v1/kpis/K22", headers, **asked)
    assert (flow["parts"]["transferred"], flow["parts"]["transferred_deals"]) == ("-10", "1")
    page = await metrics.get("/v1/kpis/K22/records", headers, **asked)
    gone = next(row for row in page["data"] if row["record"] == "deal/crm:t:7")
    assert (gone["owner"], gone["amount"], gone["labels"]) == ("ana", "10", ["transferred"])


def test_versions_must_rise() -> None:
    with pytest.raises(ValueError, match="must begin after"):
        Registry([FIRST, _won(2, FIRST.effective_from - timedelta(days=1), "other")])
