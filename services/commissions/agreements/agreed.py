"""What was approved beside the plans, as rating reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from services.commissions.domain.agreed import Adjustment, Agreement, Override
from services.commissions.domain.plan import DayRange
from services.commissions.store import AccountKey
from shared.events.journals import ADJUSTMENT, OVERRIDE
from shared.ids import derived_id
from shared.money import quantise

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

PROPOSED = 1
APPROVED = 2
"""Revisions of what is proposed, and of what was approved."""


@dataclass(slots=True)
class Agreed:
    """Of one account."""

    adjustments: list[Adjustment] = field(default_factory=list)
    overrides: list[Override] = field(default_factory=list)


NOTHING = Agreed()


async def load_agreed(
    tx: Connection, accounts: Sequence[AccountKey], since: date
) -> dict[AccountKey, Agreed]:
    """What was approved of accounts, for statements and credits from a day on. One query."""
    found: dict[AccountKey, Agreed] = {}
    for row in await tx.fetch(
        "SELECT a.payee, a.plan_id, a.adjustment_id AS id, '' AS component_id, "
        "NULL AS deal_id, a.amount, NULL::numeric AS rate, a.start_day AS first_day, "
        "a.start_day AS last_day, a.reason, a.asked_by, a.decided_by, a.dispute_id "
        "FROM adjustment a JOIN unnest($1::text[], $2::text[]) AS k(payee, plan_id) "
        "ON a.payee = k.payee AND a.plan_id = k.plan_id "
        "WHERE a.state = 'approved' AND a.start_day >= $3 "
        "UNION ALL SELECT o.payee, o.plan_id, o.override_id, o.component_id, o.deal_id, "
        "o.amount, o.rate, o.first_day, o.last_day, o.reason, o.asked_by, o.decided_by, "
        "o.dispute_id "
        "FROM override o JOIN unnest($1::text[], $2::text[]) AS k(payee, plan_id) "
        "ON o.payee = k.payee AND o.plan_id = k.plan_id "
        "WHERE o.state = 'approved' AND o.last_day >= $3 ORDER BY id",
        [account.payee for account in accounts],
        [account.plan_id for account in accounts],
        since,
    ):
        agreed = found.setdefault(AccountKey(row["payee"], row["plan_id"]), Agreed())
        if row["component_id"]:
            agreed.overrides.append(_override(row))
        else:
            agreed.adjustments.append(
                Adjustment(
                    _agreement(row, ADJUSTMENT.type, f"adjustment/{row['id']}"),
                    row["first_day"],
                    quantise(row["amount"]),
                )
            )
    return found


def _override(row: asyncpg.Record) -> Override:
    return Override(
        agreement=_agreement(row, OVERRIDE.type, f"override/{row['id']}"),
        component_id=row["component_id"],
        days=DayRange(row["first_day"], row["last_day"]),
        deal_id=row["deal_id"],
        amount=None if row["amount"] is None else quantise(row["amount"]),
        rate=None if row["rate"] is None else quantise(row["rate"]),
    )


def _agreement(row: asyncpg.Record, event: str, subject: str) -> Agreement:
    return Agreement(
        id=row["id"],
        event_id=derived_id(event, subject, str(APPROVED)),
        reason=row["reason"],
        asked_by=row["asked_by"],
        approved_by=row["decided_by"],
        dispute=row["dispute_id"],
    )


async def mark_adjusted(tx: Connection) -> None:
    """Mark the accounts that have something of their statement without any credit."""
    await tx.execute(
        "INSERT INTO mark (kind, root_id, part) SELECT DISTINCT 'account', "
        "payee || '|' || plan_id, '' FROM adjustment WHERE state = 'approved' ORDER BY 2"
    )
