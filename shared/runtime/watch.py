"""What waits in a consumer's schema, shown as metrics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from shared.runtime.ticks import Periodic

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.runtime.lifecycle import Task
    from shared.telemetry.catalogue import Telemetry

INTERVAL_S = 5.0
COUNT_LIMIT = 100_000
"""Counting stops here: that many wait, or more."""

MARKS = """
    SELECT waiting.kind, count(*) AS marks
    FROM (SELECT kind FROM mark LIMIT $1) AS waiting GROUP BY waiting.kind
"""
SWEEP = """
    SELECT count(*) FROM (
        SELECT FROM root WHERE kind = ANY($1::text[])
        AND reference_version < (SELECT version FROM reference_version) LIMIT $2
    ) AS older
"""


def watch(pool: Pool, telemetry: Telemetry, root_kinds: Sequence[str] = ()) -> Task:
    """The task that counts. root_kinds: those the service projects, none where it does not."""
    return Periodic("watch", INTERVAL_S, partial(look, pool, telemetry, root_kinds)).run


async def look(pool: Pool, telemetry: Telemetry, root_kinds: Sequence[str]) -> None:
    """Count once: open dead letters; marks by kind; roots that older reference data made."""
    letters = await pool.fetchval(
        "SELECT count(*) FROM (SELECT FROM dead_letter WHERE state = 'open' LIMIT $1) AS waiting",
        COUNT_LIMIT,
    )
    telemetry.dead_letters_waiting.set(letters)
    if not root_kinds:
        return
    marks = {row["kind"]: row["marks"] for row in await pool.fetch(MARKS, COUNT_LIMIT)}
    for kind in root_kinds:
        telemetry.marks_waiting.labels(root=kind).set(marks.get(kind, 0))
    telemetry.sweep_waiting.set(await pool.fetchval(SWEEP, list(root_kinds), COUNT_LIMIT))
