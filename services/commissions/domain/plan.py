"""A plan version: what a saved plan document means, typed. `parse_plan` makes it.

Where a version differs from the next, each earning line is made by the version of its own day;
what concerns a whole statement (rounding at statement, plan cap, recovery, payout rate) follows
the version in force on the statement's last day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

from services.commissions.domain.expressions import Expression
from services.commissions.domain.periods import PeriodKind
from shared.errors import InvalidValue


class CreditOn(StrEnum):
    """The event a component credits."""

    DEAL_WON = "deal.won"
    INVOICE_ISSUED = "invoice.issued"


class CreditTo(StrEnum):
    """Who is credited: the owner whole, the split members by share, or the overlays beside them."""

    OWNER = "owner"
    SPLITS = "splits"
    OVERLAYS = "overlays"


class CreditDate(StrEnum):
    """Which date of a deal is its credit instant."""

    CLOSED_AT = "closed_at"
    CLOSE_DATE = "close_date"


class Method(StrEnum):
    """How a rate table turns a measure into pay."""

    FLAT = "flat"
    MARGINAL = "marginal"
    RETROACTIVE = "retroactive"


class Over(StrEnum):
    """The axis of a rate table: share of quota, credited amount, or number of deals."""

    ATTAINMENT = "attainment"
    AMOUNT = "amount"
    COUNT = "count"


class ThresholdPays(StrEnum):
    """Once the threshold is reached: pay from the first unit, or only what lies above it."""

    FIRST_DOLLAR = "first_dollar"
    EXCESS_ONLY = "excess_only"


class CapScope(StrEnum):
    """What one cap limits."""

    DEAL = "deal"
    STATEMENT = "statement"
    MEASURE = "measure"
    YEAR = "year"


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
class Tier:
    """A rate from `lower`, inclusive, up to the next tier's, exclusive.

    lower: a share of quota (1 is 100 %), an amount, or a number of deals, by the table's axis.
    rate: a fraction of the credited amount.
    """

    lower: Decimal
    rate: Decimal


@dataclass(frozen=True, slots=True)
class RateTable:
    """Tiers in rising order, the first at 0; a flat rate is one tier."""

    method: Method
    over: Over
    tiers: tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Nothing is paid below `attainment` (share of quota, 1 is 100 %)."""

    attainment: Decimal
    pays: ThresholdPays


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `amount` in plan currency per scope; what is above is shown and lost."""

    amount: Decimal
    per: CapScope


@dataclass(frozen=True, slots=True)
class QuotaReference:
    """The quota a component is measured against, by name and length."""

    measure: str
    period: PeriodKind


@dataclass(frozen=True, slots=True)
class Rounding:
    """One rounding rule of a whole plan: `mode` is a key of shared.money.ROUNDING_MODES."""

    mode: str = "half_up"
    at: RoundAt = RoundAt.LINE


@dataclass(frozen=True, slots=True)
class CreditRule:
    """Which events are credited (`when`), with how much (`amount`), and to whom."""

    on: CreditOn
    to: CreditTo
    amount: Expression
    when: Expression | None = None


@dataclass(frozen=True, slots=True)
class DayRange:
    """Days `first` to `last`, both included; no `last` means without end."""

    first: date | None = None
    last: date | None = None

    def __contains__(self, day: date) -> bool:
        return (self.first is None or self.first <= day) and (self.last is None or day <= self.last)


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a plan that earns: a credit rule, a rate table and their limits."""

    id: str
    credit: CreditRule
    rates: RateTable
    quota: QuotaReference | None = None
    threshold: Threshold | None = None
    cap: Cap | None = None
    effective: DayRange = field(default_factory=DayRange)

    def measure_period(self, statement_period: PeriodKind) -> PeriodKind:
        """How long the measure runs: the quota's period, else the statement's."""
        return self.quota.period if self.quota else statement_period


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """One immutable version of a plan. `hash` names it on every line it makes.

    max_recovery: fraction of a period's own pay that may be taken for carried differences.
    reopen_grace: won left and entered again within it is one stay.
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
    if _first_day(earlier) == _first_day(later) and earlier.hash != later.hash:
        msg = f"another version already begins on {_first_day(later)}; choose another day"
        problems.append(Problem("/effective/from", msg))
    if problems:
        raise PlanInvalid(tuple(problems))


def _first_day(version: PlanVersion) -> date:
    return version.effective.first or date.min


@dataclass(frozen=True, slots=True)
class Assignment:
    """A payee is on a plan on the days of `days`, both ends included.

    quota: overrides by measure name, in plan currency, for each measure period.
    payout_currency: what the payable is converted to; None is the plan's own currency.
    """

    payee: str
    plan_id: str
    days: DayRange
    quota: tuple[tuple[str, Decimal], ...] = ()
    payout_currency: str | None = None

    def quota_for(self, measure: str) -> Decimal | None:
        """The override for `measure`, if there is one."""
        return next((amount for name, amount in self.quota if name == measure), None)
