"""What may be credited, and what is: events, credits, and reasons to wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from services.commissions.domain.exchange import RateRow
from services.commissions.domain.terms import CreditOn, CreditTo


class ExceptionKind(StrEnum):
    """Why an amount waits. A period does not close while one of its credits has such a reason."""

    OWNER = "owner"
    SPLITS = "splits"
    RATE = "rate"
    AMOUNT = "amount"
    CURRENCY = "currency"
    TYPE = "type"
    CLOSE_DATE = "close_date"
    QUOTA = "quota"
    PAYOUT_RATE = "payout_rate"
    SCORE = "score"
    TARGET_PAY = "target_pay"
    GATE = "gate"
    BUDGET = "budget"
    CASH = "cash"


PLAIN_EVENTS = frozenset({CreditOn.ACTIVITY_COMPLETED, CreditOn.OBJECTIVE_SCORED})
"""Events without money of their own: what they credit is a number, or plan currency."""


@dataclass(frozen=True, slots=True)
class Cash:
    """Money received for a deal or an invoice; below 0 it was paid back."""

    id: str
    instant: datetime
    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class CreditEvent:
    """What may be credited: a stay of a deal in won, an invoice, a payment, an activity, a score.

    key: names the event for ever; equal keys are one event.
    instant: the credit instant, aware; owner, splits, overlays and managers are those in force
    then. amount: in `currency`; below 0 for a credit note; an objective's score as a fraction.
    splits, overlays: member → share as the CRM sent it (`25%`, `1/3`, a whole-number weight).
    fields: root (`deal`, `invoice`, …) → field → value, for the plan's formulas.
    source_ids: ids of the events this was read from, for the explanation.
    cancelled_at: when the stay in won ended; components without a clawback ignore such events.
    cash: what was received for it so far. managers: member → manager. people: person → what
    formulas may ask of them.
    """

    key: str
    on: CreditOn
    deal_id: str
    instant: datetime
    amount: Decimal | None
    currency: str | None
    owner: str | None
    splits: tuple[tuple[str, str], ...] = ()
    overlays: tuple[tuple[str, str], ...] = ()
    fields: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    close_date: date | None = None
    source_ids: tuple[str, ...] = ()
    cancelled_at: datetime | None = None
    cash: tuple[Cash, ...] = ()
    managers: tuple[tuple[str, str], ...] = ()
    people: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The name by which formulas call the event: `deal`, `invoice`, `payment` and so on."""
        return self.on.value.partition(".")[0]

    @property
    def values(self) -> Mapping[str, Mapping[str, object]]:
        """What the plan's formulas see, without what depends on the payee."""
        known = {"amount": self.amount, "currency": self.currency}
        if self.on is CreditOn.OBJECTIVE_SCORED:
            known = {"score": self.amount}
        own = {**self.fields.get(self.root, {}), **known, "owner": self.owner}
        deal = {**self.fields.get("deal", {}), "owner": self.owner}
        return {"deal": deal, self.root: own}

    @property
    def objective(self) -> str | None:
        """The id of the objective that was scored."""
        found = self.fields.get("objective", {}).get("id")
        return found if isinstance(found, str) else None


def invoice_amount(amount: Decimal | None, *, credit_note: bool) -> Decimal | None:
    """An invoice's amount by its kind: sources send credit notes with either sign."""
    if amount is None or not credit_note:
        return amount
    return -abs(amount)


@dataclass(frozen=True, slots=True)
class Credit:
    """One payee's credit for one component.

    basis: the component's amount before the share; `original` after it, both in `currency`.
    converted: `original` in plan currency; None while its rate is missing (the credit is held).
    shares: all members and shares the basis was divided by, so that the split can be checked.
    overlays, reports: of a manager's credit: the overlays beside the shares, and whose credits
    are rolled up. event_amount: of the whole event, in `currency`, for its release by cash.
    inputs: (name, kind, value) of what a condition on other components needs besides them.
    """

    key: str
    event_key: str
    deal_id: str
    payee: str
    plan_id: str
    version_hash: str
    component_id: str
    to: CreditTo
    instant: datetime
    day: date
    share: Fraction
    shares: tuple[tuple[str, Fraction], ...]
    basis: Decimal
    original: Decimal
    currency: str
    converted: Decimal | None
    rate: RateRow | None
    source_ids: tuple[str, ...]
    event_amount: Decimal | None = None
    cash: tuple[Cash, ...] = ()
    cancelled_at: datetime | None = None
    objective: str | None = None
    overlays: tuple[tuple[str, Fraction], ...] = ()
    reports: tuple[str, ...] = ()
    inputs: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CreditException:
    """Something waits: what, for whom, and what to do about it, in one sentence."""

    kind: ExceptionKind
    event_key: str
    deal_id: str
    plan_id: str
    component_id: str
    payee: str | None
    day: date
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one event gives under one plan.

    unassigned: members that would be credited and are not on this plan that day; it is an
    exception only where no other plan has them either, which the caller sees.
    """

    credits: tuple[Credit, ...] = ()
    exceptions: tuple[CreditException, ...] = ()
    unassigned: tuple[str, ...] = ()


class Waits(Exception):
    """A credit cannot be made yet: why, and what to do about it in one sentence."""

    def __init__(self, kind: ExceptionKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
