from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from services.metrics.domain.contributions import (
    Contribution,
    activity_contribution,
    by_measure,
    difference,
    people_key,
    people_of,
    project,
    project_activity,
)
from shared.facts.deal import project_deal
from tests.support.facts import at, deal_record, fact, folded, ms, org, stage_maps

COMPANY = org(
    {
        "ana": {"identities": {"crm:t:9": True}},
        "ben": {},
        "cleo": {},
    },
    calendar={"time_zone": "Europe/Zurich"},
)


def contribution(*said: tuple[datetime, Mapping[str, Any]]) -> Contribution:
    deal = project_deal("crm:t:1", deal_record(*said), stage_maps(), COMPANY.identities)
    return project(deal, COMPANY.calendar, COMPANY.identities, {"no decision"})


def rules(made: Contribution) -> list[str]:
    return [item.rule for item in made.hygiene]


SPLIT = {
    "stage": "won",
    "owner": "crm:t:9",
    "amount": "100.00",
    "currency": "EUR",
    "type": "new",
    "splits": {"ana": "1/3", "ben": "1/3", "cleo": "1/3"},
    "overlays": {"cleo": "50%"},
    "closed_at": "2026-01-31T23:30:00.000Z",
}


def test_a_split_deal_is_booked_by_share_and_whole_once() -> None:
    made = contribution((at(0), SPLIT))
    booked = by_measure(made.cells, "booked")
    assert {p: c.amount for p, c in booked.items()} == {
        "ana": Decimal("33.34"),
        "ben": Decimal("33.33"),
        "cleo": Decimal("33.33"),
    }
    whole = by_measure(made.cells, "booked_whole")
    assert list(whole) == ["ana|ben|cleo"]
    assert whole["ana|ben|cleo"].amount == 100
    assert whole["ana|ben|cleo"].key.day == date(2026, 2, 1)  # the day in Zurich
    assert by_measure(made.cells, "won")["ana"].number == 1
    assert by_measure(made.cells, "overlay")["cleo"].amount == 50
    assert made.hygiene == ()
    assert {cell.key.deal_type for cell in made.cells} == {"new"}


def test_shares_that_miss_1_hold_the_bookings_and_are_listed() -> None:
    made = contribution((at(0), {**SPLIT, "splits": {"ana": "50%", "ben": "40%"}}))
    assert by_measure(made.cells, "booked") == {}
    assert by_measure(made.cells, "booked_whole") == {}
    assert by_measure(made.cells, "won")["ana"].number == 1
    assert rules(made) == ["split_sum"]


def test_what_is_missing_holds_what_needs_it() -> None:
    made = contribution((at(0), {"stage": "won"}))
    assert made.cells == ()
    assert rules(made) == ["missing_amount", "missing_currency", "missing_owner"]
    unpriced = contribution((at(0), {"stage": "won", "owner": "ana", "amount": "5"}))
    assert [(c.key.measure, c.key.currency, c.amount, c.number) for c in unpriced.cells] == [
        ("won", "", Decimal(0), 1)
    ]


def test_an_owner_whom_nobody_knows_stands_and_is_listed() -> None:
    said = {"stage": "won", "owner": "crm:t:77", "amount": "5", "currency": "EUR"}
    made = contribution((at(0), said))
    assert "crm:t:77" in by_measure(made.cells, "booked")
    assert rules(made) == ["unknown_person"]


def test_a_loss_counts_at_the_amount_before_and_no_decision_apart() -> None:
    opened = (at(0), {"stage": "lead", "owner": "ana", "amount": "70", "currency": "EUR"})
    lost = contribution(opened, (at(1), {"stage": "lost", "amount": "0"}))
    assert by_measure(lost.cells, "lost")["ana"].amount == 70
    undecided = contribution(opened, (at(1), {"stage": "lost", "lost_reason": "No decision "}))
    assert by_measure(undecided.cells, "lost_no_decision")["ana"].number == 1
    assert by_measure(undecided.cells, "lost") == {}


def test_a_deleted_deal_adds_nothing() -> None:
    assert contribution((at(0), SPLIT), (at(1), {"deleted": True})) == Contribution()


def test_rows_carry_the_credit_now_and_the_stage_s_probability_before() -> None:
    made = contribution(
        (at(0), {"stage": "lead", "owner": "ana", "amount": "70", "probability": "0.9"}),
        (at(1), {"stage": "won"}),
    )
    first, last = made.spans
    assert (first.valid_from_ms, first.valid_to_ms, first.status) == (ms(0), ms(1), "open")
    assert (first.probability, first.credit_ms, first.people) == (Decimal("0.1"), None, "ana")
    assert (last.probability, last.credit_ms, last.valid_to_ms) == (Decimal("0.9"), ms(1), None)


def test_the_difference_takes_the_old_away_and_leaves_out_what_stays() -> None:
    before = contribution((at(0), SPLIT)).cells
    after = contribution((at(0), SPLIT), (at(3), {"amount": "120"})).cells
    moved = difference(before, after)
    assert {(c.key.measure, c.key.people, c.amount, c.number) for c in moved} == {
        ("booked", "ana", Decimal("6.66"), 0),
        ("booked", "ben", Decimal("6.67"), 0),
        ("booked", "cleo", Decimal("6.67"), 0),
        ("booked_whole", "ana|ben|cleo", Decimal(20), 0),
        ("overlay", "cleo", Decimal(10), 0),
        ("won", "ana", Decimal(20), 0),
    }
    assert difference(before, before) == ()
    assert difference(before, ()) == tuple(
        cell._replace(amount=-cell.amount, number=-1) for cell in before
    )


def meeting(**said: object) -> Contribution:
    fields = {
        "kind": "meeting",
        "owner": "ana",
        "participants": {"ben": True, "customer:1": True},
        "completed_at": "2026-01-05T10:00:00.000Z",
        **said,
    }
    record = folded([fact("activity", "crm:t:a1", at(0), fields)])
    return activity_contribution(
        project_activity("crm:t:a1", record, COMPANY.identities), COMPANY.calendar
    )


def test_a_meeting_of_two_counts_for_each_and_once_for_both() -> None:
    assert [(c.key.measure, c.key.people, c.number) for c in meeting().cells] == [
        ("activity:meeting", "ana", 1),
        ("activity:meeting", "ben", 1),
        ("activity_whole:meeting", "ana|ben", 1),
    ]


def test_internal_cancelled_deleted_and_unfinished_activities_are_out() -> None:
    nothing = Contribution()
    assert meeting(cancelled=True) == nothing
    assert meeting(deleted=True) == nothing
    assert meeting(internal=True) == nothing
    assert meeting(completed_at=None, due_at="2026-01-09T10:00:00.000Z") == nothing
    assert meeting(participants={"ben": True}) == nothing
    assert meeting(participants={"ben": True}, deal="crm:t:1").cells
    assert meeting(participants={"ben": True}, internal=False).cells


def test_a_set_s_key_is_the_same_for_any_order() -> None:
    assert people_key(["b", "a", "b"]) == "a|b"
    assert people_of("a|b") == ("a", "b")
    assert people_of("") == ()
