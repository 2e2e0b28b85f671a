"""The dashboard, kept as code: the file that Grafana reads is generated."""
