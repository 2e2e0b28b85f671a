"""What an assignment says on the wire, what rating is given of it, and what a change of it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from services.commissions.api.context import ID_PATTERN, not_found
from services.commissions.api.proposals import Change
from services.commissions.domain.lint import Finding, Severity
from services.commissions.domain.plan import Assignment, DayRange
from services.commissions.reference import Reference
from shared.events.journals import AssignmentData, LeaveData
from shared.http.models import DecimalText, WireModel
from shared.money import quantise, to_text

Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=ID_PATTERN)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
TargetPay = Annotated[DecimalText, Field(ge=0)]
Percentage = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}(\.[0-9]{1,8})?%$")]


class Leave(WireModel):
    """Days away, both included."""

    from_: date = Field(alias="from")
    to: date

    @model_validator(mode="after")
    def _days_rise(self) -> Leave:
        if self.to < self.from_:
            msg = "to lies before from"
            raise ValueError(msg)
        return self


class AssignmentBody(WireModel):
    """A payee is on a plan from the first day to the last, both included.

    quota: measure → amount for each measure period, in plan currency, in place of what is
    published. payout_currency: what the payable is paid in; the plan's own when not given.
    target_pay: in plan currency for a whole measure period; component_target_pay: component → in
    its place. ramp: shares of draw, floor and target pay in the first, second, … calendar month of
    the assignment. leave: days that do not count for them, both included.
    """

    payee: Text
    plan: Text
    from_: date = Field(alias="from")
    to: date | None = None
    quota: dict[Text, DecimalText] = Field(default_factory=dict)
    payout_currency: Currency | None = None
    target_pay: DecimalText | None = Field(default=None, ge=0)
    component_target_pay: dict[Text, TargetPay] = Field(default_factory=dict, max_length=100)
    ramp: list[Percentage] = Field(default_factory=list, max_length=60)
    leave: list[Leave] = Field(default_factory=list, max_length=100)

    @model_validator(mode="after")
    def _days_rise(self) -> AssignmentBody:
        if self.to is not None and self.to < self.from_:
            msg = "to lies before from"
            raise ValueError(msg)
        for earlier, later in pairwise(self.leave):
            if later.from_ <= earlier.to:
                msg = "leaves stand in order and do not overlap"
                raise ValueError(msg)
        return self

    def assignment(self) -> Assignment:
        """What rating is given of it."""
        return Assignment(
            payee=self.payee,
            plan_id=self.plan,
            days=DayRange(self.from_, self.to),
            quota=tuple((name, quantise(amount)) for name, amount in sorted(self.quota.items())),
            payout_currency=self.payout_currency,
            target_pay=None if self.target_pay is None else quantise(self.target_pay),
            component_target_pay=tuple(sorted(self.component_target_pay.items())),
            ramp=tuple(Decimal(share.removesuffix("%")).scaleb(-2) for share in self.ramp),
            leave=tuple(DayRange(away.from_, away.to) for away in self.leave),
        )


class AssignmentView(AssignmentBody):
    """An assignment as it is."""

    id: str
    revision: int


@dataclass(frozen=True, slots=True)
class Stored:
    """An assignment as it is stored. body: None where it is not, or was taken back; last: then."""

    assignment_id: str
    body: AssignmentBody | None
    last: AssignmentBody | None
    revision: int

    def view(self) -> AssignmentView:
        """As it is shown, where it is."""
        if self.body is None:
            raise not_found("assignment")
        told = self.body.model_dump(by_alias=True)
        return AssignmentView(**told, id=self.assignment_id, revision=self.revision)


@dataclass(frozen=True, slots=True)
class AssignmentChange:
    """An assignment as it is and as it is to be. after: None takes it back."""

    assignment_id: str
    before: Stored
    after: AssignmentBody | None

    @property
    def said(self) -> AssignmentBody:
        """What it is to be, or what is taken back."""
        found = self.after or self.before.body
        if found is None:
            raise not_found("assignment")
        return found

    @property
    def since(self) -> date:
        """The first day on which anything changes."""
        old, new = self.before.body, self.after
        if old is None or new is None:
            return self.said.from_
        if old.model_copy(update={"to": new.to}) == new:
            shorter = min(old.to or date.max, new.to or date.max)
            return shorter if shorter == date.max else shorter + timedelta(days=1)
        return min(old.from_, new.from_)

    def data(self, actor: str, confirmed_by: str | None = None) -> AssignmentData:
        """Its event, with the next revision."""
        return assignment_data(
            self.assignment_id,
            self.said,
            self.before.revision + 1,
            actor,
            deleted=self.after is None,
            confirmed_by=confirmed_by,
        )

    def change(self, reference: Reference) -> Change:
        """Reference data with it, of the plans it concerns."""
        old, new = self.before.body, self.after
        plans = frozenset(body.plan for body in (old, new) if body is not None)
        assignments = {plan_id: list(all_) for plan_id, all_ in reference.assignments.items()}
        if old is not None:
            assignments[old.plan] = [
                a
                for a in assignments.get(old.plan, [])
                if (a.payee, a.days.first) != (old.payee, old.from_)
            ]
        if new is not None:
            assignments.setdefault(new.plan, []).append(new.assignment())
        changed = replace(reference, assignments=assignments)
        return Change(reference, changed, plans, self.since)

    def border(self, difference: Decimal, closed: date) -> Finding:
        """The warning that goes with a change of closed days."""
        days = (closed - self.since).days
        msg = (
            f"{days} days of this change are closed: it changes what was fixed by "
            f"{to_text(difference)}, and a second person has to sign it"
        )
        return Finding("closed_border", Severity.WARNED, "/from", msg, difference, self.said.plan)


def assignment_data(  # noqa: PLR0913 - an event's parts
    assignment_id: str,
    body: AssignmentBody,
    revision: int,
    actor: str,
    *,
    deleted: bool,
    confirmed_by: str | None = None,
) -> AssignmentData:
    """The event of an assignment as it is now."""
    return AssignmentData(
        assignment=assignment_id,
        payee=body.payee,
        plan=body.plan,
        from_=body.from_.isoformat(),
        to=None if body.to is None else body.to.isoformat(),
        quota={measure: to_text(amount) for measure, amount in body.quota.items()},
        payout_currency=body.payout_currency,
        deleted=deleted,
        revision=revision,
        actor=actor,
        confirmed_by=confirmed_by,
        target_pay=None if body.target_pay is None else to_text(body.target_pay),
        component_target_pay={
            component: to_text(amount) for component, amount in body.component_target_pay.items()
        },
        ramp=body.ramp,
        leave=[
            LeaveData(from_=away.from_.isoformat(), to=away.to.isoformat()) for away in body.leave
        ],
    )
