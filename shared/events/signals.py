"""Signals: what metrics finds true of a deal or a quota. Notifications decides who hears it.

Every signal carries the whole state of its episode and a revision counted within it; consumers keep
the greatest, so a repeated or late one does no harm.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from shared.events.catalogue import METRICS_SIGNALS, EventType
from shared.events.envelope import Instant
from shared.events.records import ExternalId, Text

SignalName = Literal["deal_stalled", "quota_at_risk"]


class EvidenceData(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that fires: its name, a sentence for people, and its numbers and limits as text."""

    rule: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    text: Text
    values: dict[str, Any] = {}


class SignalData(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one episode.

    signal: what was detected. subject: `deal/<id>` or `quota/<id>`. person: the owner, null for an
    unowned record. evidence: the rules that fire, none once closed. closed_at: set if and only if
    `state` is closed. silent: opened by an import's first judgement, to be announced to nobody.
    summary: the numbers of such an import, on the one signal that announces it.
    """

    signal: SignalName
    episode: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    state: Literal["open", "changed", "closed"]
    revision: Annotated[int, msgspec.Meta(ge=1)]
    subject: Annotated[str, msgspec.Meta(pattern=r"^[a-z_]+/[^\x00-\x1f\x7f]+\Z", max_length=300)]
    title: Text
    person: ExternalId | None
    team: ExternalId | None
    opened_at: Instant
    judged_at: Instant
    closed_at: Instant | None
    evidence: list[EvidenceData]
    facts: dict[str, Any]
    silent: bool = False
    summary: dict[str, Any] | None = None


SIGNAL = EventType("attain.signal.v1", METRICS_SIGNALS, SignalData)
"""Key: what was judged (`deal/<id>`, `quota/<id>`), so that its episodes stay in order."""
