"""What is no deal's: activities of no deal, and scored objectives. Roots of their own."""

from __future__ import annotations

from collections.abc import Sequence
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
    records = await load_records(tx, "activity", [root.key.id for root in roots])
    made = []
    for root in roots:
        activity = records.get(root.key.id)
        event = None
        if activity is not None and not activity.value("deal"):
            event = completed(root.key.id, activity, reference.identities)
        made.append(_contribution(root, event, reference))
    return await write_differences(tx, made, reference)


async def project_scores(
    tx: Connection, roots: Sequence[LockedRoot], reference: Reference
) -> Projected:
    """Credit scored objectives."""
    scores = await load_scores(tx, [ScoreKey.of(root.key.id) for root in roots])
    made = [_contribution(root, scores.get(ScoreKey.of(root.key.id)), reference) for root in roots]
    return await write_differences(tx, made, reference)


def _contribution(
    root: LockedRoot, event: CreditEvent | None, reference: Reference
) -> tuple[LockedRoot, str, Contribution]:
    name = f"{root.key.kind}/{root.key.id}"
    if event is None:
        return root, name, Contribution()
    events = [event]
    return root, name, credited(name, lambda _plan: events, reference)
