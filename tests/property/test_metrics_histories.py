"""KPI contributions over histories of linked records: the same in any order, step by step or anew.

The projections are pure, so thousands of facts are cheap here; what a batch touches, and the SQL,
are in tests/integration/metrics/test_order.py with the same histories.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings

from services.metrics.domain.contributions import (
    BOOKED,
    BOOKED_WHOLE,
    Cell,
    CellKey,
    activity_contribution,
    difference,
    project,
    project_activity,
)
from services.metrics.domain.rows import DealRow, Reference, deal_rows
from services.metrics.domain.stored import (
    StoredActivity,
    StoredDeal,
    cell_texts,
    cells_of,
    changed_rows,
    encoded,
    fingerprints,
    stored_activity,
    stored_deal,
)
from shared.facts.deal import merge_edges, project_deal, resolve_redirects
from shared.facts.record import Record, canonical, decode_record, encode_record
from shared.facts.reference import StageMaps
from shared.money import EXACT
from shared.org.people import Org
from tests.support.happenings import SHARES, Coverage, differing
from tests.support.histories import (
    Batch,
    Said,
    Story,
    company,
    life,
    stories,
)

STORIES = stories(company(), life())
MANY = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@dataclass(slots=True)
class Figures:
    """What metrics keeps, in memory: records, what each root contributes, and sums of cells."""

    records: dict[str, dict[str, Record]] = field(default_factory=lambda: defaultdict(dict))
    stored: dict[str, str] = field(default_factory=dict)
    cells: dict[CellKey, tuple[Decimal, int]] = field(default_factory=dict)
    rows: dict[tuple[str, int], DealRow] = field(default_factory=dict)

    def take(self, batch: Batch) -> None:
        """Fold a batch, and settle everything by difference to what is stored."""
        for said in batch:
            assert isinstance(said, Said)
            known = self.records[said.kind].get(said.record, Record())
            record = decode_record(encode_record(known))
            record.fold(said.fact)
            self.records[said.kind][said.record] = record
        self._settle()

    def _settle(self) -> None:
        org = Org.build(self.records["person"], {}, self.records["calendar"])
        maps = StageMaps.build(self.records["stage_map"], org.zone)
        reading = Reference(maps, org.identities, timedelta(hours=24), {"no decision"})
        survivors = resolve_redirects(merge_edges(self.records["deal"].items()))
        for deal_id, record in self.records["deal"].items():
            before = stored_deal(self.stored.get(deal_id))
            timeline = project_deal(deal_id, record, maps, org.identities, timedelta(hours=24))
            timeline = msgspec.structs.replace(timeline, merged_into=survivors.get(deal_id))
            made = project(timeline, org.calendar, org.identities, {"no decision"})
            rows = deal_rows(record, timeline, made.spans, reading)
            marks = fingerprints(rows)
            gone, fresh = changed_rows(before.rows, rows, marks)
            for start in gone:
                del self.rows[deal_id, start]
            self.rows.update({(deal_id, row.valid_from_ms): row for row in fresh})
            self._add(difference(cells_of(before.cells), made.cells))
            now = StoredDeal(cells=cell_texts(made.cells), rows=marks)
            self.stored[deal_id] = encoded(now)
        for activity_id, record in self.records["activity"].items():
            known = stored_activity(self.stored.get(activity_id))
            projected = project_activity(activity_id, record, org.identities)
            cells = activity_contribution(projected, org.calendar).cells
            self._add(difference(cells_of(known.cells), cells))
            self.stored[activity_id] = encoded(StoredActivity(cells=cell_texts(cells)))

    def _add(self, change: Sequence[Cell]) -> None:
        for key, amount, number in change:
            known, count = self.cells.get(key, (Decimal(0), 0))
            self.cells[key] = (EXACT.add(known, amount), count + number)

    def dump(self) -> dict[str, Any]:
        """Everything that no order may change."""
        return {
            "records": {
                (kind, record_id): canonical(record)
                for kind, found in self.records.items()
                for record_id, record in found.items()
            },
            "stored": self.stored,
            "cells": {key: sums for key, sums in self.cells.items() if any(sums)},
            "rows": self.rows,
        }

    def unbalanced(self) -> dict[tuple[object, ...], Decimal]:
        """Where what people book of deals is not what the deals are worth, and by how much."""
        left: dict[tuple[object, ...], Decimal] = defaultdict(Decimal)
        for key, (amount, _) in self.cells.items():
            sign = {BOOKED: 1, BOOKED_WHOLE: -1}.get(key.measure, 0)
            left[key.day, key.currency, key.deal_type] += sign * amount
        return {key: amount for key, amount in left.items() if amount}


def after(batches: Sequence[Batch]) -> Figures:
    """The figures once all is told; splits conserve all along."""
    figures = Figures()
    for batch in batches:
        figures.take(batch)
        assert figures.unbalanced() == {}
    return figures


def seen_in(figures: Figures) -> set[str]:
    """What came of a story."""
    return {key.measure.partition(":")[0] for key, sums in figures.cells.items() if any(sums)}


def test_any_telling_comes_to_the_same_and_splits_conserve() -> None:
    """Order, repetition and batching change nothing; by differences or anew is the same.

    Seen to fail with: a fold that keeps only changes of value, or repeated statements; a difference
    against nothing; row fingerprints that leave out a column; a split whose parts are each rounded.
    """
    coverage = Coverage()

    @MANY
    @given(STORIES)
    def check(story: Story) -> None:
        told = after(story.told)
        coverage.add(story, *seen_in(told))
        expected = told.dump()
        assert differing(after(story.again).dump(), expected) == []
        assert differing(after(story.at_once).dump(), expected) == []

    check()
    results = {"booked": 0.4, "overlay": 0.03, "lost": 0.1, "activity": 0.3}
    coverage.require({**SHARES, **results})
