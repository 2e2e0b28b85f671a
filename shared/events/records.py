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
Day = Annotated[
    str,
    msgspec.Meta(pattern=r"^[0-9]{4}-[01][0-9]-[0-3][0-9]\Z", description="calendar date"),
]
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

    name: Text | None | UnsetType = UNSET
    amount: Decimal_ | None | UnsetType = UNSET
    currency: Currency | None | UnsetType = UNSET
    amount_period: Literal["one_time", "monthly", "annual"] | None | UnsetType = UNSET
    pipeline: Text | None | UnsetType = UNSET
    stage: Text | None | UnsetType = UNSET
    status: Literal["open", "won", "lost"] | None | UnsetType = UNSET
    owner: ExternalId | None | UnsetType = UNSET
    splits: dict[ExternalId, Share | None] | UnsetType = UNSET
    overlays: dict[ExternalId, Share | None] | UnsetType = UNSET
    account: ExternalId | None | UnsetType = UNSET
    contact: ExternalId | None | UnsetType = UNSET
    lead: ExternalId | None | UnsetType = UNSET
    type: Literal["new", "expansion", "renewal"] | None | UnsetType = UNSET
    product: Text | None | UnsetType = UNSET
    product_lines: list[dict[str, Any]] | None | UnsetType = UNSET
    test: bool | None | UnsetType = UNSET
    close_date: Day | None | UnsetType = UNSET
    created_at: Instant | None | UnsetType = UNSET
    closed_at: Instant | None | UnsetType = UNSET
    lost_reason: Text | None | UnsetType = UNSET
    next_step: Text | None | UnsetType = UNSET
    next_step_at: Instant | None | UnsetType = UNSET
    forecast_category: Text | None | UnsetType = UNSET
    probability: Decimal_ | None | UnsetType = UNSET
    deleted: bool | UnsetType = UNSET
    merged_into: ExternalId | None | UnsetType = UNSET
    custom: dict[str, Any] | UnsetType = UNSET
    complete: list[Literal["splits", "overlays"]] | UnsetType = UNSET


class ActivityData(Patch):
    """A call, meeting, message or task."""

    kind: Literal["call", "meeting", "email", "task", "demo", "note", "sms"] | None | UnsetType = (
        UNSET
    )
    direction: Literal["in", "out"] | None | UnsetType = UNSET
    outcome: Text | None | UnsetType = UNSET
    duration_s: int | None | UnsetType = UNSET
    owner: ExternalId | None | UnsetType = UNSET
    participants: dict[ExternalId, bool | None] | UnsetType = UNSET
    deal: ExternalId | None | UnsetType = UNSET
    lead: ExternalId | None | UnsetType = UNSET
    account: ExternalId | None | UnsetType = UNSET
    due_at: Instant | None | UnsetType = UNSET
    completed_at: Instant | None | UnsetType = UNSET
    internal: bool | None | UnsetType = UNSET
    cancelled: bool | None | UnsetType = UNSET
    deleted: bool | UnsetType = UNSET
    complete: list[Literal["participants"]] | UnsetType = UNSET


class LeadData(Patch):
    """Somebody who may become a customer."""

    owner: ExternalId | None | UnsetType = UNSET
    status: Text | None | UnsetType = UNSET
    source: Text | None | UnsetType = UNSET
    campaign: Text | None | UnsetType = UNSET
    grade: Text | None | UnsetType = UNSET
    created_at: Instant | None | UnsetType = UNSET
    first_touch_at: Instant | None | UnsetType = UNSET
    converted_to_deal: ExternalId | None | UnsetType = UNSET
    converted_to_account: ExternalId | None | UnsetType = UNSET
    converted_to_contact: ExternalId | None | UnsetType = UNSET
    deleted: bool | UnsetType = UNSET


class AccountData(Patch):
    """A customer company."""

    name: Text | None | UnsetType = UNSET
    owner: ExternalId | None | UnsetType = UNSET
    segment: Text | None | UnsetType = UNSET
    parent: ExternalId | None | UnsetType = UNSET
    merged_into: ExternalId | None | UnsetType = UNSET
    deleted: bool | UnsetType = UNSET


class ContactData(Patch):
    """A person at a customer."""

    name: Text | None | UnsetType = UNSET
    owner: ExternalId | None | UnsetType = UNSET
    account: ExternalId | None | UnsetType = UNSET
    email: Text | None | UnsetType = UNSET
    merged_into: ExternalId | None | UnsetType = UNSET
    deleted: bool | UnsetType = UNSET


class SurveyData(Patch):
    """An answer about satisfaction. score: the answer's own scale, as text."""

    kind: Literal["csat", "nps"] | None | UnsetType = UNSET
    score: Decimal_ | None | UnsetType = UNSET
    account: ExternalId | None | UnsetType = UNSET
    deal: ExternalId | None | UnsetType = UNSET
    owner: ExternalId | None | UnsetType = UNSET
    answered_at: Instant | None | UnsetType = UNSET
    deleted: bool | UnsetType = UNSET


class ComplaintData(Patch):
    """A customer's complaint."""

    account: ExternalId | None | UnsetType = UNSET
    deal: ExternalId | None | UnsetType = UNSET
    owner: ExternalId | None | UnsetType = UNSET
    opened_at: Instant | None | UnsetType = UNSET
    resolved_at: Instant | None | UnsetType = UNSET
    deleted: bool | UnsetType = UNSET


class InvoiceData(Patch):
    """An invoice, or a credit note (negative, with `credit_note_of`)."""

    number: Text | None | UnsetType = UNSET
    amount: Decimal_ | None | UnsetType = UNSET
    amount_excluding_tax: Decimal_ | None | UnsetType = UNSET
    currency: Currency | None | UnsetType = UNSET
    deal: ExternalId | None | UnsetType = UNSET
    account: ExternalId | None | UnsetType = UNSET
    status: Literal["draft", "open", "paid", "void", "uncollectible"] | None | UnsetType = UNSET
    issued_at: Instant | None | UnsetType = UNSET
    credit_note_of: ExternalId | None | UnsetType = UNSET
    due_date: Day | None | UnsetType = UNSET
    paid_at: Instant | None | UnsetType = UNSET
    deleted: bool | UnsetType = UNSET


class PaymentData(Patch):
    """Money received for an invoice. refunded_total is a running total."""

    amount: Decimal_ | None | UnsetType = UNSET
    currency: Currency | None | UnsetType = UNSET
    refunded_total: Decimal_ | None | UnsetType = UNSET
    invoice: ExternalId | None | UnsetType = UNSET
    deal: ExternalId | None | UnsetType = UNSET
    received_at: Instant | None | UnsetType = UNSET
    disputed: bool | None | UnsetType = UNSET
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

    email: Text | None | UnsetType = UNSET
    name: Text | None | UnsetType = UNSET
    role: Text | None | UnsetType = UNSET
    manager: Annotated[str, msgspec.Meta(max_length=200)] | None | UnsetType = UNSET
    teams: dict[ExternalId, bool | None] | UnsetType = UNSET
    timezone: Text | None | UnsetType = UNSET
    locale: Text | None | UnsetType = UNSET
    currency: Currency | None | UnsetType = UNSET
    active: bool | None | UnsetType = UNSET
    hired_on: Day | None | UnsetType = UNSET
    identities: dict[ExternalId, bool | None] | UnsetType = UNSET


class TeamData(DatedPatch):
    """A team; `manager` leads it, `parent` is the team above."""

    name: Text | None | UnsetType = UNSET
    parent: Annotated[str, msgspec.Meta(max_length=200)] | None | UnsetType = UNSET
    manager: Annotated[str, msgspec.Meta(max_length=200)] | None | UnsetType = UNSET


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

    time_zone: Text | None | UnsetType = UNSET
    fiscal_start_month: int | None | UnsetType = UNSET
    weekdays: list[int] | None | UnsetType = UNSET
    country: Text | None | UnsetType = UNSET
    holidays: dict[Day, Text | None] | UnsetType = UNSET
    currency: Currency | None | UnsetType = UNSET


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

    stages: dict[str, Stage] | None | UnsetType = UNSET
