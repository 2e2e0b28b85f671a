"""HTTP: plans, assignments, statements, periods, pay runs, estimates, ledger, dead letters."""

from services.commissions.api import (
    assignments,
    estimates,
    ledger,
    payruns,
    periods,
    plans,
    statements,
)
from shared.http.dead_letters import dead_letter_router

ROUTERS = (
    plans.router,
    assignments.router,
    statements.router,
    periods.router,
    payruns.router,
    estimates.router,
    ledger.router,
    dead_letter_router("commissions"),
)
