"""HTTP: KPIs, attainment, quotas, deals, episodes; dead letters; and the clock, where it is set."""

from services.metrics.api import attainment, clock, deals, episodes, kpis, quotas
from shared.http.dead_letters import dead_letter_router

ROUTERS = (
    kpis.router,
    attainment.router,
    quotas.router,
    deals.router,
    episodes.router,
    dead_letter_router("metrics"),
)
CLOCK_ROUTER = clock.router
"""Only where time comes from outside."""
