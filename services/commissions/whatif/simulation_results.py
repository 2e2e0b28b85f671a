"""What a simulation comes to: cost, winners and losers, how changes are spread, tiers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import asyncpg

from services.commissions.domain.rates import ZERO
from services.commissions.reference import Reference
from services.commissions.whatif.differences import AccountDifference, TierReached
from shared.money import EXACT, exact_sum, to_text

if TYPE_CHECKING:
    from shared.db.pool import Pool

SHOWN = 10
"""Winners and losers in the summary; all of them are in the list of accounts."""

BOUNDS = tuple(Decimal(bound).scaleb(-2) for bound in (-50, -20, -10, -5, -1, 1, 5, 10, 20, 50))
"""Changes as shares of what was earned before, which divide accounts into groups."""


@dataclass(slots=True)
class _Cost:
    """What all payees of a plan earn in a period."""

    currency: str
    start: str
    closed: bool
    before: Decimal = ZERO
    after: Decimal = ZERO
    moved: Decimal = ZERO
    payees: int = 0


@dataclass(slots=True)
class Summary:
    """Sums over accounts as they come, so that only the sums are held."""

    changed: Reference
    cost: dict[tuple[str, str], _Cost] = field(default_factory=dict)
    spread: dict[str, Counter[int | str]] = field(default_factory=dict)
    tiers: dict[tuple[str, str], Counter[tuple[str, int]]] = field(default_factory=dict)
    crossings: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    bounds: dict[tuple[str, str, int], TierReached] = field(default_factory=dict)

    def add(self, accounts: Sequence[AccountDifference]) -> None:
        """Take accounts in."""
        for account in accounts:
            self._add_cost(account)
            self._add_tiers(account)
            before = exact_sum(p.before for p in account.periods)
            after = exact_sum(p.after for p in account.periods)
            groups = self.spread.setdefault(account.account.plan_id, Counter())
            groups[_group(before, after)] += 1

    def _add_cost(self, account: AccountDifference) -> None:
        for said in account.periods:
            place = (account.account.plan_id, said.period)
            cost = self.cost.get(place)
            if cost is None:
                cost = _Cost(account.currency, said.start.isoformat(), said.closed)
                self.cost[place] = cost
            change = EXACT.subtract(said.after, said.before)
            cost.before = EXACT.add(cost.before, said.before)
            cost.after = EXACT.add(cost.after, said.after)
            cost.moved = EXACT.add(cost.moved, abs(change))
            cost.payees += bool(change)

    def _add_tiers(self, account: AccountDifference) -> None:
        plan_id = account.account.plan_id
        for tier in account.tiers:
            place = (plan_id, tier.component)
            counted = self.tiers.setdefault(place, Counter())
            for side, reached in (("before", tier.before), ("after", tier.after)):
                if reached is not None:
                    counted[side, reached.place] += 1
            if tier.before is not None:
                self.bounds.setdefault((*place, tier.before.place), tier.before)
            if tier.after is not None:
                self.bounds[*place, tier.after.place] = tier.after
            if tier.crosses:
                up = (tier.after.place if tier.after else 0) > (
                    tier.before.place if tier.before else 0
                )
                self.crossings[plan_id, tier.component, "up" if up else "down"] += 1

    async def result(
        self, pool: Pool, simulation_id: str, *, recalculating: bool
    ) -> dict[str, Any]:
        """The summary as JSON values, with the accounts that gain and lose most."""
        return {
            "recalculating": recalculating,
            "plans": [
                await self._plan(pool, simulation_id, plan_id) for plan_id in sorted(self.spread)
            ],
        }

    async def _plan(self, pool: Pool, simulation_id: str, plan_id: str) -> dict[str, Any]:
        periods = sorted(
            ((period, cost) for (plan, period), cost in self.cost.items() if plan == plan_id),
            key=lambda found: found[1].start,
        )
        row = await pool.fetchrow(
            "SELECT count(*) AS payees, count(*) FILTER (WHERE after > before) AS winners, "
            "count(*) FILTER (WHERE after < before) AS losers, "
            "coalesce(sum(after - before) FILTER (WHERE after > before), 0) AS gained, "
            "coalesce(sum(before - after) FILTER (WHERE after < before), 0) AS lost "
            "FROM simulation_account WHERE simulation_id = $1 AND plan_id = $2",
            simulation_id,
            plan_id,
        )
        counts = {} if row is None else dict(row)
        return {
            "plan": plan_id,
            "currency": periods[0][1].currency if periods else self._currency(plan_id),
            "before": to_text(exact_sum(cost.before for _, cost in periods)),
            "after": to_text(exact_sum(cost.after for _, cost in periods)),
            "payees": counts["payees"],
            "winners": counts["winners"],
            "losers": counts["losers"],
            "gained": to_text(counts["gained"]),
            "lost": to_text(counts["lost"]),
            "top_winners": await _most(pool, simulation_id, plan_id, "DESC"),
            "top_losers": await _most(pool, simulation_id, plan_id, "ASC"),
            "periods": [
                {
                    "period": period,
                    "closed": cost.closed,
                    "before": to_text(cost.before),
                    "after": to_text(cost.after),
                    "moved": to_text(cost.moved),
                    "payees": cost.payees,
                }
                for period, cost in periods
            ],
            "distribution": _distribution(self.spread[plan_id]),
            "tiers": self._tier_counts(plan_id),
        }

    def _currency(self, plan_id: str) -> str:
        plan = self.changed.plans.get(plan_id)
        return "" if plan is None else plan.versions[0].currency

    def _tier_counts(self, plan_id: str) -> list[dict[str, Any]]:
        found = []
        for (plan, component), counted in sorted(self.tiers.items()):
            if plan != plan_id:
                continue
            tiers = []
            for place in sorted({place for _, place in counted}):
                reached = self.bounds.get((plan, component, place))
                tiers.append(
                    {
                        "tier": place + 1,
                        "begins_at": None if reached is None else to_text(reached.begins_at),
                        "rate": None if reached is None else to_text(reached.rate),
                        "measures_before": counted["before", place],
                        "measures_after": counted["after", place],
                    }
                )
            found.append(
                {
                    "component": component,
                    "crossings_up": self.crossings[plan, component, "up"],
                    "crossings_down": self.crossings[plan, component, "down"],
                    "tiers": tiers,
                }
            )
        return found


def _group(before: Decimal, after: Decimal) -> int | str:
    """The number of bounds that the change reaches; `new` where nothing was earned before."""
    if before == after:
        return "same"
    if before <= 0:
        return "new"
    change = EXACT.subtract(after, before)
    # Multiplied, since a quotient would have to be rounded.
    return sum(1 for bound in BOUNDS if change >= EXACT.multiply(bound, before))


def _distribution(groups: Counter[int | str]) -> list[dict[str, Any]]:
    """How many payees change by which share of before: `share` from (included) up to `to`.

    `same`: not at all; `new`: nothing was earned before, so there is no share.
    """
    edges: list[Decimal | None] = [None, *BOUNDS, None]
    found = [
        {
            "group": "share",
            "from": None if low is None else to_text(low),
            "to": None if high is None else to_text(high),
            "payees": groups[place],
        }
        for place, (low, high) in enumerate(pairwise(edges))
    ]
    return [
        {"group": "same", "from": None, "to": None, "payees": groups["same"]},
        *found,
        {"group": "new", "from": None, "to": None, "payees": groups["new"]},
    ]


async def _most(pool: Pool, simulation_id: str, plan_id: str, order: str) -> list[dict[str, str]]:
    rows: list[asyncpg.Record] = await pool.fetch(
        "SELECT payee, before, after FROM simulation_account WHERE simulation_id = $1 "  # noqa: S608
        f"AND plan_id = $2 AND (after - before) {'>' if order == 'DESC' else '<'} 0 "
        f"ORDER BY (after - before) {order}, payee LIMIT $3",
        simulation_id,
        plan_id,
        SHOWN,
    )
    return [
        {
            "payee": row["payee"],
            "before": to_text(row["before"]),
            "after": to_text(row["after"]),
            "change": to_text(EXACT.subtract(row["after"], row["before"])),
        }
        for row in rows
    ]
