"""Targets: what somebody is to reach. Commissions rates against them; metrics measures them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shared.events.catalogue import METRICS_TARGETS, EventType
from shared.events.records import Currency, Day, Decimal_, ExternalId


class QuotaData(msgspec.Struct, frozen=True, kw_only=True):
    """One quota, whole: consumers keep the greatest revision.

    quota: its id. person or team: whose it is, the other null. measure: `bookings`, `new_business`,
    or another measure that plans name. start, end: the days [start, end) of `period`. amount: in
    `currency`; for a measure that counts, the currency is null. method: how it came about.
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
    method: Literal["stated"] = "stated"
    deleted: bool = False


QUOTA = EventType("attain.quota.v1", METRICS_TARGETS, QuotaData)
"""Key: `quota/<quota id>`."""
