"""What is given to both readings: plan documents and settled history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Cash:
    """Money received for a deal, in the deal's currency; a refund is below 0."""

    id: str
    at: datetime
    amount: str


@dataclass(frozen=True)
class Deal:
    """A deal that was won, perhaps cancelled later. splits, overlays: member → `1/3` or `25%`."""

    id: str
    won_at: datetime
    amount: str
    owner: str
    currency: str = "USD"
    type: str = "new"
    splits: Mapping[str, str] = field(default_factory=dict)
    overlays: Mapping[str, str] = field(default_factory=dict)
    cancelled_at: datetime | None = None
    cash: tuple[Cash, ...] = ()


@dataclass(frozen=True)
class Score:
    """An objective was scored; score: a fraction such as `0.8`."""

    payee: str
    objective: str
    score: str
    at: datetime


@dataclass(frozen=True)
class Assigned:
    """A payee is on the plan from the first day to the last, both included."""

    payee: str
    first: date
    last: date | None = None
    quota: Mapping[str, str] = field(default_factory=dict)
    target_pay: str | None = None
    ramp: tuple[str, ...] = ()
    leave: tuple[tuple[date, date], ...] = ()
    payout_currency: str | None = None


@dataclass(frozen=True)
class KpiFact:
    """A KPI's value for a payee as of a day."""

    payee: str
    kpi: str
    day: date
    value: str


@dataclass(frozen=True)
class RateRow:
    """One unit of `source` is `rate` units of `target` from a day on."""

    table: str
    source: str
    target: str
    day: date
    rate: str


@dataclass(frozen=True)
class Adjusted:
    """An amount agreed on for the statement in which a day lies."""

    payee: str
    day: date
    amount: str


@dataclass(frozen=True)
class Agreed:
    """Terms in place of a component's, on days from the first to the last, both included.

    deal: only its credits. amount: what the deal pays once; rate: of what is credited.
    """

    payee: str
    component: str
    first: date
    last: date
    deal: str | None = None
    amount: str | None = None
    rate: str | None = None


@dataclass(frozen=True)
class Case:
    """One plan in its versions, and one company. until: periods that begin before it have begun."""

    plans: Sequence[Document]
    assigned: Sequence[Assigned]
    until: date
    deals: Sequence[Deal] = ()
    scores: Sequence[Score] = ()
    kpis: Sequence[KpiFact] = ()
    rates: Sequence[RateRow] = ()
    managers: Mapping[str, str] = field(default_factory=dict)
    adjusted: Sequence[Adjusted] = ()
    agreed: Sequence[Agreed] = ()
