from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from shared.facts.deal import DealTimeline, project_deal, resolve_redirects
from shared.facts.record import Record
from shared.facts.reference import Identities, StageMaps, map_prefix
from tests.support.facts import STAGES, T0, at, deal_record, fact, folded, ms, stage_maps

NOBODY = Identities()


def projected(record: Record, grace: timedelta = timedelta(hours=24)) -> DealTimeline:
    return project_deal("crm:t:1", record, stage_maps(), NOBODY, grace)


def test_spans_are_half_open_and_contiguous_in_source_time() -> None:
    deal = projected(
        deal_record(
            (at(0), {"stage": "lead", "owner": "ana", "amount": "100", "currency": "EUR"}),
            (at(2), {"amount": "150.50", "close_date": "2026-03-01"}),
            (at(5), {"stage": "proposal"}),
        )
    )
    assert [(s.start_ms, s.end_ms, s.stage, s.amount) for s in deal.spans] == [
        (ms(0), ms(2), "lead", Decimal(100)),
        (ms(2), ms(5), "lead", Decimal("150.5")),
        (ms(5), None, "proposal", Decimal("150.5")),
    ]
    assert deal.spans[1].close_date == date(2026, 3, 1)
    assert deal.spans[1].stage_entered_ms == ms(0)
    assert deal.changed_ms == ms(5)
    assert deal.status == "open"
    assert deal.won is None


def test_statements_of_one_instant_are_one_change_and_the_last_holds() -> None:
    record = folded(
        [
            fact("deal", "crm:t:1", at(0), {"stage": "lead"}),
            fact("deal", "crm:t:1", at(1), {"stage": "won"}, tie_break=1),
            fact("deal", "crm:t:1", at(1), {"stage": "proposal"}, tie_break=2),
        ]
    )
    deal = projected(record)
    assert [s.stage for s in deal.spans] == ["lead", "proposal"]
    assert deal.stays == ()


def test_an_amount_said_again_in_other_digits_is_no_change() -> None:
    deal = projected(deal_record((at(0), {"amount": "100"}), (at(1), {"amount": "100.00"})))
    assert len(deal.spans) == 1
    assert deal.changed_ms == ms(0)


def test_credit_is_at_closed_at_within_the_stay_with_the_owner_of_then() -> None:
    deal = projected(
        deal_record(
            (at(0), {"stage": "lead", "owner": "ana", "amount": "100", "currency": "EUR"}),
            (at(10), {"stage": "won", "closed_at": "2026-01-16T12:00:00.000Z"}),
            (at(12), {"owner": "ben"}),
            (at(20), {"amount": "90"}),
        )
    )
    assert deal.won is not None
    assert deal.won.instant == at(11, 3)
    assert deal.won.stay_began == at(10)
    assert deal.won.owner == "ana"
    assert deal.won.amount == Decimal(90)
    assert deal.owner == "ben"
    assert deal.won.credited == {"ana": Fraction(1)}


def test_closed_at_before_the_stay_does_not_count() -> None:
    deal = projected(
        deal_record((at(10), {"stage": "won", "closed_at": "2026-01-06T00:00:00.000Z"}))
    )
    assert deal.won is not None
    assert deal.won.instant_ms == ms(10)


@pytest.mark.parametrize(("gap_hours", "stays"), [(23, 1), (24, 1), (25, 2)])
def test_coming_back_within_the_grace_is_one_stay(gap_hours: int, stays: int) -> None:
    deal = projected(
        deal_record(
            (at(0), {"stage": "won"}),
            (at(1), {"stage": "proposal"}),
            (at(1, gap_hours), {"stage": "won"}),
        )
    )
    assert len(deal.stays) == stays
    assert deal.won is not None
    assert deal.won.stay_began_ms == (ms(0) if stays == 1 else ms(1, gap_hours))


def test_a_deal_that_left_won_has_no_credit_even_within_the_grace() -> None:
    deal = projected(deal_record((at(0), {"stage": "won"}), (at(1), {"stage": "proposal"})))
    assert deal.won is None
    assert deal.stays[0].end_ms == ms(1)


def test_once_a_status_was_stated_stages_do_not_decide() -> None:
    deal = projected(
        deal_record(
            (at(0), {"stage": "won"}), (at(1), {"status": "won"}), (at(2), {"stage": "lost"})
        )
    )
    assert deal.status == "won"
    assert deal.stays[0].start_ms == ms(1)


def test_the_map_in_force_at_the_statement_decides() -> None:
    later = {**STAGES, "proposal": {"order": 2, "status": "won"}}
    maps = StageMaps.build(
        {
            "crm:t:default": folded(
                [
                    fact("stage_map", "crm:t:default", T0, {"effective_from": day, "stages": said})
                    for day, said in (("2025-01-01", STAGES), ("2026-01-10", later))
                ]
            )
        }
    )
    before = deal_record((at(0), {"stage": "proposal"}))
    after = deal_record((at(10), {"stage": "proposal"}))
    assert project_deal("crm:t:1", before, maps, NOBODY).status == "open"
    assert project_deal("crm:t:1", after, maps, NOBODY).status == "won"


def test_an_unmapped_stage_is_open_and_listed() -> None:
    deal = projected(deal_record((at(0), {"stage": "dreaming"})))
    assert deal.status == "open"
    assert deal.unmapped == ("default/dreaming",)


def test_owner_and_splits_unknown_at_the_credit_are_the_first_stated_after() -> None:
    deal = projected(
        deal_record(
            (at(0), {"stage": "won", "amount": "10", "currency": "EUR"}),
            (at(3), {"owner": "ana", "splits": {"ana": "50%", "ben": "50%"}}),
            (at(4), {"owner": "cleo", "splits": {"ana": "100%", "ben": None}}),
        )
    )
    assert deal.won is not None
    assert deal.won.owner == "ana"
    assert deal.won.splits == {"ana": Fraction(1, 2), "ben": Fraction(1, 2)}


def test_a_complete_list_says_absent_to_members_not_in_it() -> None:
    deal = projected(
        deal_record(
            (at(0), {"owner": "ana", "splits": {"ana": "70%", "ben": "30%"}}),
            (at(1), {"splits": {"ana": "60%", "cleo": "40%"}, "complete": ["splits"]}),
            (at(2), {"stage": "won"}),
        )
    )
    assert deal.won is not None
    assert deal.won.splits == {"ana": Fraction(3, 5), "cleo": Fraction(2, 5)}


def test_weights_are_divided_by_their_sum_and_percentages_stand() -> None:
    weights = projected(deal_record((at(0), {"stage": "won", "splits": {"a": "1", "b": "2"}})))
    percent = projected(deal_record((at(0), {"stage": "won", "splits": {"a": "50%", "b": "40%"}})))
    assert weights.won is not None
    assert weights.won.splits == {"a": Fraction(1, 3), "b": Fraction(2, 3)}
    assert percent.won is not None
    assert not percent.won.splits_add_up


def test_two_identities_of_one_person_share_once() -> None:
    people = Identities(["ana"], {"x:1": [("2025-01-01", "ana")], "y:1": [("2025-01-01", "ana")]})
    record = deal_record((at(0), {"stage": "won", "splits": {"x:1": "50%", "y:1": "50%"}}))
    deal = project_deal("crm:t:1", record, stage_maps(), people)
    assert deal.won is not None
    assert deal.won.splits == {"ana": Fraction(1)}


def test_a_seat_handed_on_stands_for_whoever_had_it_then() -> None:
    seat = Identities(["ana", "ben"], {"crm:t:9": [("2025-01-01", "ana"), ("2026-01-10", "ben")]})
    record = deal_record((at(0), {"stage": "won", "owner": "crm:t:9"}))
    deal = project_deal("crm:t:1", record, stage_maps(), seat)
    assert deal.won is not None
    assert deal.won.owner == "ana"
    assert seat.person("crm:t:9", ms(10)) == "ben"
    assert seat.person("crm:t:9", 0) == "ana"
    assert seat.person("unknown", 0) == "unknown"


def test_the_lost_amount_is_the_last_before_the_loss() -> None:
    deal = projected(
        deal_record(
            (at(0), {"stage": "lead", "owner": "ana", "amount": "500", "currency": "EUR"}),
            (at(1), {"stage": "lost", "amount": "0", "lost_reason": "price"}),
            (at(2), {"amount": "1"}),
        )
    )
    assert deal.lost is not None
    assert deal.lost.amount == Decimal(500)
    assert deal.lost.instant_ms == ms(1)
    assert deal.lost.reason == "price"
    assert deal.lost.owner == "ana"


def test_pushes_count_moves_to_a_later_day_while_open() -> None:
    deal = projected(
        deal_record(
            (at(0), {"stage": "lead", "close_date": "2026-02-01"}),
            (at(1), {"close_date": "2026-03-01"}),
            (at(2), {"close_date": "2026-02-15"}),
            (at(3), {"stage": "proposal"}),
            (at(4), {"close_date": "2026-04-01"}),
            (at(5), {"stage": "won", "close_date": "2026-05-01"}),
        )
    )
    assert deal.pushes == 2


def test_stage_entry_is_the_last_entry() -> None:
    deal = projected(
        deal_record(
            (at(0), {"stage": "lead"}),
            (at(1), {"stage": "proposal"}),
            (at(2), {"stage": "lead"}),
            (at(3), {"owner": "ben"}),
        )
    )
    assert deal.current is not None
    assert deal.current.stage_entered_ms == ms(2)


@pytest.mark.parametrize(
    "flag", [{"deleted": True}, {"test": True}, {"merged_into": "crm:t:2"}], ids=str
)
def test_deleted_test_and_merged_deals_do_not_count(flag: dict[str, object]) -> None:
    assert not projected(deal_record((at(0), {"stage": "won", **flag}))).counts


def test_a_record_of_flags_only_projects() -> None:
    deal = projected(deal_record((at(0), {"deleted": True})))
    assert deal.spans == ()
    assert deal.current is None
    assert deal.status == "open"


def test_redirects_follow_chains_and_ignore_the_oldest_in_a_cycle() -> None:
    assert resolve_redirects({"a": ("b", "1"), "b": ("c", "2")}) == {"a": "c", "b": "c"}
    cycle = {"a": ("b", "3"), "b": ("c", "1"), "c": ("a", "2"), "x": ("a", "9")}
    assert resolve_redirects(cycle) == {"a": "b", "c": "b", "x": "b"}
    assert resolve_redirects({"a": ("a", "1")}) == {}
    assert resolve_redirects({}) == {}


def test_the_map_of_a_deal_is_that_of_its_connection() -> None:
    assert map_prefix("hubspot:4821:307") == "hubspot:4821:"
    assert map_prefix("hubspot:4821:a:b") == "hubspot:4821:"
    assert map_prefix("d-1") == ""
