"""Use cases of the consumer: fold a batch, and settle what it touches."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from services.commissions import targets
from services.commissions.held.changes import OF_PEOPLE, put_aside
from services.commissions.needs import ACTIVITIES, PEOPLE
from services.commissions.projector import CommissionsProjector
from services.commissions.reference import Reference
from services.commissions.targets import ScoreKey
from shared.events.targets import KpiData, ObjectiveScoreData, QuotaData
from shared.facts.fact import Fact
from shared.facts.marks import RootKey, Touched
from shared.facts.record import Record, base_name
from shared.facts.settle import Settler, raise_reference_version
from shared.facts.store import FoldedRecord, fold_into_store, load_redirects

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from shared.runtime.consume import Handler, Message

REFERENCE_KINDS = frozenset({"rate", "stage_map", "calendar"})
"""Records that every deal is projected with; of people only their identities always are."""

BACKLOG_MESSAGES = 1_000
"""A batch of so many is one of several: accounts are rated once after them, not in each."""

LINK_LOCKS = 0x0C0DE_11
"""Class of the advisory locks of links between payments and invoices."""

LINK_BUCKETS = 64
"""So many of them: a batch of any size holds no more."""


def parent_of(kind: str, record: Record) -> str | None:
    """Invoices, payments and activities point at their deal; a payment of none at its invoice."""
    if kind not in {"invoice", "payment", "activity"}:
        return None
    if deal := record.value("deal"):
        return f"deal/{deal}"
    invoice = record.value("invoice") if kind == "payment" else None
    return f"invoice/{invoice}" if invoice else None


def guarded_handler(projector: CommissionsProjector) -> Handler:
    """What a batch does where changes that people state are judged before they count."""
    handle = handler_for(projector)

    async def handle_rest(tx: Connection, messages: Sequence[Message]) -> None:
        await handle(tx, await put_aside(tx, messages))

    return handle_rest


def handler_for(projector: CommissionsProjector) -> Handler:
    """What a batch does. One for each concurrent user: it remembers reference data."""
    settler: Settler[Reference] = Settler(projector)

    async def handle(tx: Connection, messages: Sequence[Message]) -> None:
        folded = await fold_into_store(
            tx, (m.body for m in messages if isinstance(m.body, Fact)), parent_of
        )
        await hold_links(tx, folded)
        if any(map(changes_reference, folded)) or await people_matter(tx, folded):
            await raise_reference_version(tx)
            # Broken reference data is refused here, with the facts that break it.
            await projector.load_reference(tx)
        touched = await touched_roots(tx, folded)
        touched |= await take_quotas(tx, messages)
        touched |= await take_kpis(tx, messages)
        touched |= await take_scores(tx, messages)
        await settler.settle(tx, touched, backlog=len(messages) >= BACKLOG_MESSAGES)

    return handle


def changes_reference(folded: FoldedRecord) -> bool:
    """Whether deals may be projected otherwise because of this record."""
    if folded.kind in REFERENCE_KINDS:
        return True
    if folded.kind != "person":
        return False
    said = {fact.event_id for fact in folded.facts}
    new = said.issuperset(folded.record.event_ids())
    return new or any(
        base_name(name) == "identities" for fact in folded.facts for name in fact.fields
    )


async def hold_links(tx: Connection, folded: Iterable[FoldedRecord]) -> None:
    """Keep payments and the invoices they name from being folded past each other.

    They come from different partitions: whoever folds one sees the other, or waits for it. Taken
    before the version of reference data, in one order.
    """
    names = set()
    for change in folded:
        if change.kind == "invoice":
            names.add(f"invoice/{change.id}")
        elif change.kind == "payment":
            links = (change.parent_before, change.parent)
            names |= {link for link in links if link and link.startswith("invoice/")}
    if names:
        await tx.execute(
            "SELECT pg_advisory_xact_lock($1, bucket) FROM unnest($2::int[]) AS b(bucket)",
            LINK_LOCKS,
            sorted({zlib.crc32(name.encode()) % LINK_BUCKETS for name in names}),
        )


async def people_matter(tx: Connection, folded: Iterable[FoldedRecord]) -> bool:
    """Whether a plan asks of people what a batch says of them. Holds the version until then."""
    if not any(
        base_name(name) in OF_PEOPLE
        for change in folded
        if change.kind == "person"
        for fact in change.facts
        for name in fact.fields
    ):
        return False
    # As whoever changes it: holding it for readers first and then raising it may deadlock.
    await tx.execute("SELECT FROM reference_version FOR NO KEY UPDATE")
    return await _any_plan_asks(tx, PEOPLE)


async def asks_for_activities(tx: Connection) -> bool:
    """Whether any plan credits activities; no such plan appears unseen."""
    await tx.execute("SELECT FROM reference_version FOR SHARE")
    return await _any_plan_asks(tx, ACTIVITIES)


async def _any_plan_asks(tx: Connection, need: str) -> bool:
    asked: bool = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM plan_version WHERE $1 = ANY(needs))", need
    )
    return asked


async def touched_roots(tx: Connection, folded: Sequence[FoldedRecord]) -> set[Touched]:
    """The deals that a batch's records are, point at or pointed at, and all that merges link.

    Activities of no deal are roots themselves, once a plan credits any.
    """
    deals: set[str] = set()
    invoices: set[str] = set()
    merging: set[str] = set()
    activities = [change for change in folded if change.kind == "activity"]
    if activities and not await asks_for_activities(tx):
        activities = []
    found = {
        Touched(RootKey("activity", change.id))
        for change in activities
        if change.parent is None or change.parent_before is None
    }
    for change in [*(c for c in folded if c.kind != "activity"), *activities]:
        if change.kind == "deal":
            deals.add(change.id)
            targets_ = {change.merged_into_before, change.merged_into} - {None}
            if targets_:
                merging |= {change.id, *(target for target in targets_ if target)}
        elif change.kind in {"invoice", "payment", "activity"}:
            for parent in {change.parent_before, change.parent} - {None}:
                kind, _, name = (parent or "").partition("/")
                (deals if kind == "deal" else invoices).add(name)
    if merging:
        for merged, (target, _) in (await load_redirects(tx, "deal", merging)).items():
            merging |= {merged, target}
    if invoices:
        rows = await tx.fetch(
            "SELECT parent FROM record WHERE kind = 'invoice' AND id = ANY($1::text[]) "
            "AND parent IS NOT NULL",
            list(invoices),
        )
        deals |= {row["parent"].removeprefix("deal/") for row in rows}
    return found | {Touched(RootKey("deal", deal_id)) for deal_id in deals | merging}


async def take_quotas(tx: Connection, messages: Iterable[Message]) -> set[Touched]:
    """Keep the greatest revision of each quota; the accounts that are measured against it."""
    said: dict[str, QuotaData] = {}
    for message in messages:
        quota = message.body
        if isinstance(quota, QuotaData):
            known = said.get(quota.quota)
            if known is None or known.revision < quota.revision:
                said[quota.quota] = quota
    if not said:
        return set()
    changed = await targets.fold_quotas(tx, said)
    accounts = await targets.accounts_of(tx, sorted({person for person, _ in changed}))
    return {Touched(RootKey("account", account.root_id)) for account in accounts}


async def take_kpis(tx: Connection, messages: Iterable[Message]) -> set[Touched]:
    """Keep the greatest revision of each KPI's figure; the accounts that have a gate for it."""
    said: dict[tuple[str, str, str], KpiData] = {}
    for message in messages:
        fact = message.body
        if isinstance(fact, KpiData):
            key = (fact.person, fact.kpi, fact.day)
            known = said.get(key)
            if known is None or known.revision < fact.revision:
                said[key] = fact
    if not said:
        return set()
    found: set[Touched] = set()
    for kpi, people in sorted((await targets.fold_kpis(tx, said)).items()):
        for account in await targets.gated_accounts(tx, kpi, people):
            found.add(Touched(RootKey("account", account.root_id)))
    return found


async def take_scores(tx: Connection, messages: Iterable[Message]) -> set[Touched]:
    """Keep the greatest revision of each objective's score; those that changed."""
    said: dict[ScoreKey, ObjectiveScoreData] = {}
    for message in messages:
        score = message.body
        if isinstance(score, ObjectiveScoreData):
            key = ScoreKey(score.person, score.objective, score.period)
            known = said.get(key)
            if known is None or known.revision < score.revision:
                said[key] = score
    if not said:
        return set()
    changed = await targets.fold_scores(tx, said)
    return {Touched(RootKey("objective_score", key.root_id)) for key in changed}
