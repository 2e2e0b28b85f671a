"""SQL of reliefs: what is to be taken off a quota, and whether a second person agreed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias

from services.metrics.domain.log import planned_event
from shared.events.catalogue import METRICS_JOURNAL
from shared.events.planned import RELIEF, ReliefData, TakenOffData
from shared.money import to_text
from shared.runtime.outbox import add_to_outbox

if TYPE_CHECKING:
    from shared.db.pool import Connection

State: TypeAlias = Literal["proposed", "approved", "refused", "withdrawn"]
_COLUMNS = (
    "quota_id, number, amount, share, reason, state, asked_by, asked_at, decided_by, decided_at, "
    "before_amount, after_amount, one_seat, revision"
)


@dataclass(frozen=True, slots=True)
class StoredRelief:
    """One relief as stored. amount or share: the other None."""

    quota_id: str
    number: int
    amount: Decimal | None
    share: str | None
    reason: str
    state: State
    asked_by: str
    asked_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    before_amount: Decimal | None
    after_amount: Decimal | None
    one_seat: bool
    revision: int

    def taken_off(self) -> TakenOffData:
        """As it stands in the terms of its quota; the figures there are made anew."""
        return TakenOffData(
            number=self.number,
            amount=_text(self.amount),
            share=self.share,
            reason=self.reason,
            before="0",
            after="0",
        )


async def reliefs_of(tx: Connection, quota_id: str) -> list[StoredRelief]:
    """All reliefs of a quota, in the order in which they were asked for."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM quota_relief WHERE quota_id = $1 ORDER BY number",  # noqa: S608
        quota_id,
    )
    return [StoredRelief(**dict(row)) for row in rows]


async def approved_reliefs(
    tx: Connection, quota_ids: Collection[str]
) -> dict[str, list[TakenOffData]]:
    """Quota → those that count, in the order in which they were asked for."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM quota_relief WHERE quota_id = ANY($1::text[]) "  # noqa: S608
        "AND state = 'approved' ORDER BY quota_id, number",
        list(quota_ids),
    )
    found: dict[str, list[TakenOffData]] = {}
    for row in rows:
        relief = StoredRelief(**dict(row))
        found.setdefault(relief.quota_id, []).append(relief.taken_off())
    return found


async def save_relief(tx: Connection, relief: StoredRelief, by: str, now: datetime) -> None:
    """Store a relief and journal it. The quota's row is held."""
    await tx.execute(
        f"""
        INSERT INTO quota_relief ({_COLUMNS})
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        ON CONFLICT (quota_id, number) DO UPDATE SET
            state = excluded.state, decided_by = excluded.decided_by,
            decided_at = excluded.decided_at, before_amount = excluded.before_amount,
            after_amount = excluded.after_amount, one_seat = excluded.one_seat,
            revision = excluded.revision
        """,  # noqa: S608 - constants
        relief.quota_id,
        relief.number,
        relief.amount,
        relief.share,
        relief.reason,
        relief.state,
        relief.asked_by,
        relief.asked_at,
        relief.decided_by,
        relief.decided_at,
        relief.before_amount,
        relief.after_amount,
        relief.one_seat,
        relief.revision,
    )
    said = ReliefData(
        quota=relief.quota_id,
        number=relief.number,
        amount=_text(relief.amount),
        share=relief.share,
        reason=relief.reason,
        state=relief.state,
        asked_by=relief.asked_by,
        decided_by=relief.decided_by,
        before=_text(relief.before_amount),
        after=_text(relief.after_amount),
        one_seat=relief.one_seat,
        revision=relief.revision,
        actor=by,
    )
    subject = f"relief/{relief.quota_id}/{relief.number}"
    event = planned_event(RELIEF, subject, relief.revision, said, now)
    await add_to_outbox(tx, METRICS_JOURNAL, [event])


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else to_text(amount)
