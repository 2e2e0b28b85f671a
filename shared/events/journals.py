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


class QuotaStatedData(msgspec.Struct, frozen=True, kw_only=True):
    """A quota as it was stated, and who did."""

    quota: QuotaData
    changed_by: Actor


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
    """A plan version that was saved. document: as it was sent. hash: of what it means."""

    plan: Name
    version: Revision
    hash: Name
    document: dict[str, Any]
    actor: Actor


class LeaveData(msgspec.Struct, frozen=True, kw_only=True):
    """Days on which an assignment does not count, both included."""

    from_: Day = msgspec.field(name="from")
    to: Day


class AssignmentData(msgspec.Struct, frozen=True, kw_only=True):
    """An assignment as it is now. from, to: first and last day, both included; null: no end.

    quota: amount by measure. target_pay: in plan currency for a whole measure period;
    component_target_pay: component → in its place. ramp: share in the first, second, … month.
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
NOTIFICATION = EventType("attain.notification.v1", NOTIFICATIONS_DELIVERIES, NotificationData)
"""Key: `notification/<notification id>`."""
SUBSCRIPTION = EventType("attain.subscription.v1", NOTIFICATIONS_JOURNAL, SubscriptionData)
"""Key: `subscription/<person id>`."""

JOURNALS = (
    QUOTA_STATED,
    DISPOSITION,
    EPISODE,
    PLAN_VERSION,
    ASSIGNMENT,
    PERIOD,
    STATEMENT,
    PAY_RUN,
    PAY_LINE,
    NOTIFICATION,
    SUBSCRIPTION,
)
