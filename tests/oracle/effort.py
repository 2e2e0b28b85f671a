"""What people did, and how they kept their deals (K4, K25, K28, K35, K36), as it truly was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from itertools import combinations

from tests.oracle.dates import day_of, rate_on
from tests.oracle.deals import person_of, shares_at, view
from tests.oracle.kpis import ORG_TABLE
from tests.oracle.pipeline import Life, Scope
from tests.simulator.history import History

DAY_MS = 86_400_000


# ---- bookings and quotas by month --------------------------------------------------------------


def working_days(history: History, start: date, end: date) -> int:
    """Working days in [start, end)."""
    calendar = history.calendar
    days = (start + timedelta(days=n) for n in range((end - start).days))
    return sum(
        day.isoweekday() in calendar.weekdays and day.isoformat() not in calendar.holidays
        for day in days
    )


def quota_of(history: History, subject: str, start: date, end: date) -> Fraction | None:
    """A quarter's quota by the share of its working days that lie in the period."""
    total = None
    for quota in history.quotas:
        first, last = date.fromisoformat(quota.start), date.fromisoformat(quota.end)
        if (quota.person or quota.team) != subject or first >= end or last <= start:
            continue
        part = working_days(history, max(start, first), min(end, last))
        whole = working_days(history, first, last)
        total = (total or Fraction(0)) + Fraction(quota.amount) * part / whole
    return total


def booked(  # noqa: PLR0913, PLR0917 - a scope, a period, an instant
    history: History,
    all_lives: list[Life],
    scope: Scope,
    start: date,
    end: date,
    as_of_ms: int,
    *,
    by_share: bool,
) -> Fraction:
    """Won amounts credited in the days, by what had happened: by share for one, whole for several.

    Deals that are gone in the end are gone at all times.
    """
    total = Fraction(0)
    for life in all_lives:
        if not any(state.status == "won" for state in life.states):
            continue
        then = view(life.deal, history, as_of_ms)
        if then.status != "won" or then.credit_ms is None or then.latest("amount") is None:
            continue
        day = day_of(then.credit_ms, history.calendar.time_zone)
        if not start <= day < end:
            continue
        shares = shares_at(then, history, then.credit_ms)
        target = history.calendar.currency
        rate = rate_on(history.rates, ORG_TABLE, life.currency, target, day)
        amount = Fraction(then.latest("amount")) * rate
        if by_share:
            parts = (part for who, part in shares.items() if scope and who in scope)
            total += sum(parts, Fraction(0)) * amount
        elif scope is None or not scope.isdisjoint(shares):
            total += amount
    return total


# ---- activities --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """An activity that counts in the end: who took part, when it was done, for which deal."""

    kind: str
    who: frozenset[str]
    at_ms: int
    deal: str | None


def done(history: History) -> list[Done]:
    """Every activity that is completed and neither internal, cancelled nor deleted in the end.

    What was done for a deal that was merged away was done for the one that survives.
    """
    survivors = {
        deal.id: str(change.value)
        for deal in history.deals
        for change in deal.changes
        if change.field == "merged_into"
    }
    people = {person.id for person in history.people}
    found = []
    for activity in history.activities:
        known: dict[str, object] = {}
        for said in activity.said:
            known |= said.fields
        at_ms, guests = known.get("completed_at"), known.get("participants") or {}
        if not isinstance(at_ms, int) or not isinstance(guests, dict):
            continue
        if known.get("internal") or known.get("cancelled") or known.get("deleted"):
            continue
        who = {person_of(history, str(known["owner"]))}
        who |= {guest for guest, there in guests.items() if there and guest in people}
        deal = known.get("deal")
        while deal in survivors:
            deal = survivors[str(deal)]
        named = None if deal is None else str(deal)
        found.append(Done(str(known["kind"]), frozenset(who), at_ms, named))
    return found


def count_done(
    history: History, activities: list[Done], scope: Scope, kind: str, days: tuple[date, date]
) -> int:
    """Activities of a kind in the days, each once."""
    zone = history.calendar.time_zone
    return sum(
        one.kind == kind
        and (scope is None or not scope.isdisjoint(one.who))
        and days[0] <= day_of(one.at_ms, zone) < days[1]
        for one in activities
    )


def cohort(  # noqa: PLR0913, PLR0917 - a period and a lag
    history: History,
    all_lives: list[Life],
    scope: Scope,
    start_ms: int,
    end_ms: int,
    lag_days: int,
) -> tuple[int, int]:
    """(deals created in the period, those of them won within the lag), of their last owners."""
    number = won = 0
    for life in all_lives:
        created_ms = life.created_ms
        if created_ms is None or not start_ms <= created_ms < end_ms:
            continue
        seen = life.view
        owner = life.states[-1].owner
        if seen.status in {"won", "lost"}:
            at_ms = seen.since_ms if seen.credit_ms is None else seen.credit_ms
            owner = person_of(history, seen.in_force("owner", at_ms))
        if scope is not None and owner not in scope:
            continue
        number += 1
        if seen.credit_ms is not None:
            won += seen.credit_ms - created_ms <= lag_days * DAY_MS
    return number, won


# ---- K28, K35 ----------------------------------------------------------------------------------


def _touched(activities: list[Done], deal: str, at_ms: int, days: int) -> bool:
    return any(
        one.deal == deal and at_ms - days * DAY_MS < one.at_ms <= at_ms for one in activities
    )


def touched(
    all_lives: list[Life], activities: list[Done], scope: Scope, at_ms: int
) -> tuple[int, int]:
    """(open deals as of an instant, those with an activity in the 14 days before it)."""
    number = reached = 0
    for life in all_lives:
        state = life.at(at_ms)
        if state is not None and state.status == "open" and (scope is None or state.owner in scope):
            number += 1
            reached += _touched(activities, life.id, at_ms, 14)
    return number, reached


def hygiene(
    history: History, all_lives: list[Life], activities: list[Done], scope: Scope, at_ms: int
) -> Fraction | None:
    """100 * rules kept ÷ rules that apply, as of the past, of which no next step is known."""
    day = day_of(at_ms, history.calendar.time_zone)
    gone = {p.id for p in history.people if p.left_on is not None and p.left_on <= day.isoformat()}
    here = {p.id for p in history.people} - gone
    kept = applied = 0
    for life in all_lives:
        state = life.at(at_ms)
        if state is None or state.status != "open":
            continue
        if scope is not None and state.owner not in scope:
            continue
        fresh = at_ms - state.at_ms < 14 * DAY_MS
        rules = [
            state.owner is not None and state.closes is not None and life.currency is not None,
            state.amount is not None and state.amount > 0,
            fresh or _touched(activities, life.id, at_ms, 14),
        ]
        if state.closes is not None:
            rules.append(state.closes >= day)
        if state.owner is not None:
            rules.append(state.owner in here)
        kept += sum(rules)
        applied += len(rules)
    return Fraction(100 * kept, applied) if applied else None


# ---- K36 ---------------------------------------------------------------------------------------


def slope(values: Sequence[Fraction | None]) -> Fraction | None:
    """The median of all slopes between two months with a value; None below three of them."""
    points = [(place, value) for place, value in enumerate(values) if value is not None]
    if len(points) < 3:
        return None
    slopes = sorted((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2))
    middle = len(slopes) // 2
    return slopes[middle] if len(slopes) % 2 else (slopes[middle - 1] + slopes[middle]) / 2


def months(first: date, end: date) -> Iterator[tuple[date, date]]:
    """Whole calendar months from that of `first` to the last one that ends by `end`."""
    start = first.replace(day=1)
    while True:
        following = (start + timedelta(days=32)).replace(day=1)
        if following > end:
            return
        yield start, following
        start = following


def ramp(
    history: History, all_lives: list[Life], person: str, hired: date, as_of_ms: int
) -> int | None:
    """How many months from hiring until one was at or above its quota, that one included."""
    end = day_of(as_of_ms, history.calendar.time_zone)
    for number, (first, following) in enumerate(months(hired, end), 1):
        quota = quota_of(history, person, first, following)
        if not quota:
            continue
        one = frozenset({person})
        reached = booked(history, all_lives, one, first, following, as_of_ms, by_share=True)
        if reached >= quota:
            return number
    return None
