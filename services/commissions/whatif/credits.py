"""What deals, activities and scores would credit otherwise: kept aside while a what-if runs.

The rows of `whatif_credit` say what differs from `credit` and `credit_exception`: another document,
or none. There may be as many as there are credits, so they are not held in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from services.commissions.crediting import Contribution, contributions
from services.commissions.domain.credits import (
    Credit,
    CreditException,
    credit_as_row,
    credit_from_row,
)
from services.commissions.domain.given import Grant
from services.commissions.domain.plan import Plan
from services.commissions.domain.spiff import spend_budget
from services.commissions.needs import ACTIVITIES, budgets_in
from services.commissions.rating import AccountState, exception_of
from services.commissions.reference import Reference
from services.commissions.standalone import activity_contributions, score_contributions
from services.commissions.store import UNASSIGNED, AccountKey, Waiting, canonical_json
from services.commissions.whatif.scope import root_kinds

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

ROOTS_AT_ONCE = 50
"""Roots credited without giving way: some tens of milliseconds."""

CREDIT, WAITING = "credit", "waiting"

Told = Callable[[int, int], Awaitable[None]]


class Aside(NamedTuple):
    """One row of whatif_credit. document: None where there would be nothing."""

    plan_id: str
    payee: str
    what: str
    root: str
    key: str
    day: date
    document: str | None


@dataclass(frozen=True, slots=True)
class Recrediting:
    """Credits every root anew under some plans of changed reference data.

    run: the name under which the differences are kept.
    """

    pool: Pool
    run: str
    changed: Reference
    plans: Sequence[str]

    async def all_roots(self, told: Told) -> None:
        """Root by root, chunk by chunk; told: (roots done, in all)."""
        plans = [self.changed.plans[p] for p in self.plans if p in self.changed.plans]
        stored = await self.pool.fetch(
            "SELECT DISTINCT split_part(deal_id, '/', 1) AS kind FROM credit "
            "WHERE plan_id = ANY($1::text[]) AND position('/' IN deal_id) > 0",
            list(self.plans),
        )
        # What is credited now may not be any more.
        kinds = {*root_kinds(plans), "deal", *(row["kind"] for row in stored)}
        total = await self.pool.fetchval(
            "SELECT count(*) FROM root WHERE kind = ANY($1::text[])", sorted(kinds)
        )
        done = 0
        for kind in sorted(kinds):
            after = ""
            while ids := await self._next(kind, after):
                rows = await self._differing(kind, ids)
                await self._keep(rows)
                after, done = ids[-1], done + len(ids)
                await told(done, max(done, total))
                await asyncio.sleep(0)

    async def _next(self, kind: str, after: str) -> list[str]:
        """Ids of roots, in order; with those that no plan has asked for yet."""
        more = ""
        if self._scoped.asks_for(ACTIVITIES) and kind == "activity":
            more = "UNION SELECT id FROM record WHERE kind = 'activity' AND parent IS NULL"
        if self._scoped.asks_for(ACTIVITIES) and kind == "deal":
            more = (
                "UNION SELECT substr(parent, 6) FROM record "
                "WHERE kind = 'activity' AND parent LIKE 'deal/%'"
            )
        rows = await self.pool.fetch(
            f"SELECT id FROM (SELECT id FROM root WHERE kind = $1 {more}) AS r "  # noqa: S608 - constants
            "WHERE id > $2 ORDER BY id LIMIT $3",
            kind,
            after,
            ROOTS_AT_ONCE,
        )
        return [row["id"] for row in rows]

    @property
    def _scoped(self) -> Reference:
        known = self.changed.plans
        return replace(self.changed, plans={p: known[p] for p in self.plans if p in known})

    async def _differing(self, kind: str, ids: Sequence[str]) -> list[Aside]:
        async with (
            self.pool.acquire() as tx,
            tx.transaction(isolation="repeatable_read", readonly=True),
        ):
            made = await _credited(tx, kind, ids, self._scoped)
            stored = await self._stored(tx, list(made))
        rows: list[Aside] = []
        for root, contribution in made.items():
            now = {_place(row): row for row in _rows(root, contribution)}
            was = {_place(row): row for row in stored.get(root, ())}
            rows += [row for place, row in now.items() if was.get(place) != row]
            rows += [row._replace(document=None) for place, row in was.items() if place not in now]
        return rows

    async def _stored(self, tx: Connection, roots: Sequence[str]) -> dict[str, list[Aside]]:
        found: dict[str, list[Aside]] = {}
        for row in await tx.fetch(
            "SELECT plan_id, payee, deal_id, key, day, document::text FROM credit "
            "WHERE deal_id = ANY($1::text[]) AND plan_id = ANY($2::text[])",
            roots,
            list(self.plans),
        ):
            plan_id, payee, root, key, day, document = row.values()
            aside = Aside(plan_id, payee, CREDIT, root, key, day, document)
            found.setdefault(root, []).append(aside)
        for row in await tx.fetch(
            "SELECT deal_id, kind, event_key, plan_id, component_id, payee, day, message "
            "FROM credit_exception WHERE deal_id = ANY($1::text[]) AND plan_id = ANY($2::text[]) "
            "AND kind <> $3 AND payee <> ''",
            roots,
            list(self.plans),
            UNASSIGNED,
        ):
            waiting = Waiting(*row.values())
            found.setdefault(waiting.deal_id, []).append(_aside(waiting.deal_id, waiting))
        return found

    async def _keep(self, rows: Sequence[Aside]) -> None:
        if rows:
            await self.pool.execute(
                "INSERT INTO whatif_credit (run, plan_id, payee, what, root, key, day, document) "
                "SELECT $1, plan_id, payee, what, root, key, day, document::json "
                "FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], "
                "$7::date[], $8::text[]) "
                "AS n(plan_id, payee, what, root, key, day, document)",
                self.run,
                *(list(column) for column in zip(*rows, strict=True)),
            )

    async def forget(self) -> None:
        """Remove what was kept."""
        await self.pool.execute("DELETE FROM whatif_credit WHERE run = $1", self.run)


def _place(row: Aside) -> tuple[str, str, str, str]:
    return row.plan_id, row.payee, row.what, row.key


def _rows(root: str, made: Contribution) -> list[Aside]:
    rows = [
        Aside(
            credit.plan_id,
            credit.payee,
            CREDIT,
            root,
            credit.key,
            credit.day,
            canonical_json(credit_as_row(credit)),
        )
        for credit in made.credits.values()
    ]
    rows += [
        _aside(root, entry) for entry in made.waiting if entry.kind != UNASSIGNED and entry.payee
    ]
    return rows


def _aside(root: str, entry: Waiting) -> Aside:
    key = f"{entry.kind}/{entry.event_key}/{entry.component_id}"
    document = canonical_json(entry)
    return Aside(entry.plan_id, entry.payee, WAITING, root, key, entry.day, document)


async def _credited(
    tx: Connection, kind: str, ids: Sequence[str], reference: Reference
) -> Mapping[str, Contribution]:
    """The name that rows go by → what the root contributes."""
    if kind == "deal":
        found, _ = await contributions(tx, ids, reference)
        return {deal_id: found[deal_id] for deal_id in ids}
    made = await (
        activity_contributions(tx, ids, reference)
        if kind == "activity"
        else score_contributions(tx, ids, reference)
    )
    return {f"{kind}/{root_id}": contribution for root_id, contribution in made.items()}


# ---- as accounts see it -----------------------------------------------------------------------


async def load_aside(
    tx: Connection, run: str, plan_id: str, payees: Sequence[str]
) -> dict[str, list[Aside]]:
    """Payee → what differs for them under one plan."""
    found: dict[str, list[Aside]] = {}
    for row in await tx.fetch(
        "SELECT plan_id, payee, what, root, key, day, document::text AS document "
        "FROM whatif_credit WHERE run = $1 AND plan_id = $2 AND payee = ANY($3::text[])",
        run,
        plan_id,
        list(payees),
    ):
        found.setdefault(row["payee"], []).append(Aside(*row.values()))
    return found


def overlay(state: AccountState, aside: Sequence[Aside], changed: Reference) -> None:
    """Put what would be credited in place of what is, from the state's first day on."""
    late = [row for row in aside if row.day >= state.since]
    credits_ = [c for found in state.credits.values() for c in found]
    state.credits = {}
    for credit in overlaid(credits_, late, state.plan):
        state.credits.setdefault(changed.year_of(credit.day), []).append(credit)
    if any(row.what == WAITING for row in late):
        waiting = {_told(entry): entry for found in state.waiting.values() for entry in found}
        state.waiting = {}
        for entry in _overlaid_waiting(waiting, late):
            state.waiting.setdefault(changed.year_of(entry.day), []).append(entry)


def overlaid(stored: Sequence[Credit], aside: Sequence[Aside], plan: Plan | None) -> list[Credit]:
    """Stored credits with others in their places, each of the version that would have made it.

    One that no version would have made is left out: it is of a deal that changed meanwhile.
    """
    kept = {credit.key: credit for credit in stored}
    said = [row for row in aside if row.what == CREDIT]
    for row in said:
        kept.pop(row.key, None)
    # A credit that moves to another deal is gone there and made here: made goes before gone.
    for row in said:
        if row.document is not None:
            kept[row.key] = credit_from_row(msgspec.json.decode(row.document))
    found = [] if plan is None else [stamped(credit, plan) for credit in kept.values()]
    return [credit for credit in found if credit is not None]


def stamped(credit: Credit, plan: Plan) -> Credit | None:
    """The credit as of the version in force on its day; None where that has no such component."""
    version = plan.version_on(credit.day)
    if version is None or all(c.id != credit.component_id for c in version.components):
        return None
    if version.hash == credit.version_hash:
        return credit
    return replace(credit, version_hash=version.hash)


def _told(entry: CreditException) -> tuple[str, str, str, str]:
    return entry.event_key, entry.kind.value, entry.component_id, entry.deal_id


def _overlaid_waiting(
    stored: Mapping[tuple[str, str, str, str], CreditException], aside: Sequence[Aside]
) -> list[CreditException]:
    kept = dict(stored)
    made = {}
    for row in aside:
        if row.what != WAITING:
            continue
        gone = [k for k in kept if f"{k[1]}/{k[0]}/{k[2]}" == row.key]
        for place in gone:
            del kept[place]
        if row.document is not None:
            entry = exception_of(msgspec.json.decode(row.document, type=Waiting))
            made[_told(entry)] = entry
    kept |= made
    return [kept[place] for place in sorted(kept)]


async def grants_otherwise(
    tx: Connection, run: str, plan: Plan, needs: frozenset[str]
) -> dict[AccountKey, dict[str, Grant]]:
    """How the plan's common budgets would be divided over all credits."""
    found: dict[AccountKey, dict[str, Grant]] = {}
    for component_id in budgets_in(needs):
        stored = {}
        for row in await tx.fetch(
            "SELECT document::text AS document FROM credit WHERE plan_id = $1 "
            "AND document ->> 'component_id' = $2 ORDER BY key, deal_id DESC",
            plan.id,
            component_id,
        ):
            credit = credit_from_row(msgspec.json.decode(row["document"]))
            stored[credit.key] = credit
        rows = await tx.fetch(
            "SELECT plan_id, payee, what, root, key, day, document::text AS document "
            "FROM whatif_credit WHERE run = $1 AND plan_id = $2 AND what = $3 "
            "AND right(key, length(concat('/', $2, '/', $4::text, '/', payee))) "
            "= concat('/', $2, '/', $4::text, '/', payee)",
            run,
            plan.id,
            CREDIT,
            component_id,
        )
        credits_ = overlaid(list(stored.values()), [Aside(*r.values()) for r in rows], plan)
        payees = {credit.key: credit.payee for credit in credits_}
        for key, grant in spend_budget(plan, component_id, credits_).items():
            found.setdefault(AccountKey(payees[key], plan.id), {})[key] = grant
    return found
