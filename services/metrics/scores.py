"""SQL of published scores: what commissions credits, each a greater revision than the last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.metrics.domain.log import score_event
from services.metrics.stated_rows import Objective
from shared.clock import to_text as instant_text
from shared.events.catalogue import METRICS_TARGETS
from shared.events.targets import ObjectiveScoreData
from shared.money import to_text
from shared.runtime.outbox import add_to_outbox

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def publish_score(tx: Connection, scored: Objective) -> None:
    """Tell the score of an objective, or, once it is deleted, that it has none.

    The revision goes on where an objective is deleted and stated again under another id: readers
    know the score by person, objective and period.
    """
    if scored.score is None or scored.scored_at is None:
        return
    revision = await tx.fetchval(
        "INSERT INTO published_score (person, objective, period, revision) VALUES ($1, $2, $3, 1) "
        "ON CONFLICT (person, objective, period) "
        "DO UPDATE SET revision = published_score.revision + 1 RETURNING revision",
        scored.person,
        scored.objective,
        scored.period,
    )
    told = ObjectiveScoreData(
        objective=scored.objective,
        person=scored.person,
        period=scored.period,
        score=to_text(scored.score),
        scored_at=instant_text(scored.scored_at),
        revision=revision,
        deleted=scored.deleted,
    )
    await add_to_outbox(tx, METRICS_TARGETS, [score_event(told, scored.changed_at)])
