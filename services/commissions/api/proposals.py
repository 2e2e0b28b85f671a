"""Changes that reach into closed periods, waiting for a second person."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter

from services.commissions.api.context import (
    IdFilter,
    PlanReviewer,
    context_of,
    not_found,
    now_of,
    pool_of,
    snapshot,
)
from services.commissions.api.findings import (
    Differences,
    FindingView,
    differences_view,
    finding_views,
)
from services.commissions.plans.proposals import (
    COLUMNS,
    Moved,
    Proposal,
    load_proposal,
    moved_by,
    tell_figures,
)
from services.commissions.reference import Reference
from services.commissions.whatif.differences import differences
from shared.http.models import Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import etag

router = APIRouter(prefix="/v1/proposals", tags=["proposals"])

ANSWER_WITHIN_S = 12.0
"""Figures that take longer are told by the proposal when they are there."""

State = Annotated[Literal["proposed", "confirmed", "withdrawn"] | None, Query()]
Findings = Callable[[Decimal], Awaitable[list[dict[str, str]]]]


@dataclass(frozen=True, slots=True)
class Change:
    """Reference data as it is and as it would be, of which plans, from which day on."""

    present: Reference
    changed: Reference
    plans: frozenset[str]
    since: date


log = structlog.get_logger()


class ProposalView(WireModel):
    """A change of closed periods. subject: `plan/<id>/<version>` or `assignment/<id>`.

    said: what is to be saved. findings, differences: what it moved when it was asked; null while
    that is worked out, and for those who do not see everybody's pay. revision: name it in If-Match
    when confirming.
    """

    subject: str
    plan: str
    state: str
    closed_until: date
    asked_by: str
    asked_at: Instant
    decided_by: str | None
    decided_at: Instant | None
    one_seat: bool
    revision: int
    said: dict[str, Any]
    findings: list[FindingView]
    differences: Differences | None


@router.get("", response_model=Page[ProposalView])
async def proposals(
    request: Request,
    principal: PlanReviewer,
    page: Paging,
    plan: IdFilter = None,
    state: State = None,
) -> object:
    """Proposals by subject."""
    after = page.after(str)
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            f"SELECT {COLUMNS} FROM proposal WHERE subject > $1 "  # noqa: S608 - constants
            "AND ($2::text IS NULL OR plan_id = $2) AND ($3::text IS NULL OR state = $3) "
            "ORDER BY subject LIMIT $4",
            "" if after is None else after[0],
            plan,
            state,
            page.fetch,
        )
    found = page_of(
        rows,
        page,
        key=lambda row: (row["subject"],),
        show=lambda row: proposal_view(Proposal.of(row), sees_all=view.visible is None),
    )
    return listed(request, found, ProposalView)


@router.get("/{subject:path}")
async def proposal(
    request: Request,
    principal: PlanReviewer,
    subject: Annotated[str, PathParameter(min_length=1, max_length=500)],
) -> ProposalView:
    """One proposal, by what it would change."""
    async with snapshot(request, principal) as view:
        found = await load_proposal(view.tx, subject)
    if found is None:
        raise not_found("proposal")
    return proposal_view(found, sees_all=view.visible is None)


def proposed(said: Proposal, *, sees_all: bool) -> Response:
    """The answer to whoever asked for it."""
    return Response(
        proposal_view(said, sees_all=sees_all).model_dump_json(),
        status_code=202,
        media_type="application/json",
        headers={"ETag": etag(said.revision), "Location": f"/v1/proposals/{said.subject}"},
    )


def proposal_view(said: Proposal, *, sees_all: bool = True) -> ProposalView:
    """As it is shown; what people would earn only to those who see everybody's pay."""
    figures = said.figures if sees_all else None
    return ProposalView(
        subject=said.subject,
        plan=said.plan_id,
        state=said.state,
        closed_until=said.closed_until,
        asked_by=said.asked_by,
        asked_at=said.asked_at,
        decided_by=said.decided_by,
        decided_at=said.decided_at,
        one_seat=said.one_seat,
        revision=said.revision,
        said=dict(said.said),
        findings=[] if figures is None else finding_views(figures["findings"]),
        differences=None if figures is None else differences_view(figures),
    )


async def told(request: Request, asked: Proposal, change: Change, findings: Findings) -> Proposal:
    """The proposal with what it moves; without, where that takes longer than a caller waits."""
    if asked.figures is not None:
        return asked
    tasks = context_of(request).foretelling
    task = asyncio.create_task(_tell(request, asked, change, findings))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    task.add_done_callback(_note)
    done, _ = await asyncio.wait({task}, timeout=ANSWER_WITHIN_S)
    return task.result() or asked if done else asked


async def moved_in(
    request: Request, change: Change, *, closed: date, later: bool = False
) -> tuple[Moved, Moved | None]:
    """What changed reference data moves in closed periods; and, where asked for, in all."""
    # One at a time: each of them may rate a whole company.
    async with context_of(request).one_foretold:
        found = await differences(
            pool_of(request),
            change.changed,
            present=change.present,
            plans=change.plans,
            since=change.since,
            until=None if later else closed,
        )
    return moved_by(found, closed), moved_by(found, None) if later else None


async def _tell(
    request: Request, asked: Proposal, change: Change, findings: Findings
) -> Proposal | None:
    moved, _ = await moved_in(request, change, closed=asked.closed_until)
    found = await findings(moved.difference)
    now = await now_of(request)
    async with pool_of(request).acquire() as tx, tx.transaction():
        return await tell_figures(tx, asked, moved, found, now)


def _note(task: asyncio.Task[Proposal | None]) -> None:
    """Without figures nobody can sign, and asking again works them out anew."""
    if not task.cancelled() and task.exception() is not None:
        log.error("proposal.not_told", exc_info=task.exception())
