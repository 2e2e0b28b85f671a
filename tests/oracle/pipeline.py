"""How the pipeline moved (K8, K14, K18, K19, K22, K23), from what truly happened.

A scope is a set of people, or None for everybody; a deal is its owner's of the moment asked about.
A deal that is deleted or merged in the end is in no figure of any time. What a deal states without
a history (currency, creation) holds for its whole life.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from tests.oracle.dates import day_of, quarter_of, rate_on
from tests.oracle.deals import DealView, person_of, stage_meaning, view
from tests.oracle.kpis import ORG_TABLE
from tests.simulator.history import Deal, History

Scope = frozenset[str] | None
NO_DECISION = "no decision"
"""A reason that makes a loss no competitive one."""

BEYOND = 10**9
"""Won lies beyond every stage."""


@dataclass(frozen=True, slots=True)
class State:
    """What held of a deal from an instant on. order: of the stage by the map of its beginning."""

    at_ms: int
    stage: str | None
    status: str
    order: int | None
    owner: str | None
    amount: Fraction | None
    closes: date | None


@dataclass(frozen=True, slots=True)
class Life:
    """A deal that counts, and everything that held of it, in order."""

    id: str
    deal: Deal
    view: DealView
    currency: str
    created_ms: int | None
    states: Sequence[State]

    def at(self, at_ms: int) -> State | None:
        """What held at an instant; None before anything was heard of it."""
        place = bisect_right([state.at_ms for state in self.states], at_ms)
        return self.states[place - 1] if place else None


def lives(history: History) -> list[Life]:
    """Every deal that is neither deleted nor merged when the year is over."""
    found = []
    for deal in history.deals:
        ended = view(deal, history, history.ends_ms)
        if not ended.gone and ended.changes:
            created = ended.latest("created_at")
            states = list(_states(ended, history))
            found.append(Life(deal.id, deal, ended, ended.latest("currency"), created, states))
    return found


def _states(ended: DealView, history: History) -> Iterator[State]:
    moments: dict[int, dict[str, object]] = defaultdict(dict)
    for change in ended.changes:
        moments[change.at_ms][change.field] = change.value
    known: dict[str, object] = {}
    status, order = "open", None
    last: tuple[object, ...] | None = None
    for at_ms in sorted(moments):
        said = moments[at_ms]
        known |= said
        if "stage" in said:
            meaning = stage_meaning(history, str(said["stage"]), at_ms)
            status = "open" if meaning is None else meaning.status
            order = None if meaning is None else meaning.order
        amount, closes, owner = known.get("amount"), known.get("close_date"), known.get("owner")
        held = (
            known.get("stage"),
            status,
            order,
            None if owner is None else person_of(history, str(owner)),
            None if amount is None else Fraction(str(amount)),
            None if closes is None else date.fromisoformat(str(closes)),
        )
        if held != last:
            last = held
            yield State(at_ms, *held)  # type: ignore[arg-type]


def _of(scope: Scope, owner: str | None) -> bool:
    return scope is None or owner in scope


def _dollars(history: History, life: Life, amount: Fraction, day: date) -> Fraction:
    target = history.calendar.currency
    return amount * rate_on(history.rates, ORG_TABLE, life.currency, target, day)


# ---- K8 ----------------------------------------------------------------------------------------


def conversion(
    history: History, all_lives: list[Life], scope: Scope, start_ms: int, end_ms: int
) -> dict[str, tuple[int, int, int]]:
    """Stage → (entered in the period, passed ever, still open in it), of deals' last owners."""
    day = day_of(start_ms, history.calendar.time_zone).isoformat()
    maps = [m for m in history.stage_maps if m.effective_from <= day]
    stages = max(maps, key=lambda m: m.effective_from).stages
    found = {name: [0, 0, 0] for name, row in stages.items() if row.status == "open"}
    for life in all_lives:
        if not _of(scope, _whose(history, life)):
            continue
        reached = [
            (s.at_ms, BEYOND if s.status == "won" else s.order)
            for s in life.states
            if s.status == "won" or (s.status == "open" and s.order is not None)
        ]
        for name, counts in found.items():
            order = stages[name].order
            entries = [at_ms for at_ms, rank in reached if rank is not None and rank >= order]
            if not entries or not start_ms <= entries[0] < end_ms:
                continue
            passed = any(rank is not None and rank > order for _, rank in reached)
            counts[0] += 1
            counts[1] += passed
            counts[2] += not passed and life.states[-1].status == "open"
    return {name: (entered, passed, still) for name, (entered, passed, still) in found.items()}


def _whose(history: History, life: Life) -> str | None:
    """The owner when it closed, else the owner now."""
    if life.view.status in {"won", "lost"}:
        at_ms = life.view.since_ms if life.view.credit_ms is None else life.view.credit_ms
        return person_of(history, life.view.in_force("owner", at_ms))
    return life.states[-1].owner


# ---- K14 ---------------------------------------------------------------------------------------


def velocity(
    history: History, all_lives: list[Life], scope: Scope, start_ms: int, end_ms: int
) -> Fraction | None:
    """Deals open in the end * mean size * win rate ÷ mean cycle in days, of a period's closings."""
    sizes, cycles, lost, still_open = [], [], 0, 0
    for life in all_lives:
        seen = life.view
        if seen.status == "open":
            still_open += _of(scope, life.states[-1].owner)
            continue
        at_ms = seen.since_ms if seen.credit_ms is None else seen.credit_ms
        if not start_ms <= at_ms < end_ms or not _of(scope, _whose(history, life)):
            continue
        if seen.status == "lost":
            lost += str(seen.latest("lost_reason")).lower() != NO_DECISION
            continue
        day = day_of(at_ms, history.calendar.time_zone)
        amount = seen.latest("amount")
        sizes.append(None if amount is None else _dollars(history, life, Fraction(amount), day))
        if life.created_ms is not None and at_ms >= life.created_ms:
            cycles.append(Fraction(at_ms - life.created_ms, 86_400_000))
    priced = [size for size in sizes if size is not None]
    if not priced or not cycles or not sum(cycles):
        return None
    rate = Fraction(len(sizes), len(sizes) + lost)
    size = _stored(sum(priced, Fraction(0)) / len(priced))
    cycle = _stored(sum(cycles, Fraction(0)) / len(cycles))
    return still_open * size * _stored(rate) / cycle


def _stored(value: Fraction) -> Fraction:
    """Each of the four is a KPI of its own, kept to ten places."""
    return Fraction(round(value * 10**10), 10**10)


# ---- K18 ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Slip:
    """Deals that were to close in a period, those still open at its end, and both their values."""

    due: int = 0
    slipped: int = 0
    due_value: Fraction = Fraction(0)
    slipped_value: Fraction = Fraction(0)


def slips(  # noqa: PLR0913, PLR0917 - a period in both of its forms
    history: History,
    all_lives: list[Life],
    scope: Scope,
    days: tuple[date, date],
    start_ms: int,
    end_ms: int,
) -> Slip:
    """K18 of a period that is over."""
    found = Slip()
    for life in all_lives:
        before, after = life.at(start_ms - 1), life.at(end_ms - 1)
        if before is None or before.status != "open" or before.closes is None or after is None:
            continue
        if not days[0] <= before.closes < days[1] or not _of(scope, before.owner):
            continue
        value = Fraction(0)
        if before.amount is not None:
            value = _dollars(history, life, before.amount, days[0])
        found.due += 1
        found.due_value += value
        if after.status == "open":
            found.slipped += 1
            found.slipped_value += value
    return found


# ---- K19 ---------------------------------------------------------------------------------------


def pushes(all_lives: list[Life], scope: Scope, start_ms: int, end_ms: int) -> tuple[int, int]:
    """(moves of an open deal's close date to a later day, those of them into another quarter)."""
    moves = crossing = 0
    for life in all_lives:
        for before, after in zip(life.states, life.states[1:], strict=False):
            if not start_ms <= after.at_ms < end_ms or after.status != "open":
                continue
            if before.closes is None or after.closes is None or after.closes <= before.closes:
                continue
            if _of(scope, after.owner):
                moves += 1
                crossing += quarter_of(before.closes) != quarter_of(after.closes)
    return moves, crossing


# ---- K22 ---------------------------------------------------------------------------------------


def flow(  # noqa: PLR0913, PLR0917 - two instants and a window
    history: History,
    all_lives: list[Life],
    scope: Scope,
    since_ms: int,
    until_ms: int,
    window: tuple[date, date] | None,
) -> dict[str, Fraction]:
    """Open, each class as what it adds (negative where it takes away), and close."""
    found: dict[str, Fraction] = defaultdict(Fraction)
    day = day_of(until_ms, history.calendar.time_zone)

    def within(state: State | None) -> bool:
        if state is None or state.status != "open" or not _of(scope, state.owner):
            return False
        return window is None or _inside(state, window)

    for life in all_lives:
        before, after = life.at(since_ms), life.at(until_ms)
        worth = [
            _dollars(history, life, state.amount, day)
            if state is not None and within(state) and state.amount is not None
            else Fraction(0)
            for state in (before, after)
        ]
        found["open"] += worth[0]
        found["close"] += worth[1]
        if after is None or not (within(before) or within(after)):
            continue
        effect = worth[1] - worth[0]
        found[_class(scope, before, after, window, effect)] += effect
    return dict(found)


def _inside(state: State, window: tuple[date, date]) -> bool:
    return state.closes is not None and window[0] <= state.closes < window[1]


def _class(
    scope: Scope,
    before: State | None,
    after: State,
    window: tuple[date, date] | None,
    effect: Fraction,
) -> str:
    """The first of the ten that fits, tried in the catalogue's order."""
    mine_before = before is not None and _of(scope, before.owner)
    was_inside = before is not None and (window is None or _inside(before, window))
    is_inside = window is None or _inside(after, window)
    rules = (
        ("won", after.status == "won"),
        ("lost", after.status == "lost"),
        ("new", before is None),
        ("reopened", before is not None and before.status != "open"),
        ("transferred", mine_before != _of(scope, after.owner)),
        ("pulled_in", not was_inside and is_inside),
        ("pushed", was_inside and not is_inside),
        ("up", effect > 0),
        ("down", effect < 0),
    )
    return next((name for name, fits in rules if fits), "unchanged")


# ---- K23 ---------------------------------------------------------------------------------------


def created(
    history: History, all_lives: list[Life], scope: Scope, start_ms: int, end_ms: int
) -> tuple[Fraction, int]:
    """(amounts, number) of deals at their first stage that is not lost; every stage qualifies."""
    total, number = Fraction(0), 0
    for life in all_lives:
        first = next((s for s in life.states if s.order is not None and s.status != "lost"), None)
        if first is None or not start_ms <= first.at_ms < end_ms or not _of(scope, first.owner):
            continue
        number += 1
        if first.amount is not None:
            day = day_of(first.at_ms, history.calendar.time_zone)
            total += _dollars(history, life, first.amount, day)
    return total, number
