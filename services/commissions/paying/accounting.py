"""What finance books of commissions: liability by period, and the cost of contracts by month.

All of it is read from statements as they stand, and as closes fixed them, which is what the ledger
was posted from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from services.commissions.domain.capitalised import (
    Contract,
    FixedLine,
    Layer,
    Month,
    layers_of,
    month_of,
)
from services.commissions.domain.lines import LineKind
from services.commissions.domain.plan import Plan
from services.commissions.store import AccountKey
from shared.clock import parse_instant
from shared.money import EXACT, quantise

if TYPE_CHECKING:
    import asyncpg

    from services.commissions.reference import Reference
    from shared.db.pool import Connection

MOVES_ONLY = frozenset({LineKind.HOLD.value, LineKind.RELEASE.value})
"""Lines that say when a cost is paid, and add nothing to it."""

LineKey = tuple[str, str]
"""A statement's period, and a line's key."""


async def liability(tx: Connection, visible: Sequence[str] | None) -> list[asyncpg.Record]:
    """By period and currency: earned, due, paid, held, carried. A closed period is as it was fixed.

    Of what is due in another currency, `due` and `paid` are in the plan's.
    """
    return await tx.fetch(
        """
        WITH told AS (
            SELECT payee, plan_id, period, start_day, end_day, currency, own, difference,
                   payable, held_pay, carry_out, true AS closed
            FROM fixed_statement
            UNION ALL
            SELECT s.payee, s.plan_id, s.period, s.start_day, s.end_day, s.currency, s.own,
                   s.difference, s.payable, s.held_pay, s.carry_out, false
            FROM statement s
            WHERE NOT EXISTS (SELECT FROM fixed_statement f WHERE f.payee = s.payee
                              AND f.plan_id = s.plan_id AND f.period = s.period)
        ), paid AS (
            SELECT payee, plan_id, period, sum(plan_amount) AS amount
            FROM pay_run_line WHERE state = 'paid' GROUP BY payee, plan_id, period
        )
        SELECT t.period, t.start_day, t.currency, bool_and(t.closed) AS closed,
               count(*) AS statements, sum(t.own) AS own, sum(t.difference) AS difference,
               sum(t.payable) AS due, sum(coalesce(p.amount, 0)) AS paid,
               sum(t.held_pay) AS held, sum(t.carry_out) AS carried
        FROM told t LEFT JOIN paid p USING (payee, plan_id, period)
        WHERE $1::text[] IS NULL OR t.payee = ANY($1)
        GROUP BY t.period, t.start_day, t.currency
        ORDER BY t.start_day, t.period, t.currency
        """,
        visible,
    )


async def capitalising_accounts(
    tx: Connection,
    reference: Reference,
    visible: Sequence[str] | None,
    after: AccountKey,
    limit: int,
) -> list[AccountKey]:
    """Accounts, in order, under plans that spread the cost of any component."""
    plans = [plan_id for plan_id, plan in reference.plans.items() if _spread_over(plan)]
    rows = await tx.fetch(
        "SELECT DISTINCT payee, plan_id FROM statement WHERE plan_id = ANY($1::text[]) "
        "AND ($5::text[] IS NULL OR payee = ANY($5)) AND (payee, plan_id) > ($2, $3) "
        "ORDER BY payee, plan_id LIMIT $4",
        plans,
        after.payee,
        after.plan_id,
        limit,
        visible,
    )
    return [AccountKey(row["payee"], row["plan_id"]) for row in rows]


async def contracts_of(
    tx: Connection, reference: Reference, accounts: Sequence[AccountKey]
) -> dict[AccountKey, list[Contract]]:
    """The contracts of accounts whose cost is spread, in order of deal and component."""
    columns = ([a.payee for a in accounts], [a.plan_id for a in accounts])
    now, fixed = _Documents(), _Documents()
    for found, table in ((now, "statement"), (fixed, "fixed_statement")):
        for row in await tx.fetch(
            f"SELECT s.payee, s.plan_id, s.document::text AS document FROM {table} s "  # noqa: S608 - constants
            "JOIN unnest($1::text[], $2::text[]) AS a(payee, plan_id) USING (payee, plan_id) "
            "ORDER BY s.start_day",
            *columns,
        ):
            account = AccountKey(row["payee"], row["plan_id"])
            found.setdefault(account, []).append(msgspec.json.decode(row["document"]))
    ended = await _ended(tx, reference, *columns)
    open_month = month_of(await tx.fetchval("SELECT day FROM closed_until"))
    return {
        account: contracts_in(
            AccountStatements(
                reference.plans[account.plan_id],
                now.get(account, []),
                fixed.get(account, []),
                ended.get(account, {}),
                open_month,
            )
        )
        for account in accounts
    }


class _Documents(dict[AccountKey, list[dict[str, Any]]]):
    """Statements' documents by account, in the order of their periods."""


@dataclass(frozen=True, slots=True)
class AccountStatements:
    """One account: its statements as they would be today, and as closes fixed them.

    Both as the documents that readers are given, in the order of their periods. ended: (deal,
    component) → the month in which the deal was cancelled. open_month: the first that is open.
    """

    plan: Plan
    now: Sequence[Mapping[str, Any]]
    fixed: Sequence[Mapping[str, Any]]
    ended: Mapping[tuple[str, str], Month]
    open_month: Month


async def _ended(
    tx: Connection, reference: Reference, payees: Sequence[str], plans: Sequence[str]
) -> dict[AccountKey, dict[tuple[str, str], Month]]:
    """Account → (deal, component) → month in which the deal was cancelled, in the plan's zone."""
    rows = await tx.fetch(
        "SELECT c.payee, c.plan_id, c.deal_id, c.document->>'component_id' AS component, "
        "c.document->>'cancelled_at' AS cancelled_at FROM credit c "
        "JOIN unnest($1::text[], $2::text[]) AS a(payee, plan_id) USING (payee, plan_id) "
        "WHERE c.document->>'cancelled_at' IS NOT NULL",
        payees,
        plans,
    )
    found: dict[AccountKey, dict[tuple[str, str], Month]] = {}
    for row in rows:
        version = reference.plans[row["plan_id"]].versions[0]
        day = version.day_of(parse_instant(row["cancelled_at"]))
        account = AccountKey(row["payee"], row["plan_id"])
        found.setdefault(account, {})[row["deal_id"], row["component"]] = month_of(day)
    return found


def _spread_over(plan: Plan) -> dict[tuple[str, str], int]:
    """(version's hash, component) → months over which its cost is spread."""
    return {
        (version.hash, component.id): component.capitalised_months
        for version in plan.versions
        for component in version.components
        if component.capitalised_months is not None
    }


def contracts_in(account: AccountStatements) -> list[Contract]:
    """The contracts whose cost an account spreads, in order of deal and component."""
    months = _spread_over(account.plan)
    fixed = {
        (document["period"], line["key"]): line
        for document in account.fixed
        for line in document["lines"]
    }
    now = {
        (document["period"], line["key"]): line
        for document in account.now
        for line in document["lines"]
    }
    landed = _landed(account.fixed)
    starts = {document["period"]: document["start"] for document in (*account.now, *account.fixed)}
    layers: dict[tuple[str, str], list[Layer]] = {}
    over: dict[tuple[str, str], int] = {}
    for key in sorted({*fixed, *now}):
        line = fixed.get(key) or now[key]
        spread = months.get((line["plan_version"], line["component"]))
        if spread is None or line["deal"] is None or line["kind"] in MOVES_ONLY:
            continue
        contract = (line["deal"], line["component"])
        over.setdefault(contract, spread)
        day = date.fromisoformat(line.get("day") or starts[key[0]])
        was = fixed.get(key)
        layers.setdefault(contract, []).extend(
            layers_of(
                month_of(day),
                _amount(now.get(key)),
                None if was is None else FixedLine(_amount(was), landed.get(key, ())),
                account.open_month,
            )
        )
    currency = account.plan.versions[0].currency
    return [
        Contract(deal, component, currency, over[deal, component], tuple(made),
                 account.ended.get((deal, component)))
        for (deal, component), made in sorted(layers.items())
        if made
    ]  # fmt: skip


def _landed(fixed: Iterable[Mapping[str, Any]]) -> dict[LineKey, list[tuple[Month, Decimal]]]:
    """What later closes stated of changes to a closed line: recomputed - fixed, by their month."""
    found: dict[LineKey, list[tuple[Month, Decimal]]] = {}
    for document in fixed:
        month = month_of(date.fromisoformat(document["start"]))
        for entry in document["corrects"]:
            stated = EXACT.subtract(_number(entry["recomputed"]), _number(entry["fixed"]))
            found.setdefault((entry["period"], entry["line"]), []).append((month, stated))
    return found


def _amount(line: Mapping[str, Any] | None) -> Decimal:
    return Decimal(0) if line is None else _number(line["amount"])


def _number(text: str) -> Decimal:
    return quantise(Decimal(text))
