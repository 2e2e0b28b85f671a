"""Runs every planted bug through the scenario that must notice it, and counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from deploy.embedded.stack import Endpoints
from tests.chaos.planted import BUGS, caught
from tests.support.stack import fresh_database


@dataclass(slots=True)
class Planting:
    """How many bugs were planted, and the names of those that nobody noticed."""

    total: int = 0
    missed: list[str] = field(default_factory=list)

    @property
    def caught(self) -> int:
        """How many were noticed."""
        return self.total - len(self.missed)


async def plant_all(endpoints: Endpoints, note: Callable[[str], None]) -> Planting:
    """Plant each bug alone, on a database and topics of its own."""
    planting = Planting()
    async with fresh_database(endpoints.database_url) as url:
        for bug in BUGS.values():
            prefix = f"planted{planting.total}."
            planting.total += 1
            bootstrap = endpoints.kafka_bootstrap
            if await caught(bug, url=url, bootstrap=bootstrap, prefix=prefix):
                continue
            planting.missed.append(bug.name)
            note(f"planted and not noticed: {bug.name}")
    return planting
