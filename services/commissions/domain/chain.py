"""An account's fiscal years, one after the other: each is given what the ones before leave open."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from services.commissions.domain.closes import BroughtForward, Correction
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
    it are closed.
    """

    own: Collection[Period]
    marked: Collection[Period]
    stored: Mapping[Period, YearState]
    closed_until: date
    fiscal_start_month: int


def rate_chain(given: ChainInput, rate: Callable[[Period, BroughtForward], Sheet]) -> Rated:
    """Rate marked years, and later ones as far as what they are given changes.

    A wholly closed year leaves its differences to the next, which is rated for their sake even
    when it has nothing of its own; an open one leaves at most a carry, to years that have.
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
            continue
        if year in given.own or (unsettled and not _empty(left)):
            sheet = rate(year, left)
            rated.sheets[year] = sheet
            left = sheet.to_bring_forward
            unsettled = _wholly_closed(year, given.closed_until)
            kept = _write(left)
            rated.left[year.label] = kept
            changed = kept != before
            if unsettled and not _empty(left):
                waiting.add(following(year, given.fiscal_start_month))
        else:
            rated.cleared.append(year)
            changed = changed or before is not None
    return rated


def brought_to(year: Period, stored: Mapping[Period, YearState]) -> BroughtForward:
    """What a year is given by the rated years before it."""
    earlier = [known for known in stored if known < year]
    return _read(stored[max(earlier)]) if earlier else BroughtForward()


def _wholly_closed(year: Period, closed_until: date) -> bool:
    return year.end <= closed_until


def _empty(left: BroughtForward) -> bool:
    return not (left.corrections or left.already or left.carry)


def _write(left: BroughtForward) -> YearState:
    if _empty(left):
        return {}
    return {
        "corrections": [
            [c.period, c.line_key, to_text(c.fixed), to_text(c.recomputed)]
            for c in left.corrections
        ],
        "already": to_text(left.already),
        "carry": to_text(left.carry),
    }


def _read(kept: YearState) -> BroughtForward:
    if not kept:
        return BroughtForward()
    found = kept["corrections"]
    return BroughtForward(
        tuple(
            Correction(period, key, _amount(fixed), _amount(recomputed))
            for period, key, fixed, recomputed in (found if isinstance(found, list) else [])
        ),
        _amount(kept["already"]),
        _amount(kept["carry"]),
    )


def _amount(text: object) -> Decimal:
    return quantise(Decimal(str(text)))
