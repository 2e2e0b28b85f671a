"""HTTP: KPIs, attainment, quotas, deals, episodes; dead letters; and the clock, where it is set."""

from services.metrics.api import attainment, clock, dead_letters, deals, episodes, kpis, quotas

ROUTERS = (
    kpis.router,
    attainment.router,
    quotas.router,
    deals.router,
    episodes.router,
    dead_letters.router,
)
CLOCK_ROUTER = clock.router
"""Only where time comes from outside."""
