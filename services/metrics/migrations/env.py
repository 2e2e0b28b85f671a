"""Alembic's entry for the schema `metrics`."""

from services.metrics.target_tables import metadata
from shared.db.migrate import run_environment

run_environment(metadata)
