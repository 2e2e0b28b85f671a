"""Alembic's entry for the schema `commissions`."""

from services.commissions.tables import metadata
from shared.db.migrate import run_environment

run_environment(metadata)
