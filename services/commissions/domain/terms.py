"""The terms of one component: what it credits, how it earns, and what limits or delays the pay."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

from services.commissions.domain.conditions import reads_components, reads_payee
from services.commissions.domain.expressions import Expression
from services.commissions.domain.periods import PeriodKind


class Kind(StrEnum):
    """What a component is. A bonus earns as a commission does, and is named apart on statements."""

    COMMISSION = "commission"
    BONUS = "bonus"
    SPIFF = "spiff"
    OBJECTIVE = "objective"
    OVERRIDE = "override"


class CreditOn(StrEnum):
    """The event a component credits."""

    DEAL_WON = "deal.won"
    INVOICE_ISSUED = "invoice.issued"
    PAYMENT_RECEIVED = "payment.received"
    ACTIVITY_COMPLETED = "activity.completed"
    OBJECTIVE_SCORED = "objective.scored"


class CreditTo(StrEnum):
    """Who is credited.

    The owner whole, the split members by share, the overlays beside them, or the managers of all
    of these, each once a deal.
    """

    OWNER = "owner"
    SPLITS = "splits"
    OVERLAYS = "overlays"
    MANAGER = "manager"


class Method(StrEnum):
    """How a rate table turns a measure into pay."""

    FLAT = "flat"
    MARGINAL = "marginal"
    RETROACTIVE = "retroactive"
    CURVE = "curve"


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


class GateMiss(StrEnum):
    """What happens to pay below its gate: it is held until the figure is corrected, or lost."""

    HOLD = "hold"
    ZERO = "zero"


class ClawbackBasis(StrEnum):
    """What a cancellation takes: part of its own line, or of what the measure earns less."""

    LINE = "line"
    RECOMPUTE = "recompute"


@dataclass(frozen=True, slots=True)
class Tier:
    """A rate from `lower`, inclusive, up to the next tier's, exclusive.

    lower: a share of quota (1 is 100 %), an amount, or a number of deals, by the table's axis.
    rate: a fraction of the credited amount, or a multiple of target pay ÷ quota where the table
    says so.
    """

    lower: Decimal
    rate: Decimal


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """At `attainment` (share of quota) the curve pays the share `pays` of target pay."""

    attainment: Decimal
    pays: Decimal


@dataclass(frozen=True, slots=True)
class RateTable:
    """Tiers in rising order, the first at 0; a flat rate is one tier; a curve has points instead.

    of_base: rates are multiples (`1.5x`) of target pay ÷ quota. Between the points of a curve pay
    is linear; below the first it is 0, above the last it stays.
    """

    method: Method
    over: Over
    tiers: tuple[Tier, ...] = ()
    of_base: bool = False
    points: tuple[CurvePoint, ...] = ()

    @property
    def of_target_pay(self) -> bool:
        """Whether pay depends on the payee's target pay."""
        return self.of_base or self.method is Method.CURVE


@dataclass(frozen=True, slots=True)
class Threshold:
    """Nothing is paid below `attainment` (share of quota, 1 is 100 %)."""

    attainment: Decimal
    pays: ThresholdPays


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `amount` in plan currency per scope; what is above is shown, and lost or carried.

    carry: the excess is paid in later scopes, each up to the cap.
    """

    amount: Decimal
    per: CapScope
    carry: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseTerms:
    """How a line becomes money: `at_booking` of it at once, the rest pro rata to cash received.

    at_booking: a share, 0 to 1.
    """

    at_booking: Decimal


@dataclass(frozen=True, slots=True)
class ClawbackTerms:
    """What a cancellation within `window_days` of the credit's day takes back, linear by day."""

    window_days: int
    basis: ClawbackBasis


@dataclass(frozen=True, slots=True)
class Gate:
    """A period's pay needs the payee's `kpi` to be `at_least` this on the statement's last day."""

    kpi: str
    at_least: Decimal
    otherwise: GateMiss


@dataclass(frozen=True, slots=True)
class Pays:
    """A fixed amount for each credit, outside attainment.

    each: in plan currency, times the member's share. first: so many credits of one payee are paid,
    in their order; None: all. budget: over all payees, in credit order, the last paid in part.
    """

    each: Decimal
    first: int | None = None
    budget: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Objective:
    """An objective that is scored, and its share of target pay (`weight`, 1 is 100 %)."""

    id: str
    weight: Decimal


@dataclass(frozen=True, slots=True)
class QuotaReference:
    """The quota a component is measured against, by name and length."""

    measure: str
    period: PeriodKind


@dataclass(frozen=True, slots=True)
class CreditRule:
    """Which events are credited (`when`), with how much (`amount`), and to whom.

    asks_payee: the condition depends on who is credited. reads_components: it depends on other
    components, and is asked when these are rated.
    """

    on: CreditOn
    to: CreditTo
    amount: Expression
    when: Expression | None = None
    asks_payee: bool = field(init=False, default=False)
    reads_components: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Look at the condition once, not at each event."""
        if self.when is not None:
            object.__setattr__(self, "asks_payee", reads_payee(self.when))
            object.__setattr__(self, "reads_components", reads_components(self.when))


@dataclass(frozen=True, slots=True)
class DayRange:
    """Days `first` to `last`, both included; no `last` means without end."""

    first: date | None = None
    last: date | None = None

    def __contains__(self, day: date) -> bool:
        return (self.first is None or self.first <= day) and (self.last is None or day <= self.last)


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a plan that earns.

    It earns by exactly one of: `rates`, `pays` (a fixed amount a credit), `objectives`.
    attainment_cap: share of quota above which nothing more is earned. floor: at least this much a
    statement, in plan currency for a whole period, credits or none. capitalised_months: how long a
    won contract is of use, over which its cost is expensed; None: at once.
    """

    id: str
    credit: CreditRule
    rates: RateTable | None = None
    quota: QuotaReference | None = None
    threshold: Threshold | None = None
    cap: Cap | None = None
    effective: DayRange = field(default_factory=DayRange)
    kind: Kind = Kind.COMMISSION
    pays: Pays | None = None
    objectives: tuple[Objective, ...] = ()
    attainment_cap: Decimal | None = None
    floor: Decimal | None = None
    release: ReleaseTerms | None = None
    clawback: ClawbackTerms | None = None
    gate: Gate | None = None
    capitalised_months: int | None = None

    @property
    def earns_by(self) -> str:
        """`rates`, `pays` or `objectives`."""
        if self.rates is not None:
            return "rates"
        return "pays" if self.pays is not None else "objectives"

    def measure_period(self, statement_period: PeriodKind) -> PeriodKind:
        """How long the measure runs: the quota's period, else the statement's."""
        return self.quota.period if self.quota else statement_period
