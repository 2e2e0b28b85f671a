"""HTTP: plans, assignments, statements, periods, estimates, the ledger, dead letters."""

from services.commissions.api import (
    assignments,
    estimates,
    ledger,
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
    estimates.router,
    ledger.router,
    dead_letter_router("commissions"),
)
