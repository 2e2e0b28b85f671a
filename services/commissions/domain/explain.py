"""Explanations: each amount as a tree of data, enough to compute it again, and one sentence.

Trees are JSON values; every number is decimal text. They are built when somebody asks, from the
numbers the line kept, so that rating does not pay for them.
"""

from __future__ import annotations

from decimal import Decimal

from services.commissions.domain.credits import Credit, rate_as_row
from services.commissions.domain.plan import Component, Method, Over, PlanVersion
from services.commissions.domain.rates import Pricing, Slice
from services.commissions.domain.rating import Line, LineKind, Rater
from services.commissions.domain.statement import Statement
from shared.clock import to_text as instant_text
from shared.money import EXACT, minor_unit_exponent, to_text

Tree = dict[str, object]

_PERCENT = Decimal(100)


def explain_statement(statement: Statement, rater: Rater) -> Tree:
    """A statement as a tree: its lines, the carried difference, and how it became the payable."""
    return {
        "payee": statement.payee,
        "plan": statement.plan_id,
        "period": statement.period.label,
        "currency": statement.currency,
        "lines": [explain_line(line, rater) for line in statement.lines],
        "own": to_text(statement.own),
        "difference": _difference(statement),
        "carry_in": to_text(statement.carry_in),
        "taken": to_text(statement.taken),
        "carry_out": to_text(statement.carry_out),
        "payable": to_text(statement.payable),
        "payout": _payout(statement),
        "hash": statement.hash,
        "sentence": _statement_sentence(statement),
    }


def explain_line(line: Line, rater: Rater) -> Tree:
    """One line as a tree, from the events to the amount."""
    version = rater.version_of(line)
    tree: Tree = {
        "key": line.key,
        "kind": line.kind.value,
        "component": line.component_id,
        "plan_version": line.version_hash,
        "statement": line.statement.label,
        "currency": version.currency,
        "amount": to_text(line.amount),
    }
    if line.kind is LineKind.CREDIT and line.credit is not None:
        tree |= _credit_line(line, line.credit, rater, version)
    elif line.kind is LineKind.ROUNDING:
        tree |= {
            "exact": to_text(line.after),
            "rounding": _rounding(version),
            "sentence": (
                f"The lines sum to {to_text(line.after)} {version.currency}; the plan rounds the "
                f"statement once, which changes it by {_money(line.amount, version)}."
            ),
        }
    else:
        tree |= _cap(line, version)
    return tree


def _credit_line(line: Line, credit: Credit, rater: Rater, version: PlanVersion) -> Tree:
    component, pricing = rater.component_of(line), rater.pricing_of(line)
    by_count = line.count if component.rates.over is Over.COUNT else None
    return {
        "credit": _credit(credit, component),
        "conversion": _conversion(credit, version),
        "measure": _measure(line, by_count),
        "rates": _rates(component, pricing, line, by_count),
        "exact": to_text(line.exact),
        "rounding": _rounding(version),
        "sentence": _credit_sentence(line, credit, pricing, version),
    }


def _credit(credit: Credit, component: Component) -> Tree:
    when = component.credit.when
    return {
        "events": list(credit.source_ids),
        "deal": credit.deal_id,
        "instant": instant_text(credit.instant),
        "day": credit.day.isoformat(),
        "when": when.text if when else None,
        "formula": component.credit.amount.text,
        "to": credit.to.value,
        "basis": to_text(credit.basis),
        "member": credit.payee,
        "share": str(credit.share),
        "shares": {member: str(share) for member, share in credit.shares},
        "amount": to_text(credit.original),
        "currency": credit.currency,
    }


def _conversion(credit: Credit, version: PlanVersion) -> Tree:
    return {
        "from": credit.currency,
        "to": version.currency,
        "rate": rate_as_row(credit.rate) if credit.rate else None,
        "amount": to_text(credit.converted or Decimal(0)),
    }


def _measure(line: Line, count: int | None) -> Tree:
    tree: Tree = {
        "period": line.measure.label if line.measure else None,
        "quota": None if line.quota is None else to_text(line.quota),
        "before": to_text(line.before),
        "after": to_text(line.after),
    }
    if count is not None:
        tree |= {"count_before": count, "count_after": count + 1}
    return tree


def _rates(component: Component, pricing: Pricing, line: Line, count: int | None) -> Tree:
    """The table over the quota, and the slices whose difference the line earns."""
    table, threshold = component.rates, component.threshold
    before, after = _slices(pricing, line, count)
    return {
        "method": table.method.value,
        "over": table.over.value,
        "tiers": [
            {"from": to_text(tier.lower), "at": to_text(bound), "rate": to_text(tier.rate)}
            for tier, bound in zip(table.tiers, pricing.bounds, strict=True)
        ],
        "threshold": None
        if threshold is None
        else {"attainment": to_text(threshold.attainment), "pays": threshold.pays.value},
        "slices_before": before,
        "slices_after": after,
        "true_up": _true_up(pricing, line, count),
    }


def _true_up(pricing: Pricing, line: Line, count: int | None) -> str | None:
    """What a retroactive line earns on the deals before it, because it reached a higher tier."""
    if pricing.method is not Method.RETROACTIVE:
        return None
    axis = line.after if count is None else Decimal(count + 1)
    own = EXACT.multiply(
        EXACT.subtract(line.after, line.before), pricing.rates[pricing.tier_at(axis)]
    )
    return to_text(EXACT.subtract(line.exact, own))


def _slices(pricing: Pricing, line: Line, count: int | None) -> tuple[list[Tree], list[Tree]]:
    if count is not None and pricing.counts_each:
        index = pricing.tier_at(Decimal(count))
        own = Slice(index, EXACT.subtract(line.after, line.before), pricing.rates[index])
        return [], [_slice(own)]
    place = count or 0
    before = [_slice(part) for part in pricing.slices(line.before, place)]
    after = [_slice(part) for part in pricing.slices(line.after, place + 1)]
    return before, after


def _slice(part: Slice) -> Tree:
    return {"tier": part.tier, "amount": to_text(part.amount), "rate": to_text(part.rate)}


def _rounding(version: PlanVersion) -> Tree:
    return {
        "mode": version.rounding.mode,
        "at": version.rounding.at.value,
        "decimals": minor_unit_exponent(version.currency),
    }


def _credit_sentence(line: Line, credit: Credit, pricing: Pricing, version: PlanVersion) -> str:
    what = f"Deal {credit.deal_id} credits {_money(credit.converted or Decimal(0), version)}"
    if credit.rate is not None:
        what += f" ({to_text(credit.original)} {credit.currency} at {to_text(credit.rate.rate)})"
    moved = f"the measure goes from {to_text(line.before)} to {to_text(line.after)}"
    if line.quota is not None:
        moved += f" of {to_text(line.quota)}"
    top = pricing.tier_at(line.after if pricing.over is not Over.COUNT else Decimal(line.count))
    rate = to_text(EXACT.multiply(pricing.rates[top], _PERCENT))
    return f"{what}; {moved}, up to {rate} %, and the line earns {_money(line.amount, version)}."


def _cap(line: Line, version: PlanVersion) -> Tree:
    limit = line.cap.amount if line.cap else Decimal(0)
    per = line.cap.per.value if line.cap else ""
    verb = "takes" if line.amount < 0 else "gives back"
    return {
        "cap": {"amount": to_text(limit), "per": per, "excess": "lost"},
        "deal": line.deal_id,
        "sum_before": to_text(line.before),
        "sum_after": to_text(line.after),
        "sentence": (
            f"Capped: {_money(line.after, version)} earned per {per}, at most "
            f"{_money(limit, version)} is paid, which {verb} "
            f"{_money(abs(line.amount), version)}."
        ),
    }


def _difference(statement: Statement) -> Tree:
    return {
        "amount": to_text(statement.difference),
        "landed_before": to_text(statement.landed),
        "corrects": [
            {
                "period": correction.period,
                "line": correction.line_key,
                "fixed": to_text(correction.fixed),
                "recomputed": to_text(correction.recomputed),
                "amount": to_text(correction.amount),
            }
            for correction in statement.corrections
        ],
    }


def _payout(statement: Statement) -> Tree:
    payout = statement.payout
    return {
        "currency": payout.currency,
        "rate": rate_as_row(payout.rate) if payout.rate else None,
        "amount": None if payout.amount is None else to_text(payout.amount),
    }


def _statement_sentence(statement: Statement) -> str:
    currency = statement.currency
    said = f"{statement.period.label}: {to_text(statement.own)} {currency} earned"
    if statement.difference:
        said += f", {to_text(statement.difference)} carried over from closed periods"
    if statement.carry_in:
        said += f", {to_text(statement.carry_in)} still open from before"
    said += f"; {to_text(statement.payable)} {currency} payable"
    if statement.payout.currency != currency and statement.payout.amount is not None:
        said += f", paid as {to_text(statement.payout.amount)} {statement.payout.currency}"
    return said + "."


def _money(amount: Decimal, version: PlanVersion) -> str:
    return f"{to_text(amount)} {version.currency}"
