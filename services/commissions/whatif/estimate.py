"""What would a deal pay? The same engine on a credit that has not happened; nothing is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from services.commissions.budgets import grants_with
from services.commissions.crediting import payments_of
from services.commissions.domain.credits import Credit, CreditEvent, CreditException, credits_for
from services.commissions.domain.deal_events import (
    deal_fields,
    stated_shares,
)
from services.commissions.domain.payments import cash_for
from services.commissions.domain.people import with_people
from services.commissions.domain.periods import Period
from services.commissions.domain.plan import CreditOn, Over, Plan
from services.commissions.domain.rates import ZERO
from services.commissions.domain.rating import Line, LineKind
from services.commissions.domain.sheet import Sheet
from services.commissions.needs import PEOPLE, budgets_in
from services.commissions.rating import (
    AccountState,
    account_since,
    fill_statements,
    rated_sheet,
)
from services.commissions.reference import Reference
from services.commissions.store import AccountKey
from shared.clock import to_epoch_ms
from shared.facts.deal import owner_at, project_deal, shares_at
from shared.facts.store import load_records
from shared.money import EXACT, exact_sum, quantise

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
    """The event that winning the deal would be, with what has been paid for it so far.

    None when there is no such deal.
    """
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
        cash=cash_for(await payments_of(tx, said.deal_id, reference)),
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
            found.append(await _estimate(tx, account, plan, event.deal_id, credits_, reference))
    on_no_plan -= {estimate.payee for estimate in found}
    return found, waiting, sorted(on_no_plan)


@dataclass(frozen=True, slots=True)
class _Standing:
    """A fiscal year of an account: what its lines earn, in all and by component, and its pay."""

    earned: Decimal
    payable: Decimal
    by_component: Mapping[str, Decimal]

    @classmethod
    def of(cls, sheet: Sheet) -> _Standing:
        """As it was rated."""
        amounts: dict[str, list[Decimal]] = {}
        for statement in sheet.statements:
            for line in statement.lines:
                amounts.setdefault(line.component_id, []).append(line.amount)
        return cls(
            exact_sum(statement.own for statement in sheet.statements),
            exact_sum(statement.payable for statement in sheet.statements),
            {component: exact_sum(found) for component, found in amounts.items()},
        )


class _StoredLine(msgspec.Struct, gc=False):
    component: str | None
    amount: Decimal


class _StoredFigures(msgspec.Struct, gc=False):
    """What is asked of a stored statement; the rest of it is passed over."""

    own: Decimal
    payable: Decimal
    lines: list[_StoredLine]


_figures = msgspec.json.Decoder(_StoredFigures)


async def _estimate(  # noqa: PLR0913, PLR0917 - whose, of what, and with what
    tx: Connection,
    account: AccountKey,
    plan: Plan,
    deal_id: str,
    credits_: Sequence[Credit],
    reference: Reference,
) -> Estimate:
    year = reference.year_of(credits_[0].day)
    state = await account_since(tx, account, year.start, reference)
    everything = state.credits.get(year, [])
    others = [credit for credit in everything if credit.deal_id != deal_id]
    needs = reference.needs[plan.id]
    before: _Standing | None = None
    if len(others) == len(everything):
        before = await _stored_standing(tx, state, year)
    if before is None:
        state.credits[year] = others
        if budgets_in(needs):
            state.grants = await grants_with(tx, plan, needs, (), deal_id)
        before = _Standing.of(rated_sheet(state, plan, year, reference))
    state.credits[year] = [*others, *credits_]
    if budgets_in(needs):
        state.grants = await grants_with(tx, plan, needs, credits_, deal_id)
    sheet = rated_sheet(state, plan, year, reference)
    after = _Standing.of(sheet)
    statement = next(s for s in sheet.statements if credits_[0].day in s.period)
    return Estimate(
        payee=account.payee,
        plan=account.plan_id,
        period=statement.period.label,
        currency=statement.currency,
        before=before.earned,
        after=after.earned,
        payable_before=before.payable,
        payable_after=after.payable,
        components=_components(sheet, before, after, credits_),
    )


async def _stored_standing(tx: Connection, state: AccountState, year: Period) -> _Standing | None:
    """A year as its statements have it; None while the account waits to be settled."""
    if not await tx.fetchval(
        "SELECT reference_version = (SELECT version FROM reference_version) AND NOT EXISTS "
        "(SELECT FROM mark WHERE kind = 'account' AND root_id = $1) "
        "FROM root WHERE kind = 'account' AND id = $1",
        state.account.root_id,
    ):
        return None
    await fill_statements(tx, [state])
    amounts: dict[str, list[Decimal]] = {}
    own: list[Decimal] = []
    payable: list[Decimal] = []
    for stored in state.statements:
        if stored.start_day in year:
            said = _figures.decode(stored.document)
            own.append(quantise(said.own))
            payable.append(quantise(said.payable))
            for line in said.lines:
                amounts.setdefault(line.component or "", []).append(quantise(line.amount))
    return _Standing(
        exact_sum(own),
        exact_sum(payable),
        {component: exact_sum(found) for component, found in amounts.items()},
    )


def _components(
    sheet: Sheet, before: _Standing, after: _Standing, credits_: Sequence[Credit]
) -> list[ComponentEstimate]:
    keys = {credit.key for credit in credits_}
    named = {credit.component_id for credit in credits_}
    lines: dict[str, list[Line]] = {component: [] for component in named}
    for statement in sheet.statements:
        for line in statement.lines:
            if line.component_id in named and line.kind is LineKind.CREDIT:
                lines[line.component_id].append(line)
    found = []
    for component in sorted(named):
        own = next((line for line in lines[component] if line.key in keys), None)
        found.append(
            ComponentEstimate(
                component=component,
                before=before.by_component.get(component, ZERO),
                after=after.by_component.get(component, ZERO),
                next_tier=None if own is None else _next_tier(sheet, own, lines[component]),
            )
        )
    return found


def _next_tier(sheet: Sheet, line: Line, lines: Sequence[Line]) -> NextTier | None:
    """From where the whole measure period stands after the deal to the next bound above.

    lines: all credit lines of the component.
    """
    same = [other for other in lines if other.measure == line.measure]
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
