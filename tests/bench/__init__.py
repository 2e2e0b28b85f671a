"""Measurements: what the services do in a second, each beside a floor measured in the same run."""
