"""HTTP: plans, assignments, statements, periods, estimates, the ledger, dead letters."""

from services.commissions.api import (
    assignments,
    clock,
    dead_letters,
    estimates,
    ledger,
    periods,
    plans,
    statements,
)

ROUTERS = (
    plans.router,
    assignments.router,
    statements.router,
    periods.router,
    estimates.router,
    ledger.router,
    dead_letters.router,
    clock.router,
)
