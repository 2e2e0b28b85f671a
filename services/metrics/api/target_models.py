"""What the API shows and takes of quotas, their reliefs, and versions of anything stated."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from services.metrics.api.models import CurrencyCode, Id
from shared.events.targets import MethodName
from shared.http.models import DecimalText, Instant, WireModel

RampShare = Annotated[str, Field(pattern=r"^([0-9]{1,2}(\.[0-9]{1,6})?|100)%$")]
Reason = Annotated[str, Field(min_length=1, max_length=2_000)]
MAX_CHANGES = 20
MAX_RAMP_MONTHS = 36
MAX_LEAVES = 50


class QuotaChange(WireModel):
    """From a day on, the amount for the whole period is another one."""

    first_day: date = Field(alias="from")
    amount: DecimalText
    reason: Reason | None = None


class Away(WireModel):
    """Days that do not count, both included."""

    first_day: date = Field(alias="from")
    last_day: date = Field(alias="to")
    reason: Reason | None = None


class QuotaBody(WireModel):
    """What somebody is to reach: a person, a team, or, with neither, the organisation.

    amount: for the whole period. method: how it becomes the figure in force where a person is
    there for a part of the period (`from`, `to`: first and last day, both included; where they are
    left out, the day of hiring and the last active one), ramps or is on leave. ramp: shares of the
    month of `ramp_from` (else of the first day there) and of those after it. changes: other
    amounts from a day on. reason: of this change, for the journal.
    """

    person: Id | None = None
    team: Id | None = None
    measure: Annotated[str, Field(min_length=1, max_length=100)] = "bookings"
    period: Annotated[str, Field(min_length=4, max_length=50)]
    amount: DecimalText
    currency: CurrencyCode | None = None
    method: MethodName = "stated"
    first_day: date | None = Field(default=None, alias="from")
    last_day: date | None = Field(default=None, alias="to")
    changes: list[QuotaChange] = Field(default=[], max_length=MAX_CHANGES)
    ramp: list[RampShare] = Field(default=[], max_length=MAX_RAMP_MONTHS)
    ramp_from: date | None = None
    leave: list[Away] = Field(default=[], max_length=MAX_LEAVES)
    reason: Reason | None = None

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if self.person is not None and self.team is not None:
            raise ValueError("name a person or a team, not both")
        if self.measure in {"bookings", "new_business"} and self.currency is None:
            raise ValueError(f"a quota of {self.measure} needs a `currency`")
        return self


class QuotaView(WireModel):
    """A stored quota. amount: as stated for the whole period; in_force: what is measured by."""

    id: str
    person: str | None
    team: str | None
    measure: str
    period: str
    amount: DecimalText
    currency: str | None
    method: str
    first_day: date | None = Field(alias="from")
    last_day: date | None = Field(alias="to")
    changes: list[QuotaChange]
    ramp: list[str]
    ramp_from: date | None
    leave: list[Away]
    in_force: DecimalText
    start: date
    end: date
    revision: int
    changed_at: Instant
    changed_by: str


class TakenOff(WireModel):
    """A relief in the figure in force: the figure before and after it."""

    number: int
    amount: DecimalText | None
    share: str | None
    reason: str
    before: DecimalText
    after: DecimalText


class QuotaDetail(QuotaView):
    """One quota. present_from, present_to: the days counted with, by people's records.

    by_method: what the figure would be by each method. rounding: of the figure, once, to the
    currency's minor unit.
    """

    present_from: date | None
    present_to: date | None
    reliefs: list[TakenOff]
    by_method: dict[str, DecimalText]
    rounding: Literal["half_up"] = "half_up"


class VersionView(WireModel):
    """One version, as it is on the journal."""

    revision: int
    changed_at: Instant
    changed_by: str
    document: dict[str, Any]


class ReliefBody(WireModel):
    """Something to be taken off a quota: an amount, or a share of the figure in force."""

    amount: DecimalText | None = None
    share: RampShare | None = None
    reason: Reason

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.amount is None) == (self.share is None):
            raise ValueError("state an `amount` or a `share`, one of the two")
        if self.amount is not None and self.amount <= 0:
            raise ValueError("the amount is what is taken off: above 0")
        return self


class ReliefView(WireModel):
    """A relief. before, after: the figure in force as it was decided on; null until then."""

    quota: str
    number: int
    amount: DecimalText | None
    share: str | None
    reason: str
    state: str
    asked_by: str
    asked_at: Instant
    decided_by: str | None
    decided_at: Instant | None
    before: DecimalText | None
    after: DecimalText | None
    one_seat: bool
