"""The second opinion on deals and KPIs, on histories computed by hand."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import pytest

from tests.oracle import recompute
from tests.oracle.deals import view
from tests.oracle.kpis import pipeline
from tests.simulator.history import Activity, Change, Deal, Said
from tests.unit.simulator.tiny import deal, history, ms

Q1 = "2025-Q1"


def credited(sold: Deal) -> int | None:
    """The credit instant at the end of the year."""
    found = history(sold)
    return view(sold, found, found.ends_ms).credit_ms


@pytest.mark.parametrize(("hours", "begins"), [(2, "2025-03-01"), (30, "2025-03-02T19:00")])
def test_a_short_absence_from_won_is_one_stay(hours: int, begins: str) -> None:
    sold = deal("d", "2025-03-01", "1000")
    left = ms("2025-03-01T13:00")
    sold.changes.append(Change(left, "stage", "contractsent"))
    sold.changes.append(Change(left + hours * 3_600_000, "stage", "closedwon"))
    assert credited(sold) == ms(begins)


def test_a_deal_that_left_won_is_not_won() -> None:
    sold = deal("d", "2025-03-01", "1000")
    sold.changes.append(Change(ms("2025-03-02"), "stage", "contractsent"))
    assert credited(sold) is None


def test_closed_at_counts_only_within_the_stay() -> None:
    for closed_at, begins in (("2025-03-05", "2025-03-05"), ("2025-02-05", "2025-03-01")):
        sold = deal("d", "2025-03-01", "1000")
        sold.changes.append(Change(ms("2025-03-06"), "closed_at", ms(closed_at)))
        assert credited(sold) == ms(begins)


def test_bookings_go_by_share_counts_to_the_owner() -> None:
    shared = deal("d", "2025-01-10", "3000", splits={"ana": "1/3", "cy": "2/3"})
    alone = deal("e", "2025-01-11", "1000", "ben", currency="EUR")
    found = history(shared, alone)
    found.assignments = []
    closed = recompute(found).closed
    assert closed["ana", Q1].bookings == 1000
    assert closed["cy", Q1].bookings == 2000
    assert (closed["ana", Q1].won, closed["cy", Q1].won) == (1, 0)
    assert closed["team", Q1].bookings == 3000 + 1100
    assert closed["other", Q1].bookings == 3000
    assert closed["org", Q1].bookings == 4100
    assert closed["org", Q1].average_size == 2050


def test_splits_stated_only_after_the_win_hold_from_it() -> None:
    sold = deal("d", "2025-01-10", "1000")
    sold.changes.append(Change(ms("2025-01-20"), "splits", {"ana": "50%", "ben": "50%"}))
    assert recompute(history(sold)).closed["ben", Q1].bookings == 500


@pytest.mark.parametrize("zeroed", ["2025-01-10", "2025-01-11"])
def test_win_rates_use_the_amount_before_the_loss(zeroed: str) -> None:
    lost = deal("l", None, "3000")
    lost.changes.append(Change(ms("2025-01-10"), "stage", "closedlost"))
    lost.changes.append(Change(ms(zeroed), "amount", "0"))
    closed = recompute(history(lost, deal("w", "2025-01-10", "1000"))).closed["ana", Q1]
    assert (closed.win_rate, closed.win_rate_by_value) == (Fraction(1, 2), Fraction(1, 4))


def test_deleted_and_merged_deals_count_for_nothing() -> None:
    gone, back, merged = (deal(name, "2025-01-10", "1000") for name in ("g", "r", "m"))
    gone.changes.append(Change(ms("2025-01-12"), "deleted", value=True))
    back.changes.append(Change(ms("2025-01-12"), "deleted", value=True))
    back.changes.append(Change(ms("2025-01-13"), "deleted", value=False))
    merged.changes.append(Change(ms("2025-01-12"), "merged_into", back.id))
    found = history(gone, back, merged)
    assert recompute(found).closed["ana", Q1].won == 1
    assert recompute(found, ms("2025-01-11")).closed["ana", Q1].won == 3


def test_pipeline_is_weighted_by_stage() -> None:
    found = history(deal("d", None, "1000"), deal("e", None, "500", currency="EUR"))
    whole = recompute(found, ms("2025-01-10")).pipeline["ana"]
    assert whole.count == 2
    assert whole.amount == 1550
    assert whole.weighted == 310
    views = [view(one, found, found.ends_ms) for one in found.deals]
    assert pipeline(found, views, found.ends_ms, end=date(2025, 2, 1)) == {}


def test_cycle_is_from_creation_to_credit() -> None:
    closed = recompute(history(deal("d", "2025-01-10", "1"))).closed["ana", Q1]
    assert closed.median_cycle_ms == ms("2025-01-10") - ms("2024-11-10")


def test_a_meeting_counts_once_for_each_and_once_for_the_team() -> None:
    said = {
        "kind": "meeting",
        "owner": "crm:1:ana",
        "participants": {"ana": True, "ben": True, "guest": True},
        "internal": False,
    }
    at = ms("2025-01-10")
    found = history()
    found.activities = [
        Activity("x", [Said(at - 1, said), Said(at + 1, {"completed_at": at})]),
        Activity("y", [Said(at, said | {"completed_at": at, "internal": True})]),
        Activity("z", [Said(at, said)]),
    ]
    counts = recompute(found).activities
    day = date(2025, 1, 10)
    scopes = {"ana", "ben", "team", "org"}
    assert counts == {(scope, "meeting", day): 1 for scope in scopes}


def test_stalled_by_each_limit() -> None:
    fresh = deal("d", None, "1000", created_at=ms("2025-01-08"), close_date="2025-03-01")
    fresh.changes = [Change(ms("2025-01-08"), *change[1:]) for change in fresh.changes]
    fresh.changes.append(Change(ms("2025-01-09"), "close_date", "2025-03-20"))
    found = history(fresh)
    assert recompute(found, ms("2025-01-10")).stalled == []
    late = recompute(found, ms("2025-04-10")).stalled[0].reasons
    assert late == ("close_date_passed", "no_activity", "stage_age", "unchanged")
    fresh.changes.append(Change(ms("2025-01-10"), "close_date", "2025-04-20"))
    assert recompute(found, ms("2025-01-11")).stalled[0].reasons == ("pushed",)
