"""The worked examples of tests/golden/kpis as histories, through the running service.

Each example is the life of one rep of its own: deals are told that make what the formula is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from services.metrics.domain.pipeline import WON_RANK
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
    """An example as facts. days: the period asked for; quota: for exactly that period.

    quotas: of other periods. params: what else is asked. person: what is stated of the rep.
    """

    rep: str
    days: tuple[date, date] = (date(2026, 1, 1), date(2026, 4, 1))
    quota: str | None = None
    facts: list[Envelope] = field(default_factory=list)
    quotas: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)

    def deal(self, when: datetime, **said: Any) -> str:  # noqa: ANN401 - JSON values
        """A deal of the rep, told in one statement; its id."""
        stated = {"owner": self.rep, "currency": "USD", **said}
        given: dict[str, Any] = {n: value for n, value in stated.items() if value is not None}
        deal_id = f"crm:t:{self.rep}-{len(self.facts)}"
        self.facts.append(fact("deal", deal_id, when, **given))
        return deal_id

    def later(self, deal_id: str, when: datetime, **said: Any) -> None:  # noqa: ANN401 - JSON values
        """Something more about a deal."""
        self.facts.append(fact("deal", deal_id, when, **said))

    def activity(self, when: datetime, kind: str, deal_id: str) -> None:
        """An activity of the rep, done."""
        said: dict[str, Any] = {"kind": kind, "owner": self.rep, "deal": deal_id}
        said["completed_at"] = to_text(when)
        self.facts.append(fact("activity", f"crm:t:{self.rep}-a{len(self.facts)}", when, **said))

    def known(self, **said: Any) -> None:  # noqa: ANN401 - JSON values
        """The rep is a person of ours."""
        stated: dict[str, Any] = {"effective_from": "2025-01-01", "name": self.rep, **said}
        self.facts.append(fact("person", self.rep, NOW - timedelta(days=400), **stated))

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


# ---- the pipeline -----------------------------------------------------------------------------

RANKS = {1: "lead", 2: "proposal", 3: "legal", WON_RANK: "won"}
BEFORE = datetime(2026, 1, 20, 9, 0, tzinfo=UTC)
FEBRUARY = (date(2026, 2, 1), date(2026, 3, 1))
DURING = datetime(2026, 2, 10, 9, 0, tzinfo=UTC)
INSIDE, OUTSIDE = "2026-03-15", "2026-08-01"


def _tell_paths(given: dict[str, Any], told: Told) -> None:
    told.days = FEBRUARY
    told.params = {"stage": given["stage"]} if "stage" in given else {}
    if given.get("strict"):
        told.params["variant"] = "strict"
    for path in given["paths"]:
        for _ in range(path.get("number", 1)):
            deal_id = None
            for hours, (rank, inside) in enumerate(zip(path["ranks"], path["inside"], strict=True)):
                when = (DURING if inside else BEFORE) + timedelta(hours=hours)
                if deal_id is None:
                    deal_id = told.deal(when, stage=RANKS[rank], amount="1")
                else:
                    told.later(deal_id, when, stage=RANKS[rank])
            if path["standing"] == "lost" and deal_id is not None:
                told.later(deal_id, DURING + timedelta(days=1), stage="lost")


def _tell_velocity(given: dict[str, Any], told: Told) -> None:
    for _ in range(given["open_deals"]):
        told.deal(DURING, stage="lead", amount="1")
    if given["win_rate"] is None:
        return
    rate = Fraction(given["win_rate"])
    for number in range(rate.denominator):
        won = number < rate.numerator
        created = DURING - timedelta(days=int(given["cycle_days"] or 0))
        told.closed(DURING, "won" if won else "lost", given["size"], created_at=to_text(created))


def _tell_due(given: dict[str, Any], told: Told) -> None:
    told.days = FEBRUARY if given.get("over", True) else (FEBRUARY[0], date(2026, 4, 1))
    for one in given["due"]:
        number = one.get("number", 1)
        amount = None if one["amount"] is None else str(Fraction(one["amount"]) / number)
        for _ in range(number):
            deal_id = told.deal(BEFORE, stage="lead", amount=amount, close_date="2026-02-15")
            said = {"close_date": INSIDE} if one["still_open"] else {"stage": "lost"}
            told.later(deal_id, DURING, **said)
            if one["still_open"]:
                told.later(deal_id, DURING + timedelta(days=1), close_date="2026-02-20")


def _tell_pushes(given: dict[str, Any], told: Told) -> None:
    deals: dict[str, tuple[str, date]] = {}
    for number, push in enumerate(given["pushes"]):
        if push["deal"] not in deals:
            day = date(2026, 3, 10)
            deals[push["deal"]] = (told.deal(BEFORE, stage="lead", close_date=day.isoformat()), day)
        deal_id, day = deals[push["deal"]]
        day += timedelta(days=91 if push["crosses"] else 1)
        told.later(deal_id, DURING + timedelta(hours=number), close_date=day.isoformat())
        back = {"close_date": (day - timedelta(days=1)).isoformat()}
        told.later(deal_id, DURING + timedelta(hours=number, minutes=1), **back)
        deals[push["deal"]] = (deal_id, day - timedelta(days=1))


def _tell_moves(given: dict[str, Any], told: Told) -> None:
    told.days = (FEBRUARY[0], date(2026, 5, 1))
    for move in given["moves"]:
        amount = {
            name: None if move.get("without_amount") else move.get(name, "0") for name in _ENDS
        }
        there = {"stage": "lead", "close_date": INSIDE, "owner": told.rep}
        other = move.get("elsewhere")
        apart = {} if other is None else _apart(other, told.rep)
        first = there if move["was"] else apart
        then = there if move["stays"] else apart
        started = DURING if other is not None and other["status"] is None else BEFORE
        if other is not None:
            whole = amount["before"] if move["was"] else amount["after"]
            amount = dict.fromkeys(_ENDS, whole)
        if started == DURING:
            told.deal(DURING, **then, amount=amount["after"])
            continue
        deal_id = told.deal(BEFORE, **first, amount=amount["before"])
        told.later(deal_id, DURING, **then, amount=amount["after"])


_ENDS = ("before", "after")


def _apart(other: Mapping[str, Any], rep: str) -> dict[str, Any]:
    """What a deal states while it is not in the pipeline."""
    stage = "proposal" if other["status"] in {"open", None} else other["status"]
    said = {"stage": stage, "close_date": INSIDE if other.get("inside", True) else OUTSIDE}
    said["owner"] = rep if other.get("ours", True) else "somebody-else"
    if other.get("omitted"):
        said["forecast_category"] = "omitted"
    return said


def _tell_created(given: dict[str, Any], told: Told) -> None:
    told.days = FEBRUARY
    for amount in given["amounts"]:
        deal_id = told.deal(DURING, stage="lead", amount=amount)
        told.later(deal_id, DURING + timedelta(days=1), amount="777")


def _tell_funnel(given: dict[str, Any], told: Told) -> None:
    told.days = (date(2026, 1, 5), date(2026, 1, 12))
    told.params = {"lag_days": str(given["lag_days"])}
    if "wanted" in given:
        told.params["variant"] = given["wanted"]
    first = datetime(2026, 1, 6, 9, 0, tzinfo=UTC)
    after = first + timedelta(days=given["lag_days"])
    counts: dict[str, int] = given["counts"]
    for name, kind, when in (
        ("calls", "call", first),
        ("meetings", "meeting", first),
        ("meetings_after", "meeting", after),
    ):
        for _ in range(counts.get(name, 0)):
            told.activity(when, kind, "crm:t:x")
    for number in range(counts.get("opportunities", 0)):
        deal_id = told.deal(first, stage="lead", amount="1", created_at=to_text(first))
        if number < counts["wins"]:
            told.later(deal_id, first + timedelta(days=given["lag_days"] - 1), stage="won")
    for _ in range(counts.get("opportunities_after", 0)):
        told.deal(after, stage="lead", amount="1", created_at=to_text(after))


def _tell_touches(given: dict[str, Any], told: Told) -> None:
    if given["with_next_step"] is None:
        told.params = {"as_of": to_text(NOW - timedelta(seconds=1))}
    ahead = to_text(NOW + timedelta(days=3))
    for number in range(given["open_deals"]):
        step = {"next_step_at": ahead} if number < (given["with_next_step"] or 0) else {}
        deal_id = told.deal(BEFORE, stage="lead", **step)
        days = 2 if number < given["touched"] else 20
        told.activity(NOW - timedelta(days=days), "call", deal_id)


def _tell_hygiene(given: dict[str, Any], told: Told) -> None:
    told.known()
    for number, deal in enumerate(given["deals"]):
        step = {"next_step_at": to_text(NOW + timedelta(days=3))} if deal["next_step"] else {}
        told.deal(
            NOW - timedelta(days=1),
            stage=deal["stage"],
            name=f"Deal {number}",
            amount="100" if deal.get("priced", True) else "0",
            close_date="2026-03-01" if deal["overdue"] else INSIDE,
            account="acme" if "account" in deal["stated"] else None,
            **step,
        )


def _tell_ramp(given: dict[str, Any], told: Told) -> None:
    hired: dict[str, Any] = {"hired_on": given["hired_on"]} if given["hired_on"] else {}
    told.known(**hired)
    months = [date(2025, 9, 15), date(2025, 10, 15), date(2025, 11, 15), date(2025, 12, 15)]
    months += [date(2026, 1, 15), date(2026, 2, 15)]
    for month, amount in zip(months[-len(given["recent"]) :], given["recent"], strict=True):
        told.closed(noon(month), "won", amount)
    if len(given["months"]) == len(given["recent"]):
        for month, amount in zip(given["months"], given["recent"], strict=True):
            whole = Fraction(amount) / Fraction(month["attainment"])
            told.quotas[month["start"][:7]] = str(whole)


TELL: Mapping[str, Callable[[dict[str, Any], Told], None]] = {
    **dict.fromkeys(("K1", "K2", "K3", "K4", "K11"), _tell_quota),
    "K5": _tell_outcomes,
    "K6": _tell_values,
    **dict.fromkeys(("K9", "K10"), _tell_open_deals),
    **dict.fromkeys(("K12", "K13"), _tell_won_deals),
    "K24": _tell_activities,
    "K8": _tell_paths,
    "K14": _tell_velocity,
    "K18": _tell_due,
    "K19": _tell_pushes,
    "K22": _tell_moves,
    "K23": _tell_created,
    "K25": _tell_funnel,
    "K28": _tell_touches,
    "K35": _tell_hygiene,
    "K36": _tell_ramp,
}
"""Each makes what its formula is given. The others are about single deals and episodes."""


def cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for kpi in sorted(TELL):
        document = yaml.safe_load((GOLDEN / f"{kpi}.yaml").read_text(encoding="utf-8"))
        for number, case in enumerate(document["cases"]):
            if case.get("only") == "formula":
                continue
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
        for name, amount in story.quotas.items():
            body = {"person": rep, "period": name, "amount": amount, "currency": "USD"}
            await metrics.put(f"/v1/quotas/{rep}-{name}", body)
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
    answer = await metrics.get(f"/v1/kpis/{kpi}", rep=rep, **days, **told[rep].params)
    assert answer["value"] == case["value"]
    assert answer["reason"] == case.get("reason")
    parts = dict(case.get("parts", {}))
    if kpi == "K11":
        parts.pop("needed", None)  # a win rate of exactly 30 % is no ratio of cents
    assert {name: answer["parts"][name] for name in parts} == parts
