"""A company's year: KPIs of the pipeline and of effort, as an independent recomputation has them.

The oracle reads what truly happened, and shares no code with the service; asked are some reps, each
team and the organisation, for every month.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest_asyncio

from shared.clock import from_epoch_ms, to_epoch_ms, to_text
from shared.events.envelope import Envelope
from tests.integration.metrics.harness import Metrics, fact
from tests.oracle import effort, pipeline
from tests.oracle.effort import Done
from tests.oracle.pipeline import Life, Scope
from tests.simulator import Company, setup_calls
from tests.simulator.history import History
from tests.simulator.people import LEAVER, SUCCESSOR
from tests.simulator.worktime import local_ms

SCALE = 0.06
REFERENCE = {
    "/v1/people/": "person",
    "/v1/teams/": "team",
    "/v1/calendars/": "calendar",
    "/v1/stage-maps/": "stage_map",
}
MIDNIGHT = time(0)


@dataclass(slots=True)
class Year:
    """The history, and what the oracle makes of it once."""

    history: History
    lives: list[Life]
    done: list[Done]
    scopes: dict[str, tuple[dict[str, str], Scope]] = field(default_factory=dict)

    def months(self) -> Iterator[tuple[str, date, date, int, int]]:
        """(name, first day, day after, both as instants) of each month."""
        firsts = [date(self.history.year, month, 1) for month in range(1, 13)]
        for start, end in pairwise([*firsts, date(self.history.year + 1, 1, 1)]):
            yield f"{start:%Y-%m}", start, end, local_ms(start, MIDNIGHT), local_ms(end, MIDNIGHT)

    def cases(self) -> Iterator[tuple[dict[str, str], Scope, str, date, date, int, int]]:
        """Every scope in every month."""
        for params, scope in self.scopes.values():
            for month in self.months():
                yield (params, scope, *month)


def facts_of(company: Company) -> Iterator[Envelope]:
    """Reference data, and everything that happened, as facts."""
    history = company.history
    since = from_epoch_ms(local_ms(date(history.year - 1, 1, 1), MIDNIGHT))
    for number, call in enumerate(setup_calls(company, secret="s")):
        for path, kind in REFERENCE.items():
            if call.path.startswith(path):
                named = call.path.removeprefix(path)
                yield fact(kind, named, since, tie_break=number, **call.body)
        if call.path == "/v1/rates":
            for row in call.body["rows"]:
                name = ":".join([row["table"], row["from"], row["to"], row["day"]])
                yield fact("rate", name, since, **row)
    yield from happenings_of(history)


def happenings_of(history: History) -> Iterator[Envelope]:
    """Deals and activities."""
    for deal in history.deals:
        moments: dict[int, dict[str, Any]] = {}
        for change in deal.changes:
            said = moments.setdefault(change.at_ms, {})
            said[change.field] = change.value
            if change.field in {"splits", "overlays"}:
                said.setdefault("complete", []).append(change.field)
        for at_ms, said in moments.items():
            yield fact("deal", deal.id, from_epoch_ms(at_ms), **wired(said))
    for activity in history.activities:
        for told in activity.said:
            yield fact("activity", activity.id, from_epoch_ms(told.at_ms), **wired(told.fields))


def wired(said: dict[str, Any]) -> dict[str, Any]:
    """Instants as text."""
    return {
        name: to_text(from_epoch_ms(value))
        if name.endswith("_at") and isinstance(value, int)
        else value
        for name, value in said.items()
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def year(metrics: Metrics) -> Year:
    """The year, told at once."""
    company = Company.generate(3, SCALE)
    history = company.history
    await metrics.send(list(facts_of(company)))
    await metrics.drain(timeout_s=180)
    await metrics.at(from_epoch_ms(history.ends_ms))
    for quota in history.quotas:
        names = ("person", "team", "measure", "period", "amount", "currency")
        body = {name: getattr(quota, name) for name in names}
        await metrics.put(f"/v1/quotas/{quota.id}", body)
    found = Year(history, pipeline.lives(history), effort.done(history))
    for rep in (LEAVER, SUCCESSOR):
        found.scopes[rep] = ({"rep": rep}, frozenset({rep}))
    for team in history.teams[1:]:
        members = frozenset(p.id for p in history.people if p.team == team.id)
        found.scopes[team.id] = ({"team": team.id}, members)
    found.scopes["org"] = ({}, None)
    return found


def text(value: Fraction | None) -> str | None:
    """As the service writes it."""
    if value is None:
        return None
    scaled = Decimal(round(value * 10**10)).scaleb(-10)
    shown = f"{scaled:f}".rstrip("0").rstrip(".") if scaled else "0"
    return shown or "0"


def share(part: int, whole: int) -> str | None:
    return text(Fraction(part, whole)) if whole else None


async def test_required_run_rate(metrics: Metrics, year: Year) -> None:
    """As of the 20th of each month, for the month."""
    history, compared = year.history, 0
    for params, scope, month, start, end, start_ms, _ in year.cases():
        subject = params.get("rep") or params.get("team")
        if subject is None:
            continue
        day = start + timedelta(days=19)
        at_ms = start_ms + 19 * 86_400_000 + 12 * 3_600_000
        as_of = to_text(from_epoch_ms(at_ms))
        answer = await metrics.get("/v1/kpis/K4", period=month, as_of=as_of, **params)
        quota = effort.quota_of(history, subject, start, end)
        left = effort.working_days(history, day, end)
        by_share = "rep" in params
        booked = effort.booked(history, year.lives, scope, start, end, at_ms, by_share=by_share)
        wanted = None if not quota else max(Fraction(0), _stored(quota) - booked) / left
        assert answer["value"] == text(wanted), (params, month, answer["parts"])
        compared += wanted is not None
    assert compared > 40


def _stored(value: Fraction) -> Fraction:
    return Fraction(round(value * 10**10), 10**10)


async def test_stage_conversion(metrics: Metrics, year: Year) -> None:
    entered_in_all = 0
    for params, scope, month, _, _, start_ms, end_ms in year.cases():
        answer = await metrics.get("/v1/kpis/K8", period=month, **params)
        wanted = pipeline.conversion(year.history, year.lives, scope, start_ms, end_ms)
        for stage, (entered, passed, still) in wanted.items():
            found = [answer["parts"][f"{stage}.{n}"] for n in ("entered", "passed", "open", "rate")]
            rate = share(passed, entered)
            assert found == [str(entered), str(passed), str(still), rate], (params, month, stage)
            entered_in_all += entered
    assert entered_in_all > 200


async def test_velocity(metrics: Metrics, year: Year) -> None:
    known = 0
    for params, scope, month, _, _, start_ms, end_ms in year.cases():
        answer = await metrics.get("/v1/kpis/K14", period=month, **params)
        wanted = pipeline.velocity(year.history, year.lives, scope, start_ms, end_ms)
        assert answer["value"] == text(wanted), (params, month, answer)
        known += wanted is not None
    assert known > 20


async def test_slip_rate(metrics: Metrics, year: Year) -> None:
    slipped = 0
    for params, scope, month, start, end, start_ms, end_ms in year.cases():
        answer = await metrics.get("/v1/kpis/K18", period=month, **params)
        slip = pipeline.slips(year.history, year.lives, scope, (start, end), start_ms, end_ms)
        assert answer["value"] == share(slip.slipped, slip.due), (params, month, answer["parts"])
        parts = answer["parts"]
        found = (parts["due_value"], parts["still_open_value"])
        assert found == (text(slip.due_value), text(slip.slipped_value)), (params, month)
        slipped += slip.slipped
    assert slipped > 8


async def test_push_count(metrics: Metrics, year: Year) -> None:
    moves = 0
    for params, scope, month, _, _, start_ms, end_ms in year.cases():
        answer = await metrics.get("/v1/kpis/K19", period=month, **params)
        pushed, crossing = pipeline.pushes(year.lives, scope, start_ms, end_ms)
        found = (answer["value"], answer["parts"]["into_another_quarter"])
        assert found == (str(pushed), str(crossing)), (params, month)
        moves += pushed
    assert moves > 30


async def test_flow(metrics: Metrics, year: Year) -> None:
    """Over each month: of the deals that close in that quarter, and of all."""
    seen: set[str] = set()
    history = year.history
    for params, scope, _, start, _, start_ms, end_ms in year.cases():
        since, as_of = (to_text(from_epoch_ms(ms - 1)) for ms in (start_ms, end_ms))
        quarter = (start.month + 2) // 3
        first = date(history.year, quarter * 3 - 2, 1)
        last = (first + timedelta(days=93)).replace(day=1)
        named = {"period": f"{history.year}-Q{quarter}"}
        for window, period in (((first, last), named), (None, {})):
            asked = {"since": since, "as_of": as_of, **period, **params}
            answer = await metrics.get("/v1/kpis/K22", **asked)
            wanted = pipeline.flow(history, year.lives, scope, start_ms - 1, end_ms - 1, window)
            _same_flow(answer["parts"], wanted, asked)
            seen |= {name for name, effect in wanted.items() if effect}
    assert {"won", "lost", "new", "pushed", "down"} <= seen


async def test_flow_until_now(metrics: Metrics, year: Year) -> None:
    """From the middle of the year; what is open now is read another way than the past."""
    middle = local_ms(date(year.history.year, 6, 15), MIDNIGHT)
    for params, scope in year.scopes.values():
        since = to_text(from_epoch_ms(middle))
        answer = await metrics.get("/v1/kpis/K22", since=since, **params)
        ends_ms = year.history.ends_ms
        wanted = pipeline.flow(year.history, year.lives, scope, middle, ends_ms, None)
        _same_flow(answer["parts"], wanted, params)


OUT = {"won", "lost", "pushed", "down", "removed"}


def _same_flow(parts: dict[str, str], wanted: dict[str, Fraction], where: object) -> None:
    for name in ("open", "won", "lost", "new", "removed", "reopened", "transferred"):
        assert parts[name] == _shown(name, wanted), (name, where, parts)
    for name in ("pulled_in", "pushed", "up", "down", "close"):
        assert parts[name] == _shown(name, wanted), (name, where, parts)


def _shown(name: str, wanted: dict[str, Fraction]) -> str | None:
    effect = wanted.get(name, Fraction(0))
    return text(-effect if name in OUT else effect)


async def test_pipeline_created_and_its_trend(metrics: Metrics, year: Year) -> None:
    for params, scope in year.scopes.values():
        series = []
        for month, _, _, start_ms, end_ms in year.months():
            answer = await metrics.get("/v1/kpis/K23", period=month, **params)
            amount, number = pipeline.created(year.history, year.lives, scope, start_ms, end_ms)
            found = (answer["value"], answer["parts"]["deals"])
            assert found == (text(amount), str(number)), (params, month)
            series.append(amount)
        whole = str(year.history.year)
        trend = await metrics.get("/v1/kpis/K23/trend", period=whole, **params)
        assert [point["value"] for point in trend["data"]] == [text(value) for value in series]
        assert trend["slope"] == text(effort.slope(series)), params


async def test_activity_ratios(metrics: Metrics, year: Year) -> None:
    for params, scope, month, start, end, start_ms, end_ms in year.cases():
        answer = await metrics.get("/v1/kpis/K25", period=month, **params)
        lag = timedelta(days=30)
        days, later = (start, end), (start + lag, end + lag)
        calls = effort.count_done(year.history, year.done, scope, "call", days)
        meetings = effort.count_done(year.history, year.done, scope, "meeting", days)
        after = effort.count_done(year.history, year.done, scope, "meeting", later)
        created, won = effort.cohort(year.history, year.lives, scope, start_ms, end_ms, 30)
        first_ms, last_ms = (local_ms(day, MIDNIGHT) for day in later)
        following, _ = effort.cohort(year.history, year.lives, scope, first_ms, last_ms, 30)
        wanted = {
            "wins_per_opportunity": share(won, created),
            "meetings_per_call": share(after, calls),
            "opportunities_per_meeting": share(following, meetings),
        }
        found = {name: answer["parts"][name] for name in wanted}
        assert found == wanted, (params, month, answer["parts"])
        assert answer["value"] == wanted["wins_per_opportunity"]


async def test_touches_and_hygiene(metrics: Metrics, year: Year) -> None:
    """As of the last instant of each month."""
    for params, scope, month, _, _, _, end_ms in year.cases():
        at_ms = end_ms - 1
        as_of = to_text(from_epoch_ms(at_ms))
        answer = await metrics.get("/v1/kpis/K28", as_of=as_of, **params)
        number, reached = effort.touched(year.lives, year.done, scope, at_ms)
        assert answer["value"] == share(reached, number), (params, month, answer["parts"])
        answer = await metrics.get("/v1/kpis/K35", as_of=as_of, **params)
        wanted = effort.hygiene(year.history, year.lives, year.done, scope, at_ms)
        assert answer["value"] == text(wanted), (params, month, answer["parts"])


async def test_ramp_and_consistency(metrics: Metrics, year: Year) -> None:
    """At the end of each quarter."""
    history = year.history
    hired = date(history.year - 1, 1, 1)
    for params, scope in year.scopes.values():
        for quarter in (4, 7, 10):
            end = date(history.year, quarter, 1)
            at_ms = local_ms(end, MIDNIGHT)
            as_of = to_text(from_epoch_ms(at_ms))
            answer = await metrics.get("/v1/kpis/K36", as_of=as_of, **params)
            by_share = "rep" in params
            recent = list(effort.months(end - timedelta(days=180), end))[-6:]
            values = [
                effort.booked(history, year.lives, scope, *month, at_ms, by_share=by_share)
                for month in recent
            ]
            assert answer["parts"]["slope"] == text(effort.slope(values)), (params, quarter)
            if by_share:
                taken = effort.ramp(history, year.lives, params["rep"], hired, at_ms)
                assert answer["value"] == (None if taken is None else str(taken)), (params, quarter)


async def test_every_records_page_adds_up(metrics: Metrics, year: Year) -> None:
    """What is behind a value is as many deals as it says, for each scope in one month."""
    month = f"{year.history.year}-05"
    end_ms = to_epoch_ms(from_epoch_ms(local_ms(date(year.history.year, 6, 1), MIDNIGHT))) - 1
    as_of = to_text(from_epoch_ms(end_ms))
    for params, _ in year.scopes.values():
        for kpi, part in (("K18", "due"), ("K23", "deals"), ("K25", "opportunities")):
            answer = await metrics.get(f"/v1/kpis/{kpi}", period=month, **params)
            behind = await everything(metrics, kpi, period=month, **params)
            assert len(behind) == int(answer["parts"][part]), (kpi, params)
        answer = await metrics.get("/v1/kpis/K19", period=month, **params)
        behind = await everything(metrics, "K19", period=month, **params)
        assert sum(int(row["counted"]) for row in behind) == int(answer["value"])
        answer = await metrics.get("/v1/kpis/K22", period=month, as_of=as_of, **params)
        behind = await everything(metrics, "K22", period=month, as_of=as_of, **params)
        for name in ("won", "new", "pushed", "up", "unchanged"):
            labelled = [row for row in behind if row["labels"] == [name]]
            assert len(labelled) == int(answer["parts"][f"{name}_deals"]), (name, params)
        for kpi, part in (("K28", "open"), ("K35", "deals")):
            answer = await metrics.get(f"/v1/kpis/{kpi}", as_of=as_of, **params)
            behind = await everything(metrics, kpi, as_of=as_of, **params)
            assert len(behind) == int(answer["parts"][part]), (kpi, params)


async def everything(metrics: Metrics, kpi: str, **params: str) -> list[dict[str, Any]]:
    """All pages of the records."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await metrics.get(f"/v1/kpis/{kpi}/records", limit="7", **params, **cursor)
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}
