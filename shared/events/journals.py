"""Journals: what people and services decided, kept for ever, and what they did about it.

Every event carries its subject's whole state; `revision` counts within the subject. From these
topics everything that no CRM fact says can be read again.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from shared.events.catalogue import (
    COMMISSIONS_EVENTS,
    COMMISSIONS_JOURNAL,
    METRICS_JOURNAL,
    NOTIFICATIONS_DELIVERIES,
    NOTIFICATIONS_JOURNAL,
    EventType,
)
from shared.events.envelope import Instant
from shared.events.planned import QuotaTermsData
from shared.events.records import Currency, Day, Decimal_, ExternalId, Share, Text
from shared.events.signals import SignalData
from shared.events.targets import QuotaData

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
Actor = Annotated[
    str, msgspec.Meta(min_length=1, description="person id, or the subject of a machine's token")
]
Revision = Annotated[int, msgspec.Meta(ge=1)]
ChannelName = Literal["slack", "slack_webhook", "email"]
PeriodState = Literal["open", "reviewing", "approved", "closed"]
PayRunState = Literal["draft", "approved", "paid", "cancelled"]
PayLineState = Literal["due", "paid", "returned", "cancelled"]
AgreementState = Literal["proposed", "approved", "rejected", "withdrawn"]
DisputeState = Literal["open", "answered", "resolved"]
DisputeOutcome = Literal["accepted", "rejected", "withdrawn"]


class QuotaStatedData(msgspec.Struct, frozen=True, kw_only=True):
    """A quota as it was stated, who did, and by which terms its figure came about.

    terms: null for a quota that is as it was stated. reason: why it changed.
    """

    quota: QuotaData
    changed_by: Actor
    terms: QuotaTermsData | None = None
    reason: Text | None = None


class DispositionData(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's word about a deal: that it is not stalled and why, or that taken back.

    number: counts all dispositions; of one deal the greatest holds.
    """

    deal: ExternalId
    disposition: Literal["not_stalled", "withdrawn"]
    reason: Text
    stated_by: Actor
    number: Revision
    stated_at: Instant


class PlanVersionData(msgspec.Struct, frozen=True, kw_only=True):
    """A plan version that was saved. document: as it was sent. hash: of what it means.

    confirmed_by: the second person, of a version that reaches into closed periods.
    """

    plan: Name
    version: Revision
    hash: Name
    document: dict[str, Any]
    actor: Actor
    confirmed_by: Actor | None = None


class ProposalData(msgspec.Struct, frozen=True, kw_only=True):
    """A change that reaches into closed periods, as it is now: it counts once it is confirmed.

    proposal: `plan/<id>/<version>` or `assignment/<id>`, of which `said` is to be saved.
    closed_until: all earlier days were closed when it was asked. figures: what it would move, as
    it was told; null while that is worked out. one_seat: one person may ask and confirm.
    """

    proposal: Name
    plan: Name
    state: Literal["proposed", "confirmed", "withdrawn"]
    said: dict[str, Any]
    closed_until: Day
    figures: dict[str, Any] | None
    asked_by: Actor
    decided_by: Actor | None
    one_seat: bool
    revision: Revision
    actor: Actor


class PlanKeepingData(msgspec.Struct, frozen=True, kw_only=True):
    """Where a plan is kept: in files, whose versions no other way saves, or over the API."""

    plan: Name
    kept_in: Literal["files", "api"]
    revision: Revision
    actor: Actor


class LeaveData(msgspec.Struct, frozen=True, kw_only=True):
    """Days on which an assignment does not count, both included."""

    from_: Day = msgspec.field(name="from")
    to: Day


class AssignmentData(msgspec.Struct, frozen=True, kw_only=True):
    """An assignment as it is now. from, to: first and last day, both included; null: no end.

    quota: amount by measure. target_pay: in plan currency for a whole measure period;
    component_target_pay: component → in its place. ramp: share in the first, second, … month.
    confirmed_by: the second person, of a change that reaches into closed periods.
    """

    assignment: Name
    payee: ExternalId
    plan: Name
    from_: Day = msgspec.field(name="from")
    to: Day | None
    quota: dict[str, Decimal_]
    payout_currency: Currency | None
    deleted: bool
    revision: Revision
    actor: Actor
    target_pay: Decimal_ | None = None
    component_target_pay: dict[Name, Decimal_] = {}
    ramp: list[Share] = []
    leave: list[LeaveData] = []
    confirmed_by: Actor | None = None


class FixedData(msgspec.Struct, frozen=True, kw_only=True):
    """One statement in a close: which, its hash and what it pays."""

    payee: ExternalId
    plan: Name
    period: Name
    hash: Name
    payable: Decimal_
    currency: Currency


class PeriodData(msgspec.Struct, frozen=True, kw_only=True):
    """A period as it is now. A close lists the statements it fixed; each is an event as well.

    start, end: its days [start, end). one_seat: one person may submit and approve.
    reason: why it was opened again after a close; actor: who agreed to that.
    """

    period: Name
    start: Day
    end: Day
    state: PeriodState
    submitted_by: Actor | None
    closed_by: Actor | None
    one_seat: bool
    revision: Revision
    actor: Actor
    approved_by: Actor | None = None
    reason: Text | None = None
    statements: list[FixedData] = []


class StatementData(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that a close fixed, whole, with its lines. closed_with: that period."""

    statement: dict[str, Any]
    closed_with: Name


class ControlTotalData(msgspec.Struct, frozen=True, kw_only=True):
    """What a pay run comes to in one currency."""

    currency: Currency
    lines: Annotated[int, msgspec.Meta(ge=1)]
    amount: Decimal_


class PayRunData(msgspec.Struct, frozen=True, kw_only=True):
    """A pay run as it is now; its lines are events of their own.

    through: the last period it takes. hash: over what is paid to whom. template, parameters,
    employees: of the file. paid_on: null until it was paid.
    """

    pay_run: Name
    through: Name
    pay_date: Day
    template: Name
    parameters: dict[str, str]
    employees: Name | None
    state: PayRunState
    hash: Name
    control: list[ControlTotalData]
    made_by: Actor
    approved_by: Actor | None
    paid_on: Day | None
    one_seat: bool
    revision: Revision
    actor: Actor


class PayLineData(msgspec.Struct, frozen=True, kw_only=True):
    """One statement in a pay run. reason: why it was returned."""

    pay_run: Name
    payee: ExternalId
    plan: Name
    period: Name
    amount: Decimal_
    currency: Currency
    plan_amount: Decimal_
    plan_currency: Currency
    statement_hash: Name
    state: PayLineState
    reason: Text | None
    revision: Revision
    actor: Actor


class AdjustmentData(msgspec.Struct, frozen=True, kw_only=True):
    """An amount that people agree to add to a statement, or to take from it where it is below 0.

    amount: in plan currency. decision: why it was approved, rejected or withdrawn, where somebody
    said so. dispute: which it answers. one_seat: one person may ask and approve.
    """

    adjustment: Name
    payee: ExternalId
    plan: Name
    period: Name
    amount: Decimal_
    currency: Currency
    reason: Text
    dispute: Name | None
    state: AgreementState
    asked_by: Actor
    decided_by: Actor | None
    decision: Text | None
    one_seat: bool
    revision: Revision
    actor: Actor


class EndingData(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier end of an override, `until` with that day; decided_by: null until agreed on."""

    until: Day
    reason: Text
    asked_by: Actor
    decided_by: Actor | None


class OverrideData(msgspec.Struct, frozen=True, kw_only=True):
    """Terms that people agree on in place of a component's, for credits of some days.

    from, until: both included; until the day before from: taken back wholly. deal: only its
    credits. Either amount: what the deal pays, in plan currency; or rate: of the credited amount.
    """

    override: Name
    payee: ExternalId
    plan: Name
    component: Name
    deal: ExternalId | None
    amount: Decimal_ | None
    rate: Share | None
    currency: Currency
    from_: Day = msgspec.field(name="from")
    until: Day
    reason: Text
    dispute: Name | None
    state: AgreementState
    asked_by: Actor
    decided_by: Actor | None
    decision: Text | None
    ending: EndingData | None
    one_seat: bool
    revision: Revision
    actor: Actor


class ShownData(msgspec.Struct, frozen=True, kw_only=True):
    """What a statement showed when it was disputed: its hash, the line's amount and explanation."""

    hash: Name
    amount: Decimal_ | None
    explanation: dict[str, Any] | None


class CommentData(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said in a dispute."""

    person: Actor
    text: Text
    said_at: Instant


class DisputeData(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody says that a statement is wrong, and what came of it.

    line: what it is about; null: something is missing, perhaps `deal`. due: the day by whose end
    it is to be answered. adjustments, overrides: what an accepted one led to; they name it too.
    """

    dispute: Name
    payee: ExternalId
    plan: Name
    period: Name
    line: Text | None
    deal: ExternalId | None
    text: Text
    shown: ShownData | None
    state: DisputeState
    outcome: DisputeOutcome | None
    raised_by: Actor
    due: Day
    resolved_by: Actor | None
    resolution: Text | None
    adjustments: list[Name]
    overrides: list[Name]
    comments: list[CommentData]
    one_seat: bool
    revision: Revision
    actor: Actor


class ClosedDaysData(msgspec.Struct, frozen=True, kw_only=True):
    """Closed days of a plan: [start, end)."""

    plan: Name
    start: Day
    end: Day


class HeldDeletionData(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a deal's credits in closed periods, after it was deleted or merged away.

    number: counts what was asked about one deal. decision: whether they stay or go; it counts while
    it is confirmed. superseded: by a later decision, or because the deal came back. reason: of
    whoever asked. days: those it is about.
    """

    deal: ExternalId
    number: Revision
    decision: Literal["keep", "reverse"]
    state: Literal["asked", "confirmed", "superseded"]
    reason: Text
    days: list[ClosedDaysData]
    asked_by: Actor
    confirmed_by: Actor | None
    one_seat: bool
    revision: Revision
    actor: Actor


class MovedData(msgspec.Struct, frozen=True, kw_only=True):
    """What a change would move of one plan's pay in one statement period, in plan currency.

    before: what all payees earned without it. moved: the sum of all their differences, each as an
    amount of 0 or more. earlier: what other changes had moved within the hour before.
    """

    plan: Name
    period: Name
    currency: Currency
    before: Decimal_
    moved: Decimal_
    earlier: Decimal_


class HeldChangeData(msgspec.Struct, frozen=True, kw_only=True):
    """A change of reference data, or a quota, that was put aside before it counts.

    event, subject: the fact's. applied: it moves little; held: it would move too much; released or
    discarded: by `actor`, for `reason`; refused: nobody can use it.
    """

    change: Revision
    event: Name
    subject: Name
    state: Literal["applied", "held", "released", "discarded", "refused"]
    moved: list[MovedData]
    reason: Text | None
    revision: Revision
    actor: Actor


class NotificationData(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one recipient, as far as it got. Addresses are left out.

    alert_revision: what it tells of. transition: what it tells. channel: null when there is nobody
    to tell. reason: why this recipient. attempts: tries so far. due_at: not before; null: at once.
    """

    notification: Name
    alert: Name
    alert_revision: Revision
    transition: Literal["opened", "changed", "resolved", "handed_over"]
    channel: ChannelName | None
    recipient: Text
    reason: Literal["own", "manager", "team_manager", "fallback", "nobody"]
    status: Literal["pending", "sent", "failed", "withdrawn", "unroutable"]
    attempts: Annotated[int, msgspec.Meta(ge=0)]
    due_at: Instant | None
    attempted_at: Instant | None
    detail: str
    revision: Revision


class SubscribedData(msgspec.Struct, frozen=True, kw_only=True):
    """One way to be told. address: null for e-mail to the mailbox the person is known by."""

    channel: ChannelName
    address: Text | None


class SubscriptionData(msgspec.Struct, frozen=True, kw_only=True):
    """How a person wants to hear of alerts. channels: none is not to be told."""

    person: ExternalId
    channels: list[SubscribedData]
    changed_by: Actor
    revision: Revision


QUOTA_STATED = EventType("attain.quota_stated.v1", METRICS_JOURNAL, QuotaStatedData)
"""Key: `quota/<quota id>`."""
DISPOSITION = EventType("attain.disposition.v1", METRICS_JOURNAL, DispositionData)
"""Key: `deal/<deal id>`."""
EPISODE = EventType("attain.episode.v1", METRICS_JOURNAL, SignalData)
"""Key: `episode/<episode id>`. The same state as the signal's, silent ones included."""
PLAN_VERSION = EventType("attain.plan_version.v1", COMMISSIONS_JOURNAL, PlanVersionData)
"""Key: `plan/<plan id>/<version>`."""
PROPOSAL = EventType("attain.proposal.v1", COMMISSIONS_JOURNAL, ProposalData)
"""Key: `proposal/<what it would change>`."""
PLAN_KEEPING = EventType("attain.plan_keeping.v1", COMMISSIONS_JOURNAL, PlanKeepingData)
"""Key: `plan_keeping/<plan id>`."""
ASSIGNMENT = EventType("attain.assignment.v1", COMMISSIONS_JOURNAL, AssignmentData)
"""Key: `assignment/<assignment id>`."""
PERIOD = EventType("attain.period.v1", COMMISSIONS_JOURNAL, PeriodData)
"""Key: `period/<period>`."""
STATEMENT = EventType("attain.statement.v1", COMMISSIONS_EVENTS, StatementData)
"""Key: `statement/<payee>|<plan>|<period>`."""
PAY_RUN = EventType("attain.pay_run.v1", COMMISSIONS_JOURNAL, PayRunData)
"""Key: `payrun/<pay run id>`."""
PAY_LINE = EventType("attain.pay_line.v1", COMMISSIONS_JOURNAL, PayLineData)
"""Key: `payrun/<pay run id>/<payee>|<plan>|<period>`."""
ADJUSTMENT = EventType("attain.adjustment.v1", COMMISSIONS_JOURNAL, AdjustmentData)
"""Key: `adjustment/<adjustment id>`."""
OVERRIDE = EventType("attain.override.v1", COMMISSIONS_JOURNAL, OverrideData)
"""Key: `override/<override id>`."""
DISPUTE = EventType("attain.dispute.v1", COMMISSIONS_JOURNAL, DisputeData)
"""Key: `dispute/<dispute id>`."""
HELD_DELETION = EventType("attain.held_deletion.v1", COMMISSIONS_JOURNAL, HeldDeletionData)
"""Key: `held_deletion/<deal id>/<number>`."""
HELD_CHANGE = EventType("attain.held_change.v1", COMMISSIONS_JOURNAL, HeldChangeData)
"""Key: `held_change/<number>`."""
NOTIFICATION = EventType("attain.notification.v1", NOTIFICATIONS_DELIVERIES, NotificationData)
"""Key: `notification/<notification id>`."""
SUBSCRIPTION = EventType("attain.subscription.v1", NOTIFICATIONS_JOURNAL, SubscriptionData)
"""Key: `subscription/<person id>`."""

JOURNALS = (
    QUOTA_STATED,
    DISPOSITION,
    EPISODE,
    PLAN_VERSION,
    PROPOSAL,
    PLAN_KEEPING,
    ASSIGNMENT,
    PERIOD,
    STATEMENT,
    PAY_RUN,
    PAY_LINE,
    ADJUSTMENT,
    OVERRIDE,
    DISPUTE,
    HELD_DELETION,
    HELD_CHANGE,
    NOTIFICATION,
    SUBSCRIPTION,
)
