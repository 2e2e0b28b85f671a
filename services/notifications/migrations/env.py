"""Alembic's entry for the schema `notifications`."""

from services.notifications.tables import metadata
from shared.db.migrate import run_environment

run_environment(metadata)
