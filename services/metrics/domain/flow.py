"""Pipeline flow (K22): what became of every deal between two instants; it balances to the cent.

A deal is in the pipeline at an instant while it is open, not omitted from forecasts, of somebody
in the scope, and closes in the window. Its effect is its amount at the second instant minus that
at the first, 0 where it is not in the pipeline; the whole of it goes to one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from services.metrics.domain.kpis import ZERO, KpiValue
from shared.money import EXACT, to_text


class FlowClass(StrEnum):
    """The classes, in the order in which the first that fits takes the effect."""

    WON = "won"
    LOST = "lost"
    NEW = "new"
    REMOVED = "removed"
    REOPENED = "reopened"
    TRANSFERRED = "transferred"
    PULLED_IN = "pulled_in"
    PUSHED = "pushed"
    UP = "up"
    DOWN = "down"
    UNCHANGED = "unchanged"


OUTFLOWS = frozenset(
    {FlowClass.WON, FlowClass.LOST, FlowClass.REMOVED, FlowClass.PUSHED, FlowClass.DOWN}
)
"""Shown as what they take away; `transferred` keeps its sign."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What a deal was at the instant at which it was not in the pipeline.

    status: None where nothing was known of it. ours: of somebody in the scope. inside: closing in
    the window. omitted: from forecasts.
    """

    status: str | None
    ours: bool = True
    inside: bool = True
    omitted: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """Deals that fared alike. before, after: their amounts in the pipeline, 0 where not in it.

    was, stays: whether they are in the pipeline at the first and the second instant.
    elsewhere: for those that are in it at one of the two only. without_amount: how many of them
    state none at an instant at which they are in it; they move nothing then.
    """

    was: bool
    stays: bool
    before: Decimal = ZERO
    after: Decimal = ZERO
    elsewhere: Elsewhere | None = None
    number: int = 1
    without_amount: int = 0

    @property
    def effect(self) -> Decimal:
        """What they change."""
        return EXACT.subtract(self.after, self.before)


def class_of(move: Move) -> FlowClass:
    """The first class that fits."""
    if move.was and move.stays:
        if not move.effect:
            return FlowClass.UNCHANGED
        return FlowClass.UP if move.effect > 0 else FlowClass.DOWN
    other = move.elsewhere or Elsewhere(None)
    return _left(other) if move.was else _came(other)


def _left(now: Elsewhere) -> FlowClass:
    if now.status == "won":
        return FlowClass.WON
    if now.status == "lost":
        return FlowClass.LOST
    if now.status is None or now.omitted:
        return FlowClass.REMOVED
    return FlowClass.PUSHED if now.ours else FlowClass.TRANSFERRED


def _came(before: Elsewhere) -> FlowClass:
    if before.status is None:
        return FlowClass.NEW
    if before.status != "open" or before.omitted:
        return FlowClass.REOPENED
    return FlowClass.PULLED_IN if before.ours else FlowClass.TRANSFERRED


def pipeline_flow(moves: Sequence[Move]) -> KpiValue:
    """K22: the value is the close; the parts have the open, every class and its deals."""
    effects = dict.fromkeys(FlowClass, ZERO)
    numbers = dict.fromkeys(FlowClass, 0)
    opened = closed = ZERO
    for move in moves:
        into = class_of(move)
        effects[into] = EXACT.add(effects[into], move.effect)
        numbers[into] += move.number
        opened = EXACT.add(opened, move.before)
        closed = EXACT.add(closed, move.after)
    parts = {"open": to_text(opened)}
    for into in FlowClass:
        if into is not FlowClass.UNCHANGED:
            shown = effects[into].copy_negate() if into in OUTFLOWS else effects[into]
            parts[into.value] = to_text(shown)
        parts[f"{into.value}_deals"] = str(numbers[into])
    parts["close"] = to_text(closed)
    parts["without_amount"] = str(sum(move.without_amount for move in moves))
    return KpiValue(closed, None, parts)
