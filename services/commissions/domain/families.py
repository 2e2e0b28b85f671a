"""Deals that were merged: who is in whose family, and what the survivor is not credited again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from shared.facts.deal import resolve_redirects

Days = tuple[tuple[str, date, date], ...]
"""(plan, first day, the day after the last) of closed statement periods."""


def covers(days: Days, plan_id: str, day: date) -> bool:
    """Whether a plan's day is among them."""
    return any(plan == plan_id and start <= day < end for plan, start, end in days)


def is_win_of(event_key: str, deal_id: str) -> bool:
    """Whether an event is a stay in won of that deal (`deal:<id>`, later ones `deal:<id>~2`)."""
    own = f"deal:{deal_id}"
    return event_key == own or event_key.startswith(f"{own}~")


class Families:
    """Which deals redirect to which, directly or through others. Cycles are cut as everywhere."""

    def __init__(self, edges: Mapping[str, tuple[str, str]]) -> None:
        """edges: id → (the id it was merged into, the statement's sequence)."""
        self.survivors = resolve_redirects(edges)
        self._into: dict[str, list[str]] = {}
        for merged in self.survivors:
            self._into.setdefault(edges[merged][0], []).append(merged)

    def upstream(self, deal_id: str) -> Sequence[str]:
        """Everybody that was merged into a deal, sorted."""
        found: set[str] = set()
        waiting = [deal_id] if self._into else []
        while waiting:
            new = set(self._into.get(waiting.pop(), ())) - found
            found |= new
            waiting += new
        return sorted(found)


@dataclass(frozen=True, slots=True)
class KeptElsewhere:
    """What a merged deal keeps while it is not decided, or was decided to keep.

    events: (event, plan) of its credits. days: the closed days that they lie in.
    """

    deal_id: str
    events: frozenset[tuple[str, str]]
    days: Days

    @property
    def wins(self) -> bool:
        """Whether it keeps a win of its own, and not only invoices or payments."""
        return any(is_win_of(event_key, self.deal_id) for event_key, _ in self.events)


def credited_elsewhere(  # noqa: PLR0913, PLR0917 - one event of the survivor, and who keeps what
    deal_id: str, event_key: str, plan_id: str, day: date, kept: Iterable[KeptElsewhere], own: Days
) -> bool:
    """Whether a survivor's event is credited to a deal that was merged into it.

    An invoice that the merged deal keeps is not credited a second time. A win of the survivor that
    first appears on closed days on which the merged deal's win is kept is the same win, told again.
    own: the closed days on which the survivor itself was credited: those credits are its own.
    """
    for other in kept:
        if (event_key, plan_id) in other.events:
            return True
        if (
            is_win_of(event_key, deal_id)
            and other.wins
            and covers(other.days, plan_id, day)
            and not covers(own, plan_id, day)
        ):
            return True
    return False
