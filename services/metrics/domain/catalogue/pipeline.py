"""What is open, how it moves, and how fast."""

from __future__ import annotations

from services.metrics.domain.catalogue.definition import Kind, Kpi, Unit

_CELLS = "sums of contributions"
_ROWS = "deal rows"

KPIS = (
    Kpi(
        "K8",
        "Stage conversion",
        Unit.RATIO,
        Kind.LEADING,
        "of the deals that were for the first time at the stage or beyond it in the period, those "
        "that ever reached a later one; strict: by deals that went through every stage in order",
        "no deal entered the stage",
        _ROWS,
        measures=("stage_entries",),
        trend=True,
    ),
    Kpi(
        "K9",
        "Pipeline value",
        Unit.MONEY,
        Kind.LEADING,
        "Σ amount of open deals closing in the period, omitted category left out",
        "never; deals without an amount are counted beside it",
        _ROWS,
        measures=("open_deals",),
        money=True,
    ),
    Kpi(
        "K10",
        "Weighted pipeline",
        Unit.MONEY,
        Kind.LEADING,
        "Σ amount * probability of the deal, else of its stage",
        "never; deals without amount or probability are counted beside it",
        _ROWS,
        measures=("open_deals", "probability"),
        money=True,
    ),
    Kpi(
        "K11",
        "Coverage",
        Unit.RATIO,
        Kind.LEADING,
        "open pipeline closing in the period ÷ (quota - closed won)",
        "no quota; quota met",
        f"{_CELLS}, {_ROWS}",
        measures=("open_deals", "bookings", "quota"),
        money=True,
    ),
    Kpi(
        "K14",
        "Sales velocity",
        Unit.MONEY_PER_DAY,
        Kind.LEADING,
        "open qualified deals * average size * win rate ÷ cycle days, all four of the same people, "
        "deal type and segment",
        "nothing won, nothing closed, unknown cycle, or a cycle of 0 days",
        _ROWS,
        measures=("open_qualified_deals", "won", "lost"),
        money=True,
    ),
    Kpi(
        "K15",
        "Deal age",
        Unit.DAYS,
        Kind.LEADING,
        "as-of, or the close, - creation",
        "unknown creation",
        _ROWS,
        measures=("open_deals",),
    ),
    Kpi(
        "K16",
        "Stage age",
        Unit.DAYS,
        Kind.LEADING,
        "as-of - last entry into the current stage",
        "unknown entry",
        _ROWS,
        measures=("open_deals",),
    ),
    Kpi(
        "K17",
        "Stalled deals",
        Unit.COUNT,
        Kind.LEADING,
        "open deals on which at least one stall rule fires",
        "never",
        "episodes",
        measures=("open_deals", "episodes"),
    ),
    Kpi(
        "K18",
        "Slip rate",
        Unit.RATIO,
        Kind.LAGGING,
        "of the deals that were open at the period's start and were to close in it, those still "
        "open at its end; by value as of the start beside it; lost is no slip",
        "the period is not over; nothing was to close in it",
        _ROWS,
        measures=("due_deals",),
        trend=True,
        money=True,
    ),
    Kpi(
        "K19",
        "Push count",
        Unit.COUNT,
        Kind.LEADING,
        "moves of an open deal's close date to a later day, in the period or ever; those into "
        "another fiscal quarter counted beside it; never reduced by a move back",
        "never",
        _ROWS,
        measures=("pushes",),
        trend=True,
    ),
    Kpi(
        "K22",
        "Pipeline flow",
        Unit.MONEY,
        Kind.LEADING,
        "open + new + reopened + pulled in + up - down - pushed - won - lost - removed "
        "± transferred = close; each deal's whole effect between the two instants is in the first "
        "class that fits: won, lost, new, removed, reopened, transferred, pulled in, pushed, up, "
        "down",
        "never; deals without an amount are counted beside it",
        _ROWS,
        measures=("open_deals",),
        money=True,
    ),
    Kpi(
        "K23",
        "Pipeline created",
        Unit.MONEY,
        Kind.LEADING,
        "Σ amount of deals at the moment when they first were in a qualified stage",
        "never; deals without an amount then are counted beside it",
        _ROWS,
        measures=("qualified_entries",),
        trend=True,
        money=True,
    ),
    Kpi(
        "K35",
        "Hygiene score",
        Unit.POINTS,
        Kind.LEADING,
        "100 * Σ weight of the rules that an open deal keeps ÷ Σ weight of those that apply to it; "
        "of several deals, both sums over all of them",
        "no open deals",
        _ROWS,
        measures=("open_deals",),
    ),
)
"""K8 to K11, K14 to K19, K22, K23 and K35."""
