"""HTTP: alerts, the delivery log, and how people want to hear."""

from services.notifications.api import alerts, deliveries, subscriptions

ROUTERS = (alerts.router, deliveries.router, subscriptions.router)
