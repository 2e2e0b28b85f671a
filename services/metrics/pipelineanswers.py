"""Answers about how the pipeline moves: K8, K14, K18, K19, K22, K23."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from services.metrics import pipelinereads, rowreads
from services.metrics.domain import flow, kpis, pipeline
from services.metrics.domain.contributions import LOST_DEALS, WON_DEALS
from services.metrics.domain.flow import Elsewhere, Move
from services.metrics.domain.kpis import ZERO, KpiValue
from services.metrics.domain.pipeline import DueDeal, Push, StagePath, StageStep
from services.metrics.pipelinereads import DueAsked, FlowAsked, Happened
from services.metrics.question import Question
from shared.errors import InvalidValue
from shared.facts.reference import OPEN
from shared.facts.store import load_kind

if TYPE_CHECKING:
    import asyncpg

ALWAYS_MS = 2**62


# ---- K8 ----------------------------------------------------------------------------------------


async def stage_steps(asked: Question) -> list[StageStep]:
    """The open stages of every pipeline, by the maps in force on the period's first day.

    A label is the stage's id, and begins with its pipeline's where several have one.
    """
    day = asked.window.start_day.isoformat()
    found: list[tuple[str, int, str]] = []
    for place, record in (await load_kind(asked.tx, "stage_map")).items():
        versions = sorted(record.dated("stages"), key=lambda version: version[0])
        begun = [stages for since, stages in versions if since <= day] or [
            stages for _, stages in versions[:1]
        ]
        for stage, said in _stages(begun[-1] if begun else {}):
            if said.get("status", OPEN) == OPEN:
                found.append((place, said["order"], stage))
    several = {stage for _, _, stage in found if sum(s == stage for _, _, s in found) > 1}
    return [
        StageStep(place, order, f"{place}/{stage}" if stage in several else stage)
        for place, order, stage in sorted(found)
    ]


def _stages(value: object) -> Sequence[tuple[str, Mapping[str, Any]]]:
    return list(value.items()) if isinstance(value, dict) else []


def happened(asked: Question) -> Happened:
    """What happened in the period; ever, where none is given."""
    start_ms, end_ms = -ALWAYS_MS, ALWAYS_MS
    if asked.period is not None:
        start_ms, end_ms = asked.calendar.bounds_ms(asked.period)
    members = rowreads.members_of(asked.scope, asked.calendar)
    return Happened(start_ms, end_ms, asked.as_of_ms, members, asked.which)


def path_of(place: str, path: str, standing: str, number: int = 1) -> StagePath:
    """A way through a pipeline, from the text in which it was read."""
    items = path.split(" ")
    ranks = tuple(int(item[:-1]) for item in items)
    return StagePath(place, ranks, tuple(item[-1] == "+" for item in items), standing, number)


async def _stage_conversion(asked: Question) -> KpiValue:
    steps = await stage_steps(asked)
    rows = await pipelinereads.stage_paths(asked.tx, happened(asked), asked.people)
    strict = asked.variant == "strict"
    paths = [path_of(*row) for row in rows]
    return pipeline.stage_conversion(paths, steps, asked.stage, strict=strict)


# ---- K14 ---------------------------------------------------------------------------------------


async def _velocity(asked: Question) -> KpiValue:
    won = await asked.won_deals()
    closed = await rowreads.closed_rows(
        asked.tx,
        rowreads.members_of(asked.scope, asked.calendar),
        [WON_DEALS, LOST_DEALS],
        asked.window,
        asked.calendar,
        asked.as_of_ms,
        by_share=False,
        columns="s.outcome, s.closed_owner",
        which=asked.which,
    )
    outcomes = [outcome for outcome, owner in closed if owner is not None]
    number = await pipelinereads.open_qualified(asked.tx, asked.people, asked.as_of_ms, asked.which)
    return pipeline.velocity(
        number,
        kpis.deal_size(won).value,
        kpis.win_rate(outcomes.count(WON_DEALS), outcomes.count(LOST_DEALS)).value,
        kpis.sales_cycle(won).value,
    )


# ---- K18 ---------------------------------------------------------------------------------------


def due_asked(asked: Question) -> DueAsked:
    """From the last instant before the period to its last one, or to the as-of instant."""
    period = asked.window
    start_ms, end_ms = asked.calendar.bounds_ms(period)
    return DueAsked(
        start_ms - 1,
        min(end_ms - 1, asked.moment_ms),
        (period.start_day, period.end_day),
        asked.scope.people_on(period.start_day),
        asked.which,
    )


async def _slip_rate(asked: Question) -> KpiValue:
    day = asked.window.start_day
    due = []
    for row in await pipelinereads.due_groups(asked.tx, due_asked(asked)):
        amount = None
        if row["priced"]:
            amount = asked.at_rate(row["amount"], row["currency"], day)
        due.append(DueDeal(amount, row["still_open"], row["number"]))
    _, end_ms = asked.calendar.bounds_ms(asked.window)
    return pipeline.slip_rate(due, over=asked.moment_ms >= end_ms - 1)


# ---- K19 ---------------------------------------------------------------------------------------


def crosses(asked: Question, before: date, after: date) -> bool:
    """Whether the two days lie in different fiscal quarters."""
    return after >= asked.calendar.period_containing(before, "quarter").end_day


async def _push_count(asked: Question) -> KpiValue:
    rows = await pipelinereads.pushes(asked.tx, happened(asked))
    moves = {(row["before"], row["close_date"]) for row in rows}
    over = {move for move in moves if crosses(asked, *move)}
    return pipeline.push_count(
        [Push(row["deal_id"], (row["before"], row["close_date"]) in over) for row in rows]
    )


# ---- K22 ---------------------------------------------------------------------------------------


def flow_asked(asked: Question) -> FlowAsked:
    """Between `since`, or else the last instant before the period, and the as-of instant.

    Raises InvalidValue where the first instant is not given, or does not lie before the second.
    """
    since_ms = asked.since_ms
    if since_ms is None:
        since_ms = asked.calendar.bounds_ms(asked.window)[0] - 1
    if since_ms > asked.moment_ms:
        msg = "the flow begins after it ends; give a `since` before `as_of`"
        raise InvalidValue(msg, pointer="#query/since")
    period = asked.period
    return FlowAsked(
        since_ms,
        asked.as_of_ms,
        asked.scope.people_on(asked.calendar.day_of_ms(since_ms)),
        asked.people,
        None if period is None else (period.start_day, period.end_day),
        asked.which,
    )


def move_of(row: Mapping[str, Any] | asyncpg.Record, before: Decimal, after: Decimal) -> Move:
    """A group of deals, or one, as its class is decided; amounts in one currency."""
    elsewhere = None
    if row["was"] != row["stays"]:
        elsewhere = Elsewhere(row["status"], row["ours"], row["inside"], row["omitted"])
    number = row.get("number", 1)
    return Move(row["was"], row["stays"], before, after, elsewhere, number, row["without_amount"])


async def _flow(asked: Question) -> KpiValue:
    """Both amounts at the rate of the second instant's day: a rate that moves is no deal's move."""
    moves = []
    for row in await pipelinereads.flow_groups(asked.tx, flow_asked(asked)):
        before, after = (
            asked.at_rate(row[name], row["currency"], asked.day) if row[name] else ZERO
            for name in ("before", "after")
        )
        if before is None or after is None:
            before = after = ZERO
        moves.append(move_of(row, before, after))
    return flow.pipeline_flow(moves)


# ---- K23 ---------------------------------------------------------------------------------------


async def _pipeline_created(asked: Question) -> KpiValue:
    amounts = []
    for row in await pipelinereads.qualified_entries(asked.tx, happened(asked)):
        amount = row["amount"]
        if amount is not None:
            day = asked.calendar.day_of_ms(row["at_ms"])
            amount = asked.at_rate(amount, row["currency"], day)
            if amount is None:
                continue
        amounts.append(amount)
    return pipeline.pipeline_created(amounts)


FORMULAS: Mapping[tuple[str, int], Callable[[Question], Awaitable[KpiValue]]] = {
    ("K8", 1): _stage_conversion,
    ("K14", 1): _velocity,
    ("K18", 1): _slip_rate,
    ("K19", 1): _push_count,
    ("K22", 1): _flow,
    ("K23", 1): _pipeline_created,
}
"""How each of them is read."""
