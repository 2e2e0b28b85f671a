"""The work that Attain's core and a peer both do, and its eight measures. Standard library only.

A deal is what was last said of each of its fields. From it follow addends to cells, a cell being a
measure, an owner and a day; when a fact changes a deal, each cell moves by the difference between
what the deal adds now and what it added before. Amounts are whole cents, so that both sides add
exactly, whatever the order.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

CellName = tuple[str, str, str]
"""(owner, measure, day)."""

Addends = dict[CellName, tuple[int, int]]
"""What a deal adds to each cell: cents, and a number of deals."""

FIELDS = ("owner", "amount", "stage", "close_date", "created_at")
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
MS_PER_DAY = 86_400_000
MS_DIGITS = 15

PROBABILITY_PERCENT = {
    "appointmentscheduled": 10,
    "qualifiedtobuy": 20,
    "presentationscheduled": 40,
    "decisionmakerboughtin": 60,
    "contractsent": 80,
    "legalreview": 90,
}
COMMITTED_PERCENT = 80
NO_DAY = "1970-01-01"
WON, LOST = "closedwon", "closedlost"


def addends(said: Mapping[str, tuple[str, object]]) -> Addends:
    """What a deal adds, by its fields' latest statements: (sequence, value).

    Nothing before it has an owner. By the day on which it was created: `created`; by the close
    date: `owned`, and while it is open `pipeline`, `weighted` and, in late stages, `committed`; by
    the day on which it came to its stage: `gained` or `missed`, and `decided` for either.
    """
    owner = _value(said, "owner")
    if owner is None:
        return {}
    cents = _cents(_value(said, "amount"))
    stage = _value(said, "stage")
    close_day = _value(said, "close_date") or NO_DAY
    created = _value(said, "created_at")
    made: Addends = {
        (owner, "created", created[:10] if created else NO_DAY): (cents, 1),
        (owner, "owned", close_day): (cents, 1),
    }
    if stage in {WON, LOST}:
        day = _day(said["stage"][0])
        made[owner, "gained" if stage == WON else "missed", day] = (cents, 1)
        made[owner, "decided", day] = (cents, 1)
    else:
        percent = PROBABILITY_PERCENT.get(stage or "", 0)
        made[owner, "pipeline", close_day] = (cents, 1)
        made[owner, "weighted", close_day] = (cents * percent // 100, 1)
        if percent >= COMMITTED_PERCENT:
            made[owner, "committed", close_day] = (cents, 1)
    return made


def difference(before: Addends, after: Addends) -> Addends:
    """By how much each cell moves; cells that stay as they are left out."""
    moved: Addends = {}
    for name in {*before, *after}:
        old, new = before.get(name, (0, 0)), after.get(name, (0, 0))
        if old != new:
            moved[name] = (new[0] - old[0], new[1] - old[1])
    return moved


def _value(said: Mapping[str, tuple[str, object]], name: str) -> str | None:
    stated = said.get(name)
    return None if stated is None or stated[1] is None else str(stated[1])


def _cents(text: str | None) -> int:
    """Cents of a decimal text with at most two places."""
    if not text:
        return 0
    whole, _, places = text.partition(".")
    return int(whole + places.ljust(2, "0")[:2])


def _day(sequence: str) -> str:
    """The day, in UTC, of a statement's source time."""
    ordinal = EPOCH_ORDINAL + int(sequence[:MS_DIGITS]) // MS_PER_DAY
    return date.fromordinal(ordinal).isoformat()
