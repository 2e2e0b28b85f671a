"""Agreed amounts and terms over random histories: books balance, and nothing agreed is lost.

What each statement must come to is computed beside the engine, deal by deal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from services.commissions.domain.agreed import Adjustment, Agreement, Override
from services.commissions.domain.closes import FixedStatement
from services.commissions.domain.credits import Credit, CreditEvent, credits_for
from services.commissions.domain.exchange import RateBook
from services.commissions.domain.ledger import (
    Account,
    Cause,
    Place,
    difference,
    transaction,
    wanted_balances,
)
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.periods import PeriodKind, parse_period, period_of
from services.commissions.domain.plan import Assignment, CreditOn, DayRange, Plan
from services.commissions.domain.sheet import Sheet, SheetInput, rate_sheet
from services.commissions.domain.statement import fixed_by
from tests.oracle.commissions import rounded

YEAR = parse_period("2025")
FIRST = date(2025, 1, 1)
RATE = Fraction(8, 100)
SETTLEMENT = {"settlement", "difference"}

PLAN = Plan(
    "p",
    (
        parse_plan(
            {
                "id": "p",
                "currency": "USD",
                "time_zone": "UTC",
                "effective": {"from": "2025-01-01"},
                "period": "month",
                "components": [
                    {
                        "id": "c",
                        "credit": {"on": "deal.won"},
                        "rates": {"method": "flat", "rate": "8%"},
                    }
                ],
            }
        ),
    ),
)
ASSIGNED = [Assignment("ana", "p", DayRange(FIRST))]

days = st.integers(0, 330)
cents = st.integers(1, 150_000).map(lambda n: Decimal(n).scaleb(-2))
signed = st.integers(-50_000, 50_000).filter(bool).map(lambda n: Decimal(n).scaleb(-2))


@dataclass(frozen=True)
class Event:
    """A deal of one line (name, day, amount)."""

    deal: str
    day: date
    amount: Decimal


events = st.lists(
    st.builds(
        lambda deal, day, amount: Event(f"d{deal}", FIRST + timedelta(days=day), amount),
        st.integers(0, 2),
        days,
        cents,
    ),
    max_size=8,
)


def agreement(name: str) -> Agreement:
    return Agreement(name, f"event-{name}", "as agreed", "one", "another")


@st.composite
def adjustments(draw: st.DrawFn) -> list[Adjustment]:
    amounts = draw(st.lists(st.tuples(st.integers(1, 12), signed), max_size=4))
    return [
        Adjustment(agreement(f"a{n}"), date(2025, month, 1), amount)
        for n, (month, amount) in enumerate(amounts)
    ]


@st.composite
def overrides(draw: st.DrawFn) -> list[Override]:
    """At most one of the component and one of each deal."""
    found = []
    for deal in [deal for deal in (None, "d0", "d1", "d2") if draw(st.booleans())]:
        first = FIRST + timedelta(days=draw(days))
        last = first + timedelta(days=draw(st.integers(0, 120)))
        if draw(st.booleans()):  # so that terms of a deal and of the component meet
            first, last = FIRST, date(2025, 12, 31)
        by_amount = deal is not None and draw(st.booleans())
        found.append(
            Override(
                agreement(f"o-{deal}"),
                "c",
                DayRange(first, last),
                deal,
                draw(cents) if by_amount else None,
                None if by_amount else draw(st.integers(0, 999)) / Decimal(1000),
            )
        )
    return found


def credits_of(history: Sequence[Event]) -> list[Credit]:
    found: list[Credit] = []
    for number, event in enumerate(history):
        stay = CreditEvent(
            key=f"{event.deal}#{number:02d}",
            on=CreditOn.DEAL_WON,
            deal_id=event.deal,
            instant=datetime(event.day.year, event.day.month, event.day.day, 12, tzinfo=UTC),
            amount=event.amount,
            currency="USD",
            owner="ana",
        )
        found.extend(credits_for(stay, PLAN, ASSIGNED, RateBook()).credits)
    return found


def expected(
    history: Sequence[Event], agreed: Sequence[Adjustment], terms: Sequence[Override]
) -> dict[str, Fraction]:
    """Month → own pay, deal by deal in order of time."""
    own: dict[str, Fraction] = {}
    paid: set[str] = set()
    in_order = sorted(enumerate(history), key=lambda pair: (pair[1].day, pair[1].deal, pair[0]))
    for _, event in in_order:
        pays = rounded(Fraction(event.amount) * RATE, "half_up")
        for term in sorted(terms, key=lambda t: t.deal_id is None, reverse=True):
            first, last = term.days.first, term.days.last
            if first is None or last is None or not first <= event.day <= last:
                continue
            if term.rate is not None and term.deal_id in {None, event.deal}:
                pays = rounded(Fraction(event.amount) * Fraction(term.rate), "half_up")
            elif term.deal_id == event.deal:
                pays = Fraction(0) if event.deal in paid else Fraction(term.amount or 0)
                paid.add(event.deal)
        label = event.day.strftime("%Y-%m")
        own[label] = own.get(label, Fraction(0)) + pays
    for adjustment in agreed:
        label = adjustment.day.strftime("%Y-%m")
        own[label] = own.get(label, Fraction(0)) + Fraction(adjustment.amount)
    return own


@dataclass
class Company:
    """What was closed and posted so far."""

    fixed: list[FixedStatement]
    closed_before: date
    posted: dict[Place, Decimal]

    def rate(
        self, history: Sequence[Event], agreed: Sequence[Adjustment], terms: Sequence[Override]
    ) -> Sheet:
        """Rate everything."""
        return rate_sheet(
            SheetInput(
                "ana",
                PLAN,
                YEAR,
                credits_of(history),
                ASSIGNED,
                fixed=self.fixed,
                closed_before=self.closed_before,
                adjustments=agreed,
                overrides=terms,
            )
        )

    def post(self, sheet: Sheet) -> None:
        """The difference of every open statement."""
        closed = {s.period.label for s in sheet.statements if s.closed}
        wanted: dict[Place, Decimal] = {}
        for statement in sheet.statements:
            if not statement.closed:
                wanted |= wanted_balances(statement)
        held = {
            place: amount for place, amount in self.posted.items() if place.period not in closed
        }
        made = transaction(Cause(("event",), "hash", "engine"), difference(held, wanted))
        for posting in made.postings:
            before = self.posted.get(posting.place, Decimal(0))
            self.posted[posting.place] = before + posting.amount

    def close(self, sheet: Sheet) -> None:
        """Close the first open month."""
        period = period_of(self.closed_before, PeriodKind.MONTH)
        statement = sheet.statement(period.label)
        self.closed_before = period.end
        if statement is not None:
            self.fixed = [*self.fixed, fixed_by(statement)]

    def sums(self, account: Account, *, settled: bool) -> dict[str, Decimal]:
        """Period → sum of postings to an account; of settlements, or of lines."""
        found: dict[str, Decimal] = {}
        for place, amount in self.posted.items():
            if place.account is account and (place.key in SETTLEMENT) is settled:
                found[place.period] = found.get(place.period, Decimal(0)) + amount
        return {period: amount for period, amount in found.items() if amount}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(events, adjustments(), overrides(), st.booleans()), min_size=1, max_size=5)
)
def test_postings_are_the_statements_whatever_is_agreed_on(
    states: list[tuple[list[Event], list[Adjustment], list[Override], bool]],
) -> None:
    """After each change: postings of open periods are their statements, line by line as well."""
    company = Company([], FIRST, {})
    for history, agreed, terms, closes in states:
        sheet = company.rate(history, agreed, terms)
        wanted = expected(history, agreed, terms)
        found = {s.period.label: Fraction(s.own) for s in sheet.statements if s.own}
        assert found == {label: amount for label, amount in wanted.items() if amount}
        company.post(sheet)
        _books_are_statements(company, sheet)
        _nothing_is_lost(company, sheet, wanted)
        if closes and company.closed_before < date(2025, 12, 1):
            company.close(sheet)
            again = company.rate(history, agreed, terms)
            company.post(again)
            fixed = again.statement(company.fixed[-1].period.label) if company.fixed else None
            assert fixed is None or fixed.corrections == (), "a close changes nothing by itself"


def _books_are_statements(company: Company, sheet: Sheet) -> None:
    lines = company.sums(Account.EARNED, settled=False)
    payable = company.sums(Account.PAYABLE, settled=True)
    for statement in sheet.statements:
        if not statement.closed:
            label = statement.period.label
            assert lines.get(label, 0) == statement.own
            assert payable.get(label, 0) == statement.payable
            assert len({line.key for line in statement.lines}) == len(statement.lines)


def _nothing_is_lost(company: Company, sheet: Sheet, wanted: dict[str, Fraction]) -> None:
    """What closed and open statements pay, and what is left to recover, is what is agreed."""
    still_open = [s for s in sheet.statements if not s.closed]
    paid = sum((Fraction(entry.payable) for entry in company.fixed), Fraction(0))
    paid += sum((Fraction(s.payable) for s in still_open), Fraction(0))
    carry = still_open[-1].carry_out if still_open else sheet.to_bring_forward.carry
    assert paid + Fraction(carry) == sum(wanted.values(), Fraction(0))
