"""The command `attain`: everything it can do, gathered from the parts that do it."""

from __future__ import annotations

from services.commissions.cli import app as plan_app
from shared.cli import app

app.add_typer(plan_app, name="plan")

__all__ = ["app"]

if __name__ == "__main__":
    app()
