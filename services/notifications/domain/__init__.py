"""Alerts, routing and deliveries: pure rules, without clock, chance or I/O."""
