"""Overrides: agreed terms in place of what a component computed for a credit.

The difference is a line of its own right after the credit's. What follows acts on both together:
caps, floors, gates, release. The measure goes on counting the credit, and conditions on other
components see what the rates earn: an override changes what a line pays, not what was reached.
Two limits belong to the rates that it takes the place of, and so leave such lines alone: a cap by
attainment, and a clawback by recomputation, which takes them back by line instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from services.commissions.domain.agreed import Override, override_for
from services.commissions.domain.credit import Credit
from services.commissions.domain.lines import Line, LineKind, money
from services.commissions.domain.plan import PlanVersion
from services.commissions.domain.rates import ZERO
from services.commissions.domain.rating import rounded_line
from services.commissions.domain.work import Work
from shared.money import EXACT, to_text

_PERCENT = Decimal(100)


@dataclass(frozen=True, slots=True)
class Overridden:
    """What an override says of one credit, and what the plan had computed.

    credited: in plan currency. computed: the line, with what a budget left of it.
    is_first: of the deal's lines, which take the whole of an agreed amount.
    """

    override: Override
    credited: Decimal
    computed: Decimal
    is_first: bool
    version: PlanVersion

    @property
    def exact(self) -> Decimal:
        """What the override says, unrounded."""
        if self.override.rate is not None:
            return EXACT.multiply(self.credited, self.override.rate)
        return self.override.amount or ZERO if self.is_first else ZERO

    @property
    def agreed(self) -> Decimal:
        """What the override says, rounded as lines are."""
        return rounded_line(self.exact, self.version)

    @property
    def amount(self) -> Decimal:
        """Agreed - computed."""
        return EXACT.subtract(self.agreed, self.computed)

    @property
    def to_held(self) -> Decimal:
        """Nothing is held."""
        return ZERO

    def tree(self) -> Mapping[str, object]:
        """The terms and who agreed on them, the credited amount, and both results."""
        terms = self.override
        first, last = terms.days.first, terms.days.last
        return {
            "override": {
                "deal": terms.deal_id,
                "amount": None if terms.amount is None else to_text(terms.amount),
                "rate": None if terms.rate is None else to_text(terms.rate),
                "from": None if first is None else first.isoformat(),
                "until": None if last is None else last.isoformat(),
                **terms.agreement.tree(),
            },
            "credited": to_text(self.credited),
            "is_first": self.is_first,
            "exact": to_text(self.exact),
            "agreed": to_text(self.agreed),
            "computed": to_text(self.computed),
        }

    def sentence(self, amount: Decimal, currency: str) -> str:
        """What happened."""
        says = money(self.agreed, currency)
        if self.override.rate is not None:
            percent = to_text(EXACT.multiply(self.override.rate, _PERCENT))
            says += f" ({percent} % of {money(self.credited, currency)})"
        return (
            f"{says} is agreed in place of {money(self.computed, currency)}, a difference of "
            f"{money(amount, currency)}; {self.override.agreement.said}."
        )


def apply_overrides(work: Work) -> None:
    """A line for each credit line that an override covers."""
    overrides = work.given.overrides
    paid: set[str] = set()
    for component_id in sorted({override.component_id for override in overrides}):
        for line in work.credit_lines.get(component_id, ()):
            if line.credit is None:
                continue
            override = override_for(overrides, line.credit)
            if override is not None:
                is_first = override.agreement.id not in paid
                paid.add(override.agreement.id)
                _replace(work, line, line.credit, override, is_first=is_first)


def _replace(work: Work, line: Line, credit: Credit, override: Override, *, is_first: bool) -> None:
    basis = Overridden(
        override=override,
        credited=credit.converted or ZERO,
        computed=line.net,
        is_first=is_first,
        version=work.rater.version_of(line),
    )
    # Where lines are not rounded, their exact amounts are summed: less what a budget took as well.
    computed = EXACT.add(line.exact, EXACT.subtract(line.net, line.amount))
    line.net = basis.agreed
    work.overridden[line.key] = basis.agreed
    work.put(
        Line(
            key=f"{LineKind.OVERRIDE}:{line.key}",
            kind=LineKind.OVERRIDE,
            component_id=line.component_id,
            version_hash=line.version_hash,
            statement=line.statement,
            measure=line.measure,
            amount=basis.amount,
            exact=EXACT.subtract(basis.exact, computed),
            credit=credit,
            basis=basis,
        )
    )
