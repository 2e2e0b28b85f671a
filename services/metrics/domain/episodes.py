"""Episodes: one at a time per subject and detector, opened, changed and closed with evidence.

What a detector finds true is a `Verdict`. `judge` compares it with the last episode and says what
is to be recorded and announced. Episodes are never judged again for the past.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from shared.clock import from_epoch_ms, to_text
from shared.events.signals import EvidenceData, SignalData
from shared.ids import derived_id

JsonValue: TypeAlias = "str | int | bool | Mapping[str, str | None] | None"


class Detector(StrEnum):
    """What can be detected; also the signal's name."""

    DEAL_STALLED = "deal_stalled"
    QUOTA_AT_RISK = "quota_at_risk"


class State(StrEnum):
    """What became of an episode."""

    OPEN = "open"
    CHANGED = "changed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One rule that fires: a sentence for people, and its numbers and limits as plain text."""

    rule: str
    text: str
    values: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds of one subject now. evidence: the rules that fire, ordered; empty: all is well.

    subject: `deal/<id>` or `quota/<id>`. person: the owner; team: the owner's, or the quota's.
    facts: what a reader wants to see first. next_due_ms: when time alone may change the verdict.
    """

    detector: Detector
    subject: str
    title: str
    person: str | None
    team: str | None
    evidence: tuple[Evidence, ...]
    facts: Mapping[str, JsonValue]
    next_due_ms: int | None

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of the rules that fire."""
        return tuple(e.rule for e in self.evidence)


@dataclass(frozen=True, slots=True)
class Episode:
    """The last episode of a subject. closed_ms None: it is open. revision: of its last signal."""

    id: str
    detector: Detector
    subject: str
    opened_ms: int
    revision: int
    rules: tuple[str, ...]
    closed_ms: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.closed_ms is None


@dataclass(frozen=True, slots=True)
class Signal:
    """What is announced: the episode's whole state after one judgement."""

    state: State
    episode: Episode
    verdict: Verdict
    judged_ms: int
    silent: bool

    @property
    def event_id(self) -> str:
        """The same for the same revision of the same episode."""
        return derived_id("signal", self.episode.id, str(self.episode.revision))

    def wire(self) -> SignalData:
        """The event's data. A closing signal has the evidence that still fires: none."""
        episode, verdict = self.episode, self.verdict
        closed_ms = episode.closed_ms
        return SignalData(
            signal=episode.detector.value,
            episode=episode.id,
            state=self.state.value,
            revision=episode.revision,
            subject=episode.subject,
            title=verdict.title,
            person=verdict.person,
            team=verdict.team,
            opened_at=to_text(from_epoch_ms(episode.opened_ms)),
            judged_at=to_text(from_epoch_ms(self.judged_ms)),
            closed_at=None if closed_ms is None else to_text(from_epoch_ms(closed_ms)),
            evidence=[
                EvidenceData(rule=e.rule, text=e.text, values=dict(e.values))
                for e in verdict.evidence
            ],
            facts=dict(verdict.facts),
            silent=self.silent,
        )


def judge(
    previous: Episode | None, verdict: Verdict, now_ms: int, *, silent: bool = False
) -> tuple[Episode | None, Signal | None]:
    """The episode after `verdict`, and the signal to announce if anything changed.

    Opens when rules fire and no episode is open; changes when the set of rules differs, not when
    only their numbers do; closes when none fires. silent: opened by an import's first judgement.
    """
    fires = bool(verdict.evidence)
    if previous is None or not previous.is_open:
        if not fires:
            return previous, None
        episode, state = _opened(previous, verdict, now_ms), State.OPEN
    elif not fires:
        episode, state = (
            replace(previous, revision=previous.revision + 1, rules=(), closed_ms=now_ms),
            State.CLOSED,
        )
    elif set(verdict.rules) != set(previous.rules):
        episode, state = (
            replace(previous, revision=previous.revision + 1, rules=verdict.rules),
            State.CHANGED,
        )
    else:
        return previous, None
    return episode, Signal(state, episode, verdict, now_ms, silent)


def _opened(previous: Episode | None, verdict: Verdict, now_ms: int) -> Episode:
    """A new episode; one that opens in the instant of the last one goes on counting it."""
    episode_id = derived_id("episode", verdict.detector.value, verdict.subject, str(now_ms))
    again = previous is not None and previous.id == episode_id
    revision = previous.revision + 1 if again and previous is not None else 1
    return Episode(
        id=episode_id,
        detector=verdict.detector,
        subject=verdict.subject,
        opened_ms=now_ms,
        revision=revision,
        rules=verdict.rules,
    )
