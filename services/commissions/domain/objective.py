"""Objectives: target pay * weight * score, a line for each objective that was scored."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from services.commissions.domain.credit import Credit, ExceptionKind
from services.commissions.domain.lines import Line, LineKind, credit_order
from services.commissions.domain.rates import ZERO
from services.commissions.domain.rating import rounded_line
from services.commissions.domain.terms import Component
from services.commissions.domain.work import Work
from shared.money import EXACT, quantise


def weight_of(component: Component, objective_id: str | None) -> Decimal:
    """An objective's share of target pay; 0 for one that the component does not name."""
    return next((o.weight for o in component.objectives if o.id == objective_id), ZERO)


def rate_objectives(work: Work, component_id: str, credits_: Iterable[Credit]) -> None:
    """Lines of a component that pays objectives. A credit's amount is the score, 1 is 100 %."""
    lines = work.credit_lines.setdefault(component_id, [])
    for credit in sorted(credits_, key=credit_order):
        component, version = work.rater.component_of(credit), work.rater.version_of(credit)
        measure = work.rater.measure_of(credit)
        target_pay = work.rater.target_pay(credit)
        if target_pay is None:
            work.held.append(credit)
            msg = (
                f"{credit.payee} has no target pay for {component_id} in {measure.label}; "
                "set it on the assignment"
            )
            work.wait(ExceptionKind.TARGET_PAY, credit, credit.day, msg)
            continue
        weighted = EXACT.multiply(target_pay.amount, weight_of(component, credit.objective))
        exact = quantise(EXACT.multiply(weighted, credit.converted or ZERO))
        amount = rounded_line(exact, version)
        line = Line(
            key=credit.key,
            kind=LineKind.CREDIT,
            component_id=component_id,
            version_hash=credit.version_hash,
            statement=work.rater.statement_of(credit.day, version),
            measure=measure,
            amount=amount,
            exact=exact,
            credit=credit,
            target_pay=target_pay,
            net=amount,
        )
        lines.append(line)
        work.put(line)
