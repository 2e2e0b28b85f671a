"""Objectives: what a score may be, when it is credited, and who may give it.

A score is a fraction: 1 is the whole objective, more where it was outdone. It is credited at the
last instant of the objective's period, whenever it is given; a correction keeps that instant, so
pay moves within the statement that had it.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal

from shared.clock import from_epoch_ms
from shared.errors import InvalidValue, Refused
from shared.org.calendar import FiscalCalendar

MAX_SCORE = Decimal(3)
"""More is a slip of the pen: 80 for 80 %."""

_LAST_INSTANT = timedelta(milliseconds=1)


def check_score(score: Decimal) -> None:
    """Refuses a score that is no fraction of an objective. Raises InvalidValue."""
    if not 0 <= score <= MAX_SCORE:
        msg = f"a score is a fraction from 0 to {MAX_SCORE}: 0.8 is 80 %, 1 the whole objective"
        raise InvalidValue(msg, pointer="/score")


def credited_at(end_day: date, calendar: FiscalCalendar) -> datetime:
    """The last instant of a period that ends before `end_day`."""
    return from_epoch_ms(calendar.start_ms(end_day)) - _LAST_INSTANT


def check_scorer(*, caller: str | None, person: str, scorer: str | None, stands_in: bool) -> None:
    """Refuses who may not score: the person themselves, and anybody but a named scorer.

    stands_in: an administrator of compensation, who may score where the scorer cannot. That the
    caller sees the person is checked before.
    """
    if caller == person:
        msg = "Nobody scores their own objective; ask whoever you report to."
        raise Refused("own-objective", msg)
    if scorer is not None and caller != scorer and not stands_in:
        raise Refused("not-the-scorer", "Somebody else is named to score this objective.")


def check_definer(*, caller: str | None, person: str) -> None:
    """Refuses an objective for oneself: it may be paid."""
    if caller == person:
        msg = "Nobody states an objective for themselves; ask whoever you report to."
        raise Refused("own-objective", msg)
