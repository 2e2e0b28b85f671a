"""Deals: from records to credits and reasons to wait, and their difference to what is stored.

Invoices, payments and activities are children of their deal; activities of no deal and scored
objectives are roots of their own (standalone.py), written by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from services.commissions import store
from services.commissions.domain.activities import completed
from services.commissions.domain.credits import (
    Credit,
    CreditEvent,
    CreditException,
    credit_as_row,
    credit_from_row,
    credits_for,
)
from services.commissions.domain.deal_events import DealFacts, credit_events, deal_fields
from services.commissions.domain.people import with_people
from services.commissions.domain.plan import Plan
from services.commissions.needs import ACTIVITIES, PAYMENTS, PEOPLE, budget_need
from services.commissions.reference import Reference
from services.commissions.store import UNASSIGNED, AccountKey, Waiting, canonical_json
from shared.facts.deal import project_deal, resolve_redirects
from shared.facts.marks import RootKey, Touched
from shared.facts.record import Record
from shared.facts.settle import LockedRoot, Projected, Settled
from shared.facts.store import load_children, load_records, load_redirects

if TYPE_CHECKING:
    from shared.db.pool import Connection


@dataclass(slots=True)
class Contribution:
    """What one deal contributes: credits by key, and what waits."""

    credits: dict[str, Credit] = field(default_factory=dict)
    waiting: set[Waiting] = field(default_factory=set)

    def text(self) -> str | None:
        """Canonical JSON; None when it contributes nothing."""
        if not self.credits and not self.waiting:
            return None
        return canonical_json(
            {
                "credits": [credit_as_row(self.credits[key]) for key in sorted(self.credits)],
                "waiting": sorted(self.waiting),
            }
        )

    @classmethod
    def read(cls, text: str | None) -> Contribution:
        """The inverse of `text`."""
        if text is None:
            return cls()
        stored = msgspec.json.decode(text)
        credits_ = [credit_from_row(row) for row in stored["credits"]]
        waiting = msgspec.convert(stored["waiting"], list[Waiting])
        return cls({credit.key: credit for credit in credits_}, set(waiting))


async def project_deals(
    tx: Connection, roots: Sequence[LockedRoot], reference: Reference
) -> Projected:
    """Credit the deals of locked roots and write what differs from what is stored."""
    now, survivors = await _contributions(tx, [root.key.id for root in roots], reference)
    # Whoever merges into whom may change unseen, in a transaction that is not over yet: each
    # merged deal that is settled has its survivor look again.
    merged = {survivors[root.key.id] for root in roots if root.key.id in survivors}
    projected = await write_differences(
        tx, [(root, root.key.id, now[root.key.id]) for root in roots], reference
    )
    followers = {Touched(RootKey("deal", survivor)) for survivor in merged}
    return Projected(projected.settled, followers.union(projected.followers))


async def write_differences(
    tx: Connection, made: Sequence[tuple[LockedRoot, str, Contribution]], reference: Reference
) -> Projected:
    """Write what roots contribute otherwise than they did; accounts and budgets follow.

    made: a root, the name its rows go by, and what it contributes now.
    """
    settled: list[Settled] = []
    gone: list[tuple[str, str]] = []
    new: list[tuple[str, Credit]] = []
    rewritten: list[str] = []
    waiting: list[Waiting] = []
    followers: set[Touched] = set()
    for root, name, is_ in made:
        text = is_.text()
        settled.append(Settled(root, text))
        if text == root.contribution:
            continue
        was = Contribution.read(root.contribution)
        changed = [
            key
            for key in sorted({*was.credits, *is_.credits})
            if was.credits.get(key) != is_.credits.get(key)
        ]
        gone += [(name, key) for key in changed if key in was.credits]
        new += [(name, is_.credits[key]) for key in changed if key in is_.credits]
        if was.waiting != is_.waiting:
            rewritten.append(name)
            waiting += sorted(is_.waiting)
        followers |= _accounts(was, is_, changed, reference)
    await store.write_credits(tx, gone, new, [_budget_of(credit, reference) for _, credit in new])
    await store.write_exceptions(tx, rewritten, waiting)
    return Projected(settled, followers)


def _accounts(
    was: Contribution, is_: Contribution, changed: Iterable[str], reference: Reference
) -> set[Touched]:
    """Accounts and fiscal years in which credits or reasons to wait differ, and their budgets."""
    found = set()
    for key in changed:
        for side in (was, is_):
            if (credit := side.credits.get(key)) is not None:
                account = AccountKey(credit.payee, credit.plan_id)
                found.add(touched_account(account, reference.year_of(credit.day).label))
                if (component := _budget_of(credit, reference)) is not None:
                    found.add(Touched(RootKey("budget", f"{credit.plan_id}|{component}")))
    for entry in was.waiting ^ is_.waiting:
        if entry.payee and entry.kind != UNASSIGNED:
            account = AccountKey(entry.payee, entry.plan_id)
            found.add(touched_account(account, reference.year_of(entry.day).label))
    return found


def _budget_of(credit: Credit, reference: Reference) -> str | None:
    """The component whose budget the credit is paid from, if it has one."""
    if budget_need(credit.component_id) not in reference.needs.get(credit.plan_id, ()):
        return None
    version = reference.plans[credit.plan_id].by_hash.get(credit.version_hash)
    pays = None if version is None else version.component(credit.component_id).pays
    return None if pays is None or pays.budget is None else credit.component_id


def touched_account(account: AccountKey, year: str) -> Touched:
    """An account, of which one fiscal year has to be rated again."""
    return Touched(RootKey("account", account.root_id), year)


async def _contributions(
    tx: Connection, deal_ids: Sequence[str], reference: Reference
) -> tuple[dict[str, Contribution], Mapping[str, str]]:
    """Deal → what it contributes, and the survivor of every merged one."""
    survivors = resolve_redirects(await load_redirects(tx, "deal", deal_ids))
    family: dict[str, list[str]] = {d: [d] for d in deal_ids if d not in survivors}
    for merged, survivor in survivors.items():
        if survivor in family:
            family[survivor].append(merged)
    records = await load_records(tx, "deal", family)
    parents = [f"deal/{member}" for members in family.values() for member in members]
    children = await _children(tx, parents, reference)
    found = {}
    for deal_id in deal_ids:
        if deal_id in survivors:
            found[deal_id] = Contribution()
            continue
        record = records.get(deal_id, Record())
        mine = Children()
        for member in family[deal_id]:
            mine.add(children.get(f"deal/{member}"))
        found[deal_id] = contribution_of(
            deal_id,
            record,
            sorted(mine.invoices, key=_by_id),
            reference,
            sorted(mine.payments, key=_by_id),
            sorted(mine.activities, key=_by_id),
        )
    return found, survivors


@dataclass(slots=True)
class Children:
    """Records that point at a deal, each (id, record)."""

    invoices: list[tuple[str, Record]] = field(default_factory=list)
    payments: list[tuple[str, Record]] = field(default_factory=list)
    activities: list[tuple[str, Record]] = field(default_factory=list)

    def add(self, other: Children | None) -> None:
        """Take in what points at a merged deal."""
        if other is not None:
            self.invoices += other.invoices
            self.payments += other.payments
            self.activities += other.activities


async def _children(
    tx: Connection, parents: Sequence[str], reference: Reference
) -> dict[str, Children]:
    """Deal subject → what points at it, as far as any plan reads it."""
    found: dict[str, Children] = {}
    deal_of: dict[str, str] = {}
    for parent, invoices in (await load_children(tx, "invoice", parents)).items():
        found[parent] = Children(invoices)
        deal_of.update((f"invoice/{invoice_id}", parent) for invoice_id, _ in invoices)
    if reference.asks_for(PAYMENTS):
        deal_of.update((parent, parent) for parent in parents)
        for paid, payments in (await load_children(tx, "payment", list(deal_of))).items():
            found.setdefault(deal_of[paid], Children()).payments += payments
    if reference.asks_for(ACTIVITIES):
        for parent, activities in (await load_children(tx, "activity", parents)).items():
            found.setdefault(parent, Children()).activities += activities
    return found


def _by_id(child: tuple[str, Record]) -> str:
    return child[0]


def contribution_of(  # noqa: PLR0913, PLR0917 - a deal and what points at it
    deal_id: str,
    record: Record,
    invoices: Sequence[tuple[str, Record]],
    reference: Reference,
    payments: Sequence[tuple[str, Record]] = (),
    activities: Sequence[tuple[str, Record]] = (),
) -> Contribution:
    """What one deal gives under all plans."""
    by_grace: dict[timedelta, list[CreditEvent]] = {}

    def events(grace: timedelta) -> list[CreditEvent]:
        if grace not in by_grace:
            timeline = project_deal(
                deal_id, record, reference.stage_maps, reference.identities, grace
            )
            facts = DealFacts(deal_id, record, timeline, invoices, payments)
            by_grace[grace] = credit_events(facts, reference.identities)
            if activities and not (timeline.deleted or timeline.test):
                fields = {**deal_fields(record), "amount": timeline.amount}
                by_grace[grace] += [
                    event
                    for activity_id, activity in activities
                    if (
                        event := completed(
                            activity_id, activity, reference.identities, deal_id, fields
                        )
                    )
                    is not None
                ]
        return by_grace[grace]

    return credited(deal_id, lambda plan: events(_grace(plan, events)), reference)


def credited(
    name: str, events: Callable[[Plan], Sequence[CreditEvent]], reference: Reference
) -> Contribution:
    """What a root's events give under all plans. name: the one its rows go by."""
    found = Contribution()
    unassigned: set[tuple[str, str]] = set()
    for plan in reference.plans.values():
        assigned = reference.assignments.get(plan.id, ())
        of_people = PEOPLE in reference.needs[plan.id]
        for said in events(plan):
            event = with_people(said, reference.org) if of_people else said
            outcome = credits_for(event, plan, assigned, reference.rates)
            found.credits.update((credit.key, credit) for credit in outcome.credits)
            found.waiting.update(_waiting(name, entry) for entry in outcome.exceptions)
            day = plan.versions[0].day_of(event.instant)
            for member in outcome.unassigned:
                if (event.key, member) not in unassigned and not reference.is_on_a_plan(
                    member, day
                ):
                    unassigned.add((event.key, member))
                    found.waiting.add(_unassigned(name, event, plan, member))
    return found


def _waiting(name: str, entry: CreditException) -> Waiting:
    return Waiting(
        name,
        entry.kind.value,
        entry.event_key,
        entry.plan_id,
        entry.component_id,
        entry.payee or "",
        entry.day,
        entry.message,
    )


def _unassigned(name: str, event: CreditEvent, plan: Plan, member: str) -> Waiting:
    """Somebody is on no plan at all: told once an event, of the first plan that misses them."""
    day = plan.versions[0].day_of(event.instant)
    message = (
        f"{member} would be credited and is on no plan on {day}; "
        "assign them to one, or correct the owner in the CRM"
    )
    return Waiting(name, UNASSIGNED, event.key, plan.id, "", member, day, message)


def _grace(plan: Plan, events: Callable[[timedelta], list[CreditEvent]]) -> timedelta:
    """The reopen grace of the version in force on the day it leads to; the shortest if none is."""
    graces = sorted({version.reopen_grace for version in plan.versions})
    if len(graces) > 1:
        for grace in graces:
            for event in events(grace):
                version = plan.version_on(plan.versions[0].day_of(event.instant))
                if version is not None and version.reopen_grace == grace:
                    return grace
    return graces[0]
