"""Targets: what somebody is to reach. Commissions rates against them; metrics measures them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shared.events.catalogue import METRICS_TARGETS, EventType
from shared.events.envelope import Instant
from shared.events.records import Currency, Day, Decimal_, ExternalId

KpiName = Annotated[
    str,
    msgspec.Meta(
        min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f|@/*]+\Z", description="KPI's name"
    ),
]

MethodName = Literal["stated", "calendar_days", "months", "working_days"]


class QuotaData(msgspec.Struct, frozen=True, kw_only=True):
    """One quota, whole: consumers keep the greatest revision.

    quota: its id. person or team: whose it is, the other null. measure: `bookings`, `new_business`,
    or another measure that plans name. start, end: the days [start, end) of `period`. amount: in
    `currency`; for a measure that counts, the currency is null. method: how it came about: stated
    as it is, or prorated (ramp, leave, a part of the period) by calendar days, by months each as
    long, or by working days; the amount is prorated already. stated: what was stated for the whole
    period, where the amount is another.
    """

    quota: ExternalId
    person: ExternalId | None
    team: ExternalId | None
    measure: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    period: Annotated[str, msgspec.Meta(min_length=1, max_length=50)]
    start: Day
    end: Day
    amount: Decimal_
    currency: Currency | None
    revision: Annotated[int, msgspec.Meta(ge=1)]
    method: MethodName = "stated"
    deleted: bool = False
    stated: Decimal_ | None = None


QUOTA = EventType("attain.quota.v1", METRICS_TARGETS, QuotaData)
"""Key: `quota/<quota id>`."""


class KpiData(msgspec.Struct, frozen=True, kw_only=True):
    """A person's KPI as of a day, as pay may depend on it: consumers keep the greatest revision.

    day: the last day that `value` speaks of; it holds until a figure of a later day. A correction
    is the same person, KPI and day with a greater revision.
    """

    kpi: KpiName
    person: ExternalId
    day: Day
    value: Decimal_
    revision: Annotated[int, msgspec.Meta(ge=1)]
    deleted: bool = False


class ObjectiveScoreData(msgspec.Struct, frozen=True, kw_only=True):
    """How far somebody met an objective in a period: consumers keep the greatest revision.

    score: a fraction, 1 is the whole objective. scored_at: the instant it is credited at, as a
    rule the period's last; a correction keeps it.
    """

    objective: KpiName
    person: ExternalId
    period: Annotated[
        str, msgspec.Meta(min_length=1, max_length=50, pattern=r"^[^\x00-\x1f\x7f|@/*]+\Z")
    ]
    score: Decimal_
    scored_at: Instant
    revision: Annotated[int, msgspec.Meta(ge=1)]
    deleted: bool = False


KPI = EventType("attain.kpi.v1", METRICS_TARGETS, KpiData)
"""Key: `kpi/<person>/<kpi>/<day>`."""
OBJECTIVE_SCORE = EventType("attain.objective_score.v1", METRICS_TARGETS, ObjectiveScoreData)
"""Key: `objective_score/<person>/<objective>/<period>`."""
