"""HTTP: KPIs, attainment, targets, deals, episodes, dead letters."""

from services.metrics.api import (
    allocations,
    attainment,
    deals,
    episodes,
    goals,
    kpis,
    objectives,
    quota_import,
    quotas,
    reliefs,
    standards,
)
from shared.http.dead_letters import dead_letter_router

ROUTERS = (
    kpis.router,
    attainment.router,
    # Before quotas: their paths would be read as ids.
    allocations.router,
    quota_import.router,
    quotas.router,
    reliefs.router,
    objectives.router,
    goals.router,
    standards.router,
    deals.router,
    episodes.router,
    dead_letter_router("metrics"),
)
