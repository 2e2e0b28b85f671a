"""Standards of performance: what is expected of everybody of a role, and who is below it."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from services.metrics.answers import Book
from services.metrics.api.common import Reader
from services.metrics.api.history import version_page
from services.metrics.api.sight import Sight, not_found, sight_of
from services.metrics.api.target_models import VersionView
from services.metrics.domain.goals import reaches
from services.metrics.goal_answers import Answers, like_people
from services.metrics.stated_rows import Standard, list_standards, row_of, save_row
from services.metrics.versions import STANDARD
from shared.clock import to_epoch_ms
from shared.errors import InvalidValue
from shared.http.auth import Principal, Role, require
from shared.http.models import DecimalText, Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import IfMatch, IfNoneMatch, check_write, etag
from shared.org.calendar import Period

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

Writer = Annotated[Principal, require(Role.COMP_ADMIN, Role.ADMIN, scopes=["metrics:write"])]
StandardId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f|@/*]+$")]

router = APIRouter(prefix="/v1/standards", tags=["goals"])


class StandardBody(WireModel):
    """What a KPI of everybody of a role is to be in each period. from, to: days, both included."""

    title: Annotated[str, Field(min_length=1, max_length=500)]
    role: Annotated[str, Field(min_length=1, max_length=200)]
    kpi: Annotated[str, Field(min_length=1, max_length=100)]
    direction: Literal["at_least", "at_most"] = "at_least"
    limit: DecimalText
    period: Literal["month", "quarter", "half", "year"]
    first_day: date = Field(alias="from")
    last_day: date | None = Field(default=None, alias="to")


class StandardView(WireModel):
    """A stored standard."""

    id: str
    title: str
    role: str
    kpi: str
    direction: str
    limit: DecimalText
    period: str
    first_day: date = Field(alias="from")
    last_day: date | None = Field(alias="to")
    revision: int
    changed_at: Instant
    changed_by: str


class ResultView(WireModel):
    """One person against a standard in one period. met: null where there is no value."""

    person: str
    name: str
    value: DecimalText | None
    reason: str | None
    met: bool | None


@router.get("", response_model=Page[StandardView])
async def standards(
    request: Request,
    principal: Reader,
    page: Paging,
    role: Annotated[str | None, Query(max_length=200)] = None,
    day: Annotated[date | None, Query(description="in force on this day")] = None,
) -> object:
    """Standards of every role, by id: what is expected is no secret."""
    del principal
    after = page.after(str)
    pool: Pool = request.app.state.parts.pool
    rows = await list_standards(
        pool,
        role=role,
        day=day,
        after=None if after is None else str(after[0]),
        limit=page.fetch,
    )
    found = page_of(rows, page, key=lambda row: (row.id,), show=_view)
    return listed(request, found, StandardView)


@router.get("/{standard_id}")
async def standard(
    request: Request, response: Response, principal: Reader, standard_id: StandardId
) -> StandardView:
    """One standard."""
    del principal
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        found = await _there(tx, standard_id)
    response.headers["ETag"] = etag(found.revision)
    return _view(found)


@router.get("/{standard_id}/history", response_model=Page[VersionView])
async def history(
    request: Request, principal: Reader, page: Paging, standard_id: StandardId
) -> object:
    """Every version of a standard, the newest first."""
    del principal
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        if await row_of(tx, Standard, standard_id) is None:
            raise not_found("There is no such standard.")
        found = await version_page(tx, STANDARD, standard_id, page)
    return listed(request, found, VersionView)


@router.get("/{standard_id}/results", response_model=Page[ResultView])
async def results(
    request: Request,
    principal: Reader,
    standard_id: StandardId,
    period: Annotated[str, Query(max_length=50, description="2025, 2025-Q1 or 2025-03")],
) -> object:
    """Everybody of the role whom the caller sees, who was there all of the period."""
    state = request.app.state
    pool: Pool = state.parts.pool
    book: Book = state.book
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        sight = await sight_of(request, principal, tx)
        found = await _there(tx, standard_id)
        window = _window(sight, found, period)
        answers = Answers(tx, sight.world, book, state.parts.settings, to_epoch_ms(sight.now))
        rows = []
        for person in like_people(sight.org, found.role, window):
            if person in sight.visible:
                value = await answers.value(found.kpi, window, person=person)
                known = sight.org.person(person, window.last_day)
                met = value.value is not None and reaches(
                    found.direction, value.value, found.limit_value
                )
                rows.append(
                    ResultView(
                        person=person,
                        name=person if known is None else known.name,
                        value=value.value,
                        reason=None if value.value is not None else value.reason,
                        met=None if value.value is None else met,
                    )
                )
    return listed(request, Page[ResultView](data=rows), ResultView)


@router.put("/{standard_id}")
async def put_standard(  # noqa: PLR0913, PLR0917 - one argument a header or part of the path
    request: Request,
    response: Response,
    principal: Writer,
    standard_id: StandardId,
    body: StandardBody,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> StandardView:
    """State a standard, new or changed."""
    pool: Pool = request.app.state.parts.pool
    book: Book = request.app.state.book
    if body.kpi not in book.registry:
        raise InvalidValue("there is no KPI of this id; GET /v1/kpis lists them", pointer="/kpi")
    if body.last_day is not None and body.last_day < body.first_day:
        raise InvalidValue("the last day lies before the first one", pointer="/to")
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        stored = await row_of(tx, Standard, standard_id, lock=True)
        there = stored is not None and not stored.deleted
        current = etag(stored.revision) if stored is not None and there else None
        check_write(current, if_match=if_match, if_none_match=if_none_match)
        saved = Standard(
            id=standard_id,
            title=body.title,
            role=body.role,
            kpi=body.kpi,
            direction=body.direction,
            limit_value=body.limit,
            period_kind=body.period,
            first_day=body.first_day,
            last_day=body.last_day,
            revision=1 if stored is None else stored.revision + 1,
            deleted=False,
            changed_at=sight.now,
            changed_by=principal.subject,
        )
        await save_row(tx, saved)
    response.headers["ETag"] = etag(saved.revision)
    return _view(saved)


@router.delete("/{standard_id}", status_code=204)
async def delete_standard(
    request: Request, principal: Writer, standard_id: StandardId, if_match: IfMatch = None
) -> None:
    """Take a standard back. Its history stays."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        stored = await _there(tx, standard_id, lock=True)
        check_write(etag(stored.revision), if_match=if_match)
        await save_row(tx, stored.taken_back(sight.now, principal.subject))


async def _there(tx: Connection, standard_id: str, *, lock: bool = False) -> Standard:
    found = await row_of(tx, Standard, standard_id, lock=lock)
    if found is None or found.deleted:
        raise not_found("There is no such standard.")
    return found


def _window(sight: Sight, found: Standard, name: str) -> Period:
    """The period asked about, which must be one of the standard's. Raises InvalidValue."""
    try:
        window = sight.calendar.period(name)
    except InvalidValue as fault:
        raise fault.at("#query/period") from None
    own = sight.calendar.period_containing(window.start_day, found.period_kind)
    if (own.start_day, own.end_day) != (window.start_day, window.end_day):
        msg = f"the standard is for each {found.period_kind}; ask for one, such as {own.id}"
        raise InvalidValue(msg, pointer="#query/period")
    last = found.last_day or date.max
    if not found.first_day <= window.start_day <= last:
        msg = "the standard is not in force on the first day of this period"
        raise InvalidValue(msg, pointer="#query/period")
    return window


def _view(row: Standard) -> StandardView:
    return StandardView.model_validate(
        {
            "id": row.id,
            "title": row.title,
            "role": row.role,
            "kpi": row.kpi,
            "direction": row.direction,
            "limit": row.limit_value,
            "period": row.period_kind,
            "from": row.first_day,
            "to": row.last_day,
            "revision": row.revision,
            "changed_at": row.changed_at,
            "changed_by": row.changed_by,
        }
    )
