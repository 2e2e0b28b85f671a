"""How a deal stood closed before an instant: reusing its spans, against projecting once more."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.facts.deal import closing_before, project_deal
from shared.facts.fact import Fact, instant_ms
from shared.facts.record import Record
from tests.property.test_deal_timeline import HISTORIES, MAPS, PEOPLE, said
from tests.support.facts import at, fact, folded

MIXED = st.lists(st.one_of(said(with_status=True), said(with_status=False)), min_size=2, max_size=8)


def _said_before(record: Record, end_ms: int) -> Record:
    fields = dict(record.fields)
    closed_at = record.value("closed_at")
    if closed_at is not None and instant_ms(closed_at) >= end_ms:
        del fields["closed_at"]
    history = {
        name: [one for one in kept if int(one.sequence[:15]) < end_ms]
        for name, kept in record.history.items()
    }
    return Record(fields, {name: kept for name, kept in history.items() if kept})


@settings(max_examples=300, deadline=None)
@given(st.one_of(HISTORIES, MIXED))
def test_the_spans_of_today_give_the_closings_of_then(facts: list[Fact]) -> None:
    record = folded(facts)
    deal = project_deal("crm:t:1", record, MAPS, PEOPLE)
    for span in deal.spans:
        if span.end_ms is None:
            continue
        then = project_deal("crm:t:1", _said_before(record, span.end_ms), MAPS, PEOPLE)
        found = closing_before(record, deal, span.end_ms, MAPS, PEOPLE)
        assert found == (then.won, then.lost)


def test_a_status_stated_later_says_nothing_of_the_time_before() -> None:
    """The stage was won then by its map; today's spans follow the status, which came later."""
    said_of = [
        {"stage": "won", "owner": "ana", "amount": "5", "currency": "USD"},
        {"stage": "lead"},
        {"status": "open"},
    ]
    facts = [_fact(day, fields) for day, fields in enumerate(said_of)]
    record = folded(facts)
    deal = project_deal("crm:t:1", record, MAPS, PEOPLE)
    end_ms = deal.spans[0].end_ms
    assert end_ms is not None
    assert deal.spans[0].status == "open"
    won, lost = closing_before(record, deal, end_ms, MAPS, PEOPLE)
    assert won is not None
    assert (won.owner, lost) == ("ana", None)


def _fact(day: int, fields: dict[str, str]) -> Fact:
    return fact("deal", "crm:t:1", at(day), fields, day)
