"""Alembic's entry for the schema `metrics`."""

from services.metrics.tables import metadata
from shared.db.migrate import run_environment

run_environment(metadata)
