from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from services.commissions.domain.credits import (
    CreditEvent,
    Outcome,
    credit_as_row,
    credit_from_row,
    credits_for,
    invoice_amount,
)
from services.commissions.domain.exchange import RateBook, RateRow
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.plan import Assignment, CreditOn, DayRange, Plan
from shared.errors import InvalidValue
from shared.money import allocate, parse_share

EVENT = CreditEvent(
    key="deal:A:1",
    on=CreditOn.DEAL_WON,
    deal_id="A",
    instant=datetime(2025, 3, 10, 12, tzinfo=UTC),
    amount=Decimal(1000),
    currency="USD",
    owner="ana",
    fields={"deal": {"type": "new"}},
    source_ids=("e1",),
)
ASSIGNED = [
    Assignment(payee, "p", DayRange(date(2025, 1, 1), date(2025, 6, 30)))
    for payee in ("ana", "ben", "cleo")
]


def plan(credit: dict[str, str] | None = None, **changes: object) -> Plan:
    credit = {"on": "deal.won", "to": "owner"} | (credit or {})
    part = {"id": "c", "credit": credit, "rates": {"method": "flat", "rate": "10%"}}
    document = {
        "id": "p",
        "currency": "USD",
        "time_zone": "America/New_York",
        "effective": {"from": "2025-01-01"},
        "period": "month",
        "components": [part],
    }
    return Plan("p", (parse_plan(document | changes),))


def outcome(event: CreditEvent, of: Plan | None = None, rates: RateBook | None = None) -> Outcome:
    return credits_for(event, of or plan(), ASSIGNED, rates or RateBook())


def kinds(found: Outcome) -> list[str]:
    return [str(entry.kind) for entry in found.exceptions]


def test_only_who_is_assigned_on_the_day_is_credited() -> None:
    late = replace(EVENT, instant=datetime(2025, 7, 1, 4, 30, tzinfo=UTC))
    assert [c.day for c in outcome(late).credits] == []
    assert outcome(late).unassigned == ("ana",)
    on_the_last_day = replace(EVENT, instant=datetime(2025, 7, 1, 3, 59, tzinfo=UTC))
    assert [c.day for c in outcome(on_the_last_day).credits] == [date(2025, 6, 30)]
    stranger = outcome(replace(EVENT, owner="zoe", amount=None))
    assert (stranger.credits, stranger.exceptions, stranger.unassigned) == ((), (), ("zoe",))


@pytest.mark.parametrize(
    ("change", "when", "kind"),
    [
        ({"amount": None}, None, "amount"),
        ({"currency": None}, None, "currency"),
        ({"owner": None}, None, "owner"),
        ({"fields": {}}, 'deal.type == "new"', "type"),
        ({"currency": "EUR"}, None, "rate"),
    ],
)
def test_what_is_unknown_waits_with_its_reason(
    change: dict[str, Any], when: str | None, kind: str
) -> None:
    found = outcome(replace(EVENT, **change), plan(credit={"when": when} if when else {}))
    assert kinds(found) == [kind]
    assert [c for c in found.credits if c.converted is not None] == []


def test_what_the_plan_does_not_want_never_waits() -> None:
    renewal = replace(EVENT, fields={"deal": {"type": "renewal"}}, owner=None)
    found = outcome(renewal, plan(credit={"when": 'deal.type == "new"'}))
    assert found == Outcome()
    assert outcome(replace(EVENT, amount=None), plan(credit={"to": "overlays"})) == Outcome()


def test_a_close_date_counts_only_where_the_plan_names_it() -> None:
    event = replace(EVENT, close_date=date(2025, 2, 28))
    assert [c.day for c in outcome(event).credits] == [date(2025, 3, 10)]
    credit = outcome(event, plan(credit_date="close_date")).credits[0]
    assert credit.day == date(2025, 2, 28)
    assert credit.instant == datetime(2025, 2, 28, 5, tzinfo=UTC)
    assert kinds(outcome(EVENT, plan(credit_date="close_date"))) == ["close_date"]


def test_an_overlay_above_the_whole_is_held() -> None:
    event = replace(EVENT, overlays=(("ben", "25"),))
    assert kinds(outcome(event, plan(credit={"to": "overlays"}))) == ["splits"]


def test_splits_with_a_member_outside_the_plan_give_the_others_their_own_part() -> None:
    event = replace(EVENT, splits=(("ana", "50%"), ("zoe", "50%")))
    found = outcome(event, plan(credit={"to": "splits"}))
    assert [(c.payee, c.original) for c in found.credits] == [("ana", Decimal(500))]
    assert found.unassigned == ("zoe",)


@pytest.mark.parametrize("shares", [{"a": "33.33%", "b": "33.33%", "c": "33.33%"}, {"a": "0"}])
def test_shares_that_do_not_sum_are_refused_when_entered(shares: dict[str, str]) -> None:
    with pytest.raises(InvalidValue, match="sum to exactly 1"):
        allocate(Decimal(1000), {m: parse_share(text) for m, text in shares.items()}, "USD")


@pytest.mark.parametrize("text", ["1e999999999%", "nan%", "1/0", "-5%", "1_0", "", "9" * 50, "½"])
def test_no_share_at_all(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_share(text)


def test_rates_are_the_newest_not_later_and_never_inverted() -> None:
    def row(day: int, rate: str, pair: tuple[str, str] = ("EUR", "USD")) -> RateRow:
        return RateRow(f"r{day}", "t", *pair, date(2025, 3, day), Decimal(rate))

    book = RateBook([row(5, "1.1"), row(9, "1.2"), row(11, "1.3"), row(1, "0.9", ("USD", "GBP"))])
    found = book.on("t", "EUR", "USD", date(2025, 3, 10))
    assert found is not None
    assert found.rate == Decimal("1.2")
    assert book.on("t", "EUR", "USD", date(2025, 3, 4)) is None
    assert book.on("t", "GBP", "USD", date(2025, 3, 10)) is None
    assert book.on("other", "EUR", "USD", date(2025, 3, 10)) is None


def test_a_stored_credit_comes_back_as_it_was() -> None:
    book = RateBook([RateRow("r", "t", "EUR", "USD", date(2025, 1, 1), Decimal("1.08"), "ecb")])
    of = plan(credit={"to": "splits"}, fx={"credit": {"table": "t"}})
    event = replace(EVENT, currency="EUR", splits=(("ana", "1/3"), ("ben", "2/3")))
    credits_ = outcome(event, of, book).credits
    assert [c.share for c in credits_] == [Fraction(1, 3), Fraction(2, 3)]
    for credit in credits_:
        assert credit_from_row(json.loads(json.dumps(credit_as_row(credit)))) == credit
    held = outcome(event, of).credits[0]
    assert credit_from_row(json.loads(json.dumps(credit_as_row(held)))) == held


def test_a_credit_note_is_negative_whatever_sign_was_sent() -> None:
    assert invoice_amount(Decimal(5), credit_note=True) == Decimal(-5)
    assert invoice_amount(Decimal(-5), credit_note=True) == Decimal(-5)
    assert invoice_amount(Decimal(5), credit_note=False) == Decimal(5)
    assert invoice_amount(None, credit_note=True) is None
