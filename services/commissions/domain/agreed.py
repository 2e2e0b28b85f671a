"""What people agreed on beside the plan: adjustments of a statement, and overrides of its terms.

Only what a second person has approved comes here. The steps that act on it are in adjustments.py
and overrides.py; docs/domain/corrections.md has the rules with worked examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from services.commissions.domain.credit import Credit
from services.commissions.domain.terms import DayRange


@dataclass(frozen=True, slots=True)
class Agreement:
    """Who agreed on something, why, and which dispute it answers.

    event_id: of the journal's event that says it was approved.
    """

    id: str
    event_id: str
    reason: str
    asked_by: str
    approved_by: str
    dispute: str | None = None

    def tree(self) -> Mapping[str, object]:
        """As JSON values."""
        return {
            "id": self.id,
            "event": self.event_id,
            "reason": self.reason,
            "asked_by": self.asked_by,
            "approved_by": self.approved_by,
            "dispute": self.dispute,
        }

    @property
    def said(self) -> str:
        """Who, and why, at the end of a sentence."""
        answers = f", answers dispute {self.dispute}" if self.dispute else ""
        return f"asked by {self.asked_by}, approved by {self.approved_by}{answers}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Adjustment:
    """An amount added to a statement, or taken from it where it is below 0.

    day: the first day of the statement's period. amount: in plan currency, whole minor units.
    """

    agreement: Agreement
    day: date
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Override:
    """Terms in place of what a component would pay for credits of some days, both included.

    deal_id: only this deal's credits; None: all of the component. Exactly one of: amount, what the
    deal pays in plan currency (the first of its lines in order of earning the whole, later ones
    nothing); rate, a fraction of the credited amount.
    """

    agreement: Agreement
    component_id: str
    days: DayRange
    deal_id: str | None = None
    amount: Decimal | None = None
    rate: Decimal | None = None

    def covers(self, credit: Credit) -> bool:
        """Whether it takes the place of what a credit earns."""
        return (
            credit.component_id == self.component_id
            and credit.day in self.days
            and self.deal_id in {None, credit.deal_id}
        )


def override_for(overrides: Iterable[Override], credit: Credit) -> Override | None:
    """The override that a credit falls under: one of its deal goes before one of the component.

    Of each kind at most one is approved for a day; should there be two, the smaller id holds.
    """
    found = [override for override in overrides if override.covers(credit)]
    return min(found, key=lambda o: (o.deal_id is None, o.agreement.id), default=None)
