"""What the API shows and takes."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field

from shared.http.models import DecimalText, Instant, WireModel

Id = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f|@/*]+$")]
CurrencyCode = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class KpiVersion(WireModel):
    """One version of a definition: periods that begin on `effective_from` or later are read by it.

    minimum_sample: with fewer records behind it a value is null, with `too_few`.
    """

    version: int
    effective_from: date
    name: str
    unit: str
    kind: str
    formula: str
    measures: list[str]
    null_rule: str
    source: str
    owner: str
    minimum_sample: int


class KpiView(WireModel):
    """One line of the catalogue, as its newest version says; versions rise with their formulas.

    kind: `leading` or `lagging`. trend: whether there is a series by month. filters: by deal type
    and segment. versions: the oldest first.
    """

    id: str
    name: str
    unit: str
    kind: str
    formula: str
    null_rule: str
    source: str
    version: int
    effective_from: date
    measures: list[str]
    owner: str
    minimum_sample: int
    trend: bool
    filters: bool
    versions: list[KpiVersion]


class ScopeView(WireModel):
    """Whose number it is: `rep`, `team`, `people` (all whom the caller sees), `organisation`."""

    kind: str
    id: str | None


class PeriodView(WireModel):
    """The days [start, end)."""

    id: str
    start: date
    end: date


class HeldAmount(WireModel):
    """An amount that is in no sum, because no exchange rate of its day is known."""

    day: date
    currency: str
    amount: DecimalText


class Freshness(WireModel):
    """Whether all that has arrived is in the number.

    waiting: something is marked and not yet settled. recalculating: reference data changed, and
    not everything is projected by it yet. unreadable_records: dead letters that wait for somebody.
    """

    waiting: bool
    recalculating: bool
    unreadable_records: int


class KpiAnswer(WireModel):
    """A KPI's value. value null: see reason. Ratios are fractions; money is in `currency`."""

    id: str
    name: str
    unit: str
    version: int
    scope: ScopeView
    period: PeriodView | None
    value: DecimalText | None
    reason: str | None
    currency: str | None
    parts: dict[str, str | None]
    held: list[HeldAmount]
    as_of: Instant
    freshness: Freshness


class KpiRecord(WireModel):
    """A deal or activity behind a number, with the events that it rests on.

    counted: what it adds for the scope asked about, in the record's own currency. labels: what it
    is counted as, such as the class of a flow or the rules that fail; empty where one thing only.
    """

    record: str
    name: str | None
    owner: str | None
    status: str | None
    stage: str | None
    day: date | None
    amount: DecimalText | None
    currency: str | None
    counted: DecimalText | None
    event_ids: list[str]
    labels: list[str]


class TrendPoint(WireModel):
    """One whole month. value null: see reason."""

    period: PeriodView
    value: DecimalText | None
    reason: str | None


class TrendAnswer(WireModel):
    """A KPI by month. slope: median change a month between any two months that have a value.

    level: their median. flatness: slope ÷ level; flat: that is at most 2 % either way. All null
    with fewer than three values.
    """

    id: str
    name: str
    unit: str
    scope: ScopeView
    data: list[TrendPoint]
    slope: DecimalText | None
    level: DecimalText | None
    flatness: DecimalText | None
    flat: bool | None
    currency: str | None
    held: list[HeldAmount]
    as_of: Instant
    freshness: Freshness


class AttainmentRow(WireModel):
    """K1 and K2 of one person or team. Amounts in `currency`."""

    person: str | None
    team: str | None
    name: str
    booked: DecimalText
    quota: DecimalText | None
    currency: str
    attainment: DecimalText | None
    pace: DecimalText | None
    reason: str | None


class AttainmentAnswer(WireModel):
    """Everybody's attainment of one period whom the caller sees."""

    period: PeriodView
    as_of: Instant
    data: list[AttainmentRow]
    freshness: Freshness


class DealView(WireModel):
    """A deal as it stands. closed_at: the credit instant, or the loss. stalled_by: rules."""

    id: str
    name: str | None
    owner: str | None
    status: str
    stage: str | None
    stage_name: str | None
    pipeline: str
    amount: DecimalText | None
    currency: str | None
    close_date: date | None
    probability: DecimalText | None
    category: str | None
    type: str | None
    account: str | None
    created_at: Instant | None
    stage_entered_at: Instant | None
    closed_at: Instant | None
    stalled: bool
    stalled_by: list[str]


class SpanView(WireModel):
    """What held from one instant to another; `to` null: until now."""

    start: Instant = Field(serialization_alias="from")
    end: Instant | None = Field(serialization_alias="to")
    status: str
    stage: str | None
    stage_name: str | None
    owner: str | None
    amount: DecimalText | None
    currency: str | None
    close_date: date | None


class EventView(WireModel):
    """An event that the deal rests on, and the fields of which it is the statement."""

    event_id: str
    at: Instant
    says: dict[str, Any]


class HygieneView(WireModel):
    """Something missing, which holds back a number."""

    rule: str
    text: str


class EvidenceView(WireModel):
    """One rule that fires, or fired when the episode was last open."""

    rule: str
    text: str
    values: dict[str, Any]


class EpisodeView(WireModel):
    """What a detector found, from when to when."""

    id: str
    detector: str
    subject: str
    state: Literal["open", "closed"]
    person: str | None
    team: str | None
    title: str
    opened_at: Instant
    closed_at: Instant | None
    judged_at: Instant
    revision: int
    rules: list[str]
    evidence: list[EvidenceView]
    facts: dict[str, Any]
    silent: bool


class DispositionBody(WireModel):
    """A person's word about a deal, which holds until stage, amount or close date change."""

    disposition: Literal["not_stalled", "withdrawn"]
    reason: Annotated[str, Field(min_length=1, max_length=2_000)]


class DispositionView(WireModel):
    """A disposition as it was stated."""

    number: int
    deal: str
    disposition: str
    reason: str
    stated_at: Instant
    stated_by: str


class DealDetail(DealView):
    """A deal with its whole timeline, what it rests on, and what was found and said about it."""

    timeline: list[SpanView]
    events: list[EventView]
    hygiene: list[HygieneView]
    episodes: list[EpisodeView]
    dispositions: list[DispositionView]
