"""Use cases of the consumer: fold a batch of facts and settle what it touches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from services.metrics import store
from services.metrics.projector import (
    ACTIVITY,
    AROUND,
    DEAL,
    IMPORTED,
    LIVE,
    Known,
    MetricsProjector,
)
from shared.clock import Clock, parse_instant
from shared.facts.fact import Fact
from shared.facts.marks import RootKey, Touched
from shared.facts.record import Record
from shared.facts.settle import Settler, raise_reference_version
from shared.facts.store import FoldedRecord, fold_into_store
from shared.org.people import ORG_CALENDAR

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from shared.runtime.consume import Message
    from shared.telemetry.catalogue import Telemetry

ORG_KINDS = frozenset({"person", "team", "calendar"})
MAX_OBSERVED_S = 86_400.0
"""Facts older than this were late or imported; they say nothing of how fresh readers are."""


def parent_of(kind: str, record: Record) -> str | None:
    """An activity points at its deal, a deal at its account."""
    if kind == ACTIVITY:
        deal = record.value("deal")
        return f"deal/{deal}" if deal else None
    if kind == DEAL:
        account = record.value("account")
        return f"account/{account}" if account else None
    return None


async def apply_facts(
    tx: Connection,
    facts: Sequence[Fact],
    settler: Settler[Known],
    *,
    silent: bool = False,
) -> None:
    """Fold `facts` and settle the roots they touch, all in `tx`.

    silent: as if all of them were imported, so that judging them anew announces nothing.
    """
    folded = await fold_into_store(tx, facts, parent_of)
    if not folded:
        return
    touched = set(_touched(folded, silent=silent))
    touched |= await _deals_of_changed_accounts(tx, folded)
    if _projection_reads(folded):
        await raise_reference_version(tx)
    await store.raise_lookups(tx, _lookups(folded))
    if any(change.kind == "calendar" for change in folded):
        await store.judge_all_quotas(tx)
    elif people := {change.id for change in folded if change.kind == "person"}:
        await store.judge_quotas_of(tx, people)
    await settler.settle(tx, touched, folded)


def _touched(folded: Iterable[FoldedRecord], *, silent: bool) -> Iterable[Touched]:
    for change in folded:
        if change.kind == DEAL:
            live = not (silent or all(fact.backfill for fact in change.facts))
            part = LIVE if live else IMPORTED
            ids = {change.id}
            if change.merged_into != change.merged_into_before:
                ids |= {change.merged_into or change.id, change.merged_into_before or change.id}
            yield from (Touched(RootKey(DEAL, deal_id), part) for deal_id in ids)
        elif change.kind == ACTIVITY:
            yield Touched(RootKey(ACTIVITY, change.id))
            for parent in {change.parent_before, change.parent} - {None}:
                yield Touched(RootKey(DEAL, str(parent).removeprefix("deal/")), AROUND)


async def _deals_of_changed_accounts(
    tx: Connection, folded: Iterable[FoldedRecord]
) -> set[Touched]:
    """Deals whose account's segment changed, which moves the limit of their stage's age."""
    segments = {
        change.id: change.record.value("segment")
        for change in folded
        if change.kind == "account" and any("segment" in fact.fields for fact in change.facts)
    }
    if not segments:
        return set()
    await store.put_segments(tx, segments)
    deals = await store.deals_of_accounts(tx, segments)
    return {Touched(RootKey(DEAL, deal_id), AROUND) for deal_id in deals}


def _projection_reads(folded: Iterable[FoldedRecord]) -> bool:
    """Whether something changed that a projection reads: maps, identities, the time zone."""
    for change in folded:
        if change.kind == "stage_map":
            return True
        if change.kind not in {"calendar", "person"}:
            continue
        named = {name for fact in change.facts for name in fact.fields}
        if change.kind == "calendar" and change.id == ORG_CALENDAR and _any(named, "time_zone@"):
            return True
        if change.kind == "person":
            said_now = {fact.event_id for fact in change.facts}
            is_new = said_now.issuperset(change.record.event_ids())
            if is_new or _any(named, "identities:"):
                return True
    return False


def _any(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _lookups(folded: Iterable[FoldedRecord]) -> set[str]:
    kinds = {change.kind for change in folded}
    names = {store.LOOKUP_ORG} if kinds & ORG_KINDS else set()
    return names | ({store.LOOKUP_RATES} if "rate" in kinds else set())


@dataclass(slots=True)
class Inbox:
    """What a batch of messages does. One for each concurrent user."""

    projector: MetricsProjector
    clock: Clock
    telemetry: Telemetry
    _settler: Settler[Known] = field(init=False)
    _newest: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._settler = Settler(self.projector)

    async def take(self, tx: Connection, messages: Sequence[Message]) -> None:
        """Handle one batch in its transaction."""
        newest: dict[str, str] = {}
        for message in messages:
            # Texts of one width: the greatest is the latest.
            if message.envelope.time > newest.get(message.topic, ""):
                newest[message.topic] = message.envelope.time
        self._newest = {topic: parse_instant(at) for topic, at in newest.items()}
        await apply_facts(tx, [m.body for m in messages], self._settler)

    async def observe(self) -> None:
        """After the commit: how long the newest fact of each topic took to be visible."""
        now = self.clock.now()
        for topic, at in self._newest.items():
            elapsed_s = (now - at).total_seconds()
            if 0 <= elapsed_s < MAX_OBSERVED_S:
                self.telemetry.freshness_s.labels(topic=topic).observe(elapsed_s)
        self._newest.clear()
