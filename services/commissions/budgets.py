"""Budgets that all payees of a plan share: the one link between accounts.

A root `budget` (`<plan>|<component>`) is settled after what gives credits and before accounts. Its
lock is the budget's: one transaction at a time divides it, over every credit that is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from services.commissions.crediting import touched_account
from services.commissions.domain.credits import Credit, credit_from_row
from services.commissions.domain.given import Grant
from services.commissions.domain.plan import Plan
from services.commissions.domain.spiff import spend_budget
from services.commissions.needs import budgets_in
from services.commissions.reference import Reference
from services.commissions.store import AccountKey
from shared.facts.marks import Touched
from shared.facts.settle import LockedRoot, Projected, Settled
from shared.money import quantise

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

BudgetKey = tuple[str, str]
"""Plan, component."""


async def project_budgets(
    tx: Connection, roots: Sequence[LockedRoot], reference: Reference
) -> Projected:
    """Divide budgets anew; write the grants that changed, and have their accounts follow."""
    keys = [_key(root.key.id) for root in roots]
    credits_ = await _credits(tx, keys)
    stored = await _stored(tx, keys)
    gone: list[tuple[str, str, str]] = []
    new: list[tuple[BudgetKey, Credit, Grant]] = []
    followers: set[Touched] = set()
    for key in keys:
        plan_id, component_id = key
        mine = credits_.get(key, {})
        plan = reference.plans.get(plan_id)
        now = spend_budget(plan, component_id, mine.values()) if plan is not None else {}
        was = stored.get(key, {})
        for name in sorted({*was, *now}):
            if was.get(name) == now.get(name):
                continue
            if name in was:
                gone.append((plan_id, component_id, name))
            if name in now:
                credit = mine[name]
                new.append((key, credit, now[name]))
                account = AccountKey(credit.payee, plan_id)
                window = reference.windows(plan_id).at(credit.day)
                followers.add(touched_account(account, window.label))
    await _write(tx, gone, new)
    return Projected([Settled(root, None) for root in roots], followers)


def _key(root_id: str) -> BudgetKey:
    plan_id, _, component_id = root_id.partition("|")
    return plan_id, component_id


async def _credits(tx: Connection, keys: Sequence[BudgetKey]) -> dict[BudgetKey, dict[str, Credit]]:
    """All credits that budgets pay, by key; one that moves between deals once."""
    found: dict[BudgetKey, dict[str, Credit]] = {}
    for row in await tx.fetch(
        "SELECT c.plan_id, c.budget, c.document::text AS document FROM credit c "
        "JOIN unnest($1::text[], $2::text[]) AS b(plan_id, budget) USING (plan_id, budget) "
        "WHERE c.budget IS NOT NULL ORDER BY c.key, c.deal_id DESC",
        [plan_id for plan_id, _ in keys],
        [component_id for _, component_id in keys],
    ):
        credit = credit_from_row(msgspec.json.decode(row["document"]))
        found.setdefault((row["plan_id"], row["budget"]), {})[credit.key] = credit
    return found


async def _stored(tx: Connection, keys: Sequence[BudgetKey]) -> dict[BudgetKey, dict[str, Grant]]:
    found: dict[BudgetKey, dict[str, Grant]] = {}
    for row in await tx.fetch(
        "SELECT g.* FROM budget_grant g JOIN unnest($1::text[], $2::text[]) "
        "AS b(plan_id, component_id) USING (plan_id, component_id)",
        [plan_id for plan_id, _ in keys],
        [component_id for _, component_id in keys],
    ):
        found.setdefault((row["plan_id"], row["component_id"]), {})[row["key"]] = _grant(row)
    return found


def _grant(row: asyncpg.Record) -> Grant:
    return Grant(*(quantise(row[name]) for name in ("asked", "granted", "spent_before", "budget")))


async def _write(
    tx: Connection,
    gone: Sequence[tuple[str, str, str]],
    new: Sequence[tuple[BudgetKey, Credit, Grant]],
) -> None:
    if gone:
        await tx.execute(
            "DELETE FROM budget_grant g USING unnest($1::text[], $2::text[], $3::text[]) "
            "AS o(plan_id, component_id, key) WHERE g.plan_id = o.plan_id "
            "AND g.component_id = o.component_id AND g.key = o.key",
            *(list(column) for column in zip(*gone, strict=True)),
        )
    if new:
        await tx.execute(
            "INSERT INTO budget_grant (plan_id, component_id, key, payee, day, asked, granted, "
            "spent_before, budget) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], "
            "$4::text[], $5::date[], $6::numeric[], $7::numeric[], $8::numeric[], $9::numeric[])",
            [key[0] for key, _, _ in new],
            [key[1] for key, _, _ in new],
            [credit.key for _, credit, _ in new],
            [credit.payee for _, credit, _ in new],
            [credit.day for _, credit, _ in new],
            [grant.asked for _, _, grant in new],
            [grant.granted for _, _, grant in new],
            [grant.spent_before for _, _, grant in new],
            [grant.budget for _, _, grant in new],
        )


async def load_grants(
    tx: Connection, accounts: Sequence[AccountKey]
) -> dict[AccountKey, dict[str, Grant]]:
    """Account → credit key → what it gets."""
    found: dict[AccountKey, dict[str, Grant]] = {}
    for row in await tx.fetch(
        "SELECT g.* FROM budget_grant g JOIN unnest($1::text[], $2::text[]) AS a(payee, plan_id) "
        "USING (payee, plan_id)",
        [account.payee for account in accounts],
        [account.plan_id for account in accounts],
    ):
        account = AccountKey(row["payee"], row["plan_id"])
        found.setdefault(account, {})[row["key"]] = _grant(row)
    return found


async def grants_with(
    tx: Connection,
    plan: Plan,
    needs: frozenset[str],
    extra: Sequence[Credit],
    without_deal: str | None,
) -> Mapping[str, Grant]:
    """How the plan's budgets would be divided with other credits in place of a deal's."""
    found: dict[str, Grant] = {}
    for component_id in budgets_in(needs):
        key = (plan.id, component_id)
        stored = (await _credits(tx, [key])).get(key, {})
        others = [credit for credit in stored.values() if credit.deal_id != without_deal]
        mine = [credit for credit in extra if credit.component_id == component_id]
        found |= spend_budget(plan, component_id, [*others, *mine])
    return found
