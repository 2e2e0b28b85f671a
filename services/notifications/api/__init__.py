"""HTTP: alerts, the delivery log, how people want to hear, dead letters."""

from services.notifications.api import alerts, deliveries, subscriptions
from shared.http.dead_letters import dead_letter_router

ROUTERS = (
    alerts.router,
    deliveries.router,
    subscriptions.router,
    dead_letter_router("notifications"),
)
