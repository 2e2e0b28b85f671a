"""KPIs: the catalogue, a value, and the records behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Depends, Path, Request

from services.metrics import rowreads
from services.metrics.answers import Question, answer
from services.metrics.api.common import (
    AsOf,
    Currency,
    EndDay,
    FirstDay,
    PeriodName,
    Reader,
    Rep,
    Team,
    as_of_ms,
    event_ids,
    freshness,
    held_view,
    period_of,
    period_view,
)
from services.metrics.api.models import KpiAnswer, KpiRecord, KpiView, ScopeView
from services.metrics.api.sight import Sight, not_found, sight_of
from services.metrics.domain.catalogue import KPIS, Unit
from services.metrics.domain.contributions import LOST_DEALS, NO_DECISION, WON_DEALS, people_of
from services.metrics.domain.rows import ClosedRow, credited_of
from services.metrics.rowreads import DealFilter
from shared.clock import from_epoch_ms, to_epoch_ms
from shared.http.paging import Page, PageRequest, Paging, listed, page_of
from shared.money import allocate
from shared.org.calendar import Period

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection, Pool

KpiId = Annotated[str, Path(max_length=10, description="such as K1")]
WITHOUT_WINDOW = frozenset({"K15", "K16", "K17"})
OUTCOMES = {
    "K1": [WON_DEALS],
    "K2": [WON_DEALS],
    "K3": [WON_DEALS],
    "K5": [WON_DEALS, LOST_DEALS, NO_DECISION],
    "K6": [WON_DEALS, LOST_DEALS],
    "K11": [WON_DEALS],
    "K12": [WON_DEALS],
    "K13": [WON_DEALS],
}
BY_SHARE = frozenset({"K1", "K2", "K3", "K11"})

router = APIRouter(prefix="/v1/kpis", tags=["kpis"])


@dataclass(frozen=True, slots=True)
class Asked:
    """Of whom, when and as of when."""

    rep: Rep = None
    team: Team = None
    period: PeriodName = None
    start: FirstDay = None
    end: EndDay = None
    as_of: AsOf = None


@router.get("")
async def catalogue(request: Request, _: Reader) -> Page[KpiView]:
    """Every KPI that is served: unit, formula, and when there is no value."""
    del request
    rows = [
        KpiView(**{name: str(getattr(kpi, name)) for name in _TEXTS}, version=kpi.version)
        for kpi in KPIS.values()
    ]
    return Page[KpiView](data=rows)


_TEXTS = ("id", "name", "unit", "kind", "formula", "null_rule", "source")


@router.get("/{kpi_id}")
async def kpi(  # noqa: PLR0913, PLR0917 - one argument a parameter
    request: Request,
    principal: Reader,
    kpi_id: KpiId,
    asked: Annotated[Asked, Depends()],
    currency: Currency = None,
    variant: Literal["cohort", "strict"] | None = None,
) -> KpiAnswer:
    """One value: of a rep, a team, or, with neither, of everybody whom the caller sees."""
    if kpi_id not in KPIS:
        raise not_found("There is no KPI of this id; GET /v1/kpis lists them.")
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        sight = await sight_of(request, principal, tx)
        question = _question(tx, sight, asked)
        question.wanted_currency, question.variant = currency, variant
        value = await answer(question, kpi_id)
        line, period = KPIS[kpi_id], question.period
        return KpiAnswer(
            id=kpi_id,
            name=line.name,
            unit=line.unit,
            version=line.version,
            scope=ScopeView(kind=question.scope.kind, id=question.scope.id),
            period=None if period is None else period_view(period),
            value=value.value,
            reason=None if value.value is not None else value.reason,
            currency=question.currency if _has_money(kpi_id) else None,
            parts=dict(value.parts),
            held=held_view(question.held),
            as_of=from_epoch_ms(question.moment_ms),
            freshness=await freshness(tx),
        )


def _has_money(kpi_id: str) -> bool:
    return KPIS[kpi_id].unit is Unit.MONEY or kpi_id in {"K1", "K2", "K3", "K6", "K11"}


def _question(tx: Connection, sight: Sight, asked: Asked) -> Question:
    period = period_of(sight, asked.period, asked.start, asked.end)
    window = period or Period("today", sight.today, sight.today)
    return Question(
        tx=tx,
        world=sight.world,
        scope=sight.scope(window, rep=asked.rep, team=asked.team),
        period=period,
        now_ms=to_epoch_ms(sight.now),
        as_of_ms=as_of_ms(sight, asked.as_of),
    )


@router.get("/{kpi_id}/records", response_model=Page[KpiRecord])
async def records(
    request: Request,
    principal: Reader,
    kpi_id: KpiId,
    asked: Annotated[Asked, Depends()],
    page: Paging,
) -> object:
    """The deals or activities behind a value, each with the events that it rests on."""
    if kpi_id not in KPIS:
        raise not_found("There is no KPI of this id; GET /v1/kpis lists them.")
    after = page.after(str)
    last = None if after is None else str(after[0])
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        sight = await sight_of(request, principal, tx)
        question = _question(tx, sight, asked)
        if kpi_id == "K24":
            found = await _activities(question, page, last)
        elif kpi_id in OUTCOMES:
            found = await _closed(question, kpi_id, page, last)
        else:
            found = await _open(question, sight, kpi_id, page, last)
    return listed(request, found, KpiRecord)


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
    row: asyncpg.Record, day: date | None, counted: Decimal | None, ids: dict[str, list[str]]
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
    )
