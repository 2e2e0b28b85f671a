"""An account's fiscal years, one after the other: each is given what the ones before leave open."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from services.commissions.domain.closes import BroughtForward, CarriedExcess, Correction
from services.commissions.domain.periods import Period, following
from services.commissions.domain.sheet import Sheet
from shared.money import quantise, to_text

YearState = dict[str, object]
"""What is kept of a rated year: what it leaves to later ones, as JSON values."""


@dataclass(slots=True)
class Rated:
    """The outcome of rating a chain.

    sheets: of the years that were rated. cleared: years that were and hold nothing any more.
    left: year → what it leaves, of all rated years, also of those that did not need rating again.
    """

    sheets: dict[Period, Sheet] = field(default_factory=dict)
    cleared: list[Period] = field(default_factory=list)
    left: dict[str, YearState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChainInput:
    """Which years an account has.

    own: years with credits, reasons to wait, or fixed statements of their own. marked: years to
    rate again. stored: what was kept of each year. closed_until: all periods that end on or before
    it are closed. later: where windows.py cuts years, the window after another one; what is said
    of years is then true of windows.
    """

    own: Collection[Period]
    marked: Collection[Period]
    stored: Mapping[Period, YearState]
    closed_until: date
    fiscal_start_month: int
    until: date | None = None
    later: Callable[[Period], Period] | None = None

    def after(self, year: Period) -> Period:
        """The year, or window, that begins where another one ends."""
        if self.later is not None:
            return self.later(year)
        return following(year, self.fiscal_start_month)


def rate_chain(given: ChainInput, rate: Callable[[Period, BroughtForward], Sheet]) -> Rated:
    """Rate marked years, and later ones as far as what they are given changes.

    A wholly closed year leaves its differences to the next, which is rated for their sake even
    when it has nothing of its own; so is the year of lines that an earlier one leaves, and one that
    has begun and is left excess or a draw's balance. A carry waits for a year that has something.
    """
    rated = Rated()
    waiting = {*given.own, *given.marked, *given.stored}
    left = BroughtForward()
    unsettled = changed = False
    while waiting:
        year = min(waiting)
        waiting.remove(year)
        before = given.stored.get(year)
        due = changed or year in given.marked
        if not due and before is not None:
            rated.left[year.label] = before
            left, unsettled = _read(before), _wholly_closed(year, given.closed_until)
            later = given.after(year)
            if later not in given.stored and _needed(later, left, given, unsettled=unsettled):
                waiting.add(later)
            continue
        if year in given.own or _needed(year, left, given, unsettled=unsettled):
            sheet = rate(year, left)
            rated.sheets[year] = sheet
            left = sheet.to_bring_forward
            unsettled = _wholly_closed(year, given.closed_until)
            kept = _write(left)
            rated.left[year.label] = kept
            changed = kept != before
            later = given.after(year)
            if _needed(later, left, given, unsettled=unsettled):
                waiting.add(later)
        else:
            rated.cleared.append(year)
            changed = changed or before is not None
    return rated


def _needed(year: Period, left: BroughtForward, given: ChainInput, *, unsettled: bool) -> bool:
    """Whether a year has to be rated for the sake of what earlier ones leave."""
    begun = given.until is not None and year.start < given.until
    settles = left.corrections or left.already or left.carry
    return bool(
        left.lines or (unsettled and settles) or (begun and (left.excess or left.draw_balance))
    )


def brought_to(year: Period, stored: Mapping[Period, YearState]) -> BroughtForward:
    """What a year is given by the rated years before it."""
    earlier = [known for known in stored if known.end <= year.start]
    return _read(stored[max(earlier)]) if earlier else BroughtForward()


def _wholly_closed(year: Period, closed_until: date) -> bool:
    return year.end <= closed_until


def _write(left: BroughtForward) -> YearState:
    """What is left as JSON values, without what is nothing."""
    kept: YearState = {}
    if left.corrections or left.already or left.carry:
        kept["corrections"] = [
            [c.period, c.line_key, to_text(c.fixed), to_text(c.recomputed)]
            for c in left.corrections
        ]
        kept |= {"already": to_text(left.already), "carry": to_text(left.carry)}
    if left.excess:
        kept["excess"] = [[e.component_id, to_text(e.amount), e.version_hash] for e in left.excess]
    if left.draw_balance:
        kept["draw_balance"] = to_text(left.draw_balance)
    if left.counts:
        kept["counts"] = [[component, count] for component, count in left.counts]
    if left.lines:
        kept["lines"] = [dict(row) for row in left.lines]
    return kept


def _read(kept: YearState) -> BroughtForward:
    return BroughtForward(
        tuple(
            Correction(period, key, _amount(fixed), _amount(recomputed))
            for period, key, fixed, recomputed in _list(kept, "corrections")
        ),
        _amount(kept.get("already", "0")),
        _amount(kept.get("carry", "0")),
        tuple(CarriedExcess(c, _amount(a), v) for c, a, v in _list(kept, "excess")),
        _amount(kept.get("draw_balance", "0")),
        tuple((component, count) for component, count in _list(kept, "counts")),
        tuple(_list(kept, "lines")),
    )


def _list(kept: YearState, name: str) -> list[Any]:
    found = kept.get(name, [])
    return found if isinstance(found, list) else []


def _amount(text: object) -> Decimal:
    return quantise(Decimal(str(text)))
