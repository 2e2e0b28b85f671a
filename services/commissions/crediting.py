"""Deals: from records to credits and reasons to wait, and their difference to what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from services.commissions import store
from services.commissions.domain.credits import (
    Credit,
    CreditEvent,
    CreditException,
    credit_as_row,
    credit_from_row,
    credits_for,
)
from services.commissions.domain.deal_events import DealFacts, credit_events
from services.commissions.domain.plan import Plan
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
    settled: list[Settled] = []
    gone: list[tuple[str, str]] = []
    new: list[tuple[str, Credit]] = []
    rewritten: list[str] = []
    waiting: list[Waiting] = []
    followers: set[Touched] = set()
    for root in roots:
        deal_id = root.key.id
        # Whoever merges into whom may change unseen, in a transaction that is not over yet: each
        # merged deal that is settled has its survivor look again.
        if (survivor := survivors.get(deal_id)) is not None:
            followers.add(Touched(RootKey("deal", survivor)))
        text = now[deal_id].text()
        settled.append(Settled(root, text))
        if text == root.contribution:
            continue
        was, is_ = Contribution.read(root.contribution), now[deal_id]
        changed = [
            key
            for key in sorted({*was.credits, *is_.credits})
            if was.credits.get(key) != is_.credits.get(key)
        ]
        gone += [(deal_id, key) for key in changed if key in was.credits]
        new += [(deal_id, is_.credits[key]) for key in changed if key in is_.credits]
        if was.waiting != is_.waiting:
            rewritten.append(deal_id)
            waiting += sorted(is_.waiting)
        followers |= _accounts(was, is_, changed, reference)
    await store.write_credits(tx, gone, new)
    await store.write_exceptions(tx, rewritten, waiting)
    return Projected(settled, followers)


def _accounts(
    was: Contribution, is_: Contribution, changed: Iterable[str], reference: Reference
) -> set[Touched]:
    """Accounts and fiscal years in which credits or reasons to wait differ."""
    found = set()
    for key in changed:
        for side in (was, is_):
            if (credit := side.credits.get(key)) is not None:
                account = AccountKey(credit.payee, credit.plan_id)
                found.add(_touched(account, reference.year_of(credit.day).label))
    for entry in was.waiting ^ is_.waiting:
        if entry.payee and entry.kind != UNASSIGNED:
            account = AccountKey(entry.payee, entry.plan_id)
            found.add(_touched(account, reference.year_of(entry.day).label))
    return found


def _touched(account: AccountKey, year: str) -> Touched:
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
    invoices = await load_children(tx, "invoice", parents)
    found = {}
    for deal_id in deal_ids:
        if deal_id in survivors:
            found[deal_id] = Contribution()
            continue
        record = records.get(deal_id, Record())
        children = sorted(
            (child for member in family[deal_id] for child in invoices.get(f"deal/{member}", [])),
            key=_by_id,
        )
        found[deal_id] = contribution_of(deal_id, record, children, reference)
    return found, survivors


def _by_id(child: tuple[str, Record]) -> str:
    return child[0]


def contribution_of(
    deal_id: str, record: Record, invoices: Sequence[tuple[str, Record]], reference: Reference
) -> Contribution:
    """What one deal gives under all plans."""
    by_grace: dict[timedelta, list[CreditEvent]] = {}

    def events(grace: timedelta) -> list[CreditEvent]:
        if grace not in by_grace:
            timeline = project_deal(
                deal_id, record, reference.stage_maps, reference.identities, grace
            )
            facts = DealFacts(deal_id, record, timeline, invoices)
            by_grace[grace] = credit_events(facts, reference.identities)
        return by_grace[grace]

    found = Contribution()
    unassigned: set[tuple[str, str]] = set()
    for plan in reference.plans.values():
        assigned = reference.assignments.get(plan.id, ())
        for event in events(_grace(plan, events)):
            outcome = credits_for(event, plan, assigned, reference.rates)
            found.credits.update((credit.key, credit) for credit in outcome.credits)
            found.waiting.update(_waiting(deal_id, entry) for entry in outcome.exceptions)
            day = plan.versions[0].day_of(event.instant)
            for member in outcome.unassigned:
                if (event.key, member) not in unassigned and not reference.is_on_a_plan(
                    member, day
                ):
                    unassigned.add((event.key, member))
                    found.waiting.add(_unassigned(deal_id, event, plan, member))
    return found


def _waiting(deal_id: str, entry: CreditException) -> Waiting:
    return Waiting(
        deal_id,
        entry.kind.value,
        entry.event_key,
        entry.plan_id,
        entry.component_id,
        entry.payee or "",
        entry.day,
        entry.message,
    )


def _unassigned(deal_id: str, event: CreditEvent, plan: Plan, member: str) -> Waiting:
    """Somebody is on no plan at all: told once an event, of the first plan that misses them."""
    day = plan.versions[0].day_of(event.instant)
    message = (
        f"{member} would be credited and is on no plan on {day}; "
        "assign them to one, or correct the owner in the CRM"
    )
    return Waiting(deal_id, UNASSIGNED, event.key, plan.id, "", member, day, message)


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
