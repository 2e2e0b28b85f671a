"""Gates: a component's pay of a statement needs a KPI of the payee to be high enough.

The newest fact not later than the statement's last day decides. Below the gate the pay is held or
lost, as the plan says; while no figure is known it is held, and the period cannot close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from services.commissions.domain.credit import ExceptionKind
from services.commissions.domain.given import KpiFact
from services.commissions.domain.lines import Line, LineKind, money
from services.commissions.domain.periods import Period
from services.commissions.domain.rates import ZERO
from services.commissions.domain.terms import Gate, GateMiss
from services.commissions.domain.work import Work
from shared.money import exact_sum, to_text


@dataclass(frozen=True, slots=True)
class GateClosed:
    """Pay that did not pass its gate. fact: None while the figure is not known."""

    gate: Gate
    fact: KpiFact | None
    pay: Decimal

    @property
    def held(self) -> bool:
        """Whether the pay waits rather than being lost."""
        return self.fact is None or self.gate.otherwise is GateMiss.HOLD

    @property
    def to_held(self) -> Decimal:
        """What is put on hold."""
        return self.pay if self.held else ZERO

    def tree(self) -> Mapping[str, object]:
        """The gate, the figure that decided, and the pay that waits or is lost."""
        fact = self.fact
        return {
            "gate": {
                "kpi": self.gate.kpi,
                "at_least": to_text(self.gate.at_least),
                "otherwise": self.gate.otherwise.value,
            },
            "fact": None
            if fact is None
            else {"id": fact.id, "day": fact.day.isoformat(), "value": to_text(fact.value)},
            "pay": to_text(self.pay),
            "held": to_text(self.to_held),
        }

    def sentence(self, amount: Decimal, currency: str) -> str:
        """What happened."""
        wanted = f"{self.gate.kpi} of at least {to_text(self.gate.at_least)}"
        found = "is not known" if self.fact is None else f"is {to_text(self.fact.value)}"
        done = "held" if self.held else "not paid"
        return f"{wanted} is needed and {found}: {money(abs(amount), currency)} is {done}."


def fact_on(facts: Sequence[KpiFact], day: date) -> KpiFact | None:
    """The newest fact not later than `day`; of one day the greatest id."""
    known = [fact for fact in facts if fact.day <= day]
    return max(known, key=lambda fact: (fact.day, fact.id), default=None)


def close_gates(work: Work) -> None:
    """A line for each component and version whose pay in a statement does not pass its gate."""
    gated = {c.id for v in work.given.plan.versions for c in v.components if c.gate is not None}
    if not gated:
        return
    for period in work.periods():
        runs: dict[tuple[str, str], list[Line]] = {}
        for line in work.lines.get(period, []):
            if line.component_id in gated:
                runs.setdefault((line.component_id, line.version_hash), []).append(line)
        for place in sorted(runs):
            _pass(work, period, runs[place])


def _pass(work: Work, period: Period, lines: Sequence[Line]) -> None:
    first = lines[0]
    gate = work.rater.component_of(first).gate
    pay = exact_sum(line.amount for line in lines)
    if gate is None or pay <= 0:
        return
    fact = fact_on(work.given.gates.get(gate.kpi, ()), period.last_day)
    if fact is not None and fact.value >= gate.at_least:
        return
    basis = GateClosed(gate, fact, pay)
    for line in lines:
        line.net, line.gated = ZERO, True
    closed = Line(
        key=f"{LineKind.GATE}:{first.component_id}/{period.label}/{first.version_hash[:12]}",
        kind=LineKind.GATE,
        component_id=first.component_id,
        version_hash=first.version_hash,
        statement=period,
        measure=None,
        amount=-pay,
        exact=-pay,
        basis=basis,
    )
    work.put(closed)
    if fact is None:
        msg = (
            f"{gate.kpi} of {work.given.payee} on or before {period.last_day} is not known; "
            "publish it"
        )
        work.wait(ExceptionKind.GATE, closed, period.last_day, msg)
