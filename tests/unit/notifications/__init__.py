"""Alerts, routing, deliveries and channels."""
