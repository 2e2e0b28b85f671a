"""Which open deals are stalled, by limits in days (K17).

A deal is stalled as of an instant if any of these holds; a day is 24 hours, "more than" is strict,
"for" is not:

- stage_age: it entered its current stage more than `stalled_after_days` of that stage ago
  (`stage_days` where the stage names none); never in an exempt stage.
- unchanged: no change of stage, amount or close date for `change_days`.
- no_activity: no completed activity (cancelled, deleted and internal ones do not count) on it or
  on a deal that was merged into it for `activity_days`; without one, since creation.
- close_date_passed: its close date lies before the as-of day in the organisation's zone.
- pushed: its close date was moved to a later date at least `pushes` times since it entered its
  current stage, or ever, if not `within_stage`.

Limits learned from history (a multiple of the median stage age) are not recomputed here, nor are
missing next steps; compare reasons one by one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from typing import Any

from tests.oracle.dates import day_of
from tests.oracle.deals import DealView, person_of, stage_meaning
from tests.simulator.history import History

DAY_MS = 24 * 3_600_000
MEANINGFUL = frozenset({"stage", "amount", "close_date"})


@dataclass(frozen=True, slots=True)
class StalledRule:
    """The limits."""

    stage_days: int = 30
    change_days: int = 30
    activity_days: int = 14
    pushes: int = 2
    within_stage: bool = True


@dataclass(frozen=True, slots=True)
class StalledDeal:
    """A stalled deal, its owner as of then, and why, sorted."""

    deal: str
    owner: str
    reasons: tuple[str, ...]


def stalled(
    history: History, deals: list[DealView], as_of_ms: int, rule: StalledRule
) -> list[StalledDeal]:
    """The stalled deals by id."""
    touched = _last_activity(history, as_of_ms)
    found = []
    for deal in deals:
        if deal.gone or deal.status != "open":
            continue
        reasons = _reasons(history, deal, touched.get(deal.id), as_of_ms, rule)
        if reasons:
            owner = person_of(history, deal.latest("owner"))
            found.append(StalledDeal(deal.id, owner, tuple(sorted(reasons))))
    return sorted(found, key=lambda one: one.deal)


def _reasons(
    history: History, deal: DealView, touched_ms: int | None, as_of_ms: int, rule: StalledRule
) -> set[str]:
    reasons = set()
    known, entered_ms, changed_ms, pushes = _trail(deal, within_stage=rule.within_stage)
    meaning = stage_meaning(history, known["stage"], as_of_ms)
    if meaning is not None and not meaning.exempt:
        limit = meaning.stalled_after_days or rule.stage_days
        if as_of_ms - entered_ms > limit * DAY_MS:
            reasons.add("stage_age")
    if as_of_ms - changed_ms >= rule.change_days * DAY_MS:
        reasons.add("unchanged")
    last_ms = touched_ms if touched_ms is not None else deal.created_ms
    if as_of_ms - last_ms >= rule.activity_days * DAY_MS:
        reasons.add("no_activity")
    today = day_of(as_of_ms, history.calendar.time_zone)
    if date.fromisoformat(known["close_date"]) < today:
        reasons.add("close_date_passed")
    if pushes >= rule.pushes:
        reasons.add("pushed")
    return reasons


def _trail(deal: DealView, *, within_stage: bool) -> tuple[dict[str, Any], int, int, int]:
    """Last values, entry to the current stage, last meaningful change, number of pushes."""
    known: dict[str, Any] = {}
    entered_ms = changed_ms = pushes = 0
    for change in deal.changes:
        if change.field in MEANINGFUL and known.get(change.field) != change.value:
            changed_ms = change.at_ms
            if change.field == "stage":
                entered_ms = change.at_ms
                pushes = 0 if within_stage else pushes
            if change.field == "close_date" and change.field in known:
                pushes += str(change.value) > str(known[change.field])
        known[change.field] = change.value
    return known, entered_ms, changed_ms, pushes


def _last_activity(history: History, as_of_ms: int) -> dict[str, int]:
    """Deal → when its last activity was completed; merged deals' ones are their survivor's."""
    survivors = {
        deal.id: str(change.value)
        for deal in history.deals
        for change in deal.changes
        if change.field == "merged_into" and change.at_ms <= as_of_ms
    }
    latest: dict[str, int] = defaultdict(int)
    for activity in history.activities:
        known: dict[str, Any] = {}
        for said in activity.said:
            if said.at_ms <= as_of_ms:
                known |= said.fields
        deal, completed = known.get("deal"), known.get("completed_at")
        if deal is None or completed is None:
            continue
        if known.get("cancelled") or known.get("deleted") or known.get("internal"):
            continue
        while deal in survivors:
            deal = survivors[deal]
        latest[deal] = max(latest[deal], completed)
    return dict(latest)
