"""Goals: a KPI, a target, two days, an owner; with what is reached and whether it can be."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal, Self

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field, model_validator

from services.metrics.answers import Book
from services.metrics.api.common import PeriodName, Reader, Rep, Team, period_of
from services.metrics.api.history import version_page
from services.metrics.api.models import Id
from services.metrics.api.sight import Sight, not_found, sight_of
from services.metrics.api.target_models import VersionView
from services.metrics.domain import goals as rules
from services.metrics.goal_answers import Answers
from services.metrics.stated_rows import Goal, list_subjects, parents_of, row_of, save_row
from services.metrics.versions import GOAL
from shared.clock import to_epoch_ms
from shared.errors import InvalidValue
from shared.http.auth import Principal, Role, require
from shared.http.models import DecimalText, Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import IfMatch, IfNoneMatch, check_write, etag

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

Writer = Annotated[
    Principal,
    require(Role.REP, Role.MANAGER, Role.COMP_ADMIN, Role.ADMIN, scopes=["metrics:write"]),
]
GoalId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f|@/*]+$")]

router = APIRouter(prefix="/v1/goals", tags=["goals"])


class GoalBody(WireModel):
    """A goal: specific (title), measured (kpi, target), timed, and serving another (parent).

    start, end: the days [start, end). person or team: whose KPI; with neither, the organisation's.
    owner: who answers for it; left out, the person. unit: left out, the KPI's.
    """

    title: Annotated[str, Field(min_length=1, max_length=500)]
    kpi: Annotated[str, Field(min_length=1, max_length=100)]
    direction: Literal["at_least", "at_most"] = "at_least"
    target: DecimalText
    unit: Annotated[str, Field(min_length=1, max_length=50)] | None = None
    start: date
    end: date
    person: Id | None = None
    team: Id | None = None
    owner: Id | None = None
    parent: Id | None = None

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if self.person is not None and self.team is not None:
            raise ValueError("name a person or a team, not both")
        if self.owner is None and self.person is None:
            raise ValueError("a goal of several people needs an `owner` who answers for it")
        return self


class GoalView(WireModel):
    """A stored goal, over the days [start, end)."""

    id: str
    title: str
    kpi: str
    direction: str
    target: DecimalText
    unit: str
    start: date
    end: date
    person: str | None
    team: str | None
    owner: str
    parent: str | None
    revision: int
    changed_at: Instant
    changed_by: str


class FeasibilityView(WireModel):
    """Like people's periods that reached the target: share of the sample; null: too few to say."""

    people: int
    sample: int
    share: DecimalText | None


class GoalDetail(GoalView):
    """One goal as it stands. progress: of the target; doubts: what a good goal would not have."""

    value: DecimalText | None
    reason: str | None
    reached: bool | None
    progress: DecimalText | None
    feasibility: FeasibilityView | None
    doubts: list[str]


@router.get("", response_model=Page[GoalView])
async def goals(  # noqa: PLR0913, PLR0917 - one argument a filter
    request: Request,
    principal: Reader,
    page: Paging,
    rep: Rep = None,
    team: Team = None,
    period: PeriodName = None,
) -> object:
    """Goals of the people and teams that the caller sees, by id."""
    after = page.after(str)
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        window = period_of(sight, period, None, None)
        rows = await list_subjects(
            tx,
            Goal,
            people=sight.people,
            teams=sight.teams,
            person=rep,
            team=team,
            window=None if window is None else (window.start_day, window.end_day),
            after=None if after is None else str(after[0]),
            limit=page.fetch,
        )
    found = page_of(rows, page, key=lambda row: (row.id,), show=_view)
    return listed(request, found, GoalView)


@router.get("/{goal_id}")
async def goal(
    request: Request, response: Response, principal: Reader, goal_id: GoalId
) -> GoalDetail:
    """One goal: what is reached by now, and how often like people reached as much."""
    state = request.app.state
    pool: Pool = state.parts.pool
    book: Book = state.book
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        sight = await sight_of(request, principal, tx)
        found = await _seen(tx, sight, goal_id)
        answers = Answers(tx, sight.world, book, state.parts.settings, to_epoch_ms(sight.now))
        value = await answers.of_goal(found)
        feasible = await answers.feasibility(found)
    response.headers["ETag"] = etag(found.revision)
    days = (found.end_day - found.start_day).days
    reached = value.value is not None and rules.reaches(found.direction, value.value, found.target)
    return GoalDetail(
        **_view(found).model_dump(),
        value=value.value,
        reason=None if value.value is not None else value.reason,
        reached=None if value.value is None else reached,
        progress=rules.progress(found.direction, value.value, found.target),
        feasibility=None
        if feasible is None
        else FeasibilityView(people=feasible.people, sample=feasible.sample, share=feasible.share),
        doubts=list(rules.doubts(feasible, has_parent=found.parent is not None, days=days)),
    )


@router.get("/{goal_id}/history", response_model=Page[VersionView])
async def history(request: Request, principal: Reader, page: Paging, goal_id: GoalId) -> object:
    """Every version of a goal, the newest first."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        await _seen(tx, sight, goal_id, deleted_too=True)
        found = await version_page(tx, GOAL, goal_id, page)
    data = [v for v in found.data if _sees(sight, v.document["person"], v.document["team"])]
    return listed(request, found.model_copy(update={"data": data}), VersionView)


@router.put("/{goal_id}")
async def put_goal(  # noqa: PLR0913, PLR0917 - one argument a header or part of the path
    request: Request,
    response: Response,
    principal: Writer,
    goal_id: GoalId,
    body: GoalBody,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> GoalView:
    """State a goal, new or changed, for oneself or for people and teams that one sees whole."""
    pool: Pool = request.app.state.parts.pool
    book: Book = request.app.state.book
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        _check_right(sight, body.person, body.team)
        stored = await row_of(tx, Goal, goal_id, lock=True)
        there = stored is not None and not stored.deleted
        if stored is not None and there:
            _check_right(sight, stored.person, stored.team)
        current = etag(stored.revision) if stored is not None and there else None
        check_write(current, if_match=if_match, if_none_match=if_none_match)
        if body.kpi not in book.registry:
            msg = "there is no KPI of this id; GET /v1/kpis lists them"
            raise InvalidValue(msg, pointer="/kpi")
        await _check_parent(tx, sight, goal_id, body)
        unit = body.unit or str(book.registry.in_force(body.kpi, body.start).unit)
        saved = Goal(
            id=goal_id,
            title=body.title,
            kpi=body.kpi,
            direction=body.direction,
            target=body.target,
            unit=unit,
            start_day=body.start,
            end_day=body.end,
            person=body.person,
            team=body.team,
            owner=str(body.owner or body.person),
            parent=body.parent,
            revision=1 if stored is None else stored.revision + 1,
            deleted=False,
            changed_at=sight.now,
            changed_by=principal.subject,
        )
        await save_row(tx, saved)
    response.headers["ETag"] = etag(saved.revision)
    return _view(saved)


@router.delete("/{goal_id}", status_code=204)
async def delete_goal(
    request: Request, principal: Writer, goal_id: GoalId, if_match: IfMatch = None
) -> None:
    """Take a goal back. Its history stays; goals that serve it stay too."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        stored = await _seen(tx, sight, goal_id, lock=True)
        check_write(etag(stored.revision), if_match=if_match)
        await save_row(tx, stored.taken_back(sight.now, principal.subject))


async def _check_parent(tx: Connection, sight: Sight, goal_id: str, body: GoalBody) -> None:
    above: list[str] = []
    if body.parent is not None:
        parent = await row_of(tx, Goal, body.parent)
        if parent is None or parent.deleted:
            raise InvalidValue("there is no such goal to serve", pointer="/parent")
        above = [body.parent, *await parents_of(tx, body.parent)]
    rules.check_goal(goal_id, body.start, body.end, above)
    if body.owner is not None and sight.org.person(body.owner, sight.today) is None:
        raise InvalidValue("there is nobody of this id", pointer="/owner")


def _check_right(sight: Sight, person: str | None, team: str | None) -> None:
    if person is None and team is None and sight.people is not None:
        raise not_found("A goal of the organisation is stated by who sees all of it.")
    sight.check(rep=person, team=team)


def _sees(sight: Sight, person: str | None, team: str | None) -> bool:
    return sight.people is None or person in sight.people or team in sight.teams


async def _seen(
    tx: Connection, sight: Sight, goal_id: str, *, lock: bool = False, deleted_too: bool = False
) -> Goal:
    found = await row_of(tx, Goal, goal_id, lock=lock)
    there = found is not None and (deleted_too or not found.deleted)
    if found is None or not there or not _sees(sight, found.person, found.team):
        raise not_found("There is no such goal, or it is not yours to see.")
    return found


def _view(row: Goal) -> GoalView:
    names = set(GoalView.model_fields) - {"start", "end"}
    return GoalView(
        start=row.start_day, end=row.end_day, **{name: getattr(row, name) for name in names}
    )
