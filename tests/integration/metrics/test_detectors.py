"""Detectors through the running service: episodes open once, change, close, and are announced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.clock import to_text
from shared.events.catalogue import METRICS_JOURNAL, METRICS_SIGNALS
from shared.http.auth import Role
from tests.integration.metrics.company import at, company, deal, won
from tests.integration.metrics.harness import Metrics, fact, running

HEALTHY: dict[str, Any] = {
    "stage": "proposal",
    "owner": "ana",
    "amount": "100",
    "currency": "USD",
    "close_date": "2026-12-31",
    "next_step_at": to_text(at(300)),
    "created_at": to_text(at(0)),
}


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(
    database_factory: Any,  # noqa: ANN401 - a fixture's own
    kafka_bootstrap: str,
    topic_prefix: str,
    tmp_path: Path,
) -> AsyncIterator[Metrics]:
    """A service of its own for one test: its clock begins anew."""
    database = await database_factory()
    async with running(database, kafka_bootstrap, topic_prefix, tmp_path) as service:
        await service.send(company())
        await service.drain()
        yield service


def call(number: int, deal_number: int, days: float) -> Any:  # noqa: ANN401 - an envelope
    when = at(days)
    done: dict[str, Any] = {
        "owner": "ana",
        "completed_at": to_text(when),
        "deal": f"crm:t:{deal_number}",
    }
    return fact("activity", f"crm:t:a{number}", when, kind="call", **done)


async def signals(service: Metrics) -> list[tuple[Any, ...]]:
    """(subject, state, revision, silent) of everything announced, in order within a subject."""
    found = [e["data"] for e in await service.published(METRICS_SIGNALS)]
    return [(d["subject"], d["state"], d["revision"], d.get("silent", False)) for d in found]


async def test_a_stalled_deal_opens_once_changes_and_closes(fresh: Metrics) -> None:
    subject = "deal/crm:t:1"
    await fresh.send([deal(1, at(0), **HEALTHY), call(1, 1, 0)])
    await fresh.drain()
    await fresh.at(at(1))
    assert await fresh.episodes() == {}
    await fresh.at(at(13.9))
    assert await fresh.episodes() == {}
    await fresh.at(at(14))
    await fresh.at(at(15))
    assert await fresh.episodes() == {f"deal_stalled:{subject}": ["no_activity"]}
    listed = (await fresh.get("/v1/deals", stalled="true"))["data"]
    assert [(row["id"], row["stalled_by"]) for row in listed] == [("crm:t:1", ["no_activity"])]
    await fresh.at(at(31))
    assert await fresh.episodes() == {
        f"deal_stalled:{subject}": ["stage_age", "unchanged", "no_activity"]
    }
    await fresh.send([deal(1, at(31), stage="legal")])
    await fresh.drain()
    await fresh.at(at(31, 1))
    assert await fresh.episodes() == {f"deal_stalled:{subject}": ["no_activity"]}
    await fresh.send([call(2, 1, 31)])
    await fresh.drain()
    await fresh.at(at(31, 2))
    assert await fresh.episodes() == {}
    assert await signals(fresh) == [
        (subject, "open", 1, False),
        (subject, "changed", 2, False),
        (subject, "changed", 3, False),
        (subject, "closed", 4, False),
    ]
    closed = (await fresh.get("/v1/episodes", state="closed"))["data"]
    assert [e["subject"] for e in closed] == [subject]
    assert closed[0]["evidence"], "what it was open for stays readable"
    journal = [e["type"] for e in await fresh.published(METRICS_JOURNAL)]
    assert journal.count("attain.episode.v1") == 4


async def test_an_activity_of_a_merged_deal_keeps_its_survivor_alive(fresh: Metrics) -> None:
    await fresh.send([deal(1, at(0), **HEALTHY), deal(2, at(0), **HEALTHY), call(1, 1, 0)])
    await fresh.drain()
    await fresh.at(at(1))
    await fresh.send([deal(2, at(2), merged_into="crm:t:1"), call(2, 2, 10)])
    await fresh.drain()
    await fresh.at(at(20))
    assert await fresh.episodes() == {}
    await fresh.at(at(24))
    assert await fresh.episodes() == {"deal_stalled:deal/crm:t:1": ["no_activity"]}
    deals = (await fresh.get("/v1/deals"))["data"]
    assert [row["id"] for row in deals] == ["crm:t:1"]


async def test_a_disposition_silences_until_something_changes(fresh: Metrics) -> None:
    await fresh.send([deal(1, at(0), **HEALTHY)])
    await fresh.drain()
    await fresh.at(at(20))
    assert list(await fresh.episodes()) == ["deal_stalled:deal/crm:t:1"]
    path = "/v1/deals/crm:t:1/dispositions"
    body = {"disposition": "not_stalled", "reason": "The customer is on holiday."}
    headers = {**fresh.token(Role.REP, person="ana"), "Idempotency-Key": "one"}
    first = await fresh.api.post(path, json=body, headers=headers)
    again = await fresh.api.post(path, json=body, headers=headers)
    assert (first.status_code, again.content) == (201, first.content)
    stranger = {**fresh.token(Role.REP, person="cem"), "Idempotency-Key": "two"}
    assert (await fresh.api.post(path, json=body, headers=stranger)).status_code == 404
    await fresh.judged()
    assert await fresh.episodes() == {}
    await fresh.send([deal(1, at(21), amount="200")])
    await fresh.drain()
    await fresh.at(at(25))
    assert await fresh.episodes() == {"deal_stalled:deal/crm:t:1": ["no_activity"]}
    said = (await fresh.get("/v1/deals/crm:t:1"))["dispositions"]
    assert [(d["stated_by"], d["reason"]) for d in said] == [("ana", body["reason"])]


async def test_an_import_opens_silently_with_one_summary(fresh: Metrics) -> None:
    await fresh.at(at(60))
    await fresh.send(
        [fact("deal", f"crm:t:{n}", at(0), backfill=True, **HEALTHY) for n in range(5)]
        + [fact("deal", "crm:t:9", at(59), backfill=True, **HEALTHY)]
    )
    await fresh.drain()
    await fresh.judged()
    assert len(await fresh.episodes()) == 6
    async with fresh.pool.acquire() as tx:
        for _ in range(100):
            if not await tx.fetchval("SELECT EXISTS (SELECT FROM import_burst)"):
                break
            await asyncio.sleep(0.05)
    found = await signals(fresh)
    assert [silent for subject, *_, silent in found if subject.startswith("deal/")] == [True] * 6
    summaries = [one for one in found if one[0].startswith("import/")]
    assert summaries == [("import/1", "open", 1, False)]
    await fresh.send([deal(9, at(61), stage="legal")])
    await fresh.drain()
    await fresh.at(at(62))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        # The quota is 1000 for 20 working days (February 2026); after 10 of them half is expected.
        ((("395", 14, True),), ["open"]),
        ((("400", 14, False),), []),
        ((("395", 14, True), ("24", 14, True)), ["open"]),
        ((("395", 14, True), ("30", 14, False)), ["open", "closed"]),
    ],
)
async def test_a_quota_is_at_risk_below_80_and_clear_at_85_percent_of_its_pace(
    fresh: Metrics, steps: Sequence[tuple[str, int, bool]], expected: list[str]
) -> None:
    body = {"person": "ana", "period": "2026-02", "amount": "1000", "currency": "USD"}
    await fresh.put("/v1/quotas/q", body)
    first = at(27)  # Sunday, 1 February, 09:00
    await fresh.at(first)
    for number, (amount, day, at_risk) in enumerate(steps):
        await fresh.send(won(100 + number, first + timedelta(days=3), "ana", amount))
        await fresh.drain()
        await fresh.at(first + timedelta(days=day, hours=number))
        subjects = [key for key in await fresh.episodes() if key.startswith("quota_at_risk")]
        assert subjects == (["quota_at_risk:quota/q"] if at_risk else [])
    found = [one for one in await signals(fresh) if one[0] == "quota/q"]
    assert [state for _, state, *_ in found] == expected
