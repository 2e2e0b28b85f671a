"""The worked examples of tests/golden/kpis as histories, through the running service.

Each example is the life of one rep of its own: deals are told that make what the formula is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from shared.clock import from_epoch_ms, to_text
from shared.events.envelope import Envelope
from tests.integration.metrics.company import company
from tests.integration.metrics.harness import Metrics, fact

GOLDEN = Path(__file__).parents[2] / "golden" / "kpis"
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""A Monday."""

EPOCH_YEAR = (date(1970, 1, 1), date(1971, 1, 1))
SATURDAY = 6


@dataclass(slots=True)
class Told:
    """An example as facts. days: the period asked for; quota: for exactly that period."""

    rep: str
    days: tuple[date, date] = (date(2026, 1, 1), date(2026, 4, 1))
    quota: str | None = None
    facts: list[Envelope] = field(default_factory=list)

    def deal(self, when: datetime, **said: Any) -> None:  # noqa: ANN401 - JSON values
        """A deal of the rep, told in one statement."""
        stated = {"owner": self.rep, "currency": "USD", **said}
        given = {name: value for name, value in stated.items() if value is not None}
        number = len(self.facts)
        self.facts.append(fact("deal", f"crm:t:{self.rep}-{number}", when, **given))

    def closed(self, when: datetime, stage: str, amount: str | None, **said: Any) -> None:  # noqa: ANN401 - JSON values
        """A deal that is won or lost at once."""
        self.deal(when, stage=stage, amount=amount, **said)


def is_working(day: date) -> bool:
    return day.isoweekday() < SATURDAY


def days_around(elapsed: int, total: int) -> tuple[date, date]:
    """The period of `total` working days of which `elapsed` are over today."""
    today = NOW.date()
    if not total:
        return (today + timedelta(days=5), today + timedelta(days=7))
    start = today
    while elapsed:
        start -= timedelta(days=1)
        elapsed -= is_working(start)
    end = start
    while total:
        total -= is_working(end)
        end += timedelta(days=1)
    return (start, end)


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def _tell_quota(given: dict[str, Any], told: Told) -> None:
    told.quota = given["quota"]
    if "total" in given:
        told.days = days_around(given["elapsed"], given["total"])
    told.closed(noon(told.days[0]), "won", given.get("booked", given.get("closed")))
    ahead = given.get("weighted", given.get("pipeline"))
    if ahead is not None:
        last = (told.days[1] - timedelta(days=1)).isoformat()
        told.deal(NOW, stage="lead", amount=ahead, probability="1", close_date=last)


def _tell_outcomes(given: dict[str, Any], told: Told) -> None:
    for outcome, reason in (("won", None), ("lost", "Price"), ("no_decision", "No decision")):
        for _ in range(given[outcome]):
            stage = "won" if outcome == "won" else "lost"
            told.closed(noon(told.days[0]), stage, "1", lost_reason=reason)


def _tell_values(given: dict[str, Any], told: Told) -> None:
    for outcome in ("won", "lost"):
        if given[outcome] != "0":
            told.closed(noon(told.days[0]), outcome, given[outcome])


def _tell_open_deals(given: dict[str, Any], told: Told) -> None:
    for one in given["deals"]:
        told.deal(
            NOW,
            stage="not on any map",
            amount=one["amount"],
            probability=one["probability"],
            forecast_category=one.get("category"),
            close_date="2026-03-15",
        )


def _tell_won_deals(given: dict[str, Any], told: Told) -> None:
    told.days = EPOCH_YEAR
    for one in given["deals"]:
        created = one.get("created_ms")
        told.closed(
            from_epoch_ms(one.get("credit_ms", 0)),
            "won",
            one["amount"],
            type=one.get("deal_type"),
            created_at=None if created is None else to_text(from_epoch_ms(created)),
        )


def _tell_activities(given: dict[str, Any], told: Told) -> None:
    for kind, count in given["by_kind"].items():
        for number in range(count):
            done = NOW - timedelta(hours=number)
            said = {"kind": kind, "owner": told.rep, "completed_at": to_text(done)}
            name = f"crm:t:{told.rep}-{kind}{number}"
            told.facts.append(fact("activity", name, done, **said, deal="crm:t:x"))


TELL: Mapping[str, Callable[[dict[str, Any], Told], None]] = {
    **dict.fromkeys(("K1", "K2", "K3", "K11"), _tell_quota),
    "K5": _tell_outcomes,
    "K6": _tell_values,
    **dict.fromkeys(("K9", "K10"), _tell_open_deals),
    **dict.fromkeys(("K12", "K13"), _tell_won_deals),
    "K24": _tell_activities,
}
"""Each makes what its formula is given. The others are about single deals and episodes."""


def cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for kpi in sorted(TELL):
        document = yaml.safe_load((GOLDEN / f"{kpi}.yaml").read_text(encoding="utf-8"))
        for number, case in enumerate(document["cases"]):
            yield f"{kpi}-{number}".lower(), kpi, case


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def told(metrics: Metrics) -> dict[str, Told]:
    """All examples at once."""
    stories = {}
    for rep, kpi, case in cases():
        story = stories[rep] = Told(rep)
        TELL[kpi](case["given"], story)
    await metrics.send(company())
    await metrics.send([one for story in stories.values() for one in story.facts])
    await metrics.drain()
    await metrics.at(NOW)
    for rep, story in stories.items():
        if story.quota is not None:
            period = f"{story.days[0]}..{story.days[1]}"
            body = {"person": rep, "period": period, "amount": story.quota, "currency": "USD"}
            await metrics.put(f"/v1/quotas/{rep}", body)
    return stories


@pytest.mark.parametrize(
    ("rep", "kpi", "case"), [pytest.param(*c, id=f"{c[1]}: {c[2]['name']}") for c in cases()]
)
async def test_golden(
    metrics: Metrics,
    told: dict[str, Told],
    rep: str,
    kpi: str,
    case: dict[str, Any],
) -> None:
    start, end = told[rep].days
    days = {"from": start.isoformat(), "to": end.isoformat()}
    answer = await metrics.get(f"/v1/kpis/{kpi}", rep=rep, **days)
    assert answer["value"] == case["value"]
    assert answer["reason"] == case.get("reason")
    parts = dict(case.get("parts", {}))
    if kpi == "K11":
        parts.pop("needed", None)  # a win rate of exactly 30 % is no ratio of cents
    assert {name: answer["parts"][name] for name in parts} == parts
