"""Who hears what, where and when: alerts, routing and deliveries."""
