"""What people do, and what comes of it."""

from __future__ import annotations

from services.metrics.domain.catalogue.definition import Kind, Kpi, Unit

KPIS = (
    Kpi(
        "K24",
        "Activity count",
        Unit.COUNT,
        Kind.LEADING,
        "distinct done activities by person, kind and day; one shared by a team counts once",
        "never",
        "sums of contributions",
        measures=("activities",),
        trend=True,
    ),
    Kpi(
        "K25",
        "Activity ratios",
        Unit.RATIO,
        Kind.LEADING,
        "wins ÷ opportunities: of the deals created in the period, those won within the lag; "
        "meetings ÷ calls and opportunities ÷ meetings: what followed in the period moved on by "
        "the lag ÷ what was done in the period",
        "nothing to divide by; a lag that is not over is marked",
        "sums of contributions, deal rows",
        measures=("calls", "meetings", "opportunities", "won"),
        trend=True,
    ),
    Kpi(
        "K28",
        "Touch and next-step coverage",
        Unit.RATIO,
        Kind.LEADING,
        "open deals with an activity in the last days ÷ open deals; beside it those with a dated "
        "next step or planned activity ahead ÷ open deals",
        "no open deals; the next step also as of the past, for which none is kept",
        "deal rows, activity rows",
        measures=("open_deals", "activities", "next_steps"),
    ),
)
"""K24, K25 and K28."""
