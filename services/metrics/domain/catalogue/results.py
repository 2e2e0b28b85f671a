"""What was reached: bookings against quotas, wins and losses, sizes and cycles."""

from __future__ import annotations

from services.metrics.domain.catalogue.definition import Kind, Kpi, Unit

_CELLS = "sums of contributions"
_ROWS = "deal rows"

KPIS = (
    Kpi(
        "K1",
        "Quota attainment",
        Unit.RATIO,
        Kind.LAGGING,
        "Σ deal amount * share at the credit instant ÷ quota in force, prorated",
        "no quota, or a quota of 0",
        _CELLS,
        measures=("bookings", "quota"),
        trend=True,
        money=True,
    ),
    Kpi(
        "K2",
        "Pace",
        Unit.RATIO,
        Kind.LEADING,
        "attainment ÷ share of the period's working days that are over before the as-of day",
        "no quota; the first 10 % of the working days",
        _CELLS,
        measures=("bookings", "quota", "working_days"),
        money=True,
    ),
    Kpi(
        "K3",
        "Projected attainment",
        Unit.RATIO,
        Kind.LEADING,
        "(closed + Σ amount * probability closing in the period) ÷ quota; second form: "
        "closed ÷ elapsed share ÷ quota",
        "no quota; the run rate also in the first 10 % of the working days",
        f"{_CELLS}, {_ROWS}",
        measures=("bookings", "quota", "weighted_pipeline", "working_days"),
        money=True,
    ),
    Kpi(
        "K4",
        "Required run rate",
        Unit.MONEY_PER_DAY,
        Kind.LEADING,
        "max(0, quota - closed) ÷ working days left, the as-of day among them",
        "no quota; the quota is not met and no working day is left",
        _CELLS,
        measures=("bookings", "quota", "working_days"),
        money=True,
    ),
    Kpi(
        "K5",
        "Win rate by count",
        Unit.RATIO,
        Kind.LAGGING,
        "won ÷ (won + lost), closed in the period; strict: no-decision counts as lost; "
        "cohort: by the day of creation",
        "nothing closed",
        _CELLS,
        measures=("won", "lost", "lost_no_decision"),
        trend=True,
    ),
    Kpi(
        "K6",
        "Win rate by value",
        Unit.RATIO,
        Kind.LAGGING,
        "Σ won ÷ (Σ won + Σ last amount before the loss)",
        "nothing closed, or only at an amount of 0",
        _CELLS,
        measures=("won", "lost"),
        trend=True,
        money=True,
    ),
    Kpi(
        "K12",
        "Average deal size",
        Unit.MONEY,
        Kind.LAGGING,
        "Σ won amount ÷ number of won deals, renewals apart; the median beside it",
        "no won deals with an amount",
        _ROWS,
        measures=("won",),
        trend=True,
        money=True,
    ),
    Kpi(
        "K13",
        "Sales cycle",
        Unit.DAYS,
        Kind.LAGGING,
        "mean of credit instant - creation over won deals; the median beside it",
        "no won deal with a known creation",
        _ROWS,
        measures=("won",),
        trend=True,
    ),
    Kpi(
        "K36",
        "Ramp time, consistency, trend",
        Unit.MONTHS,
        Kind.LAGGING,
        "months from hiring to the end of the first month at 100 % of the full quota; consistency: "
        "deviation ÷ mean of the bookings of the last six whole months; slope: median of the "
        "slopes between any two of them, flat within 2 % of their median a month",
        "not asked of one person; hiring day unknown; no month reached the quota yet",
        _CELLS,
        measures=("bookings", "quota"),
        money=True,
    ),
)
"""K1 to K6, K12, K13 and K36."""
