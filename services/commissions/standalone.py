"""What is no deal's: activities of no deal, and scored objectives. Roots of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from services.commissions.crediting import Contribution, credited, write_differences
from services.commissions.domain.activities import completed
from services.commissions.domain.credits import CreditEvent
from services.commissions.reference import Reference
from services.commissions.targets import ScoreKey, load_scores
from shared.facts.settle import LockedRoot, Projected
from shared.facts.store import load_records

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def project_activities(
    tx: Connection, roots: Sequence[LockedRoot], reference: Reference
) -> Projected:
    """Credit activities; one that names a deal is the deal's to credit."""
    found = await activity_contributions(tx, [root.key.id for root in roots], reference)
    return await write_differences(tx, _made(roots, found), reference)


async def project_scores(
    tx: Connection, roots: Sequence[LockedRoot], reference: Reference
) -> Projected:
    """Credit scored objectives."""
    found = await score_contributions(tx, [root.key.id for root in roots], reference)
    return await write_differences(tx, _made(roots, found), reference)


async def activity_contributions(
    tx: Connection, ids: Sequence[str], reference: Reference
) -> dict[str, Contribution]:
    """Activity → what it contributes."""
    records = await load_records(tx, "activity", ids)
    found = {}
    for activity_id in ids:
        activity = records.get(activity_id)
        event = None
        if activity is not None and not activity.value("deal"):
            event = completed(activity_id, activity, reference.identities)
        found[activity_id] = _contribution(f"activity/{activity_id}", event, reference)
    return found


async def score_contributions(
    tx: Connection, ids: Sequence[str], reference: Reference
) -> dict[str, Contribution]:
    """Scored objective, by its root's id → what it contributes."""
    scores = await load_scores(tx, [ScoreKey.of(root_id) for root_id in ids])
    return {
        root_id: _contribution(
            f"objective_score/{root_id}", scores.get(ScoreKey.of(root_id)), reference
        )
        for root_id in ids
    }


def _made(
    roots: Sequence[LockedRoot], found: Mapping[str, Contribution]
) -> list[tuple[LockedRoot, str, Contribution]]:
    return [(root, f"{root.key.kind}/{root.key.id}", found[root.key.id]) for root in roots]


def _contribution(name: str, event: CreditEvent | None, reference: Reference) -> Contribution:
    if event is None:
        return Contribution()
    events = [event]
    return credited(name, lambda _plan: events, reference)
