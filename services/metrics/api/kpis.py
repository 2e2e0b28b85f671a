"""KPIs: the catalogue, a value, its series by month, and the records behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request

from services.metrics.answers import Book, Question, answer
from services.metrics.api import kpirecords
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
    freshness,
    held_view,
    period_of,
    period_view,
)
from services.metrics.api.models import (
    KpiAnswer,
    KpiRecord,
    KpiVersion,
    KpiView,
    ScopeView,
    TrendAnswer,
    TrendPoint,
)
from services.metrics.api.sight import Sight, not_found, sight_of
from services.metrics.domain.catalogue import Kpi
from services.metrics.domain.trend import trend as trend_of
from services.metrics.effortanswers import months_between
from services.metrics.question import DEFAULT_LAG_DAYS
from services.metrics.rowreads import Slice
from shared.clock import from_epoch_ms, to_epoch_ms
from shared.errors import InvalidValue
from shared.http.models import Instant
from shared.http.paging import Page, Paging, listed
from shared.org.calendar import Period

if TYPE_CHECKING:
    from services.metrics.settings import MetricsSettings
    from shared.db.pool import Connection, Pool

KpiId = Annotated[str, Path(max_length=10, description="such as K1")]
Variant = Literal[
    "cohort",
    "strict",
    "wins_per_opportunity",
    "meetings_per_call",
    "opportunities_per_meeting",
]
FILTERED = frozenset(
    {"K8", "K9", "K10", "K12", "K13", "K14", "K18", "K19", "K22", "K23", "K25", "K28", "K35"}
)
"""Those that are read from deal rows, and so by deal type and segment too."""

MAX_MONTHS = 36
DAYS_BEFORE = 200
"""Six whole months before the first day asked about, for what is made of them."""

router = APIRouter(prefix="/v1/kpis", tags=["kpis"])


@dataclass(frozen=True, slots=True)
class Asked:
    """Of whom, when, as of when, and of which deals."""

    rep: Rep = None
    team: Team = None
    period: PeriodName = None
    start: FirstDay = None
    end: EndDay = None
    as_of: AsOf = None
    variant: Variant | None = None
    deal_type: Annotated[
        str | None, Query(max_length=100, description="only deals of this type")
    ] = None
    segment: Annotated[
        str | None, Query(max_length=200, description="only deals of accounts in this segment")
    ] = None
    since: Annotated[
        Instant | None,
        Query(description="K22: the first of two instants; else the period's beginning"),
    ] = None
    stage: Annotated[
        str | None, Query(max_length=300, description="K8: of this stage; else of the first")
    ] = None
    lag_days: Annotated[
        int, Query(ge=1, le=365, description="K25: how long may pass; usually 30, 60 or 90 days")
    ] = DEFAULT_LAG_DAYS


@router.get("")
async def catalogue(request: Request, _: Reader) -> Page[KpiView]:
    """Every KPI that is served: unit, formula, when there is no value, and its versions."""
    registry = _book(request).registry
    return Page[KpiView](data=[_view(registry.versions(kpi_id)) for kpi_id in registry.ids])


def _book(request: Request) -> Book:
    book: Book = request.app.state.book
    return book


def _view(versions: Sequence[Kpi]) -> KpiView:
    newest = versions[-1]
    shown = _version(newest).model_dump()
    return KpiView(
        id=newest.id,
        trend=newest.trend,
        filters=newest.id in FILTERED,
        versions=[_version(one) for one in versions],
        **shown,
    )


def _version(kpi: Kpi) -> KpiVersion:
    return KpiVersion(
        version=kpi.version,
        effective_from=kpi.effective_from,
        name=kpi.name,
        unit=kpi.unit,
        kind=kpi.kind,
        formula=kpi.formula,
        measures=list(kpi.measures),
        null_rule=kpi.null_rule,
        source=kpi.source,
        owner=kpi.owner,
        minimum_sample=kpi.minimum_sample,
    )


@router.get("/{kpi_id}")
async def kpi(
    request: Request,
    principal: Reader,
    kpi_id: KpiId,
    asked: Annotated[Asked, Depends()],
    currency: Currency = None,
) -> KpiAnswer:
    """One value: of a rep, a team, or, with neither, of everybody whom the caller sees."""
    book = _known(request, kpi_id)
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        sight = await sight_of(request, principal, tx)
        question = _question(request, tx, sight, asked, kpi_id)
        question.wanted_currency = currency
        line, period = book.definition(question, kpi_id), question.period
        value = await answer(question, kpi_id, book)
        return KpiAnswer(
            id=kpi_id,
            name=line.name,
            unit=line.unit,
            version=line.version,
            scope=ScopeView(kind=question.scope.kind, id=question.scope.id),
            period=None if period is None else period_view(period),
            value=value.value,
            reason=None if value.value is not None else value.reason,
            currency=question.currency if line.money else None,
            parts=dict(value.parts),
            held=held_view(question.held),
            as_of=from_epoch_ms(question.moment_ms),
            freshness=await freshness(tx),
        )


def _known(request: Request, kpi_id: str) -> Book:
    book = _book(request)
    if kpi_id not in book.registry:
        raise not_found("There is no KPI of this id; GET /v1/kpis lists them.")
    return book


def _question(
    request: Request, tx: Connection, sight: Sight, asked: Asked, kpi_id: str
) -> Question:
    which = Slice(asked.deal_type, asked.segment)
    if which != Slice() and kpi_id not in FILTERED:
        msg = f"{kpi_id} is no sum over deals of one type or segment; leave the filter out"
        raise InvalidValue(msg, pointer="#query/deal_type")
    period = period_of(sight, asked.period, asked.start, asked.end)
    settings: MetricsSettings = request.app.state.parts.settings
    return Question(
        tx=tx,
        world=sight.world,
        scope=sight.scope(_looked_at(sight, asked, period), rep=asked.rep, team=asked.team),
        period=period,
        now_ms=to_epoch_ms(sight.now),
        as_of_ms=as_of_ms(sight, asked.as_of),
        variant=asked.variant,
        which=which,
        since_ms=None if asked.since is None else to_epoch_ms(asked.since),
        stage=asked.stage,
        lag_days=asked.lag_days,
        touched_days=settings.touched_days,
        hygiene=settings.hygiene,
    )


def _looked_at(sight: Sight, asked: Asked, period: Period | None) -> Period:
    """All days on which it matters who was in a team: every instant's, and those around them."""
    instants = [at for at in (asked.since, asked.as_of) if at is not None]
    days = [sight.today, *(sight.calendar.day_of(at) for at in instants)]
    if period is not None:
        days += [period.start_day, period.end_day]
    first = min(days) - timedelta(days=DAYS_BEFORE)
    return Period("around", first, max(days) + timedelta(days=asked.lag_days + 1))


@router.get("/{kpi_id}/trend")
async def trend(
    request: Request,
    principal: Reader,
    kpi_id: KpiId,
    asked: Annotated[Asked, Depends()],
    currency: Currency = None,
) -> TrendAnswer:
    """The value of each whole month of the period that is over, and how it tends."""
    book = _known(request, kpi_id)
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        sight = await sight_of(request, principal, tx)
        question = _question(request, tx, sight, asked, kpi_id)
        question.wanted_currency = currency
        line = book.definition(question, kpi_id)
        if not line.trend:
            raise not_found("There is no series by month of this KPI; GET /v1/kpis says of which.")
        points, values = [], []
        for month in _months(question):
            one = replace(question, period=month, quotas=None)
            value = await answer(one, kpi_id, book)
            values.append(value.value)
            reason = None if value.value is not None else value.reason
            points.append(TrendPoint(period=period_view(month), value=value.value, reason=reason))
        found = trend_of(values)
        return TrendAnswer(
            id=kpi_id,
            name=line.name,
            unit=line.unit,
            scope=ScopeView(kind=question.scope.kind, id=question.scope.id),
            data=points,
            slope=found.slope,
            level=found.level,
            flatness=found.flatness,
            flat=found.flat,
            currency=question.currency if line.money else None,
            held=held_view(question.held),
            as_of=from_epoch_ms(question.moment_ms),
            freshness=await freshness(tx),
        )


def _months(asked: Question) -> list[Period]:
    period = asked.window
    months = months_between(asked, period.start_day, min(period.end_day, asked.day))
    whole = [month for month in months if month.start_day >= period.start_day]
    if len(whole) > MAX_MONTHS:
        msg = f"a series has at most {MAX_MONTHS} months"
        raise InvalidValue(msg, pointer="#query/period")
    return whole


@router.get("/{kpi_id}/records", response_model=Page[KpiRecord])
async def records(
    request: Request,
    principal: Reader,
    kpi_id: KpiId,
    asked: Annotated[Asked, Depends()],
    page: Paging,
) -> object:
    """The deals or activities behind a value, each with the events that it rests on."""
    _known(request, kpi_id)
    after = page.after(str)
    last = None if after is None else str(after[0])
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        sight = await sight_of(request, principal, tx)
        question = _question(request, tx, sight, asked, kpi_id)
        found = await kpirecords.records_of(question, sight, kpi_id, page, last)
    return listed(request, found, KpiRecord)
