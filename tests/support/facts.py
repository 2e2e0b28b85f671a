"""Facts, records and reference data in a line each, for tests of what projects them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.clock import to_epoch_ms, to_text
from shared.events.catalogue import RECORD_KINDS
from shared.events.envelope import Envelope, encode_data, sequence_of
from shared.facts.fact import Fact, read_fact
from shared.facts.record import Record
from shared.facts.reference import StageMaps
from shared.org.people import Org

T0 = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
"""The Monday morning on which most tests begin."""

STAGES: Mapping[str, Mapping[str, Any]] = {
    "lead": {"order": 1, "probability": "0.1"},
    "proposal": {"order": 2, "probability": "0.5"},
    "legal": {"order": 3, "probability": "0.8", "exempt": True},
    "won": {"order": 4, "status": "won", "probability": "1"},
    "lost": {"order": 5, "status": "lost", "probability": "0"},
}


def at(days: float = 0, hours: float = 0) -> datetime:
    """The instant that many days and hours after T0."""
    return T0 + timedelta(days=days, hours=hours)


def ms(days: float = 0, hours: float = 0) -> int:
    """The same in milliseconds since 1970."""
    return to_epoch_ms(at(days, hours))


def fact(
    kind: str, record_id: str, when: datetime, fields: Mapping[str, Any], tie_break: int = 0
) -> Fact:
    """The fact that a source stated at `when`, read from an event as services read it."""
    return read_fact(
        Envelope(
            id=f"{record_id}-{to_epoch_ms(when)}-{tie_break}-{sorted(fields)}",
            source="/crm/test/main",
            type=RECORD_KINDS[kind].type,
            subject=f"{kind}/{record_id}",
            time=to_text(when),
            recordedtime=to_text(when),
            sequence=sequence_of(when, tie_break),
            data=encode_data(dict(fields)),
        )
    )


def folded(facts: Iterable[Fact]) -> Record:
    """The record that these facts make."""
    record = Record()
    for said in facts:
        record.fold(said)
    return record


def deal_record(*said: tuple[datetime, Mapping[str, Any]], deal_id: str = "crm:t:1") -> Record:
    """A deal of statements (when, fields)."""
    return folded(fact("deal", deal_id, when, fields) for when, fields in said)


def stage_maps(stages: Mapping[str, Mapping[str, Any]] = STAGES) -> StageMaps:
    """One stage map for the default pipeline of `crm:t`, in force from 2025 on."""
    said = {"effective_from": "2025-01-01", "stages": stages}
    return StageMaps.build(
        {"crm:t:default": folded([fact("stage_map", "crm:t:default", T0, said)])}
    )


def org(
    people: Mapping[str, Mapping[str, Any]] | None = None,
    teams: Mapping[str, Mapping[str, Any]] | None = None,
    calendar: Mapping[str, Any] | None = None,
) -> Org:
    """An organisation whose values hold from 2025 on, unless they say otherwise."""

    def records(kind: str, stated: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Record]:
        return {
            record_id: folded([fact(kind, record_id, T0, {"effective_from": "2025-01-01", **said})])
            for record_id, said in (stated or {}).items()
        }

    calendars = {"org": {"time_zone": "UTC", **(calendar or {})}}
    return Org.build(
        records("person", people), records("team", teams), records("calendar", calendars)
    )
