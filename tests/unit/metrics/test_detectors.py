from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.metrics.domain.at_risk import QuotaStanding, RiskLimits, quota_at_risk
from services.metrics.domain.episodes import Episode, Signal, State, Verdict, judge
from services.metrics.domain.stalled import (
    Circumstances,
    Disposition,
    Rule,
    StageNorm,
    Thresholds,
    stalled,
)
from shared.events.signals import SignalData
from shared.facts.deal import DealTimeline, project_deal
from shared.facts.reference import Identities
from shared.org.calendar import FiscalCalendar
from tests.support.facts import at, deal_record, ms, stage_maps

CALENDAR = FiscalCalendar()
HEALTHY = {
    "stage": "proposal",
    "owner": "ana",
    "amount": "100",
    "currency": "EUR",
    "close_date": "2026-12-31",
    "next_step_at": "2026-12-01T00:00:00.000Z",
    "created_at": "2026-01-05T09:00:00.000Z",
}
BUSY = Circumstances(last_activity_ms=ms(0))


def deal(*said: tuple[datetime, Mapping[str, Any]]) -> DealTimeline:
    return project_deal("crm:t:1", deal_record(*said), stage_maps(), Identities(["ana"]))


def fired(
    timeline: DealTimeline,
    day: float,
    around: Circumstances = BUSY,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
) -> tuple[str, ...]:
    return stalled(timeline, around, thresholds, CALENDAR, ms(day)).rules


def only(rule: Rule) -> Thresholds:
    return Thresholds(rules=frozenset({rule}))


def test_a_deal_that_moves_is_not_stalled_and_says_when_to_look_again() -> None:
    verdict = stalled(deal((at(0), HEALTHY)), BUSY, Thresholds(), CALENDAR, ms(1))
    assert verdict.rules == ()
    assert verdict.next_due_ms == ms(14)
    assert stalled(deal((at(0), HEALTHY)), BUSY, Thresholds(), CALENDAR, ms(14)).rules == (
        "no_activity",
    )


def test_stage_age_needs_samples_and_takes_the_segment_s_multiple() -> None:
    timeline = deal((at(0), HEALTHY))
    limits = only(Rule.STAGE_AGE)
    assert fired(timeline, 30, thresholds=limits) == ()
    assert fired(timeline, 30.1, thresholds=limits) == ("stage_age",)
    few = replace(BUSY, norm=StageNorm(Decimal(10), 19))
    many = replace(BUSY, norm=StageNorm(Decimal(10), 20))
    assert fired(timeline, 16, few, limits) == ()
    assert fired(timeline, 15, many, limits) == ()
    assert fired(timeline, 16, many, limits) == ("stage_age",)
    assert fired(timeline, 16, replace(many, segment="enterprise"), limits) == ()
    assert fired(timeline, 21, replace(many, segment="enterprise"), limits) == ("stage_age",)


def test_an_exempt_stage_skips_stage_age_only() -> None:
    timeline = deal((at(0), {**HEALTHY, "stage": "legal"}))
    assert fired(timeline, 40, replace(BUSY, last_activity_ms=ms(39))) == ("unchanged",)


def test_never_an_activity_counts_from_creation() -> None:
    timeline = deal((at(0), HEALTHY))
    assert fired(timeline, 13.9, Circumstances()) == ()
    assert fired(timeline, 14, Circumstances()) == ("no_activity",)


def test_a_close_date_has_passed_when_its_day_is_over() -> None:
    timeline = deal((at(0), {**HEALTHY, "close_date": "2026-01-06"}))
    limits = only(Rule.CLOSE_DATE_PASSED)
    assert fired(timeline, 1.6, thresholds=limits) == ()
    assert fired(timeline, 1.63, thresholds=limits) == ("close_date_passed",)


def test_a_next_step_missing_or_past() -> None:
    limits = only(Rule.NEXT_STEP)
    missing = deal((at(0), {**HEALTHY, "next_step_at": None, "next_step": "call"}))
    assert fired(missing, 6.9, thresholds=limits) == ()
    assert fired(missing, 7, thresholds=limits) == ("next_step",)
    planned = replace(BUSY, planned_ms=(ms(20),))
    assert fired(missing, 19, planned, limits) == ()
    assert fired(missing, 20.1, planned, limits) == ("next_step",)


def test_two_pushes_in_a_stage_and_moving_on_clears_them() -> None:
    said = [
        (at(0), {**HEALTHY, "stage": "lead"}),
        (at(1), {"close_date": "2027-01-31"}),
        (at(2), {"close_date": "2027-02-28"}),
    ]
    assert fired(deal(*said), 3) == ("pushed",)
    assert fired(deal(*said, (at(3), {"stage": "proposal"})), 4) == ()


def test_not_stalled_holds_until_something_meaningful_changes() -> None:
    said = (at(0), HEALTHY)
    told = replace(BUSY, disposition=Disposition(ms(20), "waiting for their board"))
    assert fired(deal(said), 60, told) == ()
    assert stalled(deal(said), told, Thresholds(), CALENDAR, ms(60)).next_due_ms is None
    assert fired(deal(said, (at(21), {"owner": "ben"})), 60, told) == ()
    assert fired(deal(said, (at(21), {"amount": "90"})), 60, told) == (
        "stage_age",
        "unchanged",
        "no_activity",
    )


@pytest.mark.parametrize("said", [{"stage": "won"}, {"stage": "lost"}, {"deleted": True}], ids=str)
def test_closed_and_deleted_deals_are_never_stalled(said: dict[str, object]) -> None:
    verdict = stalled(deal((at(0), {**HEALTHY, **said})), BUSY, Thresholds(), CALENDAR, ms(99))
    assert (verdict.rules, verdict.next_due_ms) == ((), None)


def verdict_at(day: float) -> Verdict:
    return stalled(deal((at(0), HEALTHY)), BUSY, Thresholds(), CALENDAR, ms(day))


def opened() -> tuple[Episode, Signal]:
    episode, signal = judge(None, verdict_at(14), ms(14))
    assert episode is not None
    assert signal is not None
    return episode, signal


def test_an_episode_opens_changes_with_its_rules_and_closes() -> None:
    episode, signal = opened()
    assert (signal.state, episode.revision, episode.is_open) == (State.OPEN, 1, True)
    assert judge(episode, verdict_at(15), ms(15)) == (episode, None)
    changed, signal_2 = judge(episode, verdict_at(31), ms(31))
    assert changed is not None
    assert signal_2 is not None
    assert (signal_2.state, changed.revision, changed.id) == (State.CHANGED, 2, episode.id)
    closed, signal_3 = judge(changed, verdict_at(1), ms(32))
    assert closed is not None
    assert signal_3 is not None
    assert (signal_3.state, closed.revision, closed.closed_ms) == (State.CLOSED, 3, ms(32))
    assert judge(closed, verdict_at(1), ms(33)) == (closed, None)
    again, signal_4 = judge(closed, verdict_at(14), ms(40))
    assert again is not None
    assert signal_4 is not None
    assert again.id != episode.id
    assert again.revision == 1


def test_judging_twice_makes_the_same_episode_and_event() -> None:
    first, second = opened(), opened()
    assert first[0].id == second[0].id
    assert first[1].event_id == second[1].event_id


def test_opening_again_in_the_same_instant_goes_on_counting() -> None:
    episode, _ = opened()
    closed, _ = judge(episode, verdict_at(1), ms(14))
    again, _ = judge(closed, verdict_at(14), ms(14))
    assert again is not None
    assert (again.id, again.revision) == (episode.id, 3)


def test_a_signal_travels_as_its_model() -> None:
    _, signal = judge(None, verdict_at(31), ms(31), silent=True)
    assert signal is not None
    document = msgspec.json.decode(msgspec.json.encode(signal.wire()), type=SignalData)
    assert document == signal.wire()
    assert document.silent
    assert document.subject == "deal/crm:t:1"
    assert document.closed_at is None
    assert document.facts["days_in_stage"] == 31
    assert document.facts["amount"] == {"amount": "100", "currency": "EUR"}
    assert [e.rule for e in document.evidence] == ["stage_age", "unchanged", "no_activity"]


JUNE = CALENDAR.period("2026-06")  # 22 working days, the first a Monday


def standing(booked: str, amount: str = "220000") -> QuotaStanding:
    return QuotaStanding(
        quota="ana-06",
        name="Ana",
        person="ana",
        team=None,
        measure="bookings",
        period=JUNE,
        amount=Decimal(amount),
        currency="EUR",
        booked=Decimal(booked),
    )


def at_risk(booked: str, day: int, *, was: bool = False, amount: str = "220000") -> Verdict:
    today = date(2026, 6, day)
    return quota_at_risk(standing(booked, amount), RiskLimits(), CALENDAR, today, was_at_risk=was)


def test_a_quota_is_judged_once_a_fifth_of_the_working_days_is_over() -> None:
    early = at_risk("0", 5)  # 4 of 22 over: 18 %
    assert early.rules == ()
    assert early.next_due_ms == CALENDAR.start_ms(date(2026, 6, 6))
    assert at_risk("0", 6).rules == ("pace",)  # 5 of 22


def test_it_opens_below_80_percent_and_clears_at_85() -> None:
    on_plan = 110_000  # after 11 of 22 working days, on the 16th
    assert at_risk(str(on_plan * 80 // 100), 16).rules == ()
    assert at_risk(str(on_plan * 80 // 100 - 1), 16).rules == ("pace",)
    assert at_risk(str(on_plan * 84 // 100), 16, was=True).rules == ("pace",)
    assert at_risk(str(on_plan * 85 // 100), 16, was=True).rules == ()
    evidence = at_risk(str(on_plan * 3 // 4), 16).evidence[0]
    assert evidence.values["pace"] == "0.75"
    assert evidence.text == "Booked at 75.0 % of the expected pace after 11 of 22 working days"


def test_without_quota_before_and_after_the_period_nothing_is_at_risk() -> None:
    assert at_risk("0", 16, amount="0").rules == ()
    over = quota_at_risk(standing("0"), RiskLimits(), CALENDAR, date(2026, 7, 1), was_at_risk=True)
    assert (over.rules, over.next_due_ms) == ((), None)
    before = quota_at_risk(
        standing("0"), RiskLimits(), CALENDAR, date(2026, 5, 1), was_at_risk=False
    )
    assert before.rules == ()
    assert before.next_due_ms == CALENDAR.start_ms(date(2026, 6, 6))


def test_the_next_look_is_the_day_after_the_next_working_day_until_the_period_ends() -> None:
    assert at_risk("0", 19).next_due_ms == CALENDAR.start_ms(date(2026, 6, 20))
    assert at_risk("0", 20).next_due_ms == CALENDAR.start_ms(date(2026, 6, 23))
    assert at_risk("0", 30).next_due_ms == CALENDAR.start_ms(date(2026, 7, 1))
