"""From folded activities and published scores to what may be credited."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from services.commissions.domain.credit import CreditEvent
from services.commissions.domain.terms import CreditOn
from services.commissions.domain.vocabulary import ACTIVITY_FIELDS
from shared.clock import parse_instant, to_epoch_ms
from shared.facts.record import Record
from shared.facts.reference import Identities


def completed(
    activity_id: str,
    activity: Record,
    identities: Identities,
    deal_id: str = "",
    deal_fields: Mapping[str, object] | None = None,
) -> CreditEvent | None:
    """A completed activity of its owner's; None while it is not done, or cancelled or deleted.

    deal_fields: what formulas may ask of its deal, where it has one.
    """
    done = activity.value("completed_at")
    if done is None or activity.value("cancelled") is True or activity.value("deleted") is True:
        return None
    instant = parse_instant(done)
    owner = activity.value("owner")
    own: dict[str, object] = {}
    for name in sorted(ACTIVITY_FIELDS - {"owner"}):
        value = activity.value(name)
        if value is not None:
            own[name] = Decimal(value) if name == "duration_s" else value
    said = ("completed_at", "owner", "kind", "outcome", "deal")
    return CreditEvent(
        key=f"activity:{activity_id}",
        on=CreditOn.ACTIVITY_COMPLETED,
        deal_id=deal_id,
        instant=instant,
        amount=None,
        currency=None,
        owner=None if owner is None else identities.person(owner, to_epoch_ms(instant)),
        fields={"activity": own, "deal": deal_fields or {}},
        source_ids=tuple(
            sorted({s.event_id for name in said if (s := activity.latest(name)) is not None})
        ),
    )


def scored(  # noqa: PLR0913 - the parts of one score
    *,
    objective: str,
    person: str,
    period: str,
    score: Decimal,
    scored_at: datetime,
    source_id: str,
) -> CreditEvent:
    """An objective that was scored for a person and a period. score: a fraction."""
    return CreditEvent(
        key=f"objective:{objective}:{person}:{period}",
        on=CreditOn.OBJECTIVE_SCORED,
        deal_id="",
        instant=scored_at,
        amount=score,
        currency=None,
        owner=person,
        fields={"objective": {"id": objective, "score": score}},
        source_ids=(source_id,),
    )
