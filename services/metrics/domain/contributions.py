"""What one deal or activity adds: cells that sum, rows that are read, and what is missing.

A cell is a sum in the original currency by (measure, people, day, dimensions). Amounts of a shared
deal are in two grains: per person by share (`booked`), and whole, keyed by the set of people, so
that a team counts it once (`booked_whole`). Projections are pure; the difference to what is stored
is posted elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import msgspec

from shared.clock import parse_instant, to_epoch_ms
from shared.facts.deal import DealTimeline, Span, Won
from shared.facts.record import Record
from shared.facts.reference import LOST, Identities
from shared.money import EXACT, allocate, round_to_minor
from shared.org.calendar import FiscalCalendar

BOOKED = "booked"
BOOKED_WHOLE = "booked_whole"
OVERLAY = "overlay"
WON_DEALS = "won"
LOST_DEALS = "lost"
NO_DECISION = "lost_no_decision"
ACTIVITY = "activity"
ACTIVITY_WHOLE = "activity_whole"

NO_CURRENCY = ""
"""The currency of counts, and of a deal whose amount is not known."""

PEOPLE_SEPARATOR = "|"
"""Joins sorted ids into the key of a set; an id cannot contain it."""

ZERO = Decimal(0)


class CellKey(NamedTuple):
    """Where an amount and a number are added.

    people: one id, or a set's key. day: of the credit, closing or activity, in the organisation's
    zone. deal_type: `new`, `expansion`, `renewal`, or "" where unstated or meaningless.
    """

    measure: str
    people: str
    day: date
    currency: str
    deal_type: str


class Cell(NamedTuple):
    """One addend. amount: exact, in the key's currency; number: of deals or activities."""

    key: CellKey
    amount: Decimal
    number: int


class DealSpan(msgspec.Struct, frozen=True, gc=False):
    """A deal during [valid_from_ms, valid_to_ms): the row that pipeline and as-of reads use.

    people: the credited people of a won deal, else its owner. probability: 0 to 1; the deal's own
    counts now, the stage's counted before. credit_ms: only on the row in which it is won now.
    closed_ms: when the current won or lost stay is dated; None while open.
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
    people: str
    amount: Decimal | None
    currency: str | None
    close_date: date | None
    probability: Decimal | None
    category: str | None
    stage_entered_ms: int | None
    created_ms: int | None
    credit_ms: int | None
    closed_ms: int | None
    deal_type: str | None
    account: str | None
    name: str | None
    stage_order: int | None = None
    qualified: bool | None = None
    next_step_ms: int | None = None


@dataclass(frozen=True, slots=True)
class HygieneItem:
    """Something that is missing or does not add up, and so holds back a number.

    rule: `missing_owner`, `missing_currency`, `missing_amount`, `split_sum`, `unmapped_stage`,
    `unknown_person`. text: for the person who can mend it.
    """

    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Contribution:
    """Everything one root adds. Empty for a deleted, test or merged record."""

    cells: tuple[Cell, ...] = ()
    spans: tuple[DealSpan, ...] = ()
    hygiene: tuple[HygieneItem, ...] = ()


def people_key(people: Iterable[str]) -> str:
    """The key of a set of people: their ids, sorted and joined."""
    return PEOPLE_SEPARATOR.join(sorted(set(people)))


def people_of(key: str) -> tuple[str, ...]:
    """The people of a set's key."""
    return tuple(key.split(PEOPLE_SEPARATOR)) if key else ()


def project(
    deal: DealTimeline,
    calendar: FiscalCalendar,
    identities: Identities,
    no_decision_reasons: Collection[str] = (),
) -> Contribution:
    """What a deal adds now.

    no_decision_reasons: `lost_reason` texts, lower case, that mean no decision or disqualified.
    """
    if not deal.counts:
        return Contribution()
    hygiene: list[HygieneItem] = []
    cells: list[Cell] = []
    if deal.won is not None:
        cells = _won_cells(deal, deal.won, calendar, hygiene)
    elif deal.lost is not None:
        cells = _lost_cells(deal, calendar, no_decision_reasons)
    hygiene.extend(_hygiene(deal, identities))
    return Contribution(_merged(cells), _rows(deal), tuple(sorted(set(hygiene), key=_hygiene_key)))


def _won_cells(
    deal: DealTimeline, won: Won, calendar: FiscalCalendar, hygiene: list[HygieneItem]
) -> list[Cell]:
    day = calendar.day_of_ms(won.instant_ms)
    deal_type = deal.deal_type or ""
    priced = won.amount is not None and won.currency is not None
    amount = won.amount if priced and won.amount is not None else ZERO
    currency = won.currency if priced and won.currency is not None else NO_CURRENCY

    def cell(measure: str, people: str, of: Decimal) -> Cell:
        return Cell(CellKey(measure, people, day, currency, deal_type), of, 1)

    cells = []
    if won.owner is not None:
        cells.append(cell(WON_DEALS, won.owner, amount))
    credited = won.credited
    if not credited:
        return cells
    if not won.splits_add_up:
        total = sum(won.splits.values(), Fraction(0))
        hygiene.append(HygieneItem("split_sum", f"the splits sum to {total}, not to 1"))
        return cells
    if priced:
        alone = len(credited) == 1
        parts = dict.fromkeys(credited, amount) if alone else allocate(amount, credited, currency)
        cells += [cell(BOOKED, person, part) for person, part in parts.items()]
        cells.append(cell(BOOKED_WHOLE, people_key(credited), amount))
        cells += [
            cell(OVERLAY, person, _share_of(amount, share, currency))
            for person, share in won.overlays.items()
        ]
    return cells


def _share_of(amount: Decimal, share: Fraction, currency: str) -> Decimal:
    """An overlay's share, to the minor unit: overlays need not sum to anything."""
    exact = Fraction(amount) * share
    wide = EXACT.copy()
    wide.clear_traps()
    return round_to_minor(
        wide.divide(Decimal(exact.numerator), Decimal(exact.denominator)), currency
    )


def _lost_cells(
    deal: DealTimeline, calendar: FiscalCalendar, no_decision_reasons: Collection[str]
) -> list[Cell]:
    lost = deal.lost
    if lost is None or lost.owner is None:
        return []
    reason = (lost.reason or "").strip().lower()
    measure = NO_DECISION if reason in no_decision_reasons else LOST_DEALS
    priced = lost.amount is not None and lost.currency is not None
    key = CellKey(
        measure,
        lost.owner,
        calendar.day_of_ms(lost.instant_ms),
        lost.currency if priced and lost.currency is not None else NO_CURRENCY,
        deal.deal_type or "",
    )
    return [Cell(key, lost.amount if priced and lost.amount is not None else ZERO, 1)]


def _hygiene(deal: DealTimeline, identities: Identities) -> Iterable[HygieneItem]:
    owner = deal.won.owner if deal.won else deal.lost.owner if deal.lost else deal.owner
    if owner is None:
        yield HygieneItem("missing_owner", "the deal has no owner; it counts for nobody until then")
    if deal.amount is None and deal.status != LOST:
        yield HygieneItem("missing_amount", "the deal has no amount; sums leave it out")
    if deal.currency is None:
        yield HygieneItem("missing_currency", "the deal has no currency; its amount is held")
    for place in deal.unmapped:
        yield HygieneItem("unmapped_stage", f"no stage map says what {place} means")
    credited = deal.won.credited if deal.won else ()
    for person in sorted({*credited, *({owner} if owner else ())}):
        if not identities.is_person(person):
            yield HygieneItem("unknown_person", f"nobody has the identity {person}")


def _hygiene_key(item: HygieneItem) -> tuple[str, str]:
    return (item.rule, item.text)


def _merged(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Cells of one key added up, in key order; equal contributions are equal tuples."""
    sums: dict[CellKey, tuple[Decimal, int]] = {}
    for key, amount, number in cells:
        known_amount, known_number = sums.get(key, (ZERO, 0))
        sums[key] = (EXACT.add(known_amount, amount), known_number + number)
    return tuple(Cell(key, *sums[key]) for key in sorted(sums))


def _rows(deal: DealTimeline) -> tuple[DealSpan, ...]:
    return tuple(_row(deal, span) for span in deal.spans)


def _row(deal: DealTimeline, span: Span) -> DealSpan:
    rule = span.rule
    probability = None if rule is None else rule.probability
    category = None if rule is None else rule.category
    people = span.owner or ""
    credit_ms = closed_ms = next_step_ms = None
    if span.end_ms is None:
        next_step_ms = deal.next_step_ms
        if deal.probability is not None:
            probability = deal.probability
        category = deal.category or category
        if deal.won is not None:
            credit_ms = closed_ms = deal.won.instant_ms
            people = people_key(deal.won.credited)
        elif deal.lost is not None:
            closed_ms = deal.lost.instant_ms
    return DealSpan(
        deal.deal_id,
        span.start_ms,
        span.end_ms,
        span.status,
        span.stage,
        span.stage if rule is None else rule.name,
        span.pipeline,
        span.owner,
        people,
        span.amount,
        deal.currency,
        span.close_date,
        probability,
        category,
        span.stage_entered_ms,
        deal.created_ms,
        credit_ms,
        closed_ms,
        deal.deal_type,
        deal.account,
        deal.name,
        None if rule is None else rule.order,
        None if rule is None else rule.qualified,
        next_step_ms,
    )


@dataclass(frozen=True, slots=True)
class Activity:
    """An activity, projected. people: ours who took part, sorted; done_ms: None until done.

    counts: done, and neither deleted, cancelled nor internal.
    """

    activity_id: str
    kind: str | None
    people: tuple[str, ...]
    deal: str | None
    done_ms: int | None
    due_ms: int | None
    counts: bool
    planned: bool


def project_activity(activity_id: str, record: Record, identities: Identities) -> Activity:
    """The activity that a folded record describes.

    People are the owner and those participants who are known people of ours. It is internal where
    its field says so, or else when everybody in it is ours and it belongs to no deal, lead or
    account. planned: still to be done.
    """
    value = record.value
    done_ms, due_ms = _ms(value("completed_at")), _ms(value("due_at"))
    at_ms = done_ms if done_ms is not None else due_ms if due_ms is not None else 0
    participants = [identities.person(p, at_ms) for p in record.members("participants")]
    ours = {p for p in participants if identities.is_person(p)}
    owner = value("owner")
    people = ours if owner is None else ours | {identities.person(owner, at_ms)}
    internal = value("internal")
    if internal is None:
        linked = any(value(name) is not None for name in ("deal", "lead", "account"))
        internal = bool(participants) and len(ours) == len(set(participants)) and not linked
    out = value("deleted") is True or value("cancelled") is True or internal is True
    return Activity(
        activity_id=activity_id,
        kind=value("kind"),
        people=tuple(sorted(people)),
        deal=value("deal"),
        done_ms=done_ms,
        due_ms=due_ms,
        counts=done_ms is not None and not out,
        planned=done_ms is None and due_ms is not None and not out,
    )


def activity_contribution(activity: Activity, calendar: FiscalCalendar) -> Contribution:
    """One count for each person, and one for the set of them."""
    if not activity.counts or activity.done_ms is None:
        return Contribution()
    if not activity.people:
        text = "the activity belongs to nobody of ours; it is not counted"
        return Contribution(hygiene=(HygieneItem("missing_owner", text),))
    day = calendar.day_of_ms(activity.done_ms)
    kind = activity.kind or "other"
    cells = [
        Cell(CellKey(f"{ACTIVITY}:{kind}", person, day, NO_CURRENCY, ""), ZERO, 1)
        for person in activity.people
    ]
    whole = CellKey(f"{ACTIVITY_WHOLE}:{kind}", people_key(activity.people), day, NO_CURRENCY, "")
    return Contribution(cells=_merged([*cells, Cell(whole, ZERO, 1)]))


def difference(old: Iterable[Cell], new: Iterable[Cell]) -> tuple[Cell, ...]:
    """`new` minus `old` by key, without what did not change, in key order: what is to be added."""
    sums: dict[CellKey, tuple[Decimal, int]] = {key: (a, c) for key, a, c in new}
    for key, amount, number in old:
        known_amount, known_number = sums.get(key, (ZERO, 0))
        sums[key] = (EXACT.subtract(known_amount, amount), known_number - number)
    return tuple(Cell(key, a, c) for key, (a, c) in sorted(sums.items()) if a or c)


def by_measure(cells: Iterable[Cell], measure: str) -> Mapping[str, Cell]:
    """The cells of one measure by people, for reading a single contribution."""
    return {cell.key.people: cell for cell in cells if cell.key.measure == measure}


def _ms(text: str | None) -> int | None:
    return None if text is None else to_epoch_ms(parse_instant(text))
