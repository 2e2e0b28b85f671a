"""Credits, statements and the ledger over histories of linked records and decisions.

The crediting and rating of the service itself, without its SQL: what a batch touches is in
tests/integration/commissions/test_order_histories.py with the same histories.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, cast

from hypothesis import HealthCheck, given, settings

from services.commissions.crediting import Contribution, contribution_of
from services.commissions.domain.credits import Credit, invoice_amount
from services.commissions.domain.exchange import RateBook
from services.commissions.domain.ledger import Place
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.plan import Assignment, CreditTo, DayRange, Plan, PlanVersion
from services.commissions.rating import (
    AccountOutcome,
    AccountState,
    Posted,
    _outcome,
    _stored,
    exception_of,
    quotas_in,
)
from services.commissions.reference import Reference, _rates
from services.commissions.store import UNASSIGNED, AccountKey, StatementWrite, StoredStatement
from shared.events.targets import QuotaData
from shared.facts.deal import merge_edges, resolve_redirects
from shared.facts.record import Record, canonical
from shared.facts.reference import StageMaps
from shared.money import exact_sum, parse_decimal
from shared.org.people import Org
from tests.support.happenings import SHARES, Coverage, differing
from tests.support.histories import Batch, Decided, Said, Story
from tests.support.pay_histories import STORIES

MANY = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
BEGINNING = date(1, 1, 1)


@dataclass(slots=True)
class Account:
    """What is kept of a payee under a plan."""

    left: str | None = None
    statements: dict[str, StatementWrite] = field(default_factory=dict)
    posted: Posted = field(default_factory=dict)
    transactions: int = 0


@dataclass(slots=True)
class Books:
    """What commissions keeps, in memory."""

    records: dict[str, dict[str, Record]] = field(default_factory=lambda: defaultdict(dict))
    quotas: dict[str, QuotaData] = field(default_factory=dict)
    plans: dict[str, list[PlanVersion]] = field(default_factory=lambda: defaultdict(list))
    assignments: dict[str, Assignment] = field(default_factory=dict)
    deals: dict[str, Contribution] = field(default_factory=dict)
    accounts: dict[AccountKey, Account] = field(default_factory=lambda: defaultdict(Account))

    def take(self, batch: Batch) -> None:
        """Take a batch in, credit all deals, rate all accounts, post the differences."""
        for step in batch:
            if isinstance(step, Said):
                self.records[step.kind].setdefault(step.record, Record()).fold(step.fact)
            elif isinstance(step, Decided):
                self._decide(step)
            else:
                known = self.quotas.get(step.quota)
                if known is None or known.revision < step.revision:
                    self.quotas[step.quota] = step
        reference = self._reference()
        self._credit(reference)
        for account in sorted(self._concerned()):
            self._rate(account, reference)

    def _decide(self, step: Decided) -> None:
        document = dict(step.document)
        if step.what == "plan":
            self.plans[step.name].append(parse_plan(document))
            return
        last = document["to"]
        self.assignments[step.name] = Assignment(
            document["payee"],
            document["plan"],
            DayRange(
                date.fromisoformat(document["from"]), date.fromisoformat(last) if last else None
            ),
        )

    def _reference(self) -> Reference:
        org = Org.build(self.records["person"], {}, self.records["calendar"])
        assigned: dict[str, list[Assignment]] = defaultdict(list)
        for assignment in sorted(self.assignments.values(), key=lambda a: (a.plan_id, a.payee)):
            assigned[assignment.plan_id].append(assignment)
        return Reference(
            plans={
                plan_id: Plan(plan_id, tuple(versions))
                for plan_id, versions in sorted(self.plans.items())
            },
            assignments=assigned,
            rates=RateBook(_rates(self.records["rate"])),
            stage_maps=StageMaps.build(self.records["stage_map"], org.zone),
            org=org,
        )

    def _credit(self, reference: Reference) -> None:
        survivors = resolve_redirects(merge_edges(self.records["deal"].items()))
        invoices: dict[str, list[tuple[str, Record]]] = defaultdict(list)
        for invoice_id, invoice in sorted(self.records["invoice"].items()):
            if (deal := invoice.value("deal")) is not None:
                invoices[survivors.get(deal, deal)].append((invoice_id, invoice))
        for deal_id in sorted({*self.records["deal"], *invoices}):
            self.deals[deal_id] = (
                Contribution()
                if deal_id in survivors
                else contribution_of(
                    deal_id,
                    self.records["deal"].get(deal_id, Record()),
                    invoices[deal_id],
                    reference,
                )
            )

    def _concerned(self) -> set[AccountKey]:
        credited = {AccountKey(c.payee, c.plan_id) for c in self.credits()}
        waiting = {
            AccountKey(entry.payee, entry.plan_id)
            for made in self.deals.values()
            for entry in made.waiting
            if entry.payee and entry.kind != UNASSIGNED
        }
        return credited | waiting | set(self.accounts)

    def credits(self) -> Iterable[Credit]:
        """All credits."""
        for made in self.deals.values():
            yield from made.credits.values()

    def _rate(self, key: AccountKey, reference: Reference) -> None:
        account = self.accounts[key]
        plan = reference.plans.get(key.plan_id)
        state = AccountState(
            key, plan, _stored(account.left, reference), None, BEGINNING, BEGINNING
        )
        for credit in sorted(self.credits(), key=lambda c: c.key):
            if (credit.payee, credit.plan_id) == key:
                state.credits.setdefault(reference.year_of(credit.day), []).append(credit)
        for entry in sorted(entry for made in self.deals.values() for entry in made.waiting):
            if (entry.payee, entry.plan_id) == key and entry.kind != UNASSIGNED:
                state.waiting.setdefault(reference.year_of(entry.day), []).append(
                    exception_of(entry)
                )
        if plan is not None:
            state.quotas = quotas_in(cast("Any", self._quota_rows(key.payee)), plan, 1)
        state.statements = [
            StoredStatement(period, known.start_day, known.end_day, 1, known.document)
            for period, known in account.statements.items()
        ]
        state.posted = {place: kept for place, kept in account.posted.items() if kept[0]}
        self._write(account, _outcome(state, reference))

    def _quota_rows(self, person: str) -> list[dict[str, Any]]:
        return [
            {
                "measure": quota.measure,
                "start_day": date.fromisoformat(quota.start),
                "end_day": date.fromisoformat(quota.end),
                "amount": Decimal(quota.amount),
                "currency": quota.currency,
            }
            for _, quota in sorted(self.quotas.items())
            if quota.person == person and not quota.deleted
        ]

    def _write(self, account: Account, outcome: AccountOutcome) -> None:
        account.left = outcome.contribution
        for period in outcome.gone:
            del account.statements[period]
        account.statements.update({write.period: write for write in outcome.writes})
        if not outcome.postings:
            return
        account.transactions += 1
        sums: dict[str, Decimal] = defaultdict(Decimal)
        entry = outcome.entry(account.transactions)
        for posting in entry.transaction.postings:
            place = posting.place
            sums[place.currency] += posting.amount
            before = account.posted.get(place, (Decimal(0), BEGINNING, BEGINNING))[0]
            account.posted[place] = (before + posting.amount, *entry.days[place.period])
        assert not any(sums.values()), "a transaction that does not sum to zero"

    def dump(self) -> dict[str, Mapping[Any, Any]]:
        """Everything that no order may change."""
        return {
            "records": {
                (kind, record_id): canonical(record)
                for kind, found in self.records.items()
                for record_id, record in found.items()
            },
            "credits": {credit.key: credit for credit in self.credits()},
            "waiting": {deal: made.waiting for deal, made in self.deals.items() if made.waiting},
            "statements": {
                (key, period): write.document
                for key, account in self.accounts.items()
                for period, write in account.statements.items()
            },
            "balances": self.balances(),
        }

    def balances(self) -> dict[Place, Decimal]:
        """Sum of postings by place, without zeros."""
        return {
            place: kept[0]
            for account in self.accounts.values()
            for place, kept in account.posted.items()
            if kept[0]
        }

    def unbalanced(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Event and component → credited and worth, where everybody in the split is credited."""
        groups: dict[str, list[Credit]] = defaultdict(list)
        for credit in self.credits():
            if credit.to is not CreditTo.OVERLAYS:
                groups[credit.key.rpartition("/")[0]].append(credit)
        found = {}
        for name, parts in groups.items():
            if {part.payee for part in parts} == {member for member, _ in parts[0].shares}:
                credited = exact_sum(part.original for part in parts)
                if credited != (worth := self._worth(parts[0].event_key)):
                    found[name] = (credited, worth)
        return found

    def _worth(self, event_key: str) -> Decimal:
        """What a deal or an invoice is worth, as its record says."""
        kind, _, record_id = event_key.partition(":")
        record = self.records[kind][record_id]
        amount = parse_decimal(record.value("amount"))
        if kind == "deal":
            return amount
        note = record.value("credit_note_of") is not None
        worth = invoice_amount(amount, credit_note=note)
        assert worth is not None
        return worth


def after(batches: Sequence[Batch]) -> Books:
    """The books once all is told; splits conserve all along."""
    books = Books()
    for batch in batches:
        books.take(batch)
        assert books.unbalanced() == {}
    return books


def seen_in(books: Books) -> set[str]:
    """What came of a story."""
    credits_ = list(books.credits())
    found = {"credit"} if credits_ else set()
    found |= {"split credit" for c in credits_ if len(c.shares) > 1}
    found |= {c.event_key.partition(":")[0] for c in credits_}
    found |= {"converted" for c in credits_ if c.rate is not None}
    found |= {"waiting" for made in books.deals.values() if made.waiting}
    found |= {"posted again" for account in books.accounts.values() if account.transactions > 1}
    years = {place.period[:4] for place in books.balances()}
    return found | ({"two years"} if len(years) > 1 else set())


RESULTS = {
    "credit": 0.5,
    "split credit": 0.08,
    "deal": 0.3,
    "invoice": 0.2,
    "converted": 0.04,
    "waiting": 0.1,
    "posted again": 0.1,
    "two years": 0.03,
}


def test_any_telling_comes_to_the_same_and_every_transaction_is_even() -> None:
    """Order, repetition and batching change nothing; by differences or anew is the same."""
    coverage = Coverage()

    @MANY
    @given(STORIES)
    def check(story: Story) -> None:
        told = after(story.told)
        coverage.add(story, *seen_in(told))
        expected = told.dump()
        assert differing(after(story.again).dump(), expected) == []
        assert differing(after(story.at_once).dump(), expected) == []

    check()
    coverage.require({**SHARES, **RESULTS})
