"""The records behind a KPI's value: deals or activities, by id, each with its events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from services.metrics import healthreads, pipelinereads, rowreads
from services.metrics.api.common import event_ids
from services.metrics.api.models import KpiRecord
from services.metrics.domain import flow, hygiene
from services.metrics.domain.contributions import LOST_DEALS, NO_DECISION, WON_DEALS, people_of
from services.metrics.domain.kpis import ZERO
from services.metrics.domain.rows import ClosedRow, credited_of
from services.metrics.effortanswers import cohort_asked, health_asked, state_of
from services.metrics.pipelineanswers import (
    crosses,
    due_asked,
    flow_asked,
    happened,
    move_of,
    path_of,
    stage_steps,
)
from services.metrics.question import Question
from services.metrics.rowreads import DealFilter
from shared.http.paging import Page, PageRequest, page_of
from shared.money import allocate

if TYPE_CHECKING:
    import asyncpg

    from services.metrics.api.sight import Sight

WITHOUT_WINDOW = frozenset({"K15", "K16", "K17"})
OUTCOMES = {
    "K1": [WON_DEALS],
    "K2": [WON_DEALS],
    "K3": [WON_DEALS],
    "K4": [WON_DEALS],
    "K5": [WON_DEALS, LOST_DEALS, NO_DECISION],
    "K6": [WON_DEALS, LOST_DEALS],
    "K11": [WON_DEALS],
    "K12": [WON_DEALS],
    "K13": [WON_DEALS],
    "K14": [WON_DEALS, LOST_DEALS],
    "K36": [WON_DEALS],
}
BY_SHARE = frozenset({"K1", "K2", "K3", "K4", "K11", "K36"})


@dataclass(frozen=True, slots=True)
class Behind:
    """A deal behind a value. at_ms: shown as it was then, None for now."""

    deal_id: str
    at_ms: int | None
    counted: Decimal | None
    labels: Sequence[str] = ()


async def records_of(
    asked: Question, sight: Sight, kpi_id: str, page: PageRequest, last: str | None
) -> Page[KpiRecord]:
    """One page of what is behind a value."""
    if kpi_id == "K24":
        return await _activities(asked, page, last)
    if kpi_id in OUTCOMES:
        return await _closed(asked, kpi_id, page, last)
    if kpi_id in BEHIND:
        return await _shown(asked, await BEHIND[kpi_id](asked, last, page.fetch), page)
    return await _open(asked, sight, kpi_id, page, last)


# ---- what each is made of ----------------------------------------------------------------------


async def _conversion(asked: Question, last: str | None, limit: int) -> list[Behind]:
    """Deals that entered a stage in the period; labels: those they entered, `passed` appended."""
    steps = await stage_steps(asked)
    rows = await pipelinereads.stage_path_deals(
        asked.tx, happened(asked), asked.people, last, limit
    )
    found = []
    for row in rows:
        labels = []
        for place, text in zip(row["places"], row["paths"], strict=True):
            path = path_of(place, text, row["standing"])
            for step in steps:
                if step.place == path.place and path.entered(step.order):
                    passed = ":passed" if path.passed(step.order) else ""
                    labels.append(step.label + passed)
        found.append(Behind(row["deal_id"], asked.as_of_ms, None, labels))
    return found


async def _due(asked: Question, last: str | None, limit: int) -> list[Behind]:
    """As they were at the period's start; label: how they were at its end."""
    what = due_asked(asked)
    rows = await pipelinereads.due_deals(asked.tx, what, last, limit)
    return [
        Behind(row["deal_id"], what.first_ms, row["amount"], [row["status_then"]]) for row in rows
    ]


async def _pushes(asked: Question, last: str | None, limit: int) -> list[Behind]:
    """As they were after the last push; counted: how often."""
    rows = await pipelinereads.pushed_deals(asked.tx, happened(asked), last, limit)
    found = []
    for row in rows:
        moves = list(zip(row["before"], row["after"], strict=True))
        over = any(crosses(asked, before, after) for before, after in moves)
        labels = ["into_another_quarter"] if over else []
        found.append(Behind(row["deal_id"], row["at_ms"], Decimal(len(moves)), labels))
    return found


async def _flow(asked: Question, last: str | None, limit: int) -> list[Behind]:
    """As they are at the second instant, or were at the first where they have left the scope."""
    what = flow_asked(asked)
    found = []
    for row in await pipelinereads.flow_deals(asked.tx, what, last, limit):
        move = move_of(row, row["before"] or ZERO, row["after"] or ZERO)
        into = flow.class_of(move)
        gone = row["was"] and not row["stays"] and not row["ours"]
        at_ms = what.since_ms if gone else what.until_ms
        found.append(Behind(row["deal_id"], at_ms, move.effect, [into.value]))
    return found


async def _created(asked: Question, last: str | None, limit: int) -> list[Behind]:
    rows = await pipelinereads.qualified_entries(asked.tx, happened(asked), last, limit)
    return [Behind(row["deal_id"], row["at_ms"], row["amount"]) for row in rows]


async def _cohort(asked: Question, last: str | None, limit: int) -> list[Behind]:
    """The opportunities of the period; label: whether they were won within the lag."""
    what = cohort_asked(asked, asked.window)
    rows = await healthreads.cohort_deals(asked.tx, what, last, limit)
    return [
        Behind(row["deal_id"], asked.as_of_ms, Decimal(1), ["won_in_time"] if row["won"] else [])
        for row in rows
    ]


async def _covered(asked: Question, last: str | None, limit: int) -> list[Behind]:
    what = health_asked(asked, asked.touched_days)
    rows = await healthreads.covered_deals(asked.tx, what, last, limit)
    names = ("touched", "next_step")
    return [
        Behind(row["deal_id"], asked.as_of_ms, Decimal(1), [n for n in names if row[n]])
        for row in rows
    ]


async def _hygiene(asked: Question, last: str | None, limit: int) -> list[Behind]:
    """Counted: the deal's own score; labels: the rules that fail."""
    rules = asked.hygiene
    rows = await healthreads.state_deals(
        asked.tx, health_asked(asked, rules.fresh_days), last, limit
    )
    return [
        Behind(
            row["deal_id"],
            asked.as_of_ms,
            hygiene.score(state_of(row), rules),
            hygiene.failing(state_of(row), rules),
        )
        for row in rows
    ]


BEHIND: Mapping[str, Callable[[Question, str | None, int], Awaitable[list[Behind]]]] = {
    "K8": _conversion,
    "K18": _due,
    "K19": _pushes,
    "K22": _flow,
    "K23": _created,
    "K25": _cohort,
    "K28": _covered,
    "K35": _hygiene,
}
"""How the deals behind each are read: by id, after one, so many."""


async def _shown(asked: Question, found: Sequence[Behind], page: PageRequest) -> Page[KpiRecord]:
    ids = [one.deal_id for one in found]
    rows = await pipelinereads.rows_at(asked.tx, ids, [one.at_ms for one in found])
    events = await event_ids(asked.tx, "deal", ids)

    def show(one: Behind) -> KpiRecord:
        row = rows[one.deal_id]
        return _deal_record(row, row["close_date"], one.counted, events, one.labels)

    return page_of(found, page, key=lambda one: (one.deal_id,), show=show)


async def _activities(asked: Question, page: PageRequest, last: str | None) -> Page[KpiRecord]:
    rows = await rowreads.list_activities(
        asked.tx, asked.scope, asked.window, asked.as_of_ms, after=last, limit=page.fetch
    )
    ids = await event_ids(asked.tx, "activity", (row["activity_id"] for row in rows))

    def show(row: asyncpg.Record) -> KpiRecord:
        return KpiRecord(
            record=f"activity/{row['activity_id']}",
            name=row["kind"],
            owner=", ".join(people_of(row["people"])),
            status="done",
            stage=None,
            day=row["day"],
            amount=None,
            currency=None,
            counted=Decimal(1),
            event_ids=ids.get(row["activity_id"], []),
            labels=[],
        )

    return page_of(rows, page, key=lambda row: (row["activity_id"],), show=show)


async def _closed(
    asked: Question, kpi_id: str, page: PageRequest, last: str | None
) -> Page[KpiRecord]:
    by_share = kpi_id in BY_SHARE
    rows = await rowreads.closed_rows(
        asked.tx,
        rowreads.members_of(asked.scope, asked.calendar),
        OUTCOMES[kpi_id],
        asked.window,
        asked.calendar,
        asked.as_of_ms,
        by_share=by_share,
        after=last,
        limit=page.fetch,
        which=asked.which,
    )
    ids = await event_ids(asked.tx, "deal", (row["deal_id"] for row in rows))

    def show(row: asyncpg.Record) -> KpiRecord:
        day = asked.calendar.day_of_ms(row["closed_ms"])
        return _deal_record(row, day, _counted(row, asked, by_share=by_share), ids)

    return page_of(rows, page, key=lambda row: (row["deal_id"],), show=show)


def _counted(row: asyncpg.Record, asked: Question, *, by_share: bool) -> Decimal | None:
    """What a closed deal adds for the scope: of a rep the part by share, otherwise the whole."""
    amount, currency = row["closed_amount"], row["currency"]
    if amount is None or currency is None:
        return None
    if not (by_share and asked.scope.by_share):
        return Decimal(amount)
    names = ("outcome", "closed_owner", "closed_amount", "currency", "shares", "deal_type")
    credited = credited_of(ClosedRow(*(row[name] for name in names)))
    if sum(credited.values(), Fraction(0)) != 1:
        return None
    return allocate(amount, credited, currency).get(str(asked.scope.id))


async def _open(
    asked: Question, sight: Sight, kpi_id: str, page: PageRequest, last: str | None
) -> Page[KpiRecord]:
    window = asked.period
    closes = None
    if window is not None and kpi_id not in WITHOUT_WINDOW:
        closes = (window.start_day, window.end_day)
    rows = await rowreads.list_deals(
        asked.tx,
        visible=sight.people,
        wanted=DealFilter(
            owner=asked.people,
            status="open",
            closes=closes,
            stalled=True if kpi_id == "K17" else None,
            which=asked.which,
        ),
        as_of_ms=asked.as_of_ms,
        after=last,
        limit=page.fetch,
    )
    ids = await event_ids(asked.tx, "deal", (row["deal_id"] for row in rows))
    return page_of(
        rows,
        page,
        key=lambda row: (row["deal_id"],),
        show=lambda row: _deal_record(row, row["close_date"], row["amount"], ids),
    )


def _deal_record(
    row: asyncpg.Record,
    day: date | None,
    counted: Decimal | None,
    ids: dict[str, list[str]],
    labels: Sequence[str] = (),
) -> KpiRecord:
    closed = row["outcome"] is not None
    return KpiRecord(
        record=f"deal/{row['deal_id']}",
        name=row["name"],
        owner=row["closed_owner"] if closed else row["owner"],
        status=row["status"],
        stage=row["stage_name"],
        day=day,
        amount=row["closed_amount"] if closed else row["amount"],
        currency=row["currency"],
        counted=counted,
        event_ids=ids.get(row["deal_id"], []),
        labels=list(labels),
    )
