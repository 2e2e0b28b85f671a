"""The matrix names every failpoint and every kind, and a plan leaves out nothing possible."""

from __future__ import annotations

import pytest

from shared.runtime.failpoints import NAMES
from tests.chaos.matrix import IMPOSSIBLE, WHERE, Kind, ServerKind, is_possible, pairs
from tests.chaos.plan import full_plan, quick_plan


def test_every_failpoint_lies_somewhere() -> None:
    assert set().union(*WHERE.values()) == NAMES


def test_a_pair_is_possible_or_says_why_not() -> None:
    every = {(name, kind) for name in NAMES for kind in Kind}
    assert pairs() == every - IMPOSSIBLE.keys()
    assert all(reason.strip() for reason in IMPOSSIBLE.values())
    assert all(is_possible(name, Kind.KILL) for name in NAMES)


@pytest.mark.parametrize("seed", range(5))
def test_a_full_plan_has_every_possible_pair_and_both_servers(seed: int) -> None:
    plan = full_plan(seed, 150)
    assert {(spot.failpoint, spot.kind) for spot in plan.spots} == pairs()
    assert set(plan.servers) == set(ServerKind)
    assert plan.total == 150


def test_a_plan_follows_from_its_seed() -> None:
    assert full_plan(7, 160) == full_plan(7, 160)
    assert full_plan(7, 160) != full_plan(8, 160)


def test_a_quick_plan_kills_at_every_failpoint_and_has_every_kind() -> None:
    plan = quick_plan(1)
    assert {spot.failpoint for spot in plan.spots if spot.kind is Kind.KILL} == NAMES
    assert {spot.kind for spot in plan.spots} == set(Kind)
    assert set(plan.servers) == set(ServerKind)
