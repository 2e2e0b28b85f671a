"""Use cases of the consumer: fold a batch, and settle what it touches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from services.commissions import store
from services.commissions.projector import CommissionsProjector
from services.commissions.reference import Reference
from shared.events.targets import QuotaData
from shared.facts.fact import Fact
from shared.facts.marks import RootKey, Touched
from shared.facts.record import Record, base_name
from shared.facts.settle import Settler, raise_reference_version
from shared.facts.store import FoldedRecord, fold_into_store, load_redirects

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from shared.runtime.consume import Handler, Message

REFERENCE_KINDS = frozenset({"rate", "stage_map", "calendar"})
"""Records that every deal is projected with; of people only their identities are."""


def parent_of(kind: str, record: Record) -> str | None:
    """Invoices and payments point at their deal."""
    deal = record.value("deal") if kind in {"invoice", "payment"} else None
    return f"deal/{deal}" if deal else None


def handler_for(projector: CommissionsProjector) -> Handler:
    """What a batch does. One for each concurrent user: it remembers reference data."""
    settler: Settler[Reference] = Settler(projector)

    async def handle(tx: Connection, messages: Sequence[Message]) -> None:
        folded = await fold_into_store(
            tx, (m.body for m in messages if isinstance(m.body, Fact)), parent_of
        )
        if any(map(changes_reference, folded)):
            await raise_reference_version(tx)
            # Broken reference data is refused here, with the facts that break it.
            await projector.load_reference(tx)
        touched = await touched_deals(tx, folded)
        touched |= await take_quotas(tx, messages)
        await settler.settle(tx, touched)

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


async def touched_deals(tx: Connection, folded: Iterable[FoldedRecord]) -> set[Touched]:
    """The deals that a batch's records are, point at or pointed at, and all that merges link."""
    deals: set[str] = set()
    merging: set[str] = set()
    for change in folded:
        if change.kind == "deal":
            deals.add(change.id)
            targets = {change.merged_into_before, change.merged_into} - {None}
            if targets:
                merging |= {change.id, *(target for target in targets if target)}
        elif change.kind == "invoice":
            for parent in (change.parent_before, change.parent):
                if parent is not None:
                    deals.add(parent.removeprefix("deal/"))
    if merging:
        for merged, (target, _) in (await load_redirects(tx, "deal", merging)).items():
            merging |= {merged, target}
    return {Touched(RootKey("deal", deal_id)) for deal_id in deals | merging}


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
    changed = await store.fold_quotas(tx, said)
    accounts = await store.accounts_of(tx, sorted({person for person, _ in changed}))
    return {Touched(RootKey("account", account.root_id)) for account in accounts}
