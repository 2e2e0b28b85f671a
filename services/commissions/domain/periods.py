"""Statement and measure periods: half-open runs of days on a plan's fiscal calendar."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import lru_cache

from shared.errors import InvalidValue


class PeriodKind(StrEnum):
    """How long a period is."""

    MONTH = "month"
    QUARTER = "quarter"
    HALF = "half"
    YEAR = "year"


MONTHS: dict[PeriodKind, int] = {
    PeriodKind.MONTH: 1,
    PeriodKind.QUARTER: 3,
    PeriodKind.HALF: 6,
    PeriodKind.YEAR: 12,
}
_MONTHS_A_YEAR = 12
_LABEL = re.compile(r"(2\d{3}|19\d\d)(?:-(0[1-9]|1[0-2])|-Q([1-4])|-H([12]))?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """Days from `start` up to, and without, `end`.

    label: `2026-01` for a month; `2026-Q1`, `2026-H1`, `2026` for longer ones, where the year is
    the calendar year in which the fiscal year ends.
    """

    start: date
    end: date
    kind: PeriodKind
    label: str

    def __contains__(self, day: date) -> bool:
        return self.start <= day < self.end

    @property
    def last_day(self) -> date:
        """The last day that lies in the period."""
        return date.fromordinal(self.end.toordinal() - 1)


@lru_cache(maxsize=4096)
def period_of(day: date, kind: PeriodKind, fiscal_start_month: int = 1) -> Period:
    """The period of `kind` in which `day` lies.

    fiscal_start_month: 1 to 12, the month in which the fiscal year begins.
    """
    months = MONTHS[kind]
    month_index = day.year * _MONTHS_A_YEAR + day.month - 1
    into_year = (day.month - fiscal_start_month) % _MONTHS_A_YEAR
    first = month_index - into_year % months
    start, end = _first_of(first), _first_of(first + months)
    if kind is PeriodKind.MONTH:
        return Period(start, end, kind, f"{start.year:04d}-{start.month:02d}")
    year_end = _first_of(month_index - into_year + _MONTHS_A_YEAR - 1).year
    number = into_year // months + 1
    suffix = {PeriodKind.QUARTER: f"-Q{number}", PeriodKind.HALF: f"-H{number}"}.get(kind, "")
    return Period(start, end, kind, f"{year_end:04d}{suffix}")


def parse_period(label: str, fiscal_start_month: int = 1) -> Period:
    """The period that `label` names. Raises InvalidValue for anything else."""
    match = _LABEL.fullmatch(label)
    if match is None:
        msg = "this is no period: write 2026-01, 2026-Q1, 2026-H1 or 2026"
        raise InvalidValue(msg)
    year, month, quarter, half = (int(part) if part else None for part in match.groups())
    started = (year or 0) - (fiscal_start_month != 1)
    first = started * _MONTHS_A_YEAR + fiscal_start_month - 1
    kind, offset = PeriodKind.YEAR, 0
    if month is not None:
        kind, first = PeriodKind.MONTH, (year or 0) * _MONTHS_A_YEAR + month - 1
    elif quarter is not None:
        kind, offset = PeriodKind.QUARTER, (quarter - 1) * MONTHS[PeriodKind.QUARTER]
    elif half is not None:
        kind, offset = PeriodKind.HALF, (half - 1) * MONTHS[PeriodKind.HALF]
    return period_of(_first_of(first + offset), kind, fiscal_start_month)


def following(period: Period, fiscal_start_month: int = 1) -> Period:
    """The period of the same kind that begins where `period` ends."""
    return period_of(period.end, period.kind, fiscal_start_month)


def _first_of(month_index: int) -> date:
    return date(month_index // _MONTHS_A_YEAR, month_index % _MONTHS_A_YEAR + 1, 1)
