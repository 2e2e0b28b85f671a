"""Plans: versions of documents, each immutable once it is saved."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import asyncpg
import msgspec
from fastapi import APIRouter, Body, Path, Request, Response

from services.commissions.api.context import (
    Id,
    PlanWriter,
    Reader,
    actor_of,
    context_of,
    not_found,
    now_of,
    pool_of,
    snapshot,
)
from services.commissions.begun import add_activity_roots, mark_uncredited
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.plan import Plan, PlanInvalid, PlanVersion
from services.commissions.events import write_events
from services.commissions.needs import ACTIVITIES, UNCREDITED, needs_of
from services.commissions.store import canonical_json
from shared.db.pool import Connection
from shared.errors import InvalidValue, Refused
from shared.events.journals import PLAN_VERSION, PlanVersionData
from shared.facts.settle import raise_reference_version
from shared.http.models import WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import etag
from shared.http.problems import Fault, problem

router = APIRouter(prefix="/v1/plans", tags=["plans"])

VersionNumber = Annotated[int, Path(ge=1, le=100_000)]


class PlanView(WireModel):
    """A plan: its newest version."""

    id: str
    name: str
    version: int
    hash: str
    effective_from: date
    effective_to: date | None


class PlanVersionView(PlanView):
    """One version, with its document as it was saved."""

    document: dict[str, Any]


@router.put(
    "/{plan_id}/versions/{version}",
    response_model=PlanVersionView,
    responses={201: {"model": PlanVersionView}},
)
async def put_version(
    request: Request,
    principal: PlanWriter,
    plan_id: Id,
    version: VersionNumber,
    document: Annotated[dict[str, Any], Body()],
) -> Response:
    """Save a version. The same content again changes nothing; other content is refused."""
    try:
        parsed = parse_plan(document)
        if parsed.id != plan_id:
            msg = f"the document's id is {parsed.id}, the path says {plan_id}"
            raise InvalidValue(msg, pointer="/id")
        created = await _save(request, parsed, version, document, actor_of(principal))
    except PlanInvalid as refusal:
        faults = [Fault(pointer=p.pointer, detail=p.message) for p in refusal.problems]
        msg = f"The plan has {len(faults)} problem(s); see errors."
        return problem("plan-invalid", msg, status=422, faults=faults)
    return Response(
        _version_view(parsed, version, document).model_dump_json(),
        status_code=201 if created else 200,
        media_type="application/json",
        headers={"ETag": etag(parsed.hash)},
    )


async def _save(
    request: Request, parsed: PlanVersion, version: int, document: dict[str, Any], actor: str
) -> bool:
    """Store a version unless it is stored already; whether it was created."""
    now = await now_of(request)
    async with pool_of(request).acquire() as tx, tx.transaction():
        await raise_reference_version(tx)
        stored = await tx.fetchval(
            "SELECT hash FROM plan_version WHERE plan_id = $1 AND version = $2", parsed.id, version
        )
        if stored == parsed.hash:
            return False
        if stored is not None:
            msg = f"version {version} is saved and cannot change; save it as a new version"
            raise Refused("plan-version-immutable", msg)
        reference = await context_of(request).cache.loader.load(tx)
        earlier = reference.plans.get(parsed.id)
        if earlier is not None:
            if parsed.hash in earlier.by_hash:
                msg = "another version of this plan has the same content"
                raise Refused("plan-version-exists", msg)
            Plan(parsed.id, (*earlier.versions, parsed))
        await _insert(tx, parsed, version, document, actor)
        data = PlanVersionData(
            plan=parsed.id, version=version, hash=parsed.hash, document=document, actor=actor
        )
        subject = f"plan/{parsed.id}/{version}"
        await write_events(tx, PLAN_VERSION, [(subject, 1, data)], now)
    return True


async def _insert(
    tx: Connection, parsed: PlanVersion, version: int, document: dict[str, Any], actor: str
) -> None:
    needs = needs_of(parsed)
    await tx.execute(
        "INSERT INTO plan_version (plan_id, version, hash, name, effective_from, effective_to, "
        "document, saved_by, needs) VALUES ($1, $2, $3, $4, $5, $6, $7::text::json, $8, $9)",
        parsed.id,
        version,
        parsed.hash,
        parsed.name,
        parsed.effective.first,
        parsed.effective.last,
        canonical_json(document),
        actor,
        sorted(needs),
    )
    if UNCREDITED in needs:
        await mark_uncredited(tx, parsed.id)
    if ACTIVITIES in needs:
        await add_activity_roots(tx)


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


_COLUMNS = "plan_id, version, hash, name, effective_from, effective_to, document::text AS document"
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
    )


def _full_view(row: asyncpg.Record) -> PlanVersionView:
    return PlanVersionView(
        **_plan_view(row).model_dump(), document=msgspec.json.decode(row["document"])
    )


def _version_view(parsed: PlanVersion, version: int, document: dict[str, Any]) -> PlanVersionView:
    return PlanVersionView(
        id=parsed.id,
        name=parsed.name,
        version=version,
        hash=parsed.hash,
        effective_from=parsed.effective.first or date.min,
        effective_to=parsed.effective.last,
        document=document,
    )
