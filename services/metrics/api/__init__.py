"""HTTP: KPIs, attainment, quotas, deals, episodes, dead letters."""

from services.metrics.api import attainment, deals, episodes, kpis, quotas
from shared.http.dead_letters import dead_letter_router

ROUTERS = (
    kpis.router,
    attainment.router,
    quotas.router,
    deals.router,
    episodes.router,
    dead_letter_router("metrics"),
)
