"""Targets handed down to people, and held against what the people's quotas sum to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Self

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, model_validator

from services.metrics import quotas as store
from services.metrics.allocations import MAX_PEOPLE, Asked, Line, digest_of, lines_of
from services.metrics.api.common import Currency, Reader, period_view
from services.metrics.api.models import CurrencyCode, Id, PeriodView
from services.metrics.api.quotas import Writer
from services.metrics.api.sight import Sight, sight_of
from services.metrics.api.target_models import RampShare, Reason
from services.metrics.domain import kpis
from services.metrics.domain.allocation import Split, gap_between
from services.metrics.domain.kpis import QuotaRow, to_decimal
from services.metrics.quotas import Quota
from shared.errors import InvalidValue
from shared.events.targets import MethodName
from shared.http.idempotency import IdempotencyKey, IdempotencyStore, answer_of
from shared.http.models import DecimalText, WireModel
from shared.http.paging import Page, listed
from shared.http.preconditions import IfMatch, check_write, etag
from shared.money import exact_sum, parse_share
from shared.org.calendar import Period
from shared.org.visibility import AllPeople

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

router = APIRouter(prefix="/v1/quotas", tags=["quotas"])


class AllocationBody(WireModel):
    """A target to hand down to people.

    team: its members; people: these; neither: everybody who is in a team.
    amount: left out, the quota in force of the team or of the organisation. split: `even`,
    `prior_year` (by bookings of the same period last year) or `weighted` (by `weights`).
    over_assignment: handed out on top, of the target. method: of quotas that are new.
    """

    team: Id | None = None
    people: list[Id] | None = Field(default=None, min_length=1, max_length=MAX_PEOPLE)
    measure: Annotated[str, Field(min_length=1, max_length=100)] = "bookings"
    period: Annotated[str, Field(min_length=4, max_length=50)]
    amount: DecimalText | None = None
    currency: CurrencyCode | None = None
    split: Split
    weights: dict[Id, DecimalText] = Field(default={}, max_length=MAX_PEOPLE)
    over_assignment: RampShare = "0%"
    method: MethodName = "stated"
    reason: Reason | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.team is not None and self.people is not None:
            raise ValueError("name a team or people, not both")
        if (self.split is Split.WEIGHTED) != bool(self.weights):
            raise ValueError("`weights` go with the split `weighted`, which needs them")
        if any(weight < 0 for weight in self.weights.values()):
            raise ValueError("a weight is 0 or more")
        return self


class AllocatedView(WireModel):
    """One person's part. before, revision: of the quota that is there; null where it is new."""

    person: str
    quota: str
    weight: DecimalText
    share: DecimalText
    amount: DecimalText
    in_force: DecimalText
    before: DecimalText | None
    revision: int | None


class AllocationView(WireModel):
    """A target in parts, which sum to `handed_out`. applied: whether the quotas are saved."""

    period: PeriodView
    measure: str
    currency: str | None
    target: DecimalText
    handed_out: DecimalText
    applied: bool
    data: list[AllocatedView]


class CoverageView(WireModel):
    """A team's target, or with no team the organisation's, against its people's quotas.

    gap: not covered by them. over_assignment: the fraction by which they exceed it. uncovered:
    people of it without a quota.
    """

    team: str | None
    name: str
    target: DecimalText | None
    assigned: DecimalText
    gap: DecimalText | None
    over_assignment: DecimalText | None
    currency: str
    people: int
    uncovered: list[str]


@router.post("/allocations")
async def preview(
    request: Request, response: Response, principal: Writer, body: AllocationBody
) -> AllocationView:
    """What handing a target down would come to. Nothing is saved; the ETag names what was seen."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        sight = await sight_of(request, principal, tx)
        asked = await _asked(tx, sight, body)
        lines = await lines_of(tx, asked, sight.world, sight.now, principal.subject)
    response.headers["ETag"] = etag(digest_of(lines))
    return _view(asked, lines, applied=False)


@router.post("/allocations/apply", status_code=201, response_model=AllocationView)
async def apply(
    request: Request,
    principal: Writer,
    body: AllocationBody,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Save what was previewed: all quotas of it or none. If-Match: the preview's ETag."""
    del idempotency_key  # read from the request, with its fingerprint
    pool: Pool = request.app.state.parts.pool
    keys: IdempotencyStore = request.app.state.idempotency
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        async with keys.slot(tx, request, principal, now=sight.now) as slot:
            if slot.replay is None:
                # In the order of every writer of many: nothing changes between look and write.
                await store.lock_all(tx)
                asked = await _asked(tx, sight, body)
                by = principal.subject
                lines = await lines_of(tx, asked, sight.world, sight.now, by)
                tag = etag(digest_of(lines))
                check_write(tag, if_match=if_match)
                await store.save_quotas(tx, [line.quota for line in lines], body.reason)
                view = _view(asked, lines, applied=True)
                slot.save(201, view, headers={"ETag": tag})
    return answer_of(slot)


@router.get("/coverage", response_model=Page[CoverageView])
async def coverage(
    request: Request,
    principal: Reader,
    period: Annotated[str, Query(max_length=50, description="2025, 2025-Q1 or 2025-03")],
    measure: Annotated[str, Query(min_length=1, max_length=100)] = "bookings",
    currency: Currency = None,
) -> object:
    """Each seen team's target, and the organisation's, against the quotas of its people."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        sight = await sight_of(request, principal, tx)
        window = _period(sight, period, "#query/period")
        target = currency or sight.world.currency
        figures = await _figures(tx, sight, measure, window, target)
    day = _staffed_on(sight, window)
    rows = [_covered(sight, team, day, figures, target) for team in sight.teams]
    if isinstance(sight.visible, AllPeople):
        rows.append(_covered(sight, None, day, figures, target))
    return listed(request, Page[CoverageView](data=rows), CoverageView)


async def _asked(tx: Connection, sight: Sight, body: AllocationBody) -> Asked:
    period = _period(sight, body.period, "/period")
    sight.check(team=body.team)
    people = _people(sight, body, _staffed_on(sight, period))
    if not people:
        raise InvalidValue("there is nobody to hand anything down to", pointer="/team")
    amount, currency = body.amount, body.currency
    if amount is None:
        source = await _target(tx, body, period)
        amount, currency = source.amount, source.currency
    if amount < 0:
        raise InvalidValue("a target to hand down is 0 or more", pointer="/amount")
    if currency is None and body.measure in store.MEASURED:
        msg = f"a quota of {body.measure} needs a `currency`"
        raise InvalidValue(msg, pointer="/currency")
    return Asked(
        people=people,
        measure=body.measure,
        period=period,
        amount=amount,
        currency=currency,
        split=body.split,
        weights=body.weights,
        over=parse_share(body.over_assignment),
        method=body.method,
    )


def _period(sight: Sight, name: str, pointer: str) -> Period:
    try:
        return sight.calendar.period(name)
    except InvalidValue as fault:
        raise fault.at(pointer) from None


def _staffed_on(sight: Sight, period: Period) -> date:
    """The day whose members count: today, within the period."""
    return min(max(sight.today, period.start_day), period.last_day)


def _people(sight: Sight, body: AllocationBody, day: date) -> list[str]:
    if body.people is not None:
        for person in body.people:
            sight.check(rep=person)
        if len(set(body.people)) < len(body.people):
            raise InvalidValue("each person is named once", pointer="/people")
        return sorted(body.people)
    return _members(sight, body.team, day)


def _members(sight: Sight, team: str | None, day: date) -> list[str]:
    """Active people of a team, or of any team; whom the caller sees."""
    teams = sight.org.team_ids if team is None else (team,)
    found = {person for one in teams for person in sight.org.members(one, day)}
    return sorted(p for p in found if p in sight.visible and _is_active(sight, p, day))


def _is_active(sight: Sight, person: str, day: date) -> bool:
    known = sight.org.person(person, day)
    return known is not None and known.active


async def _target(tx: Connection, body: AllocationBody, period: Period) -> Quota:
    found = await store.quotas_overlapping(tx, body.measure, period.start_day, period.end_day)
    for quota in found:
        days = (quota.start_day, quota.end_day)
        is_its = quota.subject == (None, body.team) and body.people is None
        if is_its and days == (period.start_day, period.end_day):
            return quota
    msg = "there is no quota of exactly this team and period to hand down; state an `amount`"
    raise InvalidValue(msg, pointer="/amount")


def _view(asked: Asked, lines: Sequence[Line], *, applied: bool) -> AllocationView:
    return AllocationView(
        period=period_view(asked.period),
        measure=asked.measure,
        currency=asked.currency,
        target=asked.amount,
        handed_out=exact_sum(line.part.amount for line in lines),
        applied=applied,
        data=[
            AllocatedView(
                person=line.part.person,
                quota=line.quota.id,
                weight=line.weight,
                share=to_decimal(line.part.share),
                amount=line.part.amount,
                in_force=line.quota.amount,
                before=None if line.before is None else line.before.stated,
                revision=None if line.before is None else line.before.revision,
            )
            for line in lines
        ],
    )


async def _figures(
    tx: Connection, sight: Sight, measure: str, period: Period, currency: str
) -> Mapping[tuple[str | None, str | None], Decimal]:
    """(person, team) → the figure in force for the period, in one currency."""
    found = await store.quotas_overlapping(tx, measure, period.start_day, period.end_day)
    rows: dict[tuple[str | None, str | None], list[QuotaRow]] = {}
    for quota in found:
        amount = sight.world.rates.convert(
            quota.amount, quota.currency or currency, currency, quota.start_day
        )
        if amount is not None:
            row = QuotaRow(quota.id, quota.start_day, quota.end_day, amount)
            rows.setdefault(quota.subject, []).append(row)
    in_force = {
        subject: kpis.quota_in_force(stated, period, sight.calendar)
        for subject, stated in rows.items()
    }
    return {subject: figure for subject, figure in in_force.items() if figure is not None}


def _covered(
    sight: Sight,
    team: str | None,
    day: date,
    figures: Mapping[tuple[str | None, str | None], Decimal],
    currency: str,
) -> CoverageView:
    people = _members(sight, team, day)
    of_people = {p: figures[p, None] for p in people if (p, None) in figures}
    found = gap_between(figures.get((None, team)), list(of_people.values()))
    known = None if team is None else sight.org.team(team, day)
    return CoverageView(
        team=team,
        name="The organisation" if team is None else team if known is None else known.name,
        target=found.target,
        assigned=found.assigned,
        gap=found.gap,
        over_assignment=found.over_assignment,
        currency=currency,
        people=len(people),
        uncovered=sorted(set(people) - set(of_people)),
    )
