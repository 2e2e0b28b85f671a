"""Fixed amounts a credit: each, only the first ones of a payee, and a budget over all payees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from services.commissions.domain.credit import Credit, ExceptionKind
from services.commissions.domain.given import Grant
from services.commissions.domain.lines import Line, LineKind, credit_order, money
from services.commissions.domain.plan import Plan, PlanVersion
from services.commissions.domain.proration import as_decimal
from services.commissions.domain.rates import ZERO
from services.commissions.domain.rating import rounded_line
from services.commissions.domain.terms import Pays
from services.commissions.domain.work import Work
from shared.money import EXACT, to_text


@dataclass(frozen=True, slots=True)
class BudgetCut:
    """What a credit asked of a common budget and did not get."""

    grant: Grant

    @property
    def to_held(self) -> Decimal:
        """Nothing is held."""
        return ZERO

    def tree(self) -> Mapping[str, object]:
        """Granted = min(budget, spent before + asked) - min(budget, spent before)."""
        return {
            "budget": to_text(self.grant.budget),
            "spent_before": to_text(self.grant.spent_before),
            "asked": to_text(self.grant.asked),
            "granted": to_text(self.grant.granted),
        }

    def sentence(self, amount: Decimal, currency: str) -> str:
        """What happened."""
        return (
            f"The budget of {money(self.grant.budget, currency)} over all payees had "
            f"{money(self.grant.spent_before, currency)} asked of it before; "
            f"{money(abs(amount), currency)} is not paid."
        )


def paid_each(credit: Credit, pays: Pays, count: int) -> Decimal:
    """What the `count`-th credit (from 0) of a payee earns, exact; a credit note gives it back."""
    if pays.first is not None and count >= pays.first:
        return ZERO
    sign = -1 if (credit.converted or ZERO) < 0 else 1
    return as_decimal(Fraction(pays.each) * credit.share * sign)


def rate_pays(work: Work, component_id: str, credits_: Iterable[Credit]) -> None:
    """Lines of a component that pays a fixed amount a credit."""
    count = work.counts.get(component_id, 0)
    lines = work.credit_lines.setdefault(component_id, [])
    for credit in sorted(credits_, key=credit_order):
        version = work.rater.version_of(credit)
        pays = work.rater.component_of(credit).pays
        if pays is None or (pays.budget is not None and credit.key not in work.given.grants):
            work.held.append(credit)
            msg = "the budget that all payees share is being divided; nothing needs to be done"
            work.wait(ExceptionKind.BUDGET, credit, credit.day, msg)
            continue
        exact = paid_each(credit, pays, count)
        line = Line(
            key=credit.key,
            kind=LineKind.CREDIT,
            component_id=component_id,
            version_hash=credit.version_hash,
            statement=work.rater.statement_of(credit.day, version),
            measure=None,
            amount=(amount := rounded_line(exact, version)),
            exact=exact,
            credit=credit,
            count=count,
            net=amount,
        )
        count = _counted(count, credit)
        lines.append(line)
        work.put(line)
        if pays.budget is not None:
            _cut(work, line, work.given.grants[credit.key])
        if pays.first is not None:
            work.counts[component_id] = count


def _counted(count: int, credit: Credit) -> int:
    """How many credits a payee has after this one; a credit note takes one back."""
    return max(0, count - 1) if (credit.converted or ZERO) < 0 else count + 1


def _cut(work: Work, line: Line, grant: Grant) -> None:
    taken = EXACT.subtract(grant.granted, line.amount)
    line.net = EXACT.add(line.net, taken)
    if not taken:
        return
    work.put(
        Line(
            key=f"{LineKind.BUDGET_CAP}:{line.key}",
            kind=LineKind.BUDGET_CAP,
            component_id=line.component_id,
            version_hash=line.version_hash,
            statement=line.statement,
            measure=None,
            amount=taken,
            exact=taken,
            credit=line.credit,
            basis=BudgetCut(grant),
        )
    )


def spend_budget(plan: Plan, component_id: str, credits_: Iterable[Credit]) -> dict[str, Grant]:
    """Credit key → what it gets of the budget that all payees share, in credit order.

    credits_: all rated credits (none held) of ALL payees for this component, of all years.
    """
    spent = ZERO
    counts: dict[str, int] = {}
    found: dict[str, Grant] = {}
    for credit in sorted(credits_, key=credit_order):
        version = plan.by_hash[credit.version_hash]
        pays = version.component(component_id).pays
        if pays is None or pays.budget is None or credit.converted is None:
            continue
        count = counts.get(credit.payee, 0)
        counts[credit.payee] = _counted(count, credit)
        found[credit.key] = _granted(credit, pays, count, version, spent)
        spent = EXACT.add(spent, found[credit.key].asked)
    return found


def _granted(credit: Credit, pays: Pays, count: int, version: PlanVersion, spent: Decimal) -> Grant:
    asked = rounded_line(paid_each(credit, pays, count), version)
    budget = pays.budget or ZERO
    granted = EXACT.subtract(min(budget, EXACT.add(spent, asked)), min(budget, spent))
    return Grant(asked, granted, spent, budget)
