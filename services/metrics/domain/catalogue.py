"""The KPI catalogue: what is served, by which formula, and when there is no value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """What a value is in. `ratio`: a fraction; `days`: of 24 hours, with decimals."""

    RATIO = "ratio"
    MONEY = "money"
    COUNT = "count"
    DAYS = "days"


class Kind(StrEnum):
    """Whether a KPI foretells or reports."""

    LEADING = "leading"
    LAGGING = "lagging"


@dataclass(frozen=True, slots=True)
class Kpi:
    """One line of the catalogue. version rises when its formula changes."""

    id: str
    name: str
    unit: Unit
    kind: Kind
    formula: str
    null_rule: str
    source: str
    version: int = 1


_CELLS = "sums of contributions"
_ROWS = "deal rows"


def _kpi(id_: str, name: str, unit: Unit, kind: Kind, *texts: str) -> Kpi:
    formula, null_rule, source = texts
    return Kpi(id_, name, unit, kind, formula, null_rule, source)


KPIS: Mapping[str, Kpi] = {
    kpi.id: kpi
    for kpi in (
        _kpi(
            "K1",
            "Quota attainment",
            Unit.RATIO,
            Kind.LAGGING,
            "Σ deal amount * share at the credit instant ÷ quota in force, prorated",
            "no quota, or a quota of 0",
            _CELLS,
        ),
        _kpi(
            "K2",
            "Pace",
            Unit.RATIO,
            Kind.LEADING,
            "attainment ÷ share of the period's working days that are over before the as-of day",
            "no quota; the first 10 % of the working days",
            _CELLS,
        ),
        _kpi(
            "K3",
            "Projected attainment",
            Unit.RATIO,
            Kind.LEADING,
            "(closed + Σ amount * probability closing in the period) ÷ quota; second form: "
            "closed ÷ elapsed share ÷ quota",
            "no quota; the run rate also in the first 10 % of the working days",
            f"{_CELLS}, {_ROWS}",
        ),
        _kpi(
            "K5",
            "Win rate by count",
            Unit.RATIO,
            Kind.LAGGING,
            "won ÷ (won + lost), closed in the period; strict: no-decision counts as lost; "
            "cohort: by the day of creation",
            "nothing closed",
            _CELLS,
        ),
        _kpi(
            "K6",
            "Win rate by value",
            Unit.RATIO,
            Kind.LAGGING,
            "Σ won ÷ (Σ won + Σ last amount before the loss)",
            "nothing closed, or only at an amount of 0",
            _CELLS,
        ),
        _kpi(
            "K9",
            "Pipeline value",
            Unit.MONEY,
            Kind.LEADING,
            "Σ amount of open deals closing in the period, omitted category left out",
            "never; deals without an amount are counted beside it",
            _ROWS,
        ),
        _kpi(
            "K10",
            "Weighted pipeline",
            Unit.MONEY,
            Kind.LEADING,
            "Σ amount * probability of the deal, else of its stage",
            "never; deals without amount or probability are counted beside it",
            _ROWS,
        ),
        _kpi(
            "K11",
            "Coverage",
            Unit.RATIO,
            Kind.LEADING,
            "open pipeline closing in the period ÷ (quota - closed won)",
            "no quota; quota met",
            f"{_CELLS}, {_ROWS}",
        ),
        _kpi(
            "K12",
            "Average deal size",
            Unit.MONEY,
            Kind.LAGGING,
            "Σ won amount ÷ number of won deals, renewals apart; the median beside it",
            "no won deals with an amount",
            _ROWS,
        ),
        _kpi(
            "K13",
            "Sales cycle",
            Unit.DAYS,
            Kind.LAGGING,
            "mean of credit instant - creation over won deals; the median beside it",
            "no won deal with a known creation",
            _ROWS,
        ),
        _kpi(
            "K15",
            "Deal age",
            Unit.DAYS,
            Kind.LEADING,
            "as-of, or the close, - creation",
            "unknown creation",
            _ROWS,
        ),
        _kpi(
            "K16",
            "Stage age",
            Unit.DAYS,
            Kind.LEADING,
            "as-of - last entry into the current stage",
            "unknown entry",
            _ROWS,
        ),
        _kpi(
            "K17",
            "Stalled deals",
            Unit.COUNT,
            Kind.LEADING,
            "open deals on which at least one stall rule fires",
            "never",
            "episodes",
        ),
        _kpi(
            "K24",
            "Activity count",
            Unit.COUNT,
            Kind.LEADING,
            "distinct done activities by person, kind and day; one shared by a team counts once",
            "never",
            _CELLS,
        ),
    )
}
"""Every KPI that is served, by id."""
