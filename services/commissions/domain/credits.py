"""From what happened to who is credited with how much: `credits_for`.

What is not known holds its own credit only. A condition on other components is left to rating,
which knows them: the credit takes along what the condition needs besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal

from services.commissions.domain.assigned import Assigned
from services.commissions.domain.conditions import inputs_of
from services.commissions.domain.credit import (
    PLAIN_EVENTS,
    Cash,
    Credit,
    CreditEvent,
    CreditException,
    ExceptionKind,
    Outcome,
    Waits,
    invoice_amount,
)
from services.commissions.domain.credit_rows import (
    credit_as_row,
    credit_from_row,
    rate_as_row,
    rate_from_row,
)
from services.commissions.domain.exchange import RateBook, RateRow, converted
from services.commissions.domain.expressions import Expression, FieldUnknown, Values
from services.commissions.domain.plan import Assignment, CreditDate, Plan, PlanVersion
from services.commissions.domain.shares import Division, credited_members, division
from services.commissions.domain.terms import Component, CreditOn, CreditTo
from shared.errors import InvalidValue

__all__ = [
    "Cash",
    "Credit",
    "CreditEvent",
    "CreditException",
    "ExceptionKind",
    "Outcome",
    "credit_as_row",
    "credit_from_row",
    "credits_for",
    "invoice_amount",
    "rate_as_row",
    "rate_from_row",
]

_NEVER_WITHOUT = frozenset({CreditTo.OVERLAYS, CreditTo.MANAGER})
"""Where nobody to credit is no reason to wait: a deal may have no overlays, an owner no manager."""


def credits_for(
    event: CreditEvent, plan: Plan, assignments: Sequence[Assignment], rates: RateBook
) -> Outcome:
    """The credits, waiting reasons and unassigned members of `event` under `plan`.

    The version in force on the credit's day in the plan's zone decides, and each payee's
    assignment on that day. A pure function of its arguments: the same event gives the same
    credits, however often and in whatever order it is asked.
    """
    made: list[Credit] = []
    waiting: list[CreditException] = []
    unassigned: set[str] = set()
    instant, day, version = _placed(event, plan)
    if version is None:
        return Outcome()
    assigned = assignments if isinstance(assignments, Assigned) else Assigned(assignments)
    for component in version.components:
        if not _concerns(component, event, day):
            continue
        to = component.credit.to
        members = credited_members(event, to)
        if not members and (to in _NEVER_WITHOUT or not assigned.anybody(plan.id, day)):
            continue
        on_plan = {member for member in members if assigned.has(member, plan.id, day)}
        context = _Context(event, version, component, instant, day, rates)
        if members and not on_plan:
            unassigned.update(members if context.certain() else ())
            continue
        try:
            if not context.holds():
                continue
            found = list(context.credits(on_plan))
        except Waits as reason:
            affected: list[str | None] = [*sorted(on_plan)]
            waiting.extend(context.waiting(payee, reason) for payee in affected or [None])
            continue
        made.extend(found)
        waiting.extend(
            context.waiting(credit.payee, context.rate_missing())
            for credit in found
            if credit.converted is None
        )
        if to is not CreditTo.MANAGER:
            unassigned.update(member for member in members if member not in on_plan)
    return Outcome(tuple(made), tuple(waiting), tuple(sorted(unassigned)))


def _concerns(component: Component, event: CreditEvent, day: date) -> bool:
    """Whether a component credits such an event at all."""
    if component.credit.on is not event.on or day not in component.effective:
        return False
    if event.cancelled_at is not None and component.clawback is None:
        return False
    if component.earns_by == "objectives":
        return any(objective.id == event.objective for objective in component.objectives)
    return True


def _placed(event: CreditEvent, plan: Plan) -> tuple[datetime, date, PlanVersion | None]:
    """The credit's instant and day in the plan's zone, and the version in force then."""
    zone = plan.versions[0].zone
    day = event.instant.astimezone(zone).date()
    version = plan.version_on(day)
    by_close_date = any(v.credit_date is CreditDate.CLOSE_DATE for v in plan.versions)
    if not by_close_date or event.on is not CreditOn.DEAL_WON or event.close_date is None:
        return event.instant, day, version
    dated = plan.version_on(event.close_date)
    if dated is None or dated.credit_date is not CreditDate.CLOSE_DATE:
        return event.instant, day, version
    return datetime.combine(event.close_date, time(), zone), event.close_date, dated


@dataclass(frozen=True, slots=True)
class _Context:
    """One event under one component."""

    event: CreditEvent
    version: PlanVersion
    component: Component
    instant: datetime
    day: date
    rates: RateBook

    def evaluate(self, formula: Expression, values: Values) -> Decimal | bool | str:
        """A formula's value. Raises Waits where it needs what is not known."""
        try:
            return formula.evaluate(values)
        except FieldUnknown as unknown:
            name = unknown.name.rsplit(".", 1)[1]
            message = f"{unknown.name} is not known; the credit waits until the source states it"
            raise Waits(ExceptionKind(name), message) from None
        except InvalidValue as error:
            raise Waits(ExceptionKind.AMOUNT, error.message) from None

    def holds(self) -> bool:
        """Whether `when` holds, as far as it does not depend on the payee. Raises Waits."""
        rule = self.component.credit
        if rule.when is None or rule.asks_payee or rule.reads_components:
            return True
        return self.evaluate(rule.when, self.event.values) is True

    def holds_for(self, member: str) -> bool:
        """Whether `when` holds for one payee, where it depends on the payee. Raises Waits."""
        rule = self.component.credit
        if rule.when is None or not rule.asks_payee or rule.reads_components:
            return True
        return self.evaluate(rule.when, self.values_for(member)) is True

    def values_for(self, member: str) -> Values:
        """What formulas see for one payee."""
        return {**self.event.values, "payee": {**self.event.people.get(member, {}), "id": member}}

    def certain(self) -> bool:
        """Whether `when` is known to hold, so that a missing assignment is worth a report."""
        rule = self.component.credit
        if rule.asks_payee or rule.reads_components:
            return False
        try:
            return self.component.credit.to is not CreditTo.MANAGER and self.holds()
        except Waits:
            return False

    def credits(self, on_plan: set[str]) -> Iterator[Credit]:
        """The credits of members that are on the plan. Raises Waits."""
        dated = self.version.credit_date is CreditDate.CLOSE_DATE
        if dated and self.event.on is CreditOn.DEAL_WON and self.event.close_date is None:
            msg = "the plan credits by close date, and the deal has none; set it in the CRM"
            raise Waits(ExceptionKind.CLOSE_DATE, msg)
        basis = self.evaluate(self.component.credit.amount, self.event.values)
        if not isinstance(basis, Decimal):  # a formula for an amount is compiled as a number
            raise Waits(ExceptionKind.AMOUNT, "the amount is no number")
        currency = self._currency()
        divided = division(self.event, self.component.credit.to)
        amounts = divided.amounts(basis, currency)
        row = self._rate(currency)
        for member, amount in amounts.items():
            if member in on_plan and self.holds_for(member):
                yield self._credit(member, divided, basis, amount, row)

    def _currency(self) -> str:
        if self.event.on in PLAIN_EVENTS:
            return self.version.currency
        if self.event.currency is None:
            msg = "the currency is not known; the credit waits until the source states it"
            raise Waits(ExceptionKind.CURRENCY, msg)
        return self.event.currency

    def _rate(self, currency: str) -> RateRow | None:
        if currency == self.version.currency or self.version.fx_credit is None:
            return None
        return self.rates.on(self.version.fx_credit, currency, self.version.currency, self.day)

    def _credit(
        self, member: str, divided: Division, basis: Decimal, part: Decimal, row: RateRow | None
    ) -> Credit:
        event, component = self.event, self.component
        currency = self._currency()
        in_plan: Decimal | None = part if currency == self.version.currency else None
        if row is not None:
            in_plan = converted(part, row)
        rolled_up = divided.to is CreditTo.MANAGER
        shares = divided.overlays if divided.to is CreditTo.OVERLAYS else divided.shares
        return Credit(
            key=f"{event.key}/{self.version.id}/{component.id}/{member}",
            event_key=event.key,
            deal_id=event.deal_id,
            payee=member,
            plan_id=self.version.id,
            version_hash=self.version.hash,
            component_id=component.id,
            to=divided.to,
            instant=self.instant,
            day=self.day,
            share=divided.share_of(member),
            shares=tuple(sorted(shares.items())),
            basis=basis,
            original=part,
            currency=currency,
            converted=in_plan,
            rate=row,
            source_ids=event.source_ids,
            event_amount=event.amount if component.release else None,
            cash=event.cash if component.release else (),
            cancelled_at=event.cancelled_at,
            objective=event.objective,
            overlays=tuple(sorted(divided.overlays.items())) if rolled_up else (),
            reports=divided.reports[member] if rolled_up else (),
            inputs=self._inputs(member),
        )

    def _inputs(self, member: str) -> tuple[tuple[str, str, str], ...]:
        rule = self.component.credit
        if rule.when is None or not rule.reads_components:
            return ()
        return inputs_of(rule.when, self.values_for(member))

    def rate_missing(self) -> Waits:
        """Why a credit in a foreign currency is held."""
        currency, own = self.event.currency, self.version.currency
        if self.version.fx_credit is None:
            msg = f"the plan names no rate table for {currency} to {own}; add fx.credit to the plan"
        else:
            msg = (
                f"table {self.version.fx_credit} has no rate {currency} to {own} "
                f"on or before {self.day}; load one"
            )
        return Waits(ExceptionKind.RATE, msg)

    def waiting(self, payee: str | None, reason: Waits) -> CreditException:
        """The exception that lists `reason`."""
        return CreditException(
            kind=reason.kind,
            event_key=self.event.key,
            deal_id=self.event.deal_id,
            plan_id=self.version.id,
            component_id=self.component.id,
            payee=payee,
            day=self.day,
            message=reason.message,
        )
