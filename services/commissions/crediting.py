"""Deals: from records to credits and reasons to wait, and their difference to what is stored.

Invoices, payments and activities are children of their deal; activities of no deal and scored
objectives are roots of their own (standalone.py), written by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
from services.commissions.domain.families import (
    Days,
    Families,
    KeptElsewhere,
    covers,
    credited_elsewhere,
)
from services.commissions.domain.people import with_people
from services.commissions.domain.plan import Plan
from services.commissions.domain.windows import linked_years
from services.commissions.held.deletions import (
    DELETED_AFTER_CLOSE,
    Held,
    HeldState,
    come_back,
    fixed_days,
    load_held,
    without_deletion,
)
from services.commissions.needs import ACTIVITIES, PAYMENTS, PEOPLE, budget_need
from services.commissions.reference import Reference
from services.commissions.store import UNASSIGNED, AccountKey, Waiting, canonical_json
from shared.facts.deal import project_deal
from shared.facts.marks import RootKey, Touched
from shared.facts.record import Record
from shared.facts.settle import LockedRoot, Projected, Settled
from shared.facts.store import load_children, load_records, load_redirects

if TYPE_CHECKING:
    from shared.db.pool import Connection


@dataclass(slots=True)
class Contribution:
    """What one deal contributes: credits by key, and what waits.

    held: of a deal that is gone after a close credited it, what was decided: see held/deletions.py.
    """

    credits: dict[str, Credit] = field(default_factory=dict)
    waiting: set[Waiting] = field(default_factory=set)
    held: HeldState | None = None

    def text(self) -> str | None:
        """Canonical JSON; None when it contributes nothing."""
        if not self.credits and not self.waiting and self.held is None:
            return None
        return canonical_json(
            {
                "credits": [credit_as_row(self.credits[key]) for key in sorted(self.credits)],
                "waiting": sorted(self.waiting),
                **({} if self.held is None else {"held": self.held}),
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
        return cls({credit.key: credit for credit in credits_}, set(waiting), stored.get("held"))


async def project_deals(
    tx: Connection, roots: Sequence[LockedRoot], reference: Reference, *, live: bool = True
) -> Projected:
    """Credit the deals of locked roots and write what differs from what is stored.

    live: decisions about deals that came back are ended; a rebuild, which passes through every
    state that ever was, leaves them alone.
    """
    now, survivors = await contributions(tx, [root.key.id for root in roots], reference, lock=True)
    back = [
        root.key.id
        for root in roots
        if live and now[root.key.id].held is None and _was_held(root.contribution)
    ]
    if back:
        await come_back(tx, await load_records(tx, "deal", back))
    # Whoever merges into whom may change unseen, in a transaction that is not over yet: each
    # merged deal that is settled has its survivor look again.
    merged = {survivors[root.key.id] for root in roots if root.key.id in survivors}
    projected = await write_differences(
        tx, [(root, root.key.id, now[root.key.id]) for root in roots], reference
    )
    followers = {Touched(RootKey("deal", survivor)) for survivor in merged}
    return Projected(projected.settled, followers.union(projected.followers))


def _was_held(contribution: str | None) -> bool:
    """Whether a deal was held when it was last settled; the text tells at once that it was not."""
    if contribution is None or '"held":' not in contribution:
        return False
    return Contribution.read(contribution).held is not None


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
                window = reference.windows(credit.plan_id).at(credit.day)
                found.add(touched_account(account, window.label))
                if (component := _budget_of(credit, reference)) is not None:
                    found.add(Touched(RootKey("budget", f"{credit.plan_id}|{component}")))
    for entry in was.waiting ^ is_.waiting:
        if entry.payee and entry.kind != UNASSIGNED:
            account = AccountKey(entry.payee, entry.plan_id)
            window = reference.windows(entry.plan_id).at(entry.day)
            found.add(touched_account(account, window.label))
    for side in (was, is_):
        found |= _linked(side, {root for root, _ in found}, reference)
    return found


def _linked(side: Contribution, touched: Collection[RootKey], reference: Reference) -> set[Touched]:
    """Whole years of touched accounts where a cap goes on over the windows of this deal's credits.

    Without them the year is rated window by window; whether it can be is seen from all its credits.
    """
    by_account: dict[AccountKey, list[Credit]] = {}
    for credit in side.credits.values():
        if credit.component_id in reference.deal_capped.get(credit.plan_id, ()):
            by_account.setdefault(AccountKey(credit.payee, credit.plan_id), []).append(credit)
    return {
        touched_account(account, year.label)
        for account, mine in by_account.items()
        if len(mine) > 1 and RootKey("account", account.root_id) in touched
        for year in linked_years(
            mine,
            reference.deal_capped[account.plan_id],
            reference.year_of,
            reference.windows(account.plan_id).at,
        )
    }


def _budget_of(credit: Credit, reference: Reference) -> str | None:
    """The component whose budget the credit is paid from, if it has one."""
    if budget_need(credit.component_id) not in reference.needs.get(credit.plan_id, ()):
        return None
    version = reference.plans[credit.plan_id].by_hash.get(credit.version_hash)
    pays = None if version is None else version.component(credit.component_id).pays
    return None if pays is None or pays.budget is None else credit.component_id


def touched_account(account: AccountKey, window: str) -> Touched:
    """An account, of which one window, or fiscal year, has to be rated again."""
    return Touched(RootKey("account", account.root_id), window)


async def contributions(
    tx: Connection, deal_ids: Sequence[str], reference: Reference, *, lock: bool = False
) -> tuple[dict[str, Contribution], Mapping[str, str]]:
    """Deal → what it contributes, and the survivor of every merged one.

    A deal that is gone after a close credited it keeps what that close fixed until it is decided
    otherwise. lock: nobody closes meanwhile.
    """
    families = Families(await load_redirects(tx, "deal", deal_ids))
    standing = [deal_id for deal_id in deal_ids if deal_id not in families.survivors]
    records = await load_records(tx, "deal", standing)
    upstream = {deal_id: families.upstream(deal_id) for deal_id in deal_ids}
    gone = {deal_id for deal_id in deal_ids if deal_id in families.survivors}
    gone.update(*upstream.values())
    gone.update(d for d, record in records.items() if record.value("deleted") is True)
    held = await load_held(tx, gone, lock=lock) if gone else {}
    keeping = sorted(d for d, of in held.items() if of.keeps and d in families.survivors)
    records |= await load_records(tx, "deal", keeping) if keeping else {}
    upstream |= {deal_id: families.upstream(deal_id) for deal_id in keeping}
    # Whoever is in another's family is made first: what it keeps is not credited twice.
    asked = sorted({*standing, *keeping}, key=lambda d: len(upstream[d]))
    members = {member for deal_id in asked for member in (deal_id, *upstream[deal_id])}
    children = await _children(tx, [f"deal/{member}" for member in sorted(members)], reference)
    own = await fixed_days(tx, [d for d in standing if upstream[d]]) if keeping else {}
    made: dict[str, Contribution] = {}
    for deal_id in asked:
        mine = Children()
        for member in (deal_id, *upstream[deal_id]):
            mine.add(children.get(f"deal/{member}"))
        record, of = records.get(deal_id, Record()), held.get(deal_id)
        found = contribution_of(
            deal_id,
            without_deletion(record) if of is not None and of.keeps else record,
            sorted(mine.invoices, key=_by_id),
            reference,
            sorted(mine.payments, key=_by_id),
            sorted(mine.activities, key=_by_id),
        )
        kept = [kept_by(u, made[u], held[u].days) for u in upstream[deal_id] if u in keeping]
        if kept:
            found = not_again(found, deal_id, kept, own.get(deal_id, ()))
        if of is not None and of.keeps:
            found = on_closed_days(found, deal_id, of, families.survivors.get(deal_id))
        made[deal_id] = found
    found_of = {deal_id: made.get(deal_id) or Contribution() for deal_id in deal_ids}
    for deal_id in gone.intersection(found_of):
        if (of := held.get(deal_id)) is not None and of.state != "open":
            found_of[deal_id].held = of.state
    return found_of, families.survivors


def kept_by(deal_id: str, made: Contribution, days: Days) -> KeptElsewhere:
    """What a merged deal keeps, for those it was merged into."""
    events = {(credit.event_key, credit.plan_id) for credit in made.credits.values()}
    events |= {(e.event_key, e.plan_id) for e in made.waiting if e.kind != DELETED_AFTER_CLOSE}
    return KeptElsewhere(deal_id, frozenset(events), days)


def not_again(
    made: Contribution, deal_id: str, kept: Sequence[KeptElsewhere], own: Days
) -> Contribution:
    """A survivor's contribution without what deals that were merged into it keep."""
    return Contribution(
        {
            key: credit
            for key, credit in made.credits.items()
            if not credited_elsewhere(
                deal_id, credit.event_key, credit.plan_id, credit.day, kept, own
            )
        },
        {
            entry
            for entry in made.waiting
            if not credited_elsewhere(deal_id, entry.event_key, entry.plan_id, entry.day, kept, own)
        },
    )


def on_closed_days(
    made: Contribution, deal_id: str, held: Held, survivor: str | None
) -> Contribution:
    """What a deal that is gone keeps; while nothing is decided, with the exception that says so."""
    found = Contribution(
        {key: c for key, c in made.credits.items() if covers(held.days, c.plan_id, c.day)},
        {entry for entry in made.waiting if covers(held.days, entry.plan_id, entry.day)},
    )
    days = [*(c.day for c in found.credits.values()), *(entry.day for entry in found.waiting)]
    if held.state == "open" and days:
        happened = "deleted" if survivor is None else f"merged into {survivor}"
        message = (
            f"the deal was {happened} after a close had credited it; decide under "
            f"/v1/held-deletions/{deal_id} whether those credits stay or are taken back"
        )
        found.held = "open"
        key = f"deal:{deal_id}"
        found.waiting.add(
            Waiting(deal_id, DELETED_AFTER_CLOSE, key, "", "", "", min(days), message)
        )
    return found


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


async def payments_of(
    tx: Connection, deal_id: str, reference: Reference
) -> list[tuple[str, Record]]:
    """Payments of a deal, its invoices, and deals merged into it, as far as any plan reads them."""
    families = Families(await load_redirects(tx, "deal", [deal_id]))
    members = sorted({deal_id, *families.upstream(deal_id)})
    children = await _children(tx, [f"deal/{member}" for member in members], reference)
    found = [payment for child in children.values() for payment in child.payments]
    return sorted(found, key=_by_id)


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
