"""Objectives: agreed with somebody, scored by whoever they report to, paid by commissions."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Annotated

from asyncpg.exceptions import UniqueViolationError
from fastapi import APIRouter, Path, Request, Response
from pydantic import Field

from services.metrics.api.common import PeriodName, Reader, Rep, period_of
from services.metrics.api.history import version_page
from services.metrics.api.models import Id
from services.metrics.api.sight import Sight, not_found, sight_of
from services.metrics.api.target_models import Reason, VersionView
from services.metrics.domain.objectives import (
    check_definer,
    check_score,
    check_scorer,
    credited_at,
)
from services.metrics.scores import publish_score
from services.metrics.stated_rows import Objective, list_subjects, row_of, save_row
from services.metrics.versions import OBJECTIVE
from shared.errors import InvalidValue, Refused
from shared.http.auth import Principal, Role, require
from shared.http.models import DecimalText, Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import IfMatch, IfNoneMatch, check_write, etag

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

Writer = Annotated[
    Principal, require(Role.MANAGER, Role.COMP_ADMIN, Role.ADMIN, scopes=["metrics:write"])
]
ObjectiveId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f|@/*]+$")]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f|@/*]+$")]
Weight = Annotated[str, Field(pattern=r"^([0-9]{1,2}(\.[0-9]{1,6})?|100)%$")]
STANDS_IN = frozenset({Role.COMP_ADMIN, Role.ADMIN, Role.SERVICE})


class ObjectiveBody(WireModel):
    """What somebody is to reach in a period.

    objective: the name by which plans pay it, the path's id where it is left out. target: in
    words, how one will know. weight: among the person's objectives, as agreed; the plan's own
    weight is what pays. scorer: who scores it; left out, any manager above the person.
    """

    objective: Name | None = None
    person: Id
    period: Annotated[str, Field(min_length=4, max_length=50)]
    title: Annotated[str, Field(min_length=1, max_length=500)]
    target: Reason
    weight: Weight | None = None
    scorer: Id | None = None


class ScoreBody(WireModel):
    """How far it was met. score: 0.8 is 80 %. evidence: what that rests on."""

    score: DecimalText
    evidence: Reason


class ObjectiveView(WireModel):
    """A stored objective. score: a fraction, null until it is scored; credited at `scored_at`."""

    id: str
    objective: str
    person: str
    period: str
    title: str
    target: str
    weight: str | None
    scorer: str | None
    score: DecimalText | None
    scored_at: Instant | None
    scored_by: str | None
    evidence: str | None
    start: date
    end: date
    revision: int
    changed_at: Instant
    changed_by: str


router = APIRouter(prefix="/v1/objectives", tags=["objectives"])


@router.get("", response_model=Page[ObjectiveView])
async def objectives(
    request: Request,
    principal: Reader,
    page: Paging,
    rep: Rep = None,
    period: PeriodName = None,
) -> object:
    """Objectives of the people whom the caller sees, by id."""
    after = page.after(str)
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        window = period_of(sight, period, None, None)
        rows = await list_subjects(
            tx,
            Objective,
            people=sight.people,
            teams=(),
            person=rep,
            team=None,
            window=None if window is None else (window.start_day, window.end_day),
            after=None if after is None else str(after[0]),
            limit=page.fetch,
        )
    found = page_of(rows, page, key=lambda row: (row.id,), show=_view)
    return listed(request, found, ObjectiveView)


@router.get("/{objective_id}")
async def objective(
    request: Request, response: Response, principal: Reader, objective_id: ObjectiveId
) -> ObjectiveView:
    """One objective."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        found = await _seen(tx, sight, objective_id)
    response.headers["ETag"] = etag(found.revision)
    return _view(found)


@router.get("/{objective_id}/history", response_model=Page[VersionView])
async def history(
    request: Request, principal: Reader, page: Paging, objective_id: ObjectiveId
) -> object:
    """Every version of an objective, scores and corrections included, the newest first."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        await _seen(tx, sight, objective_id, deleted_too=True)
        found = await version_page(tx, OBJECTIVE, objective_id, page)
    data = [v for v in found.data if v.document["person"] in sight.visible]
    return listed(request, found.model_copy(update={"data": data}), VersionView)


@router.put("/{objective_id}")
async def put_objective(  # noqa: PLR0913, PLR0917 - one argument a header or part of the path
    request: Request,
    response: Response,
    principal: Writer,
    objective_id: ObjectiveId,
    body: ObjectiveBody,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> ObjectiveView:
    """State an objective for somebody else, new or changed. What is scored keeps whose it is."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        sight.check(rep=body.person)
        check_definer(caller=principal.person_id, person=body.person)
        stored = await row_of(tx, Objective, objective_id, lock=True)
        if stored is not None and not stored.deleted:
            sight.check(rep=stored.person)
        current = None if stored is None or stored.deleted else stored
        check_write(
            None if current is None else etag(current.revision),
            if_match=if_match,
            if_none_match=if_none_match,
        )
        saved = _stated(objective_id, body, sight, principal, stored)
        if current is not None and current.score is not None:
            _check_same_place(current, saved)
        await _save(tx, saved)
    response.headers["ETag"] = etag(saved.revision)
    return _view(saved)


@router.delete("/{objective_id}", status_code=204)
async def delete_objective(
    request: Request, principal: Writer, objective_id: ObjectiveId, if_match: IfMatch = None
) -> None:
    """Take an objective back, and with it its score. Its history stays."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        stored = await _seen(tx, sight, objective_id, lock=True)
        check_definer(caller=principal.person_id, person=stored.person)
        check_write(etag(stored.revision), if_match=if_match)
        gone = _changed(replace(stored, deleted=True), sight, principal)
        await save_row(tx, gone)
        await publish_score(tx, gone)


@router.post("/{objective_id}/score")
async def score(  # noqa: PLR0913, PLR0917 - one argument a header or part of the path
    request: Request,
    response: Response,
    principal: Writer,
    objective_id: ObjectiveId,
    body: ScoreBody,
    if_match: IfMatch = None,
) -> ObjectiveView:
    """Score somebody else's objective, or correct the score; it is published as it is saved."""
    check_score(body.score)
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        stored = await _seen(tx, sight, objective_id, lock=True)
        check_scorer(
            caller=principal.person_id,
            person=stored.person,
            scorer=stored.scorer,
            stands_in=not STANDS_IN.isdisjoint(principal.roles),
        )
        check_write(etag(stored.revision), if_match=if_match)
        scored = replace(
            stored,
            score=body.score,
            evidence=body.evidence,
            scored_at=stored.scored_at or credited_at(stored.end_day, sight.calendar),
            scored_by=principal.subject,
        )
        scored = _changed(scored, sight, principal)
        await save_row(tx, scored)
        await publish_score(tx, scored)
    response.headers["ETag"] = etag(scored.revision)
    return _view(scored)


async def _seen(
    tx: Connection, sight: Sight, id_: str, *, lock: bool = False, deleted_too: bool = False
) -> Objective:
    found = await row_of(tx, Objective, id_, lock=lock)
    there = found is not None and (deleted_too or not found.deleted)
    if found is None or not there or found.person not in sight.visible:
        raise not_found("There is no such objective, or it is not yours to see.")
    return found


def _stated(
    id_: str, body: ObjectiveBody, sight: Sight, principal: Principal, stored: Objective | None
) -> Objective:
    try:
        period = sight.calendar.period(body.period)
    except InvalidValue as fault:
        raise fault.at("/period") from None
    if body.scorer == body.person:
        raise InvalidValue("nobody scores their own objective", pointer="/scorer")
    going_on = None if stored is None or stored.deleted else stored
    # A score lives on only in an objective that was not taken back.
    return Objective(
        id=id_,
        objective=body.objective or _plain_name(id_),
        person=body.person,
        period=body.period,
        start_day=period.start_day,
        end_day=period.end_day,
        title=body.title,
        target=body.target,
        weight=body.weight,
        scorer=body.scorer,
        score=None if going_on is None else going_on.score,
        scored_at=None if going_on is None else going_on.scored_at,
        scored_by=None if going_on is None else going_on.scored_by,
        evidence=None if going_on is None else going_on.evidence,
        revision=1 if stored is None else stored.revision + 1,
        deleted=False,
        changed_at=sight.now,
        changed_by=principal.subject,
    )


def _plain_name(id_: str) -> str:
    if len(id_) > 100:  # noqa: PLR2004 - as long as a plan's names are
        msg = "the id is too long to be the name in plans too; state `objective`"
        raise InvalidValue(msg, pointer="/objective")
    return id_


def _check_same_place(stored: Objective, saved: Objective) -> None:
    before = (stored.person, stored.objective, stored.period)
    if before != (saved.person, saved.objective, saved.period):
        msg = (
            "It is scored already: its person, objective and period stay. "
            "Delete it, which takes the score back, and state another one."
        )
        raise Refused("scored", msg)


def _changed(row: Objective, sight: Sight, principal: Principal) -> Objective:
    return replace(
        row, revision=row.revision + 1, changed_at=sight.now, changed_by=principal.subject
    )


async def _save(tx: Connection, saved: Objective) -> None:
    try:
        await save_row(tx, saved)
    except UniqueViolationError:
        msg = (
            f"{saved.person} has an objective {saved.objective} for {saved.period} already; "
            "change that one, or give this one another `objective`"
        )
        raise Refused("second-objective", msg) from None


def _view(row: Objective) -> ObjectiveView:
    names = set(ObjectiveView.model_fields) - {"start", "end"}
    return ObjectiveView(
        start=row.start_day, end=row.end_day, **{name: getattr(row, name) for name in names}
    )
