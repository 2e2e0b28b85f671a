"""Alembic's entry for the schema `ingest`."""

from services.ingest.tables import metadata
from shared.db.migrate import run_environment

run_environment(metadata)
