"""Rating windows as they change comes to what rating whole years does, over generated plans."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from services.commissions.crediting import Contribution, _accounts
from services.commissions.domain.agreed import Agreement, Override
from services.commissions.domain.closes import FixedStatement
from services.commissions.domain.credit import Credit
from services.commissions.domain.credits import credits_for
from services.commissions.domain.exchange import RateBook, RateRow
from services.commissions.domain.given import Grant, KpiFact
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.periods import Period
from services.commissions.domain.plan import DayRange, Plan
from services.commissions.domain.statement import fixed_by
from services.commissions.rating import AccountOutcome, AccountState, begin_account, rated_years
from services.commissions.reference import Reference
from services.commissions.statement_rows import statement_write
from services.commissions.store import AccountKey, Borders, StoredStatement
from services.commissions.windowed import _Account, _begin, _outcome, _widened
from shared.facts.marks import RootKey
from shared.facts.reference import StageMaps
from shared.facts.settle import LockedRoot
from shared.org.people import Org
from tests.oracle.plans.case import Case
from tests.oracle.plans.generated import MANAGER, PAYEES, cases
from tests.property.test_plans_against_second_reading import _assignment, _events, _grants

EXAMPLES = 250
CLOSED = ("0001-01-01", "2025-02-01", "2025-04-01", "2025-07-01", "2026-01-01")


@dataclass(slots=True)
class Kept:
    """What is stored of one account."""

    contribution: str | None = None
    documents: dict[str, tuple[Period, str]] = field(default_factory=dict)


@dataclass(slots=True)
class Books:
    """A plan's accounts in memory, rated by windows as their credits change."""

    case: Case
    reference: Reference
    borders: Borders
    overrides: Mapping[str, Sequence[Override]]
    fixed: dict[AccountKey, list[FixedStatement]] = field(default_factory=dict)
    credits: dict[str, Credit] = field(default_factory=dict)
    accounts: dict[AccountKey, Kept] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def change(self, credits_: Iterable[Credit]) -> None:
        """Have these credits in place of all that were; rate only what they touch."""
        was, now = self.credits, {credit.key: credit for credit in credits_}
        before = _grants(self._plan, was.values())
        after = _grants(self._plan, now.values())
        parts: dict[AccountKey, set[str]] = {}
        for deal in sorted({c.deal_id for c in (*was.values(), *now.values())}):
            old, new = _of_deal(was, deal), _of_deal(now, deal)
            keys = {*old.credits, *new.credits}
            changed = [key for key in keys if old.credits.get(key) != new.credits.get(key)]
            for root, part in _accounts(old, new, changed, self.reference):
                if root.kind == "account":
                    parts.setdefault(AccountKey.of(root.id), set()).add(part)
        for key, credit in now.items():
            if before.get(key) != after.get(key):
                window = self.reference.windows("plan").at(credit.day)
                parts.setdefault(AccountKey(credit.payee, "plan"), set()).add(window.label)
        self.credits = now
        for account, labels in parts.items():
            self._rate(account, frozenset(labels), after)

    def rate_all(self) -> None:
        """As a change of plans does."""
        grants = _grants(self._plan, self.credits.values())
        for payee in (*PAYEES, MANAGER):
            self._rate(AccountKey(payee, "plan"), frozenset({""}), grants)

    @property
    def _plan(self) -> Plan:
        return self.reference.plans["plan"]

    def _rate(self, key: AccountKey, parts: frozenset[str], grants: Mapping[str, Grant]) -> None:
        kept = self.accounts.setdefault(key, Kept())
        root = LockedRoot(RootKey("account", key.root_id), kept.contribution, parts, 1, None)
        account = _begin(root, self.reference, self.borders)
        outcome = self._filled(account, grants)
        if outcome is None:
            self.seen["widened"] += 1
            outcome = self._filled(_widened(account, self.reference, self.borders), grants)
        assert outcome is not None
        kept.contribution = outcome.contribution
        for label in outcome.gone:
            del kept.documents[label]
        for write in outcome.writes:
            kept.documents[write.period] = (self.reference.period(write.period), write.document)
        if account.windows.whole:
            self.seen["whole year"] += 1

    def _filled(self, account: _Account, grants: Mapping[str, Grant]) -> AccountOutcome | None:
        state = account.state
        self.fill(state, grants)
        state.statements = [
            StoredStatement(label, period.start, period.end, 1, document)
            for label, (period, document) in self.accounts[state.account].documents.items()
            if period.end > state.since and period.start < state.until
        ]
        return _outcome(account, self.reference)

    def fill(self, state: AccountState, grants: Mapping[str, Grant]) -> None:
        """What the database gives of an account, by its days."""
        key = state.account
        for credit in sorted(self.credits.values(), key=lambda c: c.key):
            if credit.payee == key.payee and state.since <= credit.day < state.until:
                year = self.reference.year_of(credit.day)
                state.credits.setdefault(year, []).append(credit)
        for fixed in self.fixed.get(key, ()):
            if state.since <= fixed.period.start < state.until:
                year = self.reference.year_of(fixed.period.start)
                state.fixed.setdefault(year, []).append(fixed)
        gates: dict[str, list[KpiFact]] = {}
        for fact in self.case.kpis:
            if fact.payee == key.payee:
                gates.setdefault(fact.kpi, []).append(KpiFact(fact.day, Decimal(fact.value)))
        state.gates, state.grants = gates, grants
        state.overrides = self.overrides.get(key.payee, ())

    def close(self, day: date) -> None:
        """Fix every statement that ends by a day, as it is now."""
        for key in self._keys():
            rated = rated_years(self._in_years(key), self.reference)
            statements = [s for sheet in rated.sheets.values() for s in sheet.statements]
            self.fixed[key] = [fixed_by(s) for s in statements if s.period.end <= day]
        # A close waits until its period has begun.
        self.borders = Borders(day, max(day, self.borders.begun_until))
        self.rate_all()

    def check(self) -> None:
        """What is stored is what rating all years of all accounts says."""
        for key in self._keys():
            rated = rated_years(self._in_years(key), self.reference)
            documents = {
                statement.period.label: statement_write(key, statement).document
                for sheet in rated.sheets.values()
                for statement in sheet.statements
            }
            kept = self.accounts.get(key, Kept()).documents
            assert {label: document for label, (_, document) in kept.items()} == documents
            self.seen["statements"] += len(documents)

    def _in_years(self, key: AccountKey) -> AccountState:
        state = begin_account(key, None, date.min, self.reference, self.borders)
        self.fill(state, _grants(self._plan, self.credits.values()))
        return state

    def _keys(self) -> list[AccountKey]:
        return [AccountKey(payee, "plan") for payee in (*PAYEES, MANAGER)]


def _of_deal(credits_: Mapping[str, Credit], deal: str) -> Contribution:
    return Contribution({key: c for key, c in credits_.items() if c.deal_id == deal})


def _reference(case: Case) -> Reference:
    plan = Plan("plan", tuple(parse_plan(dict(document)) for document in case.plans))
    org = Org.build({}, {}, {})
    return Reference(
        plans={"plan": plan},
        assignments={"plan": [_assignment(entry) for entry in case.assigned]},
        rates=RateBook(
            RateRow(f"{r.table}:{r.day}", r.table, r.source, r.target, r.day, Decimal(r.rate))
            for r in case.rates
        ),
        stage_maps=StageMaps.build({}, org.zone),
        org=org,
    )


def _credits(case: Case, reference: Reference, chance: random.Random) -> list[Credit]:
    """All credits of a case; some deals are one and the same, as if won more than once."""
    found: list[Credit] = []
    plan, assigned = reference.plans["plan"], reference.assignments["plan"]
    for event in _events(case):
        found += credits_for(event, plan, assigned, reference.rates).credits
    names = {c.deal_id: f"d{chance.randrange(6)}" for c in found}
    return [replace(credit, deal_id=names[credit.deal_id]) for credit in found]


def _overrides(
    case: Case, credits_: Sequence[Credit], chance: random.Random
) -> dict[str, list[Override]]:
    if not credits_ or chance.random() < 0.7:
        return {}
    credit = chance.choice(credits_)
    agreement = Agreement("o1", "e1", "agreed", "ann", "bob", None)
    days = DayRange(case.assigned[0].first, None)
    return {
        credit.payee: [
            Override(agreement, credit.component_id, days, credit.deal_id, Decimal(500), None)
        ]
    }


def test_windows_come_to_what_whole_years_do() -> None:
    seen: Counter[str] = Counter()

    @seed(1)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(cases(), st.integers(0, 10_000))
    def compare(case: Case, number: int) -> None:
        chance = random.Random(number)
        reference = _reference(case)
        known = _credits(case, reference, chance)
        overrides = _overrides(case, known, chance)
        books = Books(case, reference, Borders(date.min, case.until), overrides)
        books.rate_all()
        for step in range(4):
            books.change(c for c in known if chance.random() < (0.5, 0.8, 0.6, 1)[step])
            books.check()
            if step == 1:
                books.close(date.fromisoformat(chance.choice(CLOSED)))
                books.check()
        seen.update(books.seen)
        seen[reference.windows("plan").kind.value] += 1

    compare()
    assert seen["statements"] > EXAMPLES
    assert all(seen[kind] for kind in ("month", "quarter", "year", "whole year", "widened")), seen
