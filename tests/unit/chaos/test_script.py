"""The story of a run: nothing of the year is left out, and what was known is read off rightly."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.chaos.known import known_history
from tests.chaos.pay import finally_earned
from tests.chaos.script import Close, RightQuota, Say, Script, Tick
from tests.chaos.traffic import Pace
from tests.simulator import Delivery


@pytest.fixture(scope="module")
def script() -> Script:
    return Script.write(1, 3_000, closes=2, tick_days=7)


def test_the_story_tells_every_delivery_once_and_in_order(script: Script) -> None:
    steps = script.steps()
    assert [step for step in steps if isinstance(step, Delivery)] == list(script.traffic)
    assert script.events >= 3_000
    ticks = [step.at_ms for step in steps if isinstance(step, Tick)]
    assert all(earlier < later for earlier, later in pairwise(ticks))
    assert ticks[-1] == script.history.ends_ms


def test_the_rules_change_on_the_way(script: Script) -> None:
    steps = script.steps()
    assert [step.what for step in steps if isinstance(step, Say)] == [
        "stage-map change",
        "plan change",
    ]
    assert [step.month for step in steps if isinstance(step, Close)] == ["2025-01", "2025-02"]
    righted = {step.quota.id: step.quota for step in steps if isinstance(step, RightQuota)}
    assert righted.keys() == script.wrong_quotas.keys()
    assert all(q.amount != script.wrong_quotas[name].amount for name, q in righted.items())


def test_a_merge_is_in_every_story(script: Script) -> None:
    fields = {change.field for deal in script.history.deals for change in deal.changes}
    assert {"merged_into", "deleted", "splits"} <= fields


def test_all_deliveries_tell_the_whole_history(script: Script) -> None:
    assert known_history(script.history, script.traffic).deals == script.history.deals


def test_the_first_deliveries_tell_its_beginning(script: Script) -> None:
    half = known_history(script.history, script.traffic[: len(script.traffic) // 2])
    whole = {deal.id: deal.changes for deal in script.history.deals}
    assert 0 < len(half.deals) < len(whole)
    assert all(change in whole[deal.id] for deal in half.deals for change in deal.changes)


def test_the_second_half_is_paid_by_the_changed_plan(script: Script) -> None:
    months = {month for (_, month), row in finally_earned(script).items() if row.earned}
    assert {month < "2025-07" for month in months} == {True, False}


def test_traffic_waits_for_faults_and_faults_for_traffic() -> None:
    done = 10
    pace = Pace(events=1_000, faults=100, faults_done=lambda: done)
    assert pace.pause_s(sent=50, burst=10) == 0
    assert pace.pause_s(sent=200, burst=10) > 0
    assert not pace.faults_are_ahead(sent=0)
    done = 50
    assert pace.faults_are_ahead(sent=100)
    done = 100
    assert pace.pause_s(sent=900, burst=10) == 0
