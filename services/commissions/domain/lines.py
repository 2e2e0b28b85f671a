"""Lines: the amounts a statement is made of, each with what its explanation is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from services.commissions.domain.credit import Credit
from services.commissions.domain.periods import Period
from services.commissions.domain.proration import Prorated
from services.commissions.domain.rates import ZERO
from shared.money import to_text


class LineKind(StrEnum):
    """What a line is, in the fixed order of operations."""

    CREDIT = "credit"
    BUDGET_CAP = "budget_cap"
    OVERRIDE = "override"
    DEAL_CAP = "deal_cap"
    ATTAINMENT_CAP = "attainment_cap"
    COMPONENT_CAP = "component_cap"
    FLOOR = "floor"
    GATE = "gate"
    ROUNDING = "rounding"
    PLAN_CAP = "plan_cap"
    HOLD = "hold"
    RELEASE = "release"
    CLAWBACK = "clawback"
    ADJUSTMENT = "adjustment"
    DRAW = "draw"


class Basis(Protocol):
    """What a line that is no credit's own stands on, in its kind's module."""

    @property
    def to_held(self) -> Decimal:
        """What the line puts on hold; below 0 what it takes from there. Usually 0."""

    def tree(self) -> Mapping[str, object]:
        """The numbers that give the amount again, as JSON values."""

    def sentence(self, amount: Decimal, currency: str) -> str:
        """What happened, in one sentence."""


class StatementBasis(Basis, Protocol):
    """What a line about a whole statement stands on; it says the amount itself."""

    @property
    def amount(self) -> Decimal:
        """In plan currency, rounded where the plan rounds lines."""


@dataclass(slots=True)
class Line:
    """One amount on a statement, with the numbers its explanation is built from.

    Only the steps of rating change one; a dataclass that is frozen would cost a third of it.
    before, after: the measure without and with a credit line; 0 for the others.
    count: deals in the measure before this one. exact: before rounding. basis: what a line of
    another kind than `credit` stands on. deal: where no credit of this sheet is behind the line.
    net: what is left of a credit line after caps and gates; gated: a gate took it.
    """

    key: str
    kind: LineKind
    component_id: str
    version_hash: str
    statement: Period
    measure: Period | None
    amount: Decimal
    exact: Decimal
    before: Decimal = ZERO
    after: Decimal = ZERO
    credit: Credit | None = None
    quota: Decimal | None = None
    count: int = 0
    basis: Basis | None = None
    target_pay: Prorated | None = None
    deal: str | None = None
    net: Decimal = ZERO
    gated: bool = False

    @property
    def deal_id(self) -> str | None:
        """The deal a line is about; None for lines about a whole statement."""
        return self.credit.deal_id if self.credit else self.deal


def line_of_basis(  # noqa: PLR0913, PLR0917 - a line's parts
    kind: LineKind,
    key: str,
    component_id: str,
    version_hash: str,
    statement: Period,
    basis: StatementBasis,
) -> Line:
    """A line about a whole statement, or one component of it. key: with what it is about."""
    return Line(
        key=f"{kind}:{key}",
        kind=kind,
        component_id=component_id,
        version_hash=version_hash,
        statement=statement,
        measure=None,
        amount=basis.amount,
        exact=basis.amount,
        basis=basis,
    )


def credit_order(credit: Credit) -> tuple[object, ...]:
    """The order in which lines earn: credit instant, deal id; the key settles the rest."""
    return (credit.instant, credit.deal_id, credit.key)


def money(amount: Decimal, currency: str) -> str:
    """An amount in a sentence."""
    return f"{to_text(amount)} {currency}"
