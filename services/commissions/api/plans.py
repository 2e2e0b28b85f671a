"""Plans: versions of documents, each immutable once it is saved."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

import asyncpg
import msgspec
from fastapi import APIRouter, Body, Path, Query, Request, Response

from services.commissions.api.context import (
    Decider,
    Id,
    PlanWriter,
    Reader,
    actor_of,
    context_of,
    decision,
    not_found,
    now_of,
    pool_of,
    snapshot,
)
from services.commissions.api.findings import (
    Differences,
    FindingView,
    differences_view,
    finding_rows,
    finding_views,
)
from services.commissions.api.proposals import (
    Change,
    ProposalView,
    moved_in,
    proposal_view,
    proposed,
    told,
)
from services.commissions.domain.lint import Finding, LintContext, Severity, lint
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.plan import PlanInvalid, PlanVersion
from services.commissions.plans.linting import lint_context
from services.commissions.plans.proposals import (
    Proposal,
    closed_until,
    confirm,
    load_proposal,
    propose,
    withdraw,
)
from services.commissions.plans.versions import (
    KeptIn,
    NewVersion,
    check_follows,
    check_keeping,
    is_saved,
    keep_in,
    kept_where,
    save_version,
)
from services.commissions.reference import Reference
from services.commissions.whatif.differences import with_versions
from shared.errors import InvalidValue
from shared.facts.settle import raise_reference_version
from shared.http.models import WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import IfMatch, check_write, etag
from shared.http.problems import Fault, problem

router = APIRouter(prefix="/v1/plans", tags=["plans"])

VersionNumber = Annotated[int, Path(ge=1, le=100_000)]
Document = Annotated[dict[str, Any], Body()]
Kept = Annotated[KeptIn, Query(description="where the plan is kept, and so changed from")]
Strict = Annotated[
    bool, Query(description="refuse what its surroundings refuse: a measure without a quota, …")
]
Compared = Annotated[
    bool, Query(description="tell what everybody would earn, from the version's first day on")
]


class PlanView(WireModel):
    """A plan: its newest version. kept_in: `files`, or `api`."""

    id: str
    name: str
    version: int
    hash: str
    effective_from: date
    effective_to: date | None
    kept_in: str


class PlanVersionView(PlanView):
    """One version, with its document as it was saved."""

    document: dict[str, Any]


class SavedVersionView(PlanVersionView):
    """A version that is saved, and what its author should know of it."""

    findings: list[FindingView]


class LintView(WireModel):
    """What is to be said of a document. refused: it would not be saved as it stands.

    differences: what everybody would earn, where it was asked for.
    """

    refused: bool
    findings: list[FindingView]
    differences: Differences | None


class Keeping(WireModel):
    """Where a plan is kept: a plan in files is saved by `attain plan apply` only."""

    kept_in: KeptIn


@router.post("/lint")
async def lint_document(
    request: Request, principal: PlanWriter, document: Document, *, differences: Compared = False
) -> LintView:
    """What would be said of a document if it were saved now. Nothing is.

    What people would earn is told to those who see everybody's pay.
    """
    try:
        parsed = parse_plan(document)
        async with snapshot(request, principal) as view:
            reference = view.reference
            plan = reference.plans.get(parsed.id)
            if plan is None or parsed.hash not in plan.by_hash:
                check_follows(plan, parsed)
            surroundings = await lint_context(view.tx, parsed, reference, today=view.today)
    except PlanInvalid as refusal:
        found = [
            Finding("plan_invalid", Severity.REFUSED, p.pointer, p.message, Decimal(1), "count")
            for p in refusal.problems
        ]
        return LintView(refused=True, findings=finding_views(finding_rows(found)), differences=None)
    first, closed = _first_day(parsed), surroundings.closed_before or date.min
    whole = None
    # What others earn is told to those who may see it.
    if view.visible is None and (differences or first < closed):
        moved, whole = await moved_in(
            request,
            _change(reference, parsed),
            closed=closed,
            later=differences,
        )
        surroundings = replace(surroundings, border_difference=moved.difference)
    found = list(lint(parsed, surroundings))
    return LintView(
        refused=any(finding.severity is Severity.REFUSED for finding in found),
        findings=finding_views(finding_rows(found)),
        differences=None if whole is None else differences_view(whole.document),
    )


@router.put(
    "/{plan_id}/versions/{version}",
    response_model=SavedVersionView,
    responses={201: {"model": SavedVersionView}, 202: {"model": ProposalView}},
)
async def put_version(  # noqa: PLR0913 - one argument a part of the request
    request: Request,
    principal: PlanWriter,
    plan_id: Id,
    version: VersionNumber,
    document: Document,
    *,
    kept_in: Kept = "api",
    strict: Strict = False,
) -> Response:
    """Save a version. The same content again changes nothing; other content is refused.

    One that begins before the day until which all is closed is proposed (202): it is told what it
    moves, and counts when a second person has confirmed it.
    """
    try:
        parsed = parse_plan(document)
        if parsed.id != plan_id:
            msg = f"the document's id is {parsed.id}, the path says {plan_id}"
            raise InvalidValue(msg, pointer="/id")
        new = NewVersion(version, parsed, document)
        async with snapshot(request, principal) as view:
            reference = view.reference
            saved = await is_saved(view.tx, new)
            kept = await kept_where(view.tx, plan_id)
            if not saved:
                check_follows(reference.plans.get(plan_id), parsed)
            surroundings = await lint_context(view.tx, parsed, reference, today=view.today)
        found = lint(parsed, surroundings)
        refused = [f for f in found if f.severity is Severity.REFUSED]
        if strict and refused and not saved:
            return _refusal("plan-refused", [(f.pointer, f.message) for f in refused])
        actor = actor_of(principal)
        if not saved and not await _save(request, new, actor, kept_in):
            asked = await _propose(request, new, actor, kept_in, reference, surroundings)
            return proposed(asked, sees_all=view.visible is None)
    except PlanInvalid as refusal:
        return _refusal("plan-invalid", [(p.pointer, p.message) for p in refusal.problems])
    return _saved(new, kept if saved else kept_in, found, 200 if saved else 201)


def _refusal(code: str, problems: list[tuple[str, str]]) -> Response:
    faults = [Fault(pointer=pointer, detail=message) for pointer, message in problems]
    msg = f"The plan has {len(faults)} problem(s); see errors."
    return problem(code, msg, status=422, faults=faults)


def _change(reference: Reference, parsed: PlanVersion) -> Change:
    changed = with_versions(reference, [parsed])
    return Change(reference, changed, frozenset({parsed.id}), _first_day(parsed))


def _first_day(parsed: PlanVersion) -> date:
    return parsed.effective.first or date.min


async def _save(request: Request, new: NewVersion, actor: str, kept_in: KeptIn) -> bool:
    """Save a version that begins in open periods; False, and nothing saved, for another."""
    now = await now_of(request)
    async with pool_of(request).acquire() as tx, tx.transaction():
        if _first_day(new.parsed) < await closed_until(tx):
            return False
        await raise_reference_version(tx)
        # From here on nobody closes a period before this is committed.
        if _first_day(new.parsed) < await closed_until(tx, lock=True):
            return False
        if not await is_saved(tx, new):
            reference = await context_of(request).cache.loader.load(tx)
            check_follows(reference.plans.get(new.parsed.id), new.parsed)
            await check_keeping(tx, new.parsed.id, kept_in, actor=actor, now=now)
            await save_version(tx, new, actor=actor, now=now)
    return True


async def _propose(  # noqa: PLR0913, PLR0917 - a version and its surroundings
    request: Request,
    new: NewVersion,
    actor: str,
    kept_in: KeptIn,
    reference: Reference,
    surroundings: LintContext,
) -> Proposal:
    now = await now_of(request)
    parsed = new.parsed
    said = {"version": new.version, "document": dict(new.document)}
    async with pool_of(request).acquire() as tx, tx.transaction():
        await check_keeping(tx, parsed.id, kept_in, actor=actor, now=now)
        until = await closed_until(tx)
        asked = await propose(tx, new.subject, parsed.id, said, until=until, actor=actor, now=now)

    async def findings(difference: Decimal) -> list[dict[str, str]]:
        known = replace(surroundings, border_difference=difference, closed_before=until)
        return finding_rows(lint(parsed, known))

    return await told(request, asked, _change(reference, parsed), findings)


@router.post("/{plan_id}/versions/{version}/confirm")
async def confirm_version(
    request: Request,
    principal: Decider,
    plan_id: Id,
    version: VersionNumber,
    if_match: IfMatch = None,
) -> ProposalView:
    """Sign a version that reaches into closed periods: it is saved, and counts from now on.

    By a second person whose own pay it does not change, and who names in If-Match what they saw.
    """
    async with decision(request, principal) as by:
        await raise_reference_version(by.tx)
        asked = await load_proposal(by.tx, f"plan/{plan_id}/{version}", lock=True)
        if asked is None:
            raise not_found("proposal")
        check_write(etag(asked.revision), if_match=if_match)
        signed = await confirm(by.tx, asked, actor=by.person, now=by.now, one_seat=by.one_seat)
        document = dict(asked.said["document"])
        new = NewVersion(version, parse_plan(document), document)
        if not await is_saved(by.tx, new):
            reference = await context_of(request).cache.loader.load(by.tx)
            check_follows(reference.plans.get(plan_id), new.parsed)
            await save_version(by.tx, new, actor=asked.asked_by, now=by.now, confirmed_by=by.person)
    return proposal_view(signed)


@router.post("/{plan_id}/versions/{version}/withdraw")
async def withdraw_version(
    request: Request, principal: Decider, plan_id: Id, version: VersionNumber
) -> ProposalView:
    """Take a proposed version back."""
    async with decision(request, principal) as by:
        asked = await load_proposal(by.tx, f"plan/{plan_id}/{version}", lock=True)
        if asked is None:
            raise not_found("proposal")
        return proposal_view(await withdraw(by.tx, asked, actor=by.person, now=by.now))


@router.put("/{plan_id}/keeping")
async def put_keeping(
    request: Request, principal: PlanWriter, plan_id: Id, body: Keeping
) -> Keeping:
    """Keep a plan in files, or over the API, from now on."""
    now = await now_of(request)
    async with pool_of(request).acquire() as tx, tx.transaction():
        known = await tx.fetchval(
            "SELECT EXISTS (SELECT FROM plan_version WHERE plan_id = $1)", plan_id
        )
        if not known:
            raise not_found("plan")
        await keep_in(tx, plan_id, body.kept_in, actor=actor_of(principal), now=now)
    return body


@router.get("", response_model=Page[PlanView])
async def plans(request: Request, principal: Reader, page: Paging) -> object:
    """Plans that the caller, or whoever the caller sees, is or was on."""
    after = page.after(str)
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            f"SELECT DISTINCT ON (plan_id) {_COLUMNS} FROM plan_version v "  # noqa: S608 - constants
            f"WHERE {_SEEN} AND plan_id > $2 ORDER BY plan_id, version DESC LIMIT $3",
            view.visible,
            "" if after is None else after[0],
            page.fetch,
        )
    found = page_of(rows, page, key=lambda row: (row["plan_id"],), show=_plan_view)
    return listed(request, found, PlanView)


@router.get("/{plan_id}")
async def plan(request: Request, principal: Reader, plan_id: Id) -> PlanVersionView:
    """A plan's newest version."""
    rows = await _versions(request, principal, plan_id)
    return _full_view(rows[-1])


@router.get("/{plan_id}/versions")
async def versions(request: Request, principal: Reader, plan_id: Id) -> list[PlanView]:
    """All versions, in the order of their numbers."""
    return [_plan_view(row) for row in await _versions(request, principal, plan_id)]


@router.get("/{plan_id}/versions/{version}")
async def version(
    request: Request, response: Response, principal: Reader, plan_id: Id, version: VersionNumber
) -> PlanVersionView:
    """One version, with its document."""
    for row in await _versions(request, principal, plan_id):
        if row["version"] == version:
            response.headers["ETag"] = etag(row["hash"])
            return _full_view(row)
    raise not_found("plan version")


_COLUMNS = (
    "plan_id, version, hash, name, effective_from, effective_to, document::text AS document, "
    "coalesce((SELECT kept_in FROM plan_keeping k WHERE k.plan_id = v.plan_id), 'api') AS kept_in"
)
_SEEN = (
    "($1::text[] IS NULL OR EXISTS (SELECT FROM assignment a WHERE a.plan_id = v.plan_id "
    "AND NOT a.deleted AND a.payee = ANY($1)))"
)


async def _versions(request: Request, principal: Reader, plan_id: str) -> list[asyncpg.Record]:
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            f"SELECT {_COLUMNS} FROM plan_version v WHERE {_SEEN} AND plan_id = $2 "  # noqa: S608 - constants
            "ORDER BY version",
            view.visible,
            plan_id,
        )
    if not rows:
        raise not_found("plan")
    return rows


def _plan_view(row: asyncpg.Record) -> PlanView:
    return PlanView(
        id=row["plan_id"],
        name=row["name"],
        version=row["version"],
        hash=row["hash"],
        effective_from=row["effective_from"],
        effective_to=row["effective_to"],
        kept_in=row["kept_in"],
    )


def _full_view(row: asyncpg.Record) -> PlanVersionView:
    return PlanVersionView(
        **_plan_view(row).model_dump(), document=msgspec.json.decode(row["document"])
    )


def _saved(new: NewVersion, kept_in: str, found: tuple[Finding, ...], status: int) -> Response:
    parsed = new.parsed
    view = SavedVersionView(
        id=parsed.id,
        name=parsed.name,
        version=new.version,
        hash=parsed.hash,
        effective_from=_first_day(parsed),
        effective_to=parsed.effective.last,
        kept_in=kept_in,
        document=dict(new.document),
        findings=finding_views(finding_rows(found)),
    )
    return Response(
        view.model_dump_json(),
        status_code=status,
        media_type="application/json",
        headers={"ETag": etag(parsed.hash)},
    )
