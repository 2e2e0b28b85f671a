"""Reading `attain.signal.v1`."""

from __future__ import annotations

import json
from zoneinfo import ZoneInfo

import pytest

from services.notifications.domain.signals import (
    EpisodeState,
    SignalKind,
    judged_day,
    read_signal,
    signal_document,
)
from shared.errors import InvalidValue
from tests.unit.notifications.builders import a_signal

DOCUMENT = {
    "signal": "quota_at_risk",
    "episode": "e-1",
    "state": "closed",
    "revision": 3,
    "subject": "quota/q-1",
    "title": "Ana is at 79 % of the pace",
    "person": "rep-1",
    "team": None,
    "opened_at": "2026-06-01T07:00:00.000Z",
    "judged_at": "2026-06-03T22:30:00.000Z",
    "closed_at": "2026-06-03T22:30:00.000Z",
    "evidence": [{"rule": "pace", "text": "79 %", "values": {"pace": "0.79"}}],
    "facts": {"attainment": "0.3"},
    "silent": False,
    "summary": None,
    "from_a_newer_version": 1,
}


def test_a_document_becomes_a_signal() -> None:
    signal = read_signal(DOCUMENT)
    assert signal.kind is SignalKind.QUOTA_AT_RISK
    assert signal.state is EpisodeState.CLOSED
    assert signal.evidence[0].values == {"pace": "0.79"}
    assert signal.closed_at == signal.judged_at


def test_a_signal_comes_back_from_its_document() -> None:
    signal = a_signal(2, EpisodeState.CHANGED)
    assert read_signal(json.loads(json.dumps(signal_document(signal)))) == signal


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"signal": "weather"}, "/signal"),
        ({"revision": 0}, "/revision"),
        ({"revision": True}, "/revision"),
        ({"episode": ""}, "/episode"),
        ({"judged_at": "2026-06-03T22:30:00"}, "/judged_at"),
        ({"closed_at": None}, "/closed_at"),
        ({"state": "open"}, "/closed_at"),
        ({"evidence": [{"rule": "r", "text": "t"}, {"rule": "r"}]}, "/evidence/1/text"),
        ({"facts": []}, "/facts"),
        ({"silent": "no"}, "/silent"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    change: dict[str, object], pointer: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        read_signal(DOCUMENT | change)
    assert refused.value.pointer == pointer


def test_the_day_of_a_judgement_is_the_organisations() -> None:
    signal = read_signal(DOCUMENT)
    assert judged_day(signal, ZoneInfo("UTC")).day == 3
    assert judged_day(signal, ZoneInfo("Europe/Berlin")).day == 4
