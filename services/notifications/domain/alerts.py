"""One alert per episode, and how signals move it.

The alert keeps the signal of the greatest revision; its state follows from that signal. Signals
may come late, twice and in any order: the alert is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from services.notifications.domain.signals import EpisodeState, Signal, canonical_text
from shared.errors import InvalidValue
from shared.ids import derived_id


class AlertState(StrEnum):
    """Where an alert stands. An open alert asks somebody to act; a resolved one is history."""

    OPEN = "open"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """What is known about one episode here: the newest statement about it."""

    alert_id: str
    signal: Signal

    @property
    def state(self) -> AlertState:
        """Open until the episode is closed."""
        match self.signal.state:
            case EpisodeState.OPEN | EpisodeState.CHANGED:
                return AlertState.OPEN
            case EpisodeState.CLOSED:
                return AlertState.RESOLVED
            case _:
                assert_never(self.signal.state)

    @property
    def revision(self) -> int:
        """Revision of the newest statement, counted per episode from 1."""
        return self.signal.revision


def alert_id_of(episode: str) -> str:
    """The id of the one alert about `episode`."""
    return derived_id("alert", episode)


def fold_signal(alert: Alert | None, signal: Signal) -> Alert:
    """The alert once `signal` is known too. Commutative, associative and idempotent.

    Of two different signals with one revision, which a correct producer never sends, the one
    whose canonical text is greater stays, so that even then order changes nothing.
    Raises InvalidValue when `signal` is about another episode than `alert`.
    """
    if alert is None:
        return Alert(alert_id_of(signal.episode), signal)
    if alert.signal.episode != signal.episode:
        msg = f"episode {signal.episode} cannot change the alert of {alert.signal.episode}"
        raise InvalidValue(msg, pointer="/episode")
    return Alert(alert.alert_id, signal) if _rank(signal) > _rank(alert.signal) else alert


def _rank(signal: Signal) -> tuple[int, str]:
    return signal.revision, canonical_text(signal)
