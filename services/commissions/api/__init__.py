"""HTTP: everything that people and programs ask of commissions, one router a resource."""

from services.commissions.api import (
    accounting,
    adjustments,
    assignments,
    disputes,
    estimates,
    held,
    held_changes,
    ledger,
    overrides,
    payruns,
    periods,
    plans,
    proposals,
    simulations,
    statements,
)
from shared.http.dead_letters import dead_letter_router

ROUTERS = (
    plans.router,
    proposals.router,
    assignments.router,
    statements.router,
    adjustments.router,
    overrides.router,
    disputes.router,
    periods.router,
    payruns.router,
    held.router,
    held_changes.router,
    estimates.router,
    simulations.router,
    ledger.router,
    accounting.router,
    dead_letter_router("commissions"),
)
