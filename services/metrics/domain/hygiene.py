"""The hygiene score (K35): the rules of good keeping that open deals break, and what they weigh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from services.metrics.domain.kpis import ZERO, KpiValue, Reason, to_decimal

EVERY_STAGE = "*"
FULL_SCORE = 100
REQUIRABLE = frozenset(
    {"owner", "amount", "currency", "close_date", "account", "deal_type", "next_step"}
)
"""What a stage can require."""


class HygieneRule(StrEnum):
    """What can be broken."""

    REQUIRED = "required"
    CLOSE_DATE = "close_date_past"
    AMOUNT = "amount"
    NEXT_STEP = "next_step"
    FRESH = "fresh"
    OWNER = "owner_active"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class HygieneRules:
    """What is asked of an open deal.

    required: stage → fields that must be stated in it; `*` is every stage. fresh_days: so recently
    something must have happened on it. weights: of rules, 1 where none is given, 0 switches off.
    """

    required: Mapping[str, frozenset[str]] = field(
        default_factory=lambda: {EVERY_STAGE: frozenset({"owner", "close_date", "currency"})}
    )
    fresh_days: int = 14
    weights: Mapping[str, Decimal] = field(default_factory=dict)

    def weight(self, rule: HygieneRule) -> Decimal:
        """What a rule weighs."""
        return self.weights.get(rule.value, Decimal(1))


@dataclass(frozen=True, slots=True)
class OpenDealState:
    """Open deals that look alike.

    stated: those of REQUIRABLE that are known. priced: an amount above 0. overdue: the close date
    has passed, None without one.
    next_step: dated and ahead, None where that is not known as of the past. fresh: an activity or a
    change in the last days. owner_active: None without an owner. duplicate: another open deal has
    its name and account, None where either is not stated.
    """

    stage: str | None
    stated: frozenset[str]
    priced: bool = True
    overdue: bool | None = None
    next_step: bool | None = True
    fresh: bool = True
    owner_active: bool | None = True
    duplicate: bool | None = False
    number: int = 1


def verdicts(deal: OpenDealState, rules: HygieneRules) -> Mapping[HygieneRule, bool]:
    """Each rule that applies, and whether it is kept."""
    wanted = rules.required.get(EVERY_STAGE, frozenset())
    wanted |= rules.required.get(deal.stage or "", frozenset())
    found: dict[HygieneRule, bool | None] = {
        HygieneRule.REQUIRED: wanted <= deal.stated if wanted else None,
        HygieneRule.CLOSE_DATE: None if deal.overdue is None else not deal.overdue,
        HygieneRule.AMOUNT: deal.priced,
        HygieneRule.NEXT_STEP: deal.next_step,
        HygieneRule.FRESH: deal.fresh,
        HygieneRule.OWNER: deal.owner_active,
        HygieneRule.DUPLICATE: None if deal.duplicate is None else not deal.duplicate,
    }
    return {rule: kept for rule, kept in found.items() if kept is not None and rules.weight(rule)}


def score(deal: OpenDealState, rules: HygieneRules) -> Decimal | None:
    """One deal's score, 0 to 100; None where no rule applies."""
    kept, applied = _weighed(verdicts(deal, rules), rules)
    return to_decimal(FULL_SCORE * kept / applied) if applied else None


def failing(deal: OpenDealState, rules: HygieneRules) -> list[str]:
    """The rules that a deal breaks, in their order."""
    return [rule.value for rule, kept in verdicts(deal, rules).items() if not kept]


def hygiene_score(deals: Sequence[OpenDealState], rules: HygieneRules) -> KpiValue:
    """K35 over deals: all weights kept ÷ all that apply; the parts count deals by failing rule."""
    kept = applied = Fraction(0)
    broken = dict.fromkeys(HygieneRule, 0)
    number = perfect = 0
    for deal in deals:
        found = verdicts(deal, rules)
        kept_here, applied_here = _weighed(found, rules)
        kept += kept_here * deal.number
        applied += applied_here * deal.number
        number += deal.number
        perfect += deal.number * all(found.values())
        for rule, held in found.items():
            broken[rule] += deal.number * (not held)
    parts = {"deals": str(number), "without_fault": str(perfect)}
    parts |= {rule.value: str(count) for rule, count in broken.items()}
    if not applied:
        return KpiValue(None, Reason.NO_DEALS, parts)
    return KpiValue(to_decimal(FULL_SCORE * kept / applied), None, parts, sample=number)


def _weighed(found: Mapping[HygieneRule, bool], rules: HygieneRules) -> tuple[Fraction, Fraction]:
    weights = {rule: Fraction(rules.weight(rule)) for rule in found}
    kept = sum((weights[rule] for rule, held in found.items() if held), Fraction(ZERO))
    return kept, sum(weights.values(), Fraction(0))
