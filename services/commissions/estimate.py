"""What would a deal pay? The same engine on a credit that has not happened; nothing is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from services.commissions.domain.credits import Credit, CreditEvent, CreditException, credits_for
from services.commissions.domain.deal_events import (
    deal_fields,
    stated_shares,
)
from services.commissions.domain.people import with_people
from services.commissions.domain.plan import CreditOn, Over
from services.commissions.domain.rates import ZERO
from services.commissions.domain.rating import Line, LineKind
from services.commissions.domain.sheet import Sheet
from services.commissions.needs import PEOPLE
from services.commissions.rating import sheet_of
from services.commissions.reference import Reference
from services.commissions.store import AccountKey
from shared.clock import to_epoch_ms
from shared.facts.deal import owner_at, project_deal, shares_at
from shared.facts.store import load_records
from shared.money import EXACT, exact_sum

if TYPE_CHECKING:
    from shared.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A deal as it would be won at `instant`. None: as the CRM has it, where `deal_id` names one.

    splits, overlays: member → share. fields: what formulas may ask for.
    """

    deal_id: str | None
    instant: datetime
    amount: Decimal | None
    currency: str | None
    owner: str | None
    splits: Mapping[str, str] | None
    overlays: Mapping[str, str] | None
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class NextTier:
    """How far the measure is from a better rate, after the deal."""

    measure: Decimal
    begins_at: Decimal
    missing: Decimal
    rate: Decimal


@dataclass(frozen=True, slots=True)
class ComponentEstimate:
    """One component's earnings in the deal's period, without and with it."""

    component: str
    before: Decimal
    after: Decimal
    next_tier: NextTier | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one payee would get under one plan. Earnings are those of the whole fiscal year."""

    payee: str
    plan: str
    period: str
    currency: str
    before: Decimal
    after: Decimal
    payable_before: Decimal
    payable_after: Decimal
    components: Sequence[ComponentEstimate]

    @property
    def delta(self) -> Decimal:
        """What the deal adds, true-ups of other deals included."""
        return EXACT.subtract(self.after, self.before)


async def hypothetical_event(
    tx: Connection, said: Hypothesis, reference: Reference
) -> CreditEvent | None:
    """The event that winning the deal would be; None when there is no such deal."""
    event = CreditEvent(
        key="estimate",
        on=CreditOn.DEAL_WON,
        deal_id=said.deal_id or "estimate",
        instant=said.instant,
        amount=said.amount,
        currency=said.currency,
        owner=said.owner,
        splits=tuple((said.splits or {}).items()),
        overlays=tuple((said.overlays or {}).items()),
        fields={"deal": said.fields},
        close_date=said.instant.astimezone(reference.org.zone).date(),
    )
    if said.deal_id is None:
        return event
    record = (await load_records(tx, "deal", [said.deal_id])).get(said.deal_id)
    if record is None:
        return None
    timeline = project_deal(said.deal_id, record, reference.stage_maps, reference.identities)
    at_ms = to_epoch_ms(said.instant)
    who = reference.identities
    held = {name: shares_at(record, name, at_ms, who) for name in ("splits", "overlays")}
    return replace(
        event,
        amount=timeline.amount if said.amount is None else said.amount,
        currency=timeline.currency if said.currency is None else said.currency,
        owner=owner_at(record, at_ms, who) if said.owner is None else said.owner,
        splits=stated_shares(held["splits"]) if said.splits is None else event.splits,
        overlays=stated_shares(held["overlays"]) if said.overlays is None else event.overlays,
        fields={"deal": {**deal_fields(record), **said.fields}},
    )


async def deal_members(
    tx: Connection, deal_id: str, at: datetime, reference: Reference
) -> frozenset[str]:
    """Whom the CRM's deal concerns as of an instant: its owner and everybody with a share in it.

    Whoever asks about a deal is judged by these, never by members of their own hypothesis.
    """
    record = (await load_records(tx, "deal", [deal_id])).get(deal_id)
    if record is None:
        return frozenset()
    at_ms, who = to_epoch_ms(at), reference.identities
    owner = owner_at(record, at_ms, who)
    shared = [shares_at(record, name, at_ms, who) for name in ("splits", "overlays")]
    members = {member for shares in shared for member in shares}
    return frozenset(members if owner is None else members | {owner})


async def estimates(
    tx: Connection, event: CreditEvent, reference: Reference
) -> tuple[list[Estimate], list[CreditException], list[str]]:
    """(what everybody would get, what would wait, who is on no plan)."""
    found: list[Estimate] = []
    waiting: list[CreditException] = []
    on_no_plan: set[str] = set()
    for plan in reference.plans.values():
        assigned = reference.assignments.get(plan.id, ())
        asked = event
        if PEOPLE in reference.needs[plan.id]:
            asked = with_people(event, reference.org)
        outcome = credits_for(asked, plan, assigned, reference.rates)
        waiting.extend(outcome.exceptions)
        on_no_plan.update(outcome.unassigned)
        by_payee: dict[str, list[Credit]] = {}
        for credit in outcome.credits:
            by_payee.setdefault(credit.payee, []).append(credit)
        for payee, credits_ in sorted(by_payee.items()):
            account = AccountKey(payee, plan.id)
            year = reference.year_of(credits_[0].day)
            before = await sheet_of(tx, account, year, reference, without_deal=event.deal_id)
            after = await sheet_of(
                tx, account, year, reference, extra=credits_, without_deal=event.deal_id
            )
            if before is not None and after is not None:
                found.append(_estimate(account, before, after, credits_))
    on_no_plan -= {estimate.payee for estimate in found}
    return found, waiting, sorted(on_no_plan)


def _estimate(
    account: AccountKey, before: Sheet, after: Sheet, credits_: Sequence[Credit]
) -> Estimate:
    keys = {credit.key for credit in credits_}
    day = credits_[0].day
    statement = next(s for s in after.statements if day in s.period)
    components = [
        _component(component, before, after, keys)
        for component in sorted({credit.component_id for credit in credits_})
    ]
    return Estimate(
        payee=account.payee,
        plan=account.plan_id,
        period=statement.period.label,
        currency=statement.currency,
        before=_earned(before),
        after=_earned(after),
        payable_before=exact_sum(s.payable for s in before.statements),
        payable_after=exact_sum(s.payable for s in after.statements),
        components=components,
    )


def _earned(sheet: Sheet) -> Decimal:
    return exact_sum(statement.own for statement in sheet.statements)


def _component(component: str, before: Sheet, after: Sheet, keys: set[str]) -> ComponentEstimate:
    line = next((found for found in _lines(after, component) if found.key in keys), None)
    return ComponentEstimate(
        component=component,
        before=exact_sum(found.amount for found in _lines(before, component)),
        after=exact_sum(found.amount for found in _lines(after, component)),
        next_tier=None if line is None else _next_tier(after, line),
    )


def _lines(sheet: Sheet, component: str) -> list[Line]:
    return [
        line
        for statement in sheet.statements
        for line in statement.lines
        if line.component_id == component
    ]


def _next_tier(sheet: Sheet, line: Line) -> NextTier | None:
    """From where the whole measure period stands after the deal to the next bound above."""
    same = [
        other
        for other in _lines(sheet, line.component_id)
        if other.kind is LineKind.CREDIT and other.measure == line.measure
    ]
    last = max(same, key=lambda other: (other.count, other.after))
    if sheet.rater.component_of(last).rates is None:
        return None
    pricing = sheet.rater.pricing_of(last)
    measure = Decimal(last.count + 1) if pricing.over is Over.COUNT else last.after
    for bound, rate in zip(pricing.bounds, pricing.rates, strict=True):
        if bound > measure:
            missing = EXACT.subtract(bound, measure)
            return NextTier(measure, bound, max(missing, ZERO), rate)
    return None
