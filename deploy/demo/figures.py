"""Figures by name, and what differs between two sets of them.

`expected` makes them from the independent recomputation of the intended history, `deploy.demo.read`
from the services' answers. Money must agree to the cent, everything else exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from tests.oracle import OracleResult
from tests.oracle.kpis import ORGANISATION, Closed, Pipeline
from tests.simulator.history import History

HALF_A_CENT = Decimal("0.005")
RATIO_STEP = Decimal("0.0000001")
"""Ratios are compared to seven decimals."""

PLACES = Decimal("1e-10")

LEARNED = frozenset({"stage_age"})
"""Rules whose limits metrics learns from history, which the recomputation does not."""

Value = Decimal | str | None


class What(StrEnum):
    """What a figure says."""

    BOOKINGS = "bookings"
    ATTAINMENT = "quota attainment"
    WON = "deals won"
    LOST = "deals lost"
    WIN_RATE = "win rate"
    PIPELINE = "open pipeline"
    WEIGHTED = "weighted pipeline"
    ACTIVITIES = "activities"
    STALLED = "stalled by the rules"
    EARNED = "earned"
    PAYABLE = "payable"


MONEY = frozenset({What.BOOKINGS, What.PIPELINE, What.WEIGHTED, What.EARNED, What.PAYABLE})


class Name(NamedTuple):
    """of: a person, a team, `org` or a deal. period: a quarter, a month, or "" for now."""

    what: What
    of: str
    period: str

    def __str__(self) -> str:
        """For a person."""
        return f"{self.what} of {self.of}" + (f" in {self.period}" if self.period else "")


Figures = Mapping[Name, Value]


class Difference(NamedTuple):
    """One figure on which the two disagree. None: that side has no value."""

    name: Name
    expected: Value
    found: Value


def differences(expected: Figures, found: Figures) -> list[Difference]:
    """Every figure that differs, those only one side has included."""
    names = sorted(expected.keys() | found.keys())
    pairs = ((name, expected.get(name), found.get(name)) for name in names)
    return [
        Difference(name, one, other)
        for name, one, other in pairs
        if not agree(name.what, one, other)
    ]


def agree(what: What, one: Value, other: Value) -> bool:
    """Whether two values are the same figure."""
    if isinstance(one, Decimal) and isinstance(other, Decimal):
        return abs(one - other) < (HALF_A_CENT if what in MONEY else RATIO_STEP)
    return one == other


def scopes(history: History) -> list[str]:
    """Whose figures are compared: every rep, every team, the organisation."""
    reps = [person.id for person in history.people if person.role == "rep"]
    return [*reps, *(team.id for team in history.teams), ORGANISATION]


def quarters(history: History) -> list[str]:
    """The quarters of the year, like `2025-Q1`."""
    return [f"{history.year}-Q{number}" for number in range(1, 5)]


def statement_months(history: History) -> Iterator[tuple[str, str]]:
    """(payee, month like `2025-01`) of everybody who is paid by a plan, all year."""
    for assignment in history.assignments:
        for number in range(1, 13):
            yield assignment.payee, f"{history.year}-{number:02d}"


def expected(result: OracleResult, history: History) -> dict[Name, Value]:
    """What should come out."""
    return dict(
        [
            *_closed(result, history),
            *_open(result, history),
            *_activities(result, history),
            *_pay(result, history),
        ]
    )


def _closed(result: OracleResult, history: History) -> Iterator[tuple[Name, Value]]:
    for of in scopes(history):
        for period in quarters(history):
            closed = result.closed.get((of, period), Closed())
            yield Name(What.BOOKINGS, of, period), decimal(closed.bookings)
            yield Name(What.ATTAINMENT, of, period), optional(closed.attainment)
            yield Name(What.WON, of, period), Decimal(closed.won)
            yield Name(What.LOST, of, period), Decimal(closed.lost)
            yield Name(What.WIN_RATE, of, period), optional(closed.win_rate)


def _open(result: OracleResult, history: History) -> Iterator[tuple[Name, Value]]:
    for of in scopes(history):
        pipeline = result.pipeline.get(of, Pipeline())
        yield Name(What.PIPELINE, of, ""), decimal(pipeline.owned)
        yield Name(What.WEIGHTED, of, ""), decimal(pipeline.owned_weighted)
    for deal in result.stalled:
        if reasons := set(deal.reasons) - LEARNED:
            yield Name(What.STALLED, deal.deal, ""), ", ".join(sorted(reasons))


def _activities(result: OracleResult, history: History) -> Iterator[tuple[Name, Value]]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for (of, _kind, day), count in result.activities.items():
        counts[of, quarter_of(day)] += count
    for of in scopes(history):
        for period in quarters(history):
            yield Name(What.ACTIVITIES, of, period), Decimal(counts[of, period])


def _pay(result: OracleResult, history: History) -> Iterator[tuple[Name, Value]]:
    for payee, month in statement_months(history):
        statement = result.statements.get((payee, month))
        yield Name(What.EARNED, payee, month), statement.earned if statement else Decimal(0)
        yield Name(What.PAYABLE, payee, month), statement.payable if statement else Decimal(0)


def quarter_of(day: date) -> str:
    """The calendar quarter of a day, like `2025-Q1`."""
    return f"{day.year}-Q{(day.month + 2) // 3}"


def decimal(value: Fraction) -> Decimal:
    """The nearest number with ten decimals."""
    return Decimal(round(value / Fraction(PLACES))) * PLACES


def optional(value: Fraction | None) -> Decimal | None:
    """As `decimal`; None stays."""
    return None if value is None else decimal(value)
