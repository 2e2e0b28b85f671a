"""The alert of an episode, whatever the order of its signals."""

from __future__ import annotations

from functools import reduce
from itertools import permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notifications.domain.alerts import Alert, AlertState, fold_signal
from services.notifications.domain.signals import EpisodeState, Signal
from shared.errors import InvalidValue
from tests.unit.notifications.builders import a_signal

SIGNALS = st.lists(
    st.builds(
        a_signal,
        st.integers(1, 4),
        st.sampled_from(EpisodeState),
        title=st.sampled_from(["a", "b", "c"]),
    ),
    min_size=1,
    max_size=6,
)


def folded(signals: list[Signal]) -> Alert | None:
    """The alert after `signals` in this order."""
    start: Alert | None = None
    return reduce(fold_signal, signals, start)


def test_an_alert_opens_changes_and_resolves() -> None:
    opened = fold_signal(None, a_signal(1))
    changed = fold_signal(opened, a_signal(2, EpisodeState.CHANGED))
    closed = fold_signal(changed, a_signal(3, EpisodeState.CLOSED))
    assert [a.state for a in (opened, changed, closed)] == [
        AlertState.OPEN,
        AlertState.OPEN,
        AlertState.RESOLVED,
    ]
    assert opened.alert_id == closed.alert_id


def test_a_late_opening_does_not_reopen() -> None:
    signals = [a_signal(1), a_signal(2, EpisodeState.CHANGED), a_signal(3, EpisodeState.CLOSED)]
    ends = [folded(list(order)) for order in permutations(signals)]
    assert all(end == ends[0] for end in ends)
    assert ends[0] is not None
    assert ends[0].state is AlertState.RESOLVED


@given(SIGNALS, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_any_order_and_repetition_gives_the_same_alert(
    signals: list[Signal], chance: Random
) -> None:
    """Equal revisions with unequal content are generated on purpose."""
    shuffled = signals * 2
    chance.shuffle(shuffled)
    assert folded(shuffled) == folded(signals)


def test_another_episode_is_refused() -> None:
    alert = fold_signal(None, a_signal())
    with pytest.raises(InvalidValue):
        fold_signal(alert, a_signal(2, episode="another"))
