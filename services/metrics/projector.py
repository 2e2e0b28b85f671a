"""The projector: reads roots' records, projects them, and applies the difference to the tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from services.metrics.domain.contributions import (
    Activity,
    activity_contribution,
    difference,
    people_key,
    project,
    project_activity,
)
from services.metrics.domain.rows import Reference, deal_rows
from services.metrics.domain.stored import (
    StoredActivity,
    StoredDeal,
    cell_texts,
    cells_of,
    changed_rows,
    encoded,
    fingerprint,
    fingerprints,
    hygiene_texts,
    is_merged,
    is_open,
    stored_activity,
    stored_deal,
)
from services.metrics.store import ActivityRow, Changes, load_contributions
from shared.db.behind import Behind, breathe
from shared.facts.deal import project_deal, resolve_redirects
from shared.facts.marks import RootKey, Touched
from shared.facts.record import Record
from shared.facts.reference import OPEN, StageMaps
from shared.facts.settle import LockedRoot, Projected, Settled
from shared.facts.store import load_kind, load_records, load_redirects
from shared.org.calendar import FiscalCalendar
from shared.org.people import Org

if TYPE_CHECKING:
    from shared.db.pool import Connection

DEAL = "deal"
ACTIVITY = "activity"

LIVE = "live"
"""Part of a mark: something was said of the deal as it happened."""

IMPORTED = "imported"
"""Part of a mark: something was said of the deal's past, by an import."""

AROUND = "activity"
"""Part of a mark: the deal's own record is as it was; what surrounds it changed."""

ROOTS_BEHIND = 250
"""So many roots' rows are written at once, while the next ones are projected."""

ROOTS_A_BREATH = 10
"""Projected between two looks at the connection and at whatever else this process does."""

NEXT_TICK = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is configured about counting."""

    reopen_grace: timedelta = timedelta(hours=24)
    no_decision_reasons: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """Reference data as one version of it says."""

    reading: Reference
    calendar: FiscalCalendar
    version: int


@dataclass(frozen=True, slots=True)
class MetricsProjector:
    """Deals and activities. slot: of this writer, for hot cells."""

    rules: Rules
    slot: int = 0
    kinds: Sequence[str] = (DEAL, ACTIVITY)
    code_version: int = 2

    async def load_reference(self, tx: Connection) -> Known:
        """Stage maps, identities and the organisation's zone."""
        org = Org.build(await load_kind(tx, "person"), {}, await load_kind(tx, "calendar"))
        maps = StageMaps.build(await load_kind(tx, "stage_map"), org.zone)
        reading = Reference(
            maps, org.identities, self.rules.reopen_grace, self.rules.no_decision_reasons
        )
        version = await tx.fetchval("SELECT version FROM reference_version")
        return Known(reading, org.calendar, version)

    async def project(
        self, tx: Connection, kind: str, roots: Sequence[LockedRoot], reference: Known
    ) -> Projected:
        """Project `roots` and write what differs from what is stored."""
        changes = Changes()
        if kind == DEAL:
            projected = await _deals(tx, roots, reference, changes)
        else:
            projected = await _activities(tx, roots, reference, changes)
        await changes.write(tx, self.slot)
        return projected


async def _deals(
    tx: Connection, roots: Sequence[LockedRoot], known: Known, changes: Changes
) -> Projected:
    """Deals marked only for what surrounds them keep their contribution, and are judged anew.

    Not those that older reference data made: once settled they pass for projected by the newest.
    """
    settled: list[Settled] = []
    followers: set[Touched] = set()
    whole = []
    for root in roots:
        current = root.contribution is not None and root.reference_version == known.version
        if current and root.parts <= {AROUND}:
            settled.append(_looked_at(root, followers))
        else:
            whole.append(root)
    ids = [root.key.id for root in whole]
    records = await _records(tx, DEAL, whole)
    edges = await load_redirects(tx, DEAL, ids) if ids else {}
    survivors = resolve_redirects(edges)
    async with Behind() as behind:
        for number, root in enumerate(whole, 1):
            stored = stored_deal(root.contribution)
            deal_id = root.key.id
            record = records.get(deal_id, Record())
            merged = survivors.get(deal_id)
            new = _settle_deal(deal_id, record, merged, known, stored, changes)
            if merged != stored.merged:
                followers |= _linked(deal_id, edges, stored, root)
            _note_import(root, changes)
            text = encoded(new)
            judged = new.open or stored.open
            due = NEXT_TICK if judged else root.next_due
            settled.append(Settled(root, text, due))
            await _write_behind(tx, changes, behind, number)
    return Projected(settled, followers | await _misled(tx, edges, survivors, set(ids)))


async def _misled(
    tx: Connection,
    edges: Mapping[str, tuple[str, str]],
    survivors: Mapping[str, str],
    settling: Collection[str],
) -> set[Touched]:
    """Linked deals that are stored as merged into another one than survives.

    Of merges that two transactions make at once, neither sees the other's. Whoever settles the
    deal that they share sees both, and its own survivor may be the same as before.
    """
    linked = {*edges, *(target for target, _ in edges.values())}.difference(settling)
    stored = await load_contributions(tx, DEAL, linked) if linked else {}
    return {
        Touched(RootKey(DEAL, deal_id), IMPORTED)
        for deal_id, text in stored.items()
        if stored_deal(text).merged != survivors.get(deal_id)
    }


async def _write_behind(tx: Connection, changes: Changes, behind: Behind, number: int) -> None:
    """After the root of this number: rows are written while the next roots are projected."""
    if number % ROOTS_BEHIND == 0:
        await behind.run(changes.write_rows(tx))
    elif number % ROOTS_A_BREATH == 0:
        await breathe()


async def _records(tx: Connection, kind: str, roots: Sequence[LockedRoot]) -> dict[str, Record]:
    """The roots' own records, read where this transaction has not written them."""
    found = {root.key.id: root.record for root in roots if root.record is not None}
    absent = [root.key.id for root in roots if root.record is None]
    return {**found, **await load_records(tx, kind, absent)} if absent else found


def _looked_at(root: LockedRoot, followers: set[Touched]) -> Settled:
    text = root.contribution
    if is_merged(text):
        survivor = stored_deal(text).merged
        if survivor is not None:
            followers.add(Touched(RootKey(DEAL, survivor), AROUND))
    return Settled(root, text, NEXT_TICK if is_open(text) else root.next_due)


def _settle_deal(  # noqa: PLR0913, PLR0917 - the pieces of one deal
    deal_id: str,
    record: Record,
    merged: str | None,
    known: Known,
    stored: StoredDeal,
    changes: Changes,
) -> StoredDeal:
    reading = known.reading
    deal = project_deal(
        deal_id, record, reading.stage_maps, reading.identities, reading.reopen_grace
    )
    if deal.merged_into != merged:
        deal = msgspec.structs.replace(deal, merged_into=merged)
    made = project(deal, known.calendar, reading.identities, reading.no_decision_reasons)
    rows = deal_rows(record, deal, made.spans, reading)
    marks = fingerprints(rows)
    gone, fresh = changed_rows(stored.rows, rows, marks)
    changes.rows_gone += [(deal_id, start) for start in gone]
    changes.rows += fresh
    cells = cell_texts(made.cells)
    if cells != stored.cells:
        changes.cells += difference(cells_of(stored.cells), made.cells)
    return StoredDeal(
        merged=merged,
        open=deal.counts and bool(deal.spans) and deal.status == OPEN,
        cells=cells,
        rows=marks,
        hygiene=hygiene_texts(made.hygiene),
    )


def _linked(
    deal_id: str, edges: Mapping[str, tuple[str, str]], stored: StoredDeal, root: LockedRoot
) -> set[Touched]:
    """Everybody linked to a deal that is merged elsewhere now: who survives may have changed."""
    part = LIVE if LIVE in root.parts else IMPORTED
    linked = {deal_id}
    grown = True
    while grown:
        more = {b for a, (b, _) in edges.items() if a in linked}
        more |= {a for a, (b, _) in edges.items() if b in linked}
        grown = not more <= linked
        linked |= more
    if stored.merged is not None:
        linked.add(stored.merged)
    return {Touched(RootKey(DEAL, other), part) for other in linked - {deal_id}}


def _note_import(root: LockedRoot, changes: Changes) -> None:
    """A deal known only from an import, or projected anew in bulk, is first judged silently."""
    if LIVE in root.parts:
        changes.spoken_of.append(root.key.id)
    elif root.contribution is None or root.parts <= {""}:
        changes.imported.append(root.key.id)


async def _activities(
    tx: Connection, roots: Sequence[LockedRoot], known: Known, changes: Changes
) -> Projected:
    records = await _records(tx, ACTIVITY, roots)
    settled = []
    async with Behind() as behind:
        for number, root in enumerate(roots, 1):
            stored = stored_activity(root.contribution)
            record = records.get(root.key.id, Record())
            new = _settle_activity(root.key.id, record, known, stored, changes)
            settled.append(Settled(root, encoded(new)))
            await _write_behind(tx, changes, behind, number)
    return Projected(settled)


def _settle_activity(
    activity_id: str, record: Record, known: Known, stored: StoredActivity, changes: Changes
) -> StoredActivity:
    activity = project_activity(activity_id, record, known.reading.identities)
    made = activity_contribution(activity, known.calendar)
    cells = cell_texts(made.cells)
    if cells != stored.cells:
        changes.cells += difference(cells_of(stored.cells), made.cells)
    row = _activity_row(activity, known.calendar)
    mark = None if row is None else fingerprint(row)
    if mark != stored.row:
        if row is None:
            changes.activities_gone.append(activity_id)
        else:
            changes.activities.append(row)
    return StoredActivity(cells=cells, row=mark, hygiene=hygiene_texts(made.hygiene))


def _activity_row(activity: Activity, calendar: FiscalCalendar) -> ActivityRow | None:
    if not (activity.counts or activity.planned):
        return None
    counted_ms = activity.done_ms if activity.counts else None
    return ActivityRow(
        activity_id=activity.activity_id,
        deal_id=activity.deal,
        kind=activity.kind or "other",
        people=people_key(activity.people),
        day=None if counted_ms is None else calendar.day_of_ms(counted_ms),
        done_ms=activity.done_ms,
        due_ms=activity.due_ms,
    )
