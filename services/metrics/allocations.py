"""Handing a target down to people: who gets what, and which quotas that would change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec

from services.metrics import quotas
from services.metrics.domain.allocation import Part, Split, handed_out, over_assigned
from services.metrics.judging import booked_against
from services.metrics.lookups import World
from services.metrics.quota_figures import figured
from services.metrics.quotas import MEASURED, Quota
from shared.errors import InvalidValue, Refused
from shared.events.planned import QuotaTermsData
from shared.events.targets import MethodName
from shared.money import to_text
from shared.org.calendar import FiscalCalendar, Period

if TYPE_CHECKING:
    from shared.db.pool import Connection

MAX_PEOPLE = 1_000
MAX_ID = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be handed out to whom. method: of quotas that are new."""

    people: Sequence[str]
    measure: str
    period: Period
    amount: Decimal
    currency: str | None
    split: Split
    weights: Mapping[str, Decimal]
    over: Fraction
    method: MethodName


@dataclass(frozen=True, slots=True)
class Line:
    """One person's part: the quota as it would be, and as it is."""

    part: Part
    weight: Decimal
    quota: Quota
    before: Quota | None


async def lines_of(
    tx: Connection, asked: Asked, world: World, now: datetime, by: str
) -> list[Line]:
    """Everybody's part of the target, exact; quotas keep their terms and reliefs.

    Raises Refused where a new quota's id is another quota's.
    """
    weights = await _weights(tx, asked, world)
    whole = over_assigned(asked.amount, asked.over, asked.currency)
    parts = handed_out(whole, asked.currency, weights)
    there = await _quotas_there(tx, asked)
    wanted = {part.person: _new_id(part.person, asked) for part in parts}
    taken = await quotas.quotas_by_id(tx, [wanted[p] for p in wanted if p not in there])
    lines = []
    for part in parts:
        before = there.get(part.person)
        same_id = None if before is not None else taken.get(wanted[part.person])
        if same_id is not None and not same_id.deleted:
            msg = f"{same_id.id} is the id of another quota; delete that one"
            raise Refused("second-quota", msg)
        # A deleted one's revisions go on: readers keep the greatest.
        past = 0 if same_id is None else same_id.revision
        quota = _quota_of(part, asked, before, past, world, now, by)
        lines.append(Line(part, weights[part.person], quota, before))
    return lines


def digest_of(lines: Sequence[Line]) -> str:
    """What a preview was made from and came to: another one means something changed since."""
    seen = [
        (
            line.part.person,
            to_text(line.part.amount),
            line.quota.id,
            0 if line.before is None else line.before.revision,
        )
        for line in lines
    ]
    return hashlib.sha256(msgspec.json.encode(seen)).hexdigest()[:32]


def same_period_last_year(period: Period, calendar: FiscalCalendar) -> Period:
    """The period of the same name a year before; of two days, those a year before."""
    if ".." in period.id:
        start, end = _year_before(period.start_day), _year_before(period.end_day)
        return calendar.period(f"{start.isoformat()}..{end.isoformat()}")
    year = int(period.id[:4]) - 1
    return calendar.period(f"{year:04d}{period.id[4:]}")


def _year_before(day: date) -> date:
    last = 28 if (day.month, day.day) == (2, 29) else day.day
    return day.replace(year=day.year - 1, day=last)


async def _weights(tx: Connection, asked: Asked, world: World) -> dict[str, Decimal]:
    match asked.split:
        case Split.EVEN:
            return dict.fromkeys(asked.people, Decimal(1))
        case Split.WEIGHTED:
            unknown = sorted(set(asked.weights) - set(asked.people))
            if unknown:
                msg = "weights name people to whom nothing is handed down"
                raise InvalidValue(msg, pointer=f"/weights/{unknown[0]}")
            return {p: asked.weights.get(p, Decimal(0)) for p in asked.people}
        case Split.PRIOR_YEAR:
            return await _booked_last_year(tx, asked, world)


async def _booked_last_year(tx: Connection, asked: Asked, world: World) -> dict[str, Decimal]:
    if asked.measure not in MEASURED or asked.currency is None:
        msg = f"what people did last year is known for {' and '.join(MEASURED)}; give weights"
        raise InvalidValue(msg, pointer="/split")
    before = same_period_last_year(asked.period, world.org.calendar)
    last_year = [_empty(person, asked, before) for person in asked.people]
    booked = await booked_against(tx, last_year, world)
    return dict(zip(asked.people, booked, strict=True))


def _empty(person: str, asked: Asked, period: Period) -> Quota:
    return Quota(
        id=person,
        person=person,
        team=None,
        measure=asked.measure,
        period=period.id,
        start_day=period.start_day,
        end_day=period.end_day,
        amount=Decimal(0),
        currency=asked.currency,
        revision=0,
        deleted=False,
        changed_at=datetime.min,  # noqa: DTZ901 - never stored
        changed_by="",
    )


async def _quotas_there(tx: Connection, asked: Asked) -> dict[str, Quota]:
    """Person → their quota of exactly this measure and period."""
    period = asked.period
    found = await quotas.quotas_overlapping(tx, asked.measure, period.start_day, period.end_day)
    wanted = set(asked.people)
    there: dict[str, Quota] = {}
    for quota in found:
        same_days = (quota.start_day, quota.end_day) == (period.start_day, period.end_day)
        if same_days and quota.person in wanted:
            there.setdefault(str(quota.person), quota)
    return there


def _new_id(person: str, asked: Asked) -> str:
    return f"{person}:{asked.measure}:{asked.period.id}"[:MAX_ID]


def _quota_of(  # noqa: PLR0913, PLR0917 - what was there and what is said
    part: Part,
    asked: Asked,
    before: Quota | None,
    past: int,
    world: World,
    now: datetime,
    by: str,
) -> Quota:
    """The quota as it would be. past: revisions that a new one's id has had."""
    if before is None:
        base = _empty(part.person, asked, asked.period)
        base = replace(base, id=_new_id(part.person, asked), revision=past)
        terms = QuotaTermsData(amount="0", method=asked.method)
    else:
        base = before
        terms = before.terms or QuotaTermsData(amount="0", method="stated")
    base = replace(
        base,
        amount=part.amount,
        currency=asked.currency,
        revision=base.revision + 1,
        changed_at=now,
        changed_by=by,
    )
    said = msgspec.structs.replace(terms, amount=to_text(part.amount))
    try:
        return figured(base, said, world.org)
    except InvalidValue as fault:
        msg = f"{part.person}: {fault.message}"
        raise InvalidValue(msg, pointer="/amount") from None
