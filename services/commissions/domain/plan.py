"""A plan version: what a saved plan document means, typed. `parse_plan` makes it.

Where a version differs from the next, each earning line is made by the version of its own day;
what concerns a whole statement (rounding at statement, plan cap, recovery, payout rate) follows
the version in force on the statement's last day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

from services.commissions.domain.conditions import components_read
from services.commissions.domain.periods import PeriodKind
from services.commissions.domain.terms import (
    Cap,
    CapScope,
    Component,
    CreditOn,
    CreditRule,
    CreditTo,
    DayRange,
    Method,
    Over,
    QuotaReference,
    RateTable,
    Threshold,
    ThresholdPays,
    Tier,
)
from shared.errors import InvalidValue

__all__ = [
    "Assignment",
    "Cap",
    "CapScope",
    "Component",
    "CreditDate",
    "CreditOn",
    "CreditRule",
    "CreditTo",
    "DayRange",
    "Draw",
    "Method",
    "Over",
    "Plan",
    "PlanInvalid",
    "PlanVersion",
    "Problem",
    "Proration",
    "QuotaReference",
    "RateTable",
    "RoundAt",
    "Rounding",
    "Threshold",
    "ThresholdPays",
    "Tier",
    "check_successor",
]


class CreditDate(StrEnum):
    """Which date of a deal is its credit instant."""

    CLOSED_AT = "closed_at"
    CLOSE_DATE = "close_date"


class Proration(StrEnum):
    """How the part of a period is measured: days, months each as long, or working days."""

    CALENDAR_DAYS = "calendar_days"
    MONTHS = "months"
    WORKING_DAYS = "working_days"


class RoundAt(StrEnum):
    """Where amounts are rounded to the minor unit: each line, or the statement once."""

    LINE = "line"
    STATEMENT = "statement"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: where (a JSON pointer) and, in a sentence, what."""

    pointer: str
    message: str


class PlanInvalid(InvalidValue):
    """A plan document is refused; `problems` lists everything that was found, in its order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first.message}{more}", pointer=first.pointer)
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Rounding:
    """One rounding rule of a whole plan: `mode` is a key of shared.money.ROUNDING_MODES."""

    mode: str = "half_up"
    at: RoundAt = RoundAt.LINE


@dataclass(frozen=True, slots=True)
class Draw:
    """An advance on pay: in each of its periods a payee is paid at least `amount`.

    amount: in plan currency for a whole statement period. recoverable: later pay above the draw
    gives it back; otherwise the company bears it. first: the day its first period begins; None:
    from the plan's beginning. periods: how many statement periods; None: without end.
    """

    amount: Decimal
    recoverable: bool
    first: date | None = None
    periods: int | None = None


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """One immutable version of a plan. `hash` names it on every line it makes.

    max_recovery: fraction of a period's own pay that may be taken for carried differences.
    reopen_grace: won left and entered again within it is one stay.
    proration: how draws, floors and target pay of a part of a period are measured.
    """

    id: str
    name: str
    hash: str
    currency: str
    zone: ZoneInfo
    effective: DayRange
    period: PeriodKind
    components: tuple[Component, ...]
    rounding: Rounding = Rounding()
    credit_date: CreditDate = CreditDate.CLOSED_AT
    reopen_grace: timedelta = timedelta(hours=24)
    fx_credit: str | None = None
    fx_payout: str | None = None
    cap: Cap | None = None
    max_recovery: Decimal = Decimal(1)
    draw: Draw | None = None
    proration: Proration = Proration.CALENDAR_DAYS

    def component(self, component_id: str) -> Component:
        """The component of that id; KeyError when the version has none."""
        for component in self.components:
            if component.id == component_id:
                return component
        raise KeyError(component_id)

    def day_of(self, instant: datetime) -> date:
        """The plan's calendar day on which `instant` falls."""
        return instant.astimezone(self.zone).date()


@dataclass(frozen=True, slots=True)
class Plan:
    """All versions of one plan; a version's first day ends the one before it.

    Raises PlanInvalid when versions disagree on what must not change within a plan.
    """

    id: str
    versions: tuple[PlanVersion, ...]

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.versions, key=_first_day))
        object.__setattr__(self, "versions", ordered)
        for earlier, later in pairwise(ordered):
            check_successor(earlier, later)
        _check_circles(ordered)

    @property
    def by_hash(self) -> Mapping[str, PlanVersion]:
        """Hash → version."""
        return {version.hash: version for version in self.versions}

    def version_on(self, day: date) -> PlanVersion | None:
        """The version in force on a calendar day of the plan; None where no version is."""
        for version in reversed(self.versions):
            if _first_day(version) <= day:
                return version if day in version.effective else None
        return None

    def nearest(self, day: date) -> PlanVersion:
        """The version in force on `day`, else the last one before it, else the first."""
        found = [version for version in self.versions if _first_day(version) <= day]
        return found[-1] if found else self.versions[0]


def check_successor(earlier: PlanVersion, later: PlanVersion) -> None:
    """Refuse a version that changes what a running measure cannot survive.

    Currency, time zone and statement period name the plan's own units: changing one would add
    unlike amounts or move days between statements. Raises PlanInvalid, naming each.
    """
    problems = []
    for pointer, before, after in (
        ("/id", earlier.id, later.id),
        ("/currency", earlier.currency, later.currency),
        ("/time_zone", earlier.zone.key, later.zone.key),
        ("/period", earlier.period.value, later.period.value),
    ):
        if before != after:
            msg = f"a new version keeps {pointer[1:]} ({before}); make a new plan to change it"
            problems.append(Problem(pointer, msg))
    problems.extend(_same_earning(earlier, later))
    if _first_day(earlier) == _first_day(later) and earlier.hash != later.hash:
        msg = f"another version already begins on {_first_day(later)}; choose another day"
        problems.append(Problem("/effective/from", msg))
    if problems:
        raise PlanInvalid(tuple(problems))


def _same_earning(earlier: PlanVersion, later: PlanVersion) -> Iterator[Problem]:
    """A component keeps what it earns by: its measure, places and budget go on over the border."""
    before = {component.id: component.earns_by for component in earlier.components}
    for index, component in enumerate(later.components):
        earns_by = before.get(component.id, component.earns_by)
        if earns_by != component.earns_by:
            msg = f"{component.id} earns by {earns_by} before; give the new one another id"
            yield Problem(f"/components/{index}/id", msg)


def reads_of(versions: Iterable[PlanVersion]) -> dict[str, set[str]]:
    """Component → the components its conditions read, in any of the versions."""
    reads: dict[str, set[str]] = {}
    for version in versions:
        ids = [component.id for component in version.components]
        for component in version.components:
            when = component.credit.when
            found = components_read(when, ids) if when is not None else set()
            reads.setdefault(component.id, set()).update(found)
    return reads


def circular(versions: Iterable[PlanVersion]) -> set[str]:
    """Components that read themselves through others."""
    reads = reads_of(versions)
    standing: set[str] = set()
    while free := {c for c in reads if c not in standing and reads[c] <= standing}:
        standing |= free
    return set(reads) - standing


def _check_circles(versions: Sequence[PlanVersion]) -> None:
    """The order in which components are rated is one for all versions."""
    found = circular(versions)
    for index, component in enumerate(versions[-1].components if versions else ()):
        if component.id in found:
            msg = (
                "components read one another in a circle, this version or with an earlier one; "
                "let one of them stand alone"
            )
            raise PlanInvalid((Problem(f"/components/{index}/credit/when", msg),))


def _first_day(version: PlanVersion) -> date:
    return version.effective.first or date.min


@dataclass(frozen=True, slots=True)
class Assignment:
    """A payee is on a plan on the days of `days`, both ends included.

    quota: overrides by measure name, in plan currency, for each measure period.
    payout_currency: what the payable is converted to; None is the plan's own currency.
    target_pay: in plan currency for a whole measure period; `component_target_pay` goes before it
    for the components it names. ramp: shares of draw, floor and target pay in the first, second, …
    month of the assignment, the whole after that. leave: days that do not count.
    """

    payee: str
    plan_id: str
    days: DayRange
    quota: tuple[tuple[str, Decimal], ...] = ()
    payout_currency: str | None = None
    target_pay: Decimal | None = None
    component_target_pay: tuple[tuple[str, Decimal], ...] = ()
    ramp: tuple[Decimal, ...] = ()
    leave: tuple[DayRange, ...] = ()

    def quota_for(self, measure: str) -> Decimal | None:
        """The override for `measure`, if there is one."""
        return next((amount for name, amount in self.quota if name == measure), None)

    def target_pay_for(self, component_id: str) -> Decimal | None:
        """The target pay of a component, if one is set."""
        own = next((pay for name, pay in self.component_target_pay if name == component_id), None)
        return self.target_pay if own is None else own
