"""What metrics says about one episode: `attain.signal.v1`, read into values.

Every signal carries the whole state of its episode and a revision counted per episode, so one
signal is enough to know where the episode stands and a late or repeated one does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from enum import StrEnum
from typing import TypeAlias, TypeVar

from shared.clock import parse_instant, to_text
from shared.errors import InvalidValue

JsonValue: TypeAlias = (
    "str | int | float | bool | list[JsonValue] | tuple[JsonValue, ...] "
    "| Mapping[str, JsonValue] | None"
)
"""A value that came out of, or goes into, a JSON document. Money in it is text."""

_Member = TypeVar("_Member", bound=StrEnum)


class SignalKind(StrEnum):
    """What was detected. Metrics decides that it is true; this service decides who hears it."""

    DEAL_STALLED = "deal_stalled"
    QUOTA_AT_RISK = "quota_at_risk"


class EpisodeState(StrEnum):
    """Where the episode stands by this signal."""

    OPEN = "open"
    CHANGED = "changed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One reason for the judgement: the rule, a sentence for people, and its numbers."""

    rule: str
    text: str
    values: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Signal:
    """The whole state of one episode, as of `revision`.

    subject: `deal/<id>` or `quota/<id>`; person: the owner, None for an unowned record.
    silent: opened by an import's first judgement; recorded, and announced to nobody.
    summary: numbers of the import that opened episodes silently, on the one signal that says so.
    """

    kind: SignalKind
    episode: str
    state: EpisodeState
    revision: int
    subject: str
    title: str
    person: str | None
    team: str | None
    opened_at: datetime
    judged_at: datetime
    closed_at: datetime | None
    evidence: tuple[Evidence, ...]
    facts: Mapping[str, JsonValue]
    silent: bool
    summary: Mapping[str, JsonValue] | None


def read_signal(document: Mapping[str, object]) -> Signal:
    """The signal that the `data` of an `attain.signal.v1` event states.

    Members that this version does not know are ignored: producers may be newer.
    Raises InvalidValue with a JSON pointer to the member that cannot be read.
    """
    state = _member(document, "state", EpisodeState)
    closed_at = _instant(document, "closed_at") if document.get("closed_at") is not None else None
    if (state is EpisodeState.CLOSED) != (closed_at is not None):
        msg = "a closed episode, and no other, carries the instant it closed at"
        raise InvalidValue(msg, pointer="/closed_at")
    summary = document.get("summary")
    return Signal(
        kind=_member(document, "signal", SignalKind),
        episode=_text(document, "episode"),
        state=state,
        revision=_revision(document),
        subject=_text(document, "subject"),
        title=_text(document, "title"),
        person=_text_or_none(document, "person"),
        team=_text_or_none(document, "team"),
        opened_at=_instant(document, "opened_at"),
        judged_at=_instant(document, "judged_at"),
        closed_at=closed_at,
        evidence=_evidence(document.get("evidence", [])),
        facts=_object(document.get("facts", {}), "/facts"),
        silent=_flag(document, "silent"),
        summary=None if summary is None else _object(summary, "/summary"),
    )


def signal_document(signal: Signal) -> dict[str, JsonValue]:
    """The JSON document of `signal`; `read_signal` gives it back, to the millisecond."""
    return {
        "signal": signal.kind.value,
        "episode": signal.episode,
        "state": signal.state.value,
        "revision": signal.revision,
        "subject": signal.subject,
        "title": signal.title,
        "person": signal.person,
        "team": signal.team,
        "opened_at": to_text(signal.opened_at),
        "judged_at": to_text(signal.judged_at),
        "closed_at": None if signal.closed_at is None else to_text(signal.closed_at),
        "evidence": [
            {"rule": e.rule, "text": e.text, "values": dict(e.values)} for e in signal.evidence
        ],
        "facts": dict(signal.facts),
        "silent": signal.silent,
        "summary": None if signal.summary is None else dict(signal.summary),
    }


def canonical_text(signal: Signal) -> str:
    """One text per signal, equal for equal signals: breaks a tie between equal revisions."""
    return json.dumps(signal_document(signal), sort_keys=True, separators=(",", ":"))


def judged_day(signal: Signal, zone: tzinfo) -> date:
    """The calendar day of the judgement in the organisation's zone, for dated reporting lines."""
    return signal.judged_at.astimezone(zone).date()


def _text(document: Mapping[str, object], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value.strip():
        msg = f"{name} must be a text that is not empty"
        raise InvalidValue(msg, pointer=f"/{name}")
    return value


def _text_or_none(document: Mapping[str, object], name: str) -> str | None:
    return None if document.get(name) is None else _text(document, name)


def _member(document: Mapping[str, object], name: str, members: type[_Member]) -> _Member:
    text = _text(document, name)
    try:
        return members(text)
    except ValueError:
        msg = f"{name} must be one of {', '.join(members)}, not {text[:40]!r}"
        raise InvalidValue(msg, pointer=f"/{name}") from None


def _instant(document: Mapping[str, object], name: str) -> datetime:
    value = document.get(name)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    try:
        return parse_instant(_text(document, name))
    except ValueError as error:
        raise InvalidValue(str(error), pointer=f"/{name}") from None


def _revision(document: Mapping[str, object]) -> int:
    value = document.get("revision")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = "revision must be a whole number from 1"
        raise InvalidValue(msg, pointer="/revision")
    return value


def _flag(document: Mapping[str, object], name: str) -> bool:
    value = document.get(name, False)
    if not isinstance(value, bool):
        msg = f"{name} must be true or false"
        raise InvalidValue(msg, pointer=f"/{name}")
    return value


def _object(value: object, pointer: str) -> Mapping[str, JsonValue]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        msg = "expected an object"
        raise InvalidValue(msg, pointer=pointer)
    return value


def _evidence(value: object) -> tuple[Evidence, ...]:
    if not isinstance(value, list | tuple):
        msg = "evidence must be a list"
        raise InvalidValue(msg, pointer="/evidence")
    reasons = []
    for index, item in enumerate(value):
        pointer = f"/evidence/{index}"
        entry = _object(item, pointer)
        try:
            reasons.append(
                Evidence(
                    rule=_text(entry, "rule"),
                    text=_text(entry, "text"),
                    values=_object(entry.get("values", {}), "/values"),
                )
            )
        except InvalidValue as error:
            raise error.at(pointer) from None
    return tuple(reasons)
