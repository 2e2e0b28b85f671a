"""Attainment of everybody at once, for one period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request

from services.metrics import quotas, reading
from services.metrics.api.common import Currency, Reader, freshness, period_view
from services.metrics.api.models import AttainmentAnswer, AttainmentRow
from services.metrics.api.sight import Sight, sight_of
from services.metrics.domain import kpis
from services.metrics.domain.kpis import QuotaRow
from services.metrics.quotas import Quota
from shared.errors import InvalidValue
from shared.money import EXACT
from shared.org.calendar import Period

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

router = APIRouter(prefix="/v1/attainment", tags=["kpis"])


@router.get("")
async def attainment(
    request: Request,
    principal: Reader,
    period: Annotated[str, Query(max_length=50, description="2025, 2025-Q1 or 2025-03")],
    currency: Currency = None,
) -> AttainmentAnswer:
    """K1 and K2 of every person and team that the caller sees and that has a quota or bookings."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        sight = await sight_of(request, principal, tx)
        try:
            window = sight.calendar.period(period)
        except InvalidValue as fault:
            raise fault.at("#query/period") from None
        rows = await _rows(tx, sight, window, currency)
        return AttainmentAnswer(
            period=period_view(window),
            as_of=sight.now,
            data=rows,
            freshness=await freshness(tx),
        )


async def _rows(
    tx: Connection, sight: Sight, period: Period, currency: str | None
) -> list[AttainmentRow]:
    found = await quotas.quotas_overlapping(tx, quotas.BOOKINGS, period.start_day, period.end_day)
    of: dict[tuple[str | None, str | None], list[Quota]] = {}
    for quota in found:
        of.setdefault(quota.subject, []).append(quota)
    people = [p for p in sight.org.person_ids if p in sight.visible]
    people += sorted({p for p, _ in of if p and p in sight.visible} - set(people))
    teams = sight.teams
    booked = await reading.bookings_of_people(tx, people, period)
    members = {
        team: [
            m
            for m in sight.org.memberships(team, period.start_day, period.end_day)
            if m.person in sight.visible
        ]
        for team in teams
    }
    of_teams = await reading.bookings_of_teams(tx, members, period)
    elapsed = sight.calendar.elapsed(period, sight.today)
    total = sight.calendar.working_days(period.start_day, period.end_day)
    rows = []
    for person, team in [*((p, None) for p in people), *((None, t) for t in teams)]:
        amounts = booked.get(person, {}) if person is not None else of_teams.get(str(team), {})
        stated = of.get((person, team), [])
        if stated or amounts:
            rows.append(
                _row(sight, (person, team), stated, amounts, period, (elapsed, total), currency)
            )
    return rows


def _row(  # noqa: PLR0913, PLR0917 - the pieces of one row
    sight: Sight,
    subject: tuple[str | None, str | None],
    stated: Sequence[Quota],
    amounts: Mapping[tuple[date, str, str], Decimal],
    period: Period,
    days: tuple[int, int],
    currency: str | None,
) -> AttainmentRow:
    person, team = subject
    world = sight.world
    named = {quota.currency for quota in stated} - {None}
    target = currency or (str(named.pop()) if len(named) == 1 else world.currency)
    sums: dict[tuple[date, str], Decimal] = {}
    for (day, of_currency, _), amount in amounts.items():
        place = (day, of_currency)
        sums[place] = EXACT.add(sums.get(place, Decimal(0)), amount)
    booked = world.rates.total(sums, target).amount
    rows = []
    for quota in stated:
        amount_there = world.rates.convert(
            quota.amount, quota.currency or target, target, quota.start_day
        )
        if amount_there is not None:
            rows.append(QuotaRow(quota.id, quota.start_day, quota.end_day, amount_there))
    quota_there = kpis.quota_in_force(rows, period, sight.calendar)
    attained = kpis.attainment(booked, quota_there)
    return AttainmentRow(
        person=person,
        team=team,
        name=_name(sight, person, team),
        booked=booked,
        quota=quota_there,
        currency=target,
        attainment=attained.value,
        pace=kpis.pace(booked, quota_there, *days).value,
        reason=attained.reason,
    )


def _name(sight: Sight, person: str | None, team: str | None) -> str:
    known = (
        sight.org.person(person, sight.today)
        if person is not None
        else sight.org.team(str(team), sight.today)
    )
    return str(person or team) if known is None else known.name
