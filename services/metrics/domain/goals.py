"""Goals and standards: whether a value reaches one, and how often like people did before.

Feasibility is the share of like people-periods that reached the target: people of the same role,
in the windows of the same length just before the goal's, as far as they are over. Fewer than ten
people-periods, or fewer than five people, say nothing, and would say too much about somebody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from services.metrics.domain.kpis import to_decimal
from shared.errors import InvalidValue
from shared.org.calendar import MONTHS_A_YEAR

AT_LEAST, AT_MOST = "at_least", "at_most"
WINDOWS_BEFORE = 4
MINIMUM_SAMPLE = 10
MINIMUM_PEOPLE = 5
LONGEST = timedelta(days=366 * 3)
"""A goal further away is a direction: cut it into ones whose end somebody will see."""

Window = tuple[date, date]


@dataclass(frozen=True, slots=True)
class Feasibility:
    """How often like people reached a target; share None: too few to say."""

    people: int
    sample: int
    reached: int
    share: Decimal | None


def reaches(direction: str, value: Decimal, target: Decimal) -> bool:
    """Whether a value is at least, or at most, the target."""
    return value >= target if direction == AT_LEAST else value <= target


def progress(direction: str, value: Decimal | None, target: Decimal) -> Decimal | None:
    """The fraction of the target that is reached; of an upper limit there is none."""
    if value is None or direction != AT_LEAST or target <= 0:
        return None
    return to_decimal(Fraction(value) / Fraction(target))


def check_goal(goal_id: str, start: date, end: date, above: Collection[str]) -> None:
    """Refuses a goal without an end that somebody sees, or that serves itself.

    above: its parent, the parent's parent, and so on. Raises InvalidValue.
    """
    if end <= start:
        msg = "the goal ends before it begins; `end` is the day after its last one"
        raise InvalidValue(msg, pointer="/end")
    if end - start > LONGEST:
        msg = "a goal lasts at most three years; cut it into nearer ones"
        raise InvalidValue(msg, pointer="/end")
    if goal_id in above:
        raise InvalidValue("the goal would serve itself", pointer="/parent")


def windows_before(start: date, end: date, today: date) -> list[Window]:
    """The windows of the same length just before [start, end) that are over, the nearest first.

    A window of whole months is moved by months, every other by its days.
    """
    found = []
    months = _number(end) - _number(start)
    by_month = start.day == 1 and end.day == 1
    for step in range(1, WINDOWS_BEFORE + 1):
        if by_month:
            first = _number(start) - step * months
            window = (_first_of(first), _first_of(first + months))
        else:
            length = (end - start) * step
            window = (start - length, end - length)
        if window[1] <= today:
            found.append(window)
    return found


def feasibility(
    values: Mapping[str, Sequence[Decimal | None]], direction: str, target: Decimal
) -> Feasibility:
    """Of people's values, one a window; None where there was none, which is in no sample."""
    known = {p: [v for v in found if v is not None] for p, found in values.items()}
    people = sum(bool(found) for found in known.values())
    sample = sum(map(len, known.values()))
    reached = sum(reaches(direction, v, target) for found in known.values() for v in found)
    if sample < MINIMUM_SAMPLE or people < MINIMUM_PEOPLE:
        return Feasibility(people, sample, 0, None)
    return Feasibility(people, sample, reached, to_decimal(Fraction(reached, sample)))


def doubts(found: Feasibility | None, *, has_parent: bool, days: int) -> Iterable[str]:
    """What speaks against a goal's being specific, measurable, achievable, relevant and timed."""
    if found is None or found.share is None:
        yield "too little history of like people to say whether it can be reached"
    elif found.share < Decimal("0.1"):
        yield "like people reached it in fewer than one of ten periods"
    elif found.share > Decimal("0.9"):
        yield "like people reached it in more than nine of ten periods"
    if not has_parent:
        yield "it serves no other goal"
    if days > 366:  # noqa: PLR2004 - a year
        yield "it lasts longer than a year"


def _number(day: date) -> int:
    return day.year * MONTHS_A_YEAR + day.month - 1


def _first_of(month: int) -> date:
    return date(month // MONTHS_A_YEAR, month % MONTHS_A_YEAR + 1, 1)
