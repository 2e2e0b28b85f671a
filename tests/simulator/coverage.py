"""A count of everything unusual that happened, read off the history itself."""

from __future__ import annotations

from collections import Counter

from tests.simulator.history import Change, Deal, History
from tests.simulator.people import LEAVER
from tests.simulator.reference import LOST, WON
from tests.simulator.worktime import HOUR_MS, from_ms, local_day

GRACE_MS = 24 * HOUR_MS


def coverage(history: History) -> Counter[str]:
    """How often each thing that breaks naive systems happened, read off the history itself."""
    counts: Counter[str] = Counter()
    leaver = next(person.identity for person in history.people if person.id == LEAVER)
    for deal in history.deals:
        counts.update(_coverage_of(deal, leaver))
    for activity in history.activities:
        names = {name for said in activity.said for name in said.fields}
        counts.update(f"activities_{name}" for name in ("cancelled", "deleted") if name in names)
    counts["leads_converted"] = sum(
        any("converted_to_deal" in said.fields for said in lead.said) for lead in history.leads
    )
    return counts


def _coverage_of(deal: Deal, leaver: str | None) -> Counter[str]:
    counts: Counter[str] = Counter()
    known: dict[str, Change] = {}
    for change in deal.changes:
        before, known[change.field] = known.get(change.field), change
        stage = known.get("stage")
        ended = None if stage is None else stage.value
        match change.field:
            case "close_date" if before is not None and ended not in {WON, LOST}:
                counts["pushed"] += str(change.value) > str(before.value)
            case "amount" if before is not None and ended in {WON, LOST}:
                counts["corrected_after_win" if ended == WON else "zeroed_after_loss"] += 1
            case "owner" if before is not None:
                counts["owner_changes"] += 1
                counts["handed_over"] += before.value == leaver
                counts["owner_changes_after_win"] += ended == WON
            case "splits" | "overlays" | "closed_at":
                counts[change.field] += 1
                counts["splits_after_win"] += change.field == "splits" and ended == WON
                counts["splits_restated"] += before is not None
            case "deleted":
                counts["deleted" if change.value else "restored"] += 1
                counts["deleted_after_win"] += bool(change.value) and ended == WON
            case "merged_into":
                counts["merged"] += 1
                counts["merged_after_win"] += ended == WON
            case _:
                pass
    return counts + _stages_of(deal)


def _stages_of(deal: Deal) -> Counter[str]:
    counts: Counter[str] = Counter()
    before: str | None = None
    left_ms = None
    for change in deal.changes:
        if change.field != "stage":
            continue
        stage = str(change.value)
        if stage == WON:
            counts["won"] += 1
            tomorrow = local_day(change.at_ms) < from_ms(change.at_ms).date()
            counts["won_tomorrow_in_utc"] += tomorrow
            if left_ms is not None:
                within = change.at_ms - left_ms <= GRACE_MS
                counts[f"reopened_{'within' if within else 'beyond'}_grace"] += 1
        elif stage == LOST:
            counts["lost"] += 1
        if before == WON:
            left_ms = change.at_ms
            counts["left_won"] += 1
        elif before == LOST:
            counts["lost_reopened"] += 1
        before = stage
    return counts
