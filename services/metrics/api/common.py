"""Parameters that several routes take, and pieces that several answers hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

from fastapi import Query

from services.metrics.api.models import Freshness, HeldAmount, PeriodView
from services.metrics.api.sight import PEOPLE, Sight
from shared.clock import to_epoch_ms
from shared.errors import InvalidValue
from shared.facts.store import load_records
from shared.http.auth import Principal, require
from shared.http.models import Instant
from shared.org.calendar import Period

if TYPE_CHECKING:
    from shared.db.pool import Connection

Reader = Annotated[Principal, require(*PEOPLE, scopes=["metrics:read"])]
Rep = Annotated[str | None, Query(max_length=200, description="a person's id")]
Team = Annotated[str | None, Query(max_length=200, description="a team's id")]
PeriodName = Annotated[
    str | None, Query(max_length=50, description="2025, 2025-H1, 2025-Q1 or 2025-03")
]
FirstDay = Annotated[date | None, Query(alias="from", description="first day, instead of period")]
EndDay = Annotated[date | None, Query(alias="to", description="the day after the last one")]
AsOf = Annotated[
    Instant | None, Query(description="an instant of the past; by what had happened by then")
]
Currency = Annotated[
    str | None, Query(pattern=r"^[A-Z]{3}$", description="ISO 4217 code of the answer")
]


def period_of(
    sight: Sight, name: str | None, start: date | None, end: date | None
) -> Period | None:
    """The period that a request names in one of two ways; None when in neither."""
    if (start is None) != (end is None) or (name is not None and start is not None):
        msg = "give `period`, or `from` and `to` together"
        raise InvalidValue(msg, pointer="#query/period")
    try:
        if start is not None and end is not None:
            return sight.calendar.period(f"{start.isoformat()}..{end.isoformat()}")
        return None if name is None else sight.calendar.period(name)
    except InvalidValue as fault:
        raise fault.at("#query/period") from None


def as_of_ms(sight: Sight, as_of: datetime | None) -> int | None:
    """The instant asked for, in milliseconds; None for now. Raises InvalidValue for the future."""
    if as_of is None or as_of == sight.now:
        return None
    if as_of > sight.now:
        msg = "as_of lies in the future; leave it out for the present"
        raise InvalidValue(msg, pointer="#query/as_of")
    return to_epoch_ms(as_of)


def period_view(period: Period) -> PeriodView:
    """The period as it is shown."""
    return PeriodView(id=period.id, start=period.start_day, end=period.end_day)


def held_view(held: Mapping[tuple[date, str], Decimal]) -> list[HeldAmount]:
    """Amounts without a rate, by day and currency."""
    return [HeldAmount(day=d, currency=c, amount=a) for (d, c), a in sorted(held.items())]


async def freshness(tx: Connection) -> Freshness:
    """Whether all that has arrived is in the numbers."""
    row = await tx.fetchrow(
        """
        SELECT EXISTS (SELECT FROM mark) AS waiting,
               EXISTS (SELECT FROM root r WHERE r.kind IN ('deal', 'activity')
                       AND r.reference_version < v.version) AS recalculating,
               (SELECT count(*) FROM dead_letter WHERE state = 'open') AS unreadable_records
        FROM reference_version v
        """
    )
    if row is None:
        return Freshness(waiting=False, recalculating=False, unreadable_records=0)
    return Freshness(**dict(row))


async def event_ids(tx: Connection, kind: str, ids: Iterable[str]) -> dict[str, list[str]]:
    """The events that each record rests on."""
    records = await load_records(tx, kind, ids)
    return {record_id: record.event_ids() for record_id, record in records.items()}
