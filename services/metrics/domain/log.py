"""Events that this service publishes: signals, targets, and the journal of what people decided."""

from __future__ import annotations

from datetime import datetime

import msgspec

from services.metrics.domain.episodes import Signal
from shared.clock import from_epoch_ms, to_text
from shared.events.catalogue import EventType
from shared.events.envelope import Envelope, encode_data, sequence_of
from shared.events.journals import (
    DISPOSITION,
    EPISODE,
    QUOTA_STATED,
    DispositionData,
    QuotaStatedData,
)
from shared.events.signals import SIGNAL, SignalData
from shared.events.targets import OBJECTIVE_SCORE, QUOTA, ObjectiveScoreData, QuotaData
from shared.ids import derived_id

SOURCE = "/attain/metrics"


def signal_event(signal: Signal) -> Envelope:
    """The signal, under its subject's key."""
    judged_at = from_epoch_ms(signal.judged_ms)
    data = signal.wire()
    return _event(signal.event_id, SIGNAL.type, data.subject, data.revision, judged_at, data)


def summary_event(burst: str, deals: int, opened: int, now: datetime) -> Envelope:
    """The one announcement of an import whose first judgements were silent."""
    at = to_text(now)
    data = SignalData(
        signal="deal_stalled",
        episode=derived_id("import", burst),
        state="open",
        revision=1,
        subject=f"import/{burst}",
        title=f"{opened} of {deals} imported deals are stalled",
        person=None,
        team=None,
        opened_at=at,
        judged_at=at,
        closed_at=None,
        evidence=[],
        facts={},
        summary={"deals": deals, "stalled": opened},
    )
    return _event(derived_id("signal", data.episode, "1"), SIGNAL.type, data.subject, 1, now, data)


def episode_event(signal: Signal) -> Envelope:
    """The episode's state on the journal: a rebuild reads it and judges nothing of the past."""
    data = signal.wire()
    return _event(
        derived_id("journal", signal.event_id),
        EPISODE.type,
        f"episode/{data.episode}",
        data.revision,
        from_epoch_ms(signal.judged_ms),
        data,
    )


def quota_event(quota: QuotaData, now: datetime) -> Envelope:
    """The quota as others rate against it."""
    subject = f"quota/{quota.quota}"
    event_id = derived_id(subject, str(quota.revision))
    return _event(event_id, QUOTA.type, subject, quota.revision, now, quota)


def quota_stated_event(said: QuotaStatedData, now: datetime) -> Envelope:
    """The same on the journal, with who stated it and by which terms."""
    subject, revision = f"quota/{said.quota.quota}", said.quota.revision
    event_id = derived_id("journal", subject, str(revision))
    return _event(event_id, QUOTA_STATED.type, subject, revision, now, said)


def score_event(score: ObjectiveScoreData, now: datetime) -> Envelope:
    """A scored objective as others pay by it."""
    subject = f"objective_score/{score.person}/{score.objective}/{score.period}"
    event_id = derived_id(subject, str(score.revision))
    return _event(event_id, OBJECTIVE_SCORE.type, subject, score.revision, now, score)


def planned_event(
    kind: EventType, subject: str, revision: int, said: msgspec.Struct, now: datetime
) -> Envelope:
    """A relief, objective, goal or standard on the journal."""
    return _event(
        derived_id("journal", subject, str(revision)), kind.type, subject, revision, now, said
    )


def disposition_event(said: DispositionData, now: datetime) -> Envelope:
    """Somebody's word about a deal."""
    return _event(
        derived_id("disposition", str(said.number)),
        DISPOSITION.type,
        f"deal/{said.deal}",
        said.number,
        now,
        said,
    )


def _event(  # noqa: PLR0913, PLR0917 - the attributes of one envelope
    event_id: str, kind: str, subject: str, revision: int, now: datetime, data: msgspec.Struct
) -> Envelope:
    return Envelope(
        id=event_id,
        source=SOURCE,
        type=kind,
        subject=subject,
        time=to_text(now),
        recordedtime=to_text(now),
        sequence=sequence_of(now),
        revision=revision,
        data=encode_data(data),
    )
