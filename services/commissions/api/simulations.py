"""Simulations: what a draft would have paid over past periods. A job; nothing real changes."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal

import asyncpg
import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, StringConstraints, model_validator

from services.commissions.api.assignments import AssignmentBody, Text
from services.commissions.api.context import (
    Id,
    IdFilter,
    Overseer,
    PlanWriter,
    Snapshot,
    actor_of,
    not_found,
    now_of,
    pool_of,
    snapshot,
)
from services.commissions.api.findings import FindingView, finding_rows, finding_views
from services.commissions.domain.lint import Finding, Severity, lint
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.plan import PlanInvalid, PlanVersion
from services.commissions.plans.linting import lint_context
from services.commissions.whatif import simulation_store as kept
from services.commissions.whatif.simulation_store import Simulation, simulation_of
from services.commissions.whatif.simulations import question_of
from shared.errors import InvalidValue, Refused
from shared.http.idempotency import HEADER, IdempotencyKey, IdempotencyStore, answer_of
from shared.http.models import DecimalText, Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.problems import Fault, problem
from shared.ids import derived_id

router = APIRouter(prefix="/v1/simulations", tags=["simulations"])

MOST_MONTHS = 36
"""Periods that are longer together are asked for in parts."""

Label = Annotated[str, StringConstraints(min_length=4, max_length=7)]
Named = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class StoredVersion(WireModel):
    """A version of a plan that is saved."""

    plan: Text
    version: Annotated[int, Field(ge=1, le=100_000)]


class SimulationBody(WireModel):
    """What to simulate, over the periods from `from` to the end of `to`.

    plans: draft documents, each in place of the version that begins on its day, or as the next
    one; versions: saved ones, as drafts. in_force_from: the drafts are in force from this day on,
    whatever they say, so that next year's plan can be tried on last year. assignments: in place of
    all that their payees have to their plans. without_plans: nobody is on these.
    """

    name: Named = "Simulation"
    from_: Label = Field(alias="from")
    to: Label
    plans: list[dict[str, Any]] = Field(default_factory=list, max_length=20)
    versions: list[StoredVersion] = Field(default_factory=list, max_length=20)
    in_force_from: date | None = None
    assignments: list[AssignmentBody] = Field(default_factory=list, max_length=10_000)
    without_plans: list[Text] = Field(default_factory=list, max_length=100)

    @model_validator(mode="after")
    def _says_something(self) -> SimulationBody:
        if not (self.plans or self.versions or self.assignments or self.without_plans):
            msg = "nothing would change: give plans, versions, assignments or without_plans"
            raise ValueError(msg)
        return self


class State(StrEnum):
    """How far it has come."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PeriodCost(WireModel):
    """What all payees of a plan earn in a period. moved: the sum of |change|."""

    period: str
    closed: bool
    before: DecimalText
    after: DecimalText
    moved: DecimalText
    payees: int


class Mover(WireModel):
    """A payee who gains or loses much."""

    payee: str
    before: DecimalText
    after: DecimalText
    change: DecimalText


class ChangeGroup(WireModel):
    """How many payees change by a share of what they earned: from (included) up to `to`.

    group `same`: not at all; `new`: nothing was earned before.
    """

    group: Literal["same", "share", "new"]
    from_: DecimalText | None = Field(alias="from")
    to: DecimalText | None
    payees: int


class TierCount(WireModel):
    """How many measure periods of payees end in a tier. begins_at, rate: as the draft has it.

    Where nobody ends in it under the draft: as it is now.
    """

    tier: int
    begins_at: DecimalText | None
    rate: DecimalText | None
    measures_before: int
    measures_after: int


class ComponentTiers(WireModel):
    """Where measures end, and how many end in a higher or a lower tier than before."""

    component: str
    crossings_up: int
    crossings_down: int
    tiers: list[TierCount]


class PlanOutcome(WireModel):
    """What one plan comes to, in its currency, over all the periods."""

    plan: str
    currency: str
    before: DecimalText
    after: DecimalText
    payees: int
    winners: int
    losers: int
    gained: DecimalText
    lost: DecimalText
    top_winners: list[Mover]
    top_losers: list[Mover]
    periods: list[PeriodCost]
    distribution: list[ChangeGroup]
    tiers: list[ComponentTiers]


class Outcome(WireModel):
    """recalculating: something was being worked in, and part of a difference may be that."""

    recalculating: bool
    plans: list[PlanOutcome]


class SimulationView(WireModel):
    """A simulation. phase: `credits` (roots are counted), then `accounts`; done of total there.

    problem: why it failed. outcome: once it is done.
    """

    id: str
    name: str
    state: State
    from_: str = Field(alias="from")
    to: str
    in_force_from: date | None
    plans: list[str]
    made_by: str
    made_at: Instant
    ended_at: Instant | None
    phase: str
    done: int
    total: int
    problem: str | None


class FullView(SimulationView):
    """A simulation with what came out."""

    outcome: Outcome | None


class AcceptedView(SimulationView):
    """A simulation that is queued, and what its author should know of the drafts."""

    findings: list[FindingView]


class AccountView(WireModel):
    """One payee under one plan, over all the periods. crossings: measures in another tier."""

    payee: str
    plan: str
    currency: str
    before: DecimalText
    after: DecimalText
    change: DecimalText
    crossings: int


class AccountPeriod(WireModel):
    """One statement. before, after: what its lines earn; payable: what it pays."""

    period: str
    closed: bool
    before: DecimalText
    after: DecimalText
    payable_before: DecimalText
    payable_after: DecimalText


class AccountLine(WireModel):
    """A line that would be otherwise; null: it would not be there, or is not."""

    period: str
    key: str
    kind: str
    component: str | None
    deal: str | None
    before: DecimalText | None
    after: DecimalText | None


class Tier(WireModel):
    """A tier that a measure ends in; the first is 1."""

    tier: int
    begins_at: DecimalText
    rate: DecimalText


class AccountTier(WireModel):
    """Where one measure of a component ends."""

    component: str
    measure: str
    before: Tier | None
    after: Tier | None
    crosses: bool


class FullAccount(AccountView):
    """A payee's difference, down to its lines."""

    periods: list[AccountPeriod]
    lines: list[AccountLine]
    tiers: list[AccountTier]


class Change(StrEnum):
    """Which accounts."""

    WINNERS = "winners"
    LOSERS = "losers"
    SAME = "same"


@router.post("", status_code=202, response_model=AcceptedView)
async def simulate(
    request: Request, principal: PlanWriter, body: SimulationBody, _key: IdempotencyKey = None
) -> Response:
    """Queue a simulation. A draft that cannot be read, or that lint refuses, is refused (422)."""
    try:
        async with snapshot(request, principal) as view:
            asked = await _asked(view, body)
            findings = await _findings(view, asked)
    except PlanInvalid as refusal:
        return _refusal("plan-invalid", [(p.pointer, p.message) for p in refusal.problems])
    refused = [finding for finding in findings if finding.severity is Severity.REFUSED]
    if refused:
        return _refusal("plan-refused", [(f.pointer, f.message) for f in refused])
    store: IdempotencyStore = request.app.state.idempotency
    now = await now_of(request)
    async with (
        pool_of(request).acquire() as tx,
        tx.transaction(),
        store.slot(tx, request, principal, now=now) as slot,
    ):
        if slot.replay is None:
            actor = actor_of(principal)
            made = await kept.ask(
                tx,
                derived_id("simulation", actor, request.headers.get(HEADER, "")),
                name=body.name,
                request=asked,
                actor=actor,
                now=now,
            )
            found = finding_views(finding_rows(findings))
            location = {"Location": f"/v1/simulations/{made.id}"}
            slot.save(202, AcceptedView(**_told(made), findings=found), headers=location)
    return answer_of(slot)


@router.get("", response_model=Page[SimulationView])
async def simulations(
    request: Request, principal: Overseer, page: Paging, state: State | None = None
) -> object:
    """All that are kept, the newest first."""
    after = page.after(str, str)
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            f"SELECT {kept.COLUMNS} FROM simulation "  # noqa: S608 - constants
            "WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL "
            "OR (made_at, simulation_id) < ($2::text::timestamptz, $3)) "
            "ORDER BY made_at DESC, simulation_id DESC LIMIT $4",
            state,
            None if after is None else after[0],
            None if after is None else after[1],
            page.fetch,
        )
    found = page_of(
        rows,
        page,
        key=lambda row: (row["made_at"].isoformat(), row["simulation_id"]),
        show=lambda row: SimulationView(**_told(Simulation.of(row))),
    )
    return listed(request, found, SimulationView)


@router.get("/{simulation}")
async def simulation(request: Request, principal: Overseer, simulation: Id) -> FullView:
    """How far it is; once done, the cost by period, winners and losers, and tiers."""
    async with snapshot(request, principal) as view:
        return _full(await simulation_of(view.tx, simulation))


@router.get("/{simulation}/accounts", response_model=Page[AccountView])
async def accounts(  # noqa: PLR0913, PLR0917 - one argument a filter
    request: Request,
    principal: Overseer,
    page: Paging,
    simulation: Id,
    plan: IdFilter = None,
    change: Annotated[Change | None, Query(description="who gains, loses, or neither")] = None,
) -> object:
    """Every payee with what they would earn, by payee and plan; CSV by `Accept: text/csv`."""
    after = page.after(str, str) or ("", "")
    async with snapshot(request, principal) as view:
        await simulation_of(view.tx, simulation)
        rows = await view.tx.fetch(
            "SELECT payee, plan_id, currency, before, after, crossings FROM simulation_account "
            "WHERE simulation_id = $1 AND (payee, plan_id) > ($2, $3) "
            "AND ($4::text IS NULL OR plan_id = $4) AND ($5::int IS NULL "
            "OR sign(after - before) = $5) ORDER BY payee, plan_id LIMIT $6",
            simulation,
            *after,
            plan,
            None if change is None else _SIGNS[change],
            page.fetch,
        )
    found = page_of(
        rows,
        page,
        key=lambda row: (row["payee"], row["plan_id"]),
        show=lambda row: AccountView(**_figures(row)),
    )
    return listed(request, found, AccountView)


_SIGNS = {Change.WINNERS: 1, Change.LOSERS: -1, Change.SAME: 0}


@router.get("/{simulation}/accounts/{payee}")
async def account(
    request: Request, principal: Overseer, simulation: Id, payee: Id
) -> list[FullAccount]:
    """One payee's statements and the lines that would be otherwise, plan by plan."""
    async with snapshot(request, principal) as view:
        await simulation_of(view.tx, simulation)
        rows = await view.tx.fetch(
            "SELECT payee, plan_id, currency, before, after, crossings, periods::text AS periods, "
            "lines::text AS lines, tiers::text AS tiers FROM simulation_account "
            "WHERE simulation_id = $1 AND payee = $2 ORDER BY plan_id",
            simulation,
            payee,
        )
    if not rows:
        raise not_found("account in this simulation")
    return [
        FullAccount(
            **_figures(row),
            periods=msgspec.json.decode(row["periods"]),
            lines=msgspec.json.decode(row["lines"]),
            tiers=msgspec.json.decode(row["tiers"]),
        )
        for row in rows
    ]


@router.post("/{simulation}/cancel")
async def cancel(request: Request, principal: PlanWriter, simulation: Id) -> SimulationView:
    """End it before it is done; what came out so far is not kept."""
    del principal
    now = await now_of(request)
    async with pool_of(request).acquire() as tx, tx.transaction():
        found = await kept.cancel(tx, simulation, now)
    return SimulationView(**_told(found))


@router.delete("/{simulation}", status_code=204)
async def delete(request: Request, principal: PlanWriter, simulation: Id) -> None:
    """Forget it, and what came out."""
    del principal
    async with pool_of(request).acquire() as tx, tx.transaction():
        await kept.remove(tx, simulation)


async def _asked(view: Snapshot, body: SimulationBody) -> dict[str, Any]:
    """The request as it is stored, saved versions looked up. Raises InvalidValue, Refused."""
    first, last = view.period(body.from_), view.period(body.to)
    months = (last.end.year - first.start.year) * 12 + last.end.month - first.start.month
    if not 0 < months <= MOST_MONTHS:
        msg = f"`from` comes first, and there are at most {MOST_MONTHS} months to the end of `to`"
        raise InvalidValue(msg, pointer="/to")
    documents = list(body.plans)
    for said in body.versions:
        found = await view.tx.fetchval(
            "SELECT document::text FROM plan_version WHERE plan_id = $1 AND version = $2",
            said.plan,
            said.version,
        )
        if found is None:
            msg = f"there is no version {said.version} of plan {said.plan}"
            raise Refused("unknown-plan", msg, status=422)
        documents.append(msgspec.json.decode(found))
    return {
        "from": body.from_,
        "to": body.to,
        "plans": documents,
        "in_force_from": None if body.in_force_from is None else body.in_force_from.isoformat(),
        "assignments": [a.model_dump(mode="json", by_alias=True) for a in body.assignments],
        "without_plans": body.without_plans,
    }


async def _findings(view: Snapshot, asked: dict[str, Any]) -> list[Finding]:
    """What lint says of the drafts. Raises PlanInvalid; InvalidValue where they change nothing."""
    question = question_of(asked, view.reference)
    found: list[Finding] = []
    for document in asked["plans"]:
        draft = parse_plan(document)
        versions = question.changed.plans[draft.id].versions
        meant = next(v for v in versions if v.hash.partition("@")[0] == draft.hash)
        if not _in_force(meant, question.since, question.until or date.max):
            msg = (
                f"plan {draft.id} is in force from {meant.effective.first}, after these periods: "
                "set in_force_from to try it on them"
            )
            raise InvalidValue(msg, pointer="/in_force_from")
        surroundings = await lint_context(view.tx, meant, view.reference, today=view.today)
        found += lint(meant, surroundings)
    return found


def _in_force(draft: PlanVersion, since: date, until: date) -> bool:
    first, last = draft.effective.first or date.min, draft.effective.last or date.max
    return first < until and last >= since


def _refusal(code: str, problems: list[tuple[str, str]]) -> Response:
    faults = [Fault(pointer=pointer, detail=message) for pointer, message in problems]
    msg = f"The drafts have {len(faults)} problem(s); see errors."
    return problem(code, msg, status=422, faults=faults)


def _told(found: Simulation) -> dict[str, Any]:
    asked = found.request
    return {
        "id": found.id,
        "name": found.name,
        "state": found.state,
        "from": asked["from"],
        "to": asked["to"],
        "in_force_from": asked["in_force_from"],
        "plans": [str(document.get("id", "")) for document in asked["plans"]],
        "made_by": found.made_by,
        "made_at": found.made_at,
        "ended_at": found.ended_at,
        "phase": found.phase,
        "done": found.done,
        "total": found.total,
        "problem": found.problem,
    }


def _full(found: Simulation) -> FullView:
    outcome = None if found.result is None else Outcome.model_validate(found.result)
    return FullView(**_told(found), outcome=outcome)


def _figures(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "payee": row["payee"],
        "plan": row["plan_id"],
        "currency": row["currency"],
        "before": row["before"],
        "after": row["after"],
        "change": row["after"] - row["before"],
        "crossings": row["crossings"],
    }
