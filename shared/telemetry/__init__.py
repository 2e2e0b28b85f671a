"""What can be seen of a running service: one catalogue of metrics, structured logs, traces."""
