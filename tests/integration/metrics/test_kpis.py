"""KPIs through the running service: facts on Kafka in, numbers by HTTP out."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest_asyncio

from shared.clock import to_text
from shared.http.auth import Role
from tests.integration.metrics.company import at, company, deal, won
from tests.integration.metrics.harness import Metrics, fact

Q1 = "2026-Q1"


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def history(metrics: Metrics) -> None:
    """A quarter of five people."""
    shared = {"splits": {"ana": "60%", "crm:t:u-ben": "40%"}}
    await metrics.send(company())
    await metrics.send(
        [
            *won(1, at(10), "crm:t:u-ana", "100000"),
            *won(2, at(20), "ana", "1000.01", **shared),
            *won(3, at(40), "cem", "50000", currency="EUR"),
            *won(4, at(45), "ben", "20000", type="renewal"),
            deal(5, at(5), stage="proposal", owner="ana", amount="5000", currency="USD"),
            deal(5, at(12), stage="lost", amount="0", lost_reason="Price"),
            deal(6, at(8), stage="lead", owner="ben", amount="300000", currency="USD"),
            deal(6, at(9), close_date="2026-03-20", created_at=to_text(at(8))),
            deal(7, at(8), stage="legal", owner="ana", currency="USD", close_date="2026-03-21"),
            *won(8, at(50), "ana", "999", deleted=True),
            *won(9, at(51), "ana", "888", currency="CHF"),
            fact(
                "activity",
                "crm:t:a1",
                at(10),
                kind="meeting",
                completed_at=to_text(at(10)),
                owner="ana",
                participants={"ben": True, "cem": True, "customer:1": True},
                deal="crm:t:6",
            ),
            fact(
                "activity",
                "crm:t:a2",
                at(3),
                kind="call",
                owner="ana",
                completed_at=to_text(at(3)),
                deal="crm:t:6",
            ),
            fact(
                "activity",
                "crm:t:a3",
                at(3),
                kind="call",
                owner="ana",
                completed_at=to_text(at(3)),
                deal="crm:t:6",
                cancelled=True,
            ),
        ]
    )
    for quota, whose, amount in (
        ("q-ana", {"person": "ana"}, "200000"),
        ("q-emea", {"team": "emea"}, "400000"),
        ("q-org", {}, "1000000"),
    ):
        body = {**whose, "measure": "bookings", "period": Q1, "amount": amount, "currency": "USD"}
        await metrics.put(f"/v1/quotas/{quota}", body)
    await metrics.drain()
    await metrics.at(at(60))


async def value(metrics: Metrics, kpi: str, **params: str) -> str | None:
    answer = await metrics.get(f"/v1/kpis/{kpi}", **params)
    found: str | None = answer["value"]
    return found


async def test_bookings_count_by_share_and_whole_once(metrics: Metrics) -> None:
    ana = await metrics.get("/v1/kpis/K1", rep="ana", period=Q1)
    assert ana["parts"] == {"booked": "100600.01", "quota": "200000"}
    assert ana["held"] == [{"day": "2026-02-25", "currency": "CHF", "amount": "888"}]
    assert (await metrics.get("/v1/kpis/K1", team="emea", period=Q1))["parts"][
        "booked"
    ] == "121000.01"
    # 50000 EUR on 14 February at 1.20
    assert (await metrics.get("/v1/kpis/K1", period=Q1))["parts"]["booked"] == "181000.01"


async def test_every_kpi_answers_for_rep_team_and_organisation(metrics: Metrics) -> None:
    for kpi in (await metrics.get("/v1/kpis"))["data"]:
        for scope in ({"rep": "ana"}, {"team": "emea"}, {}):
            answer = await metrics.get(f"/v1/kpis/{kpi['id']}", period=Q1, **scope)
            assert (answer["value"] is None) == (answer["reason"] is not None)
            page = await metrics.get(f"/v1/kpis/{kpi['id']}/records", period=Q1, **scope)
            assert all(record["event_ids"] for record in page["data"])


async def test_values(metrics: Metrics) -> None:
    assert await value(metrics, "K5", rep="ana", period=Q1) == "0.75"
    assert await value(metrics, "K9", period=Q1) == "300000"
    assert await value(metrics, "K10", period=Q1) == "30000"
    assert await value(metrics, "K12", team="emea", period=Q1) == "50500.005"
    assert await value(metrics, "K13", period=Q1) == "10"
    assert await value(metrics, "K24", rep="ana", period=Q1) == "2"
    assert await value(metrics, "K24", period=Q1) == "2"
    lost = await metrics.get("/v1/kpis/K6", rep="ana", period=Q1)
    assert lost["parts"] == {"won": "101000.01", "lost": "5000"}


async def test_now_and_as_of_now_agree(metrics: Metrics) -> None:
    """Cells and rows are two ways to the same numbers."""
    moment = to_text(at(60) - timedelta(seconds=1))
    for kpi in ("K1", "K3", "K5", "K6", "K9", "K10", "K11", "K12", "K13", "K24"):
        for scope in ({"rep": "ana"}, {"rep": "ben"}, {"team": "emea"}, {"team": "us"}, {}):
            now = await metrics.get(f"/v1/kpis/{kpi}", period=Q1, **scope)
            then = await metrics.get(f"/v1/kpis/{kpi}", period=Q1, as_of=moment, **scope)
            for name in ("value", "reason", "parts", "held"):
                assert now[name] == then[name], (kpi, scope, name)


async def test_as_of_the_past_counts_what_was_won_by_then(metrics: Metrics) -> None:
    past = await metrics.get("/v1/kpis/K1", period=Q1, as_of=to_text(at(15)))
    assert past["parts"]["booked"] == "100000"
    assert await value(metrics, "K9", period=Q1, as_of=to_text(at(8, 1))) == "0"


async def test_records_add_up_to_the_value(metrics: Metrics) -> None:
    page = await metrics.get("/v1/kpis/K1/records", rep="ben", period=Q1)
    counted = {r["record"]: r["counted"] for r in page["data"]}
    assert counted == {"deal/crm:t:2": "400", "deal/crm:t:4": "20000"}
    booked = (await metrics.get("/v1/kpis/K1", rep="ben", period=Q1))["parts"]["booked"]
    assert sum(map(Decimal, counted.values())) == Decimal(booked)


async def test_attainment_of_everybody_at_once(metrics: Metrics) -> None:
    answer = await metrics.get("/v1/attainment", period=Q1)
    rows = {row["person"] or row["team"]: row for row in answer["data"]}
    assert rows["ana"]["attainment"] == await value(metrics, "K1", rep="ana", period=Q1)
    assert rows["emea"]["attainment"] == await value(metrics, "K1", team="emea", period=Q1)
    assert rows["cem"]["reason"] == "no_quota"
    seen = await metrics.get("/v1/attainment", metrics.token(Role.REP, person="ana"), period=Q1)
    assert [row["person"] for row in seen["data"]] == ["ana"]


async def test_a_deal_opens_to_its_timeline_and_events(metrics: Metrics) -> None:
    found = await metrics.get("/v1/deals/crm:t:5")
    assert [span["status"] for span in found["timeline"]] == ["open", "lost"]
    assert [event["says"].get("stage") for event in found["events"]] == ["proposal", "lost"]
    assert (await metrics.get("/v1/deals/crm:t:7"))["hygiene"][0]["rule"] == "missing_amount"
