"""Models of what a fact says about a record: patches, in which absent, null and a value differ.

Absent: nothing was said. Null: cleared, or known to be unknown. Amounts, shares and rates are
decimal text; instants are RFC 3339 in UTC with milliseconds; calendar dates have no time.
Lists of members (splits, participants, teams) are maps keyed by the member, so that each member is
a field of its own and null is its tombstone; naming the map in `complete` says that members which
are not in it are absent.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from shared.events.envelope import Instant

Decimal_ = Annotated[
    str,
    msgspec.Meta(pattern=r"^-?[0-9]{1,18}(\.[0-9]{1,10})?\Z", description="exact decimal as text"),
]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z", description="ISO 4217 code")]
DAY_PATTERN = r"^[0-9]{4}-[01][0-9]-[0-3][0-9]\Z"
Day = Annotated[str, msgspec.Meta(pattern=DAY_PATTERN, description="calendar date")]
Share = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^([0-9]{1,3}(\.[0-9]{1,10})?%|[0-9]{1,6}(/[1-9][0-9]{0,5})?)\Z",
        description="percentage (25%), fraction (1/3) or whole-number weight",
    ),
]
Text = Annotated[str, msgspec.Meta(max_length=4000)]
ExternalId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f|@/*]+\Z",
        description="`provider:tenant:id`, or an id of your own; no control characters, | @ / *",
    ),
]


class Patch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of every record's data."""


class DealData(Patch):
    """A deal (opportunity). `status` only where the source states it; stages are mapped later."""

    name: Text | UnsetType | None = UNSET
    amount: Decimal_ | UnsetType | None = UNSET
    currency: Currency | UnsetType | None = UNSET
    amount_period: Literal["one_time", "monthly", "annual"] | UnsetType | None = UNSET
    pipeline: Text | UnsetType | None = UNSET
    stage: Text | UnsetType | None = UNSET
    status: Literal["open", "won", "lost"] | UnsetType | None = UNSET
    owner: ExternalId | UnsetType | None = UNSET
    splits: dict[ExternalId, Share | None] | UnsetType = UNSET
    overlays: dict[ExternalId, Share | None] | UnsetType = UNSET
    account: ExternalId | UnsetType | None = UNSET
    contact: ExternalId | UnsetType | None = UNSET
    lead: ExternalId | UnsetType | None = UNSET
    type: Literal["new", "expansion", "renewal"] | UnsetType | None = UNSET
    product: Text | UnsetType | None = UNSET
    product_lines: list[dict[str, Any]] | UnsetType | None = UNSET
    test: bool | UnsetType | None = UNSET
    close_date: Day | UnsetType | None = UNSET
    created_at: Instant | UnsetType | None = UNSET
    closed_at: Instant | UnsetType | None = UNSET
    lost_reason: Text | UnsetType | None = UNSET
    next_step: Text | UnsetType | None = UNSET
    next_step_at: Instant | UnsetType | None = UNSET
    forecast_category: Text | UnsetType | None = UNSET
    probability: Decimal_ | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET
    merged_into: ExternalId | UnsetType | None = UNSET
    custom: dict[str, Any] | UnsetType = UNSET
    complete: list[Literal["splits", "overlays"]] | UnsetType = UNSET


class ActivityData(Patch):
    """A call, meeting, message or task."""

    kind: Literal["call", "meeting", "email", "task", "demo", "note", "sms"] | UnsetType | None = (
        UNSET
    )
    direction: Literal["in", "out"] | UnsetType | None = UNSET
    outcome: Text | UnsetType | None = UNSET
    duration_s: int | UnsetType | None = UNSET
    owner: ExternalId | UnsetType | None = UNSET
    participants: dict[ExternalId, bool | None] | UnsetType = UNSET
    deal: ExternalId | UnsetType | None = UNSET
    lead: ExternalId | UnsetType | None = UNSET
    account: ExternalId | UnsetType | None = UNSET
    due_at: Instant | UnsetType | None = UNSET
    completed_at: Instant | UnsetType | None = UNSET
    internal: bool | UnsetType | None = UNSET
    cancelled: bool | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET
    complete: list[Literal["participants"]] | UnsetType = UNSET


class LeadData(Patch):
    """Somebody who may become a customer."""

    owner: ExternalId | UnsetType | None = UNSET
    status: Text | UnsetType | None = UNSET
    source: Text | UnsetType | None = UNSET
    campaign: Text | UnsetType | None = UNSET
    grade: Text | UnsetType | None = UNSET
    created_at: Instant | UnsetType | None = UNSET
    first_touch_at: Instant | UnsetType | None = UNSET
    converted_to_deal: ExternalId | UnsetType | None = UNSET
    converted_to_account: ExternalId | UnsetType | None = UNSET
    converted_to_contact: ExternalId | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET


class AccountData(Patch):
    """A customer company."""

    name: Text | UnsetType | None = UNSET
    owner: ExternalId | UnsetType | None = UNSET
    segment: Text | UnsetType | None = UNSET
    parent: ExternalId | UnsetType | None = UNSET
    merged_into: ExternalId | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET


class ContactData(Patch):
    """A person at a customer."""

    name: Text | UnsetType | None = UNSET
    owner: ExternalId | UnsetType | None = UNSET
    account: ExternalId | UnsetType | None = UNSET
    email: Text | UnsetType | None = UNSET
    merged_into: ExternalId | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET


class SurveyData(Patch):
    """An answer about satisfaction. score: the answer's own scale, as text."""

    kind: Literal["csat", "nps"] | UnsetType | None = UNSET
    score: Decimal_ | UnsetType | None = UNSET
    account: ExternalId | UnsetType | None = UNSET
    deal: ExternalId | UnsetType | None = UNSET
    owner: ExternalId | UnsetType | None = UNSET
    answered_at: Instant | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET


class ComplaintData(Patch):
    """A customer's complaint."""

    account: ExternalId | UnsetType | None = UNSET
    deal: ExternalId | UnsetType | None = UNSET
    owner: ExternalId | UnsetType | None = UNSET
    opened_at: Instant | UnsetType | None = UNSET
    resolved_at: Instant | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET


class InvoiceData(Patch):
    """An invoice, or a credit note (negative, with `credit_note_of`)."""

    number: Text | UnsetType | None = UNSET
    amount: Decimal_ | UnsetType | None = UNSET
    amount_excluding_tax: Decimal_ | UnsetType | None = UNSET
    currency: Currency | UnsetType | None = UNSET
    deal: ExternalId | UnsetType | None = UNSET
    account: ExternalId | UnsetType | None = UNSET
    status: Literal["draft", "open", "paid", "void", "uncollectible"] | UnsetType | None = UNSET
    issued_at: Instant | UnsetType | None = UNSET
    credit_note_of: ExternalId | UnsetType | None = UNSET
    due_date: Day | UnsetType | None = UNSET
    paid_at: Instant | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET


class PaymentData(Patch):
    """Money received for an invoice. refunded_total is a running total."""

    amount: Decimal_ | UnsetType | None = UNSET
    currency: Currency | UnsetType | None = UNSET
    refunded_total: Decimal_ | UnsetType | None = UNSET
    invoice: ExternalId | UnsetType | None = UNSET
    deal: ExternalId | UnsetType | None = UNSET
    received_at: Instant | UnsetType | None = UNSET
    disputed: bool | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET


class DatedPatch(Patch):
    """A patch whose values hold from a day on. Without a day, they hold from the source's time on.

    The folded field is (field, effective_from); null retracts what was said for that day.
    """

    effective_from: Day | UnsetType = UNSET


class PersonData(DatedPatch):
    """Somebody of our own. manager: a person id, or "" for nobody. teams: true joins, false leaves.

    identities: this person's ids in source systems (`hubspot:4821:55120034`).
    """

    email: Text | UnsetType | None = UNSET
    name: Text | UnsetType | None = UNSET
    role: Text | UnsetType | None = UNSET
    manager: Annotated[str, msgspec.Meta(max_length=200)] | UnsetType | None = UNSET
    teams: dict[ExternalId, bool | None] | UnsetType = UNSET
    timezone: Text | UnsetType | None = UNSET
    locale: Text | UnsetType | None = UNSET
    currency: Currency | UnsetType | None = UNSET
    active: bool | UnsetType | None = UNSET
    hired_on: Day | UnsetType | None = UNSET
    identities: dict[ExternalId, bool | None] | UnsetType = UNSET


class TeamData(DatedPatch):
    """A team; `manager` leads it, `parent` is the team above."""

    name: Text | UnsetType | None = UNSET
    parent: Annotated[str, msgspec.Meta(max_length=200)] | UnsetType | None = UNSET
    manager: Annotated[str, msgspec.Meta(max_length=200)] | UnsetType | None = UNSET


class RateData(Patch):
    """One row of a named exchange-rate table: one unit of `from_` is `rate` units of `to`."""

    table: Text
    from_: Currency = msgspec.field(name="from")
    to: Currency
    day: Day
    rate: Decimal_ | None


class CalendarData(DatedPatch):
    """The organisation's calendar, or a country's. weekdays: 1 Monday … 7 Sunday.

    holidays: day → name, null takes it back. country: an ISO 3166 code whose public holidays count.
    """

    time_zone: Text | UnsetType | None = UNSET
    fiscal_start_month: int | UnsetType | None = UNSET
    weekdays: list[int] | UnsetType | None = UNSET
    country: Text | UnsetType | None = UNSET
    holidays: dict[Day, Text | None] | UnsetType = UNSET
    currency: Currency | UnsetType | None = UNSET


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one stage means. exempt: stage age does not count for "stalled" (legal, procurement)."""

    order: int
    status: Literal["open", "won", "lost"] = "open"
    probability: Decimal_ | None = None
    category: Text | None = None
    name: Text | None = None
    qualified: bool = True
    exempt: bool = False
    stalled_after_days: int | None = None


class StageMapData(DatedPatch):
    """What the stages of one pipeline of one connection mean, from a day on."""

    stages: dict[str, Stage] | UnsetType | None = UNSET
