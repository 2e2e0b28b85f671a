"""What a deal is as of an instant: its status and stays, the owner, the shares, the amount.

Rules. A deal is won while its stage means won. Leaving won and entering it again within 24 hours
is one stay. Its credit instant is `closed_at` where that lies within the current stay, else the
beginning of the stay. Owner and splits are those in force at the credit instant; none by then: the
first stated after. The amount is the latest. Deleted and merged deals count for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tests.oracle.dates import day_of
from tests.simulator.history import Change, Deal, History, StageRow

REOPEN_GRACE_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class DealView:
    """A deal as of an instant. changes: those known by then.

    status: open, won, lost, or None without a stage. since_ms: when its current status (won: its
    current stay) began. credit_ms: only where won. gone: deleted or merged.
    """

    id: str
    changes: list[Change]
    status: str | None
    since_ms: int
    credit_ms: int | None
    gone: bool

    @property
    def created_ms(self) -> int:
        """When it was created: as stated, else when it was first heard of."""
        return int(self.latest("created_at") or self.changes[0].at_ms)

    def latest(self, field: str) -> Any:  # noqa: ANN401 - a value of the history
        """The last value, None if never stated."""
        return self.at(field, None)

    def at(self, field: str, at_ms: int | None) -> Any:  # noqa: ANN401 - a value of the history
        """The value in force at an instant (None: now)."""
        value = None
        for change in self.changes:
            if change.field == field and (at_ms is None or change.at_ms <= at_ms):
                value = change.value
        return value

    def in_force(self, field: str, at_ms: int) -> Any:  # noqa: ANN401 - a value of the history
        """The value at an instant; if nothing was said by then, the first said after."""
        said = [change for change in self.changes if change.field == field]
        before = [change for change in said if change.at_ms <= at_ms]
        if before:
            return before[-1].value
        return said[0].value if said else None


def view(deal: Deal, history: History, as_of_ms: int) -> DealView:
    """The deal by all that had happened at `as_of_ms`, that instant included."""
    changes = sorted(
        (change for change in deal.changes if change.at_ms <= as_of_ms),
        key=lambda change: change.at_ms,
    )
    spans = _status_spans(changes, history)
    deleted = merged = False
    for change in changes:
        if change.field == "deleted":
            deleted = bool(change.value)
        merged = merged or change.field == "merged_into"
    if not spans:
        return DealView(deal.id, changes, None, as_of_ms, None, deleted or merged)
    status, since_ms = spans[-1]
    credit_ms = None
    if status == "won":
        since_ms = _stay_begins(spans)
        credit_ms = _credit_instant(changes, since_ms)
    return DealView(deal.id, changes, status, since_ms, credit_ms, deleted or merged)


def stage_meaning(history: History, stage: str, at_ms: int) -> StageRow | None:
    """What the stage means by the map in force at an instant; None if no map knows it."""
    day = day_of(at_ms, history.calendar.time_zone).isoformat()
    maps = [m for m in history.stage_maps if m.effective_from <= day]
    return max(maps, key=lambda m: m.effective_from).stages.get(stage) if maps else None


def _status_spans(changes: list[Change], history: History) -> list[tuple[str, int]]:
    """(status, beginning) of each time that the status became another."""
    spans: list[tuple[str, int]] = []
    for change in changes:
        if change.field != "stage":
            continue
        meaning = stage_meaning(history, str(change.value), change.at_ms)
        if meaning is not None and (not spans or spans[-1][0] != meaning.status):
            spans.append((meaning.status, change.at_ms))
    return spans


def _stay_begins(spans: list[tuple[str, int]]) -> int:
    """The beginning of the stay in won that the last span belongs to."""
    stays: list[tuple[int, int | None]] = []
    for place, (status, begins_ms) in enumerate(spans):
        if status != "won":
            continue
        ends_ms = spans[place + 1][1] if place + 1 < len(spans) else None
        if stays and begins_ms - (stays[-1][1] or 0) <= REOPEN_GRACE_MS:
            stays[-1] = (stays[-1][0], ends_ms)
        else:
            stays.append((begins_ms, ends_ms))
    return stays[-1][0]


def _credit_instant(changes: list[Change], stay_begins_ms: int) -> int:
    closed_at = None
    for change in changes:
        if change.field == "closed_at":
            closed_at = change.value
    if isinstance(closed_at, int) and closed_at >= stay_begins_ms:
        return closed_at
    return stay_begins_ms


def person_of(history: History, identity: str) -> str:
    """The person behind an identity of the CRM; a person id stands for itself."""
    for person in history.people:
        if identity in {person.id, person.identity}:
            return person.id
    return identity


def shares_at(deal: DealView, history: History, at_ms: int) -> dict[str, Fraction]:
    """Who has which part of the deal's amount, by the splits and owner of that instant."""
    splits = deal.in_force("splits", at_ms)
    if splits:
        return {person_of(history, who): share_of(text) for who, text in splits.items()}
    owner = deal.in_force("owner", at_ms)
    return {person_of(history, owner): Fraction(1)} if owner else {}


def overlays_at(deal: DealView, history: History, at_ms: int) -> dict[str, Fraction]:
    """Who is credited on top of the deal's owners, with which part."""
    overlays = deal.in_force("overlays", at_ms) or {}
    return {person_of(history, who): share_of(text) for who, text in overlays.items()}


def share_of(text: str) -> Fraction:
    """`25%`, `1/3`."""
    return Fraction(text[:-1]) / 100 if text.endswith("%") else Fraction(text)
