"""Deal rows: one a validity interval, each with what the deal would count for if time stood there.

A won or lost interval of the past carries the credit of *its* stay: the deal is projected once
more from what had been said before the interval ended. So a sum as of any instant is read from
rows alone, and at the present instant equals the cells.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec

from services.metrics.domain.contributions import (
    BOOKED,
    BOOKED_WHOLE,
    LOST_DEALS,
    NO_CURRENCY,
    NO_DECISION,
    WON_DEALS,
    ZERO,
    Cell,
    CellKey,
    DealSpan,
    people_key,
)
from shared.facts.deal import DealTimeline, Lost, Won, closing_before
from shared.facts.record import Record
from shared.facts.reference import LOST, WON, Identities, StageMaps
from shared.money import allocate

CLOSED = (WON, LOST)


class DealRow(NamedTuple):
    """A deal during [valid_from_ms, valid_to_ms), as the table `deal_span` holds it.

    outcome: the measure a closed deal counts in, None while open. closed_ms: the credit instant,
    or the loss. closed_owner: the owner then. closed_amount: that counts; of a loss the last one
    before it. shares: person → exact share as JSON text, None when the owner has it all.
    seen_by: key of everybody whom the deal concerns.
    stage_order, qualified: of the stage by its map, None when unmapped.
    next_step_ms: the dated next step, only on the row that holds now.
    """

    deal_id: str
    valid_from_ms: int
    valid_to_ms: int | None
    status: str
    stage: str | None
    stage_name: str | None
    pipeline: str
    owner: str | None
    seen_by: str
    amount: Decimal | None
    currency: str | None
    close_date: date | None
    probability: Decimal | None
    category: str | None
    stage_entered_ms: int | None
    created_ms: int | None
    outcome: str | None
    closed_ms: int | None
    closed_owner: str | None
    closed_amount: Decimal | None
    shares: str | None
    deal_type: str | None
    account: str | None
    name: str | None
    stage_order: int | None = None
    qualified: bool | None = None
    next_step_ms: int | None = None


class Reference(NamedTuple):
    """What gives a record its meaning."""

    stage_maps: StageMaps
    identities: Identities
    reopen_grace: timedelta
    no_decision_reasons: Collection[str]


def deal_rows(
    record: Record, deal: DealTimeline, spans: Collection[DealSpan], reference: Reference
) -> tuple[DealRow, ...]:
    """The rows of a deal that counts, from its projected spans; none when it does not."""
    rows = []
    for span in spans:
        won, lost = deal.won, deal.lost
        if span.status in CLOSED and span.valid_to_ms is not None:
            won, lost = closing_before(
                record,
                deal,
                span.valid_to_ms,
                reference.stage_maps,
                reference.identities,
                reference.reopen_grace,
            )
        rows.append(_row(span, won, lost, reference))
    return tuple(rows)


def _row(span: DealSpan, won: Won | None, lost: Lost | None, reference: Reference) -> DealRow:
    closed: Won | Lost | None = None
    outcome = shares = None
    seen_by = span.owner or ""
    if span.status == WON and won is not None:
        closed, outcome = won, WON_DEALS
        shares = _shares_text(won.splits)
        concerned = {span.owner, won.owner, *won.credited, *won.overlays}
        seen_by = people_key(person for person in concerned if person)
    elif span.status == LOST and lost is not None:
        closed = lost
        reason = (lost.reason or "").strip().lower()
        outcome = NO_DECISION if reason in reference.no_decision_reasons else LOST_DEALS
        seen_by = people_key(person for person in (span.owner, lost.owner) if person)
    return DealRow(
        span.deal_id,
        span.valid_from_ms,
        span.valid_to_ms,
        span.status,
        span.stage,
        span.stage_name,
        span.pipeline,
        span.owner,
        seen_by,
        span.amount,
        span.currency,
        span.close_date,
        span.probability,
        span.category,
        span.stage_entered_ms,
        span.created_ms,
        outcome,
        None if closed is None else closed.instant_ms,
        None if closed is None else closed.owner,
        None if closed is None else closed.amount,
        shares,
        span.deal_type,
        span.account,
        span.name,
        span.stage_order,
        span.qualified,
        span.next_step_ms,
    )


def _shares_text(splits: Mapping[str, Fraction]) -> str | None:
    if not splits:
        return None
    return msgspec.json.encode({p: str(share) for p, share in sorted(splits.items())}).decode()


class ClosedRow(NamedTuple):
    """The columns of a closed row that its sums are made of."""

    outcome: str
    closed_owner: str | None
    closed_amount: Decimal | None
    currency: str | None
    shares: str | None
    deal_type: str | None


def cells_of_row(row: ClosedRow, day: date) -> list[Cell]:
    """What a closed row adds on its day: the same cells that `contributions.project` makes."""
    priced = row.closed_amount is not None and row.currency is not None
    amount = row.closed_amount if priced and row.closed_amount is not None else ZERO
    currency = row.currency if priced and row.currency is not None else NO_CURRENCY

    def cell(measure: str, people: str, of: Decimal) -> Cell:
        return Cell(CellKey(measure, people, day, currency, row.deal_type or ""), of, 1)

    cells = []
    if row.closed_owner is not None:
        cells.append(cell(row.outcome, row.closed_owner, amount))
    if row.outcome != WON_DEALS or not priced:
        return cells
    credited = credited_of(row)
    if credited and sum(credited.values(), Fraction(0)) == 1:
        parts = allocate(amount, credited, currency)
        cells += [cell(BOOKED, person, part) for person, part in parts.items()]
        cells.append(cell(BOOKED_WHOLE, people_key(credited), amount))
    return cells


def credited_of(row: ClosedRow) -> Mapping[str, Fraction]:
    """Person → exact share of a won row."""
    if row.shares is not None:
        stated: dict[str, Any] = msgspec.json.decode(row.shares)
        return {person: Fraction(text) for person, text in stated.items()}
    return {} if row.closed_owner is None else {row.closed_owner: Fraction(1)}
