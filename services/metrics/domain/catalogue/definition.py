"""A KPI's definition, its versions, and the register of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import pairwise


class Unit(StrEnum):
    """What a value is in. `ratio`: a fraction; `days`: of 24 hours, with decimals.

    `money_per_day`: by working day for K4, by day of 24 hours for K14. `points`: 0 to 100.
    """

    RATIO = "ratio"
    MONEY = "money"
    MONEY_PER_DAY = "money_per_day"
    COUNT = "count"
    DAYS = "days"
    MONTHS = "months"
    POINTS = "points"


class Kind(StrEnum):
    """Whether a KPI foretells or reports."""

    LEADING = "leading"
    LAGGING = "lagging"


FIRST_DAY = date(1970, 1, 1)
"""The day from which a first version holds: every period that can be asked for."""


@dataclass(frozen=True, slots=True)
class Kpi:
    """One version of a KPI's definition.

    formula: in words, over the named `measures`. effective_from: periods that begin on this day
    or later are read by it; older ones keep theirs.
    minimum_sample: with fewer records behind it a value says nothing. source: where it is read
    from. trend: whether a series of it by month means something. money: parts are amounts.
    """

    id: str
    name: str
    unit: Unit
    kind: Kind
    formula: str
    null_rule: str
    source: str
    measures: tuple[str, ...] = ()
    version: int = 1
    effective_from: date = FIRST_DAY
    owner: str = "sales operations"
    minimum_sample: int = 1
    trend: bool = False
    money: bool = False


class Registry:
    """Definitions by id and version. Immutable once built."""

    def __init__(self, definitions: Iterable[Kpi]) -> None:
        """Raises ValueError for versions of one KPI whose numbers or days do not both rise."""
        found: dict[str, list[Kpi]] = {}
        for one in definitions:
            found.setdefault(one.id, []).append(one)
        self._versions: dict[str, tuple[Kpi, ...]] = {}
        for kpi_id, versions in found.items():
            ordered = sorted(versions, key=lambda one: one.version)
            for before, after in pairwise(ordered):
                if before.version == after.version or before.effective_from >= after.effective_from:
                    msg = f"{kpi_id}: version {after.version} must begin after the one before it"
                    raise ValueError(msg)
            self._versions[kpi_id] = tuple(ordered)

    def __contains__(self, kpi_id: str) -> bool:
        return kpi_id in self._versions

    @property
    def ids(self) -> tuple[str, ...]:
        """Every KPI, by its number."""
        return tuple(sorted(self._versions, key=_number))

    def versions(self, kpi_id: str) -> Sequence[Kpi]:
        """Every version, the oldest first. Raises KeyError for an unknown id."""
        return self._versions[kpi_id]

    def in_force(self, kpi_id: str, day: date) -> Kpi:
        """The version by which a period that begins on `day` is read; before all, the first one."""
        versions = self._versions[kpi_id]
        begun = [one for one in versions if one.effective_from <= day]
        return begun[-1] if begun else versions[0]


def _number(kpi_id: str) -> tuple[int, str]:
    digits = "".join(sign for sign in kpi_id if sign.isdigit())
    return (int(digits) if digits else 0, kpi_id)
