"""A deal as it was and is: the timeline that every projection of a deal starts from.

`project_deal` turns a folded record into half-open intervals of source time, the stays in won, and
the credit. One rule for bookings and for pay: a deal counts only while it is in won, at the credit
instant of that stay, with the owner and splits in force then, and with its latest amount.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from operator import itemgetter
from typing import Any, TypeAlias

import msgspec

from shared.clock import from_epoch_ms, parse_instant, to_epoch_ms
from shared.facts.fact import WHOLE_LIST
from shared.facts.record import Record, Statement
from shared.facts.reference import (
    DEFAULT_PIPELINE,
    LOST,
    OPEN,
    WON,
    Identities,
    StageMaps,
    StageRule,
    map_prefix,
)
from shared.money import parse_decimal, parse_share

DEFAULT_REOPEN_GRACE = timedelta(hours=24)
"""Leaving won and coming back within this is one stay."""

_STAGE, _STATUS, _OWNER, _AMOUNT, _CLOSE_DATE, _PIPELINE = range(6)
_FIELDS = ("stage", "status", "owner", "amount", "close_date", "pipeline")
_PLACE = frozenset((_STAGE, _PIPELINE))
_ONE = Fraction(1)
_by_ms = itemgetter(0)

_Held: TypeAlias = (
    "tuple[str | None, str, str | None, Decimal | None, str | None, str, StageRule | None, "
    "int | None]"
)
"""What holds from an instant on: a span without its borders, as the source states it."""


class Span(msgspec.Struct, frozen=True, gc=False):
    """What held in [start_ms, end_ms) of source time; end_ms None: until now.

    rule: the stage's meaning by the map in force when it was entered, None when unmapped.
    stage_entered_ms: the last entry into this stage, None while no stage was ever stated.
    """

    start_ms: int
    end_ms: int | None
    stage: str | None
    status: str
    owner: str | None
    amount: Decimal | None
    close_date: date | None
    pipeline: str
    rule: StageRule | None
    stage_entered_ms: int | None


class Stay(msgspec.Struct, frozen=True, gc=False):
    """One stay in won, breaks within the grace included. end_ms None: still there."""

    start_ms: int
    end_ms: int | None


class Won(msgspec.Struct, frozen=True):
    """The credit of a deal that is in won.

    amount, currency, owner: None while unknown; what needs them waits. splits, overlays: person →
    exact share, weights already divided by their sum; `splits` empty when the owner has it all.
    """

    instant_ms: int
    stay_began_ms: int
    amount: Decimal | None
    currency: str | None
    owner: str | None
    splits: Mapping[str, Fraction]
    overlays: Mapping[str, Fraction]

    @property
    def instant(self) -> datetime:
        """The credit instant."""
        return from_epoch_ms(self.instant_ms)

    @property
    def stay_began(self) -> datetime:
        """When the current stay in won began."""
        return from_epoch_ms(self.stay_began_ms)

    @property
    def credited(self) -> Mapping[str, Fraction]:
        """Who is credited with which share: the splits, or the owner with the whole."""
        if self.splits:
            return self.splits
        return {} if self.owner is None else {self.owner: _ONE}

    @property
    def splits_add_up(self) -> bool:
        """Whether the credited shares sum to exactly 1."""
        return sum(self.credited.values(), Fraction(0)) == 1


class Lost(msgspec.Struct, frozen=True):
    """The loss of a deal that is in lost. amount: the last one before the loss (reps zero it)."""

    instant_ms: int
    amount: Decimal | None
    currency: str | None
    owner: str | None
    reason: str | None

    @property
    def instant(self) -> datetime:
        """When it was lost: `closed_at` where it lies within the current stay in lost."""
        return from_epoch_ms(self.instant_ms)


class DealTimeline(msgspec.Struct, frozen=True, kw_only=True):
    """One deal, projected. Instants are milliseconds of source time since 1970.

    spans: contiguous, ascending, empty for a record of which only flags are known.
    merged_into: as the record states it; whoever knows all redirects replaces it by the survivor,
    or by None where a cycle makes this record stand (`resolve_redirects`).
    known_since_ms: the first statement. changed_ms: the last change of stage, amount or close date.
    pushes: moves of the close date to a later day while open; pushes_in_stage: those since the
    current stage was entered. unmapped: stages without a meaning.
    """

    deal_id: str
    name: str | None
    deal_type: str | None
    account: str | None
    currency: str | None
    spans: tuple[Span, ...]
    stays: tuple[Stay, ...]
    status: str
    won: Won | None
    lost: Lost | None
    created_ms: int | None
    closed_ms: int | None
    known_since_ms: int | None
    changed_ms: int | None
    pushes: int
    pushes_in_stage: int
    deleted: bool
    test: bool
    merged_into: str | None
    probability: Decimal | None
    category: str | None
    next_step: str | None
    next_step_ms: int | None
    next_step_said_ms: int | None
    unmapped: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether it contributes at all: neither deleted, nor a test, nor merged away."""
        return not (self.deleted or self.test or self.merged_into)

    @property
    def current(self) -> Span | None:
        """What holds now."""
        return self.spans[-1] if self.spans else None

    @property
    def owner(self) -> str | None:
        """Who owns it now."""
        return self.spans[-1].owner if self.spans else None

    @property
    def amount(self) -> Decimal | None:
        """The latest amount."""
        return self.spans[-1].amount if self.spans else None

    @property
    def created_at(self) -> datetime | None:
        """When the source says it was created; None for imports that do not know."""
        return None if self.created_ms is None else from_epoch_ms(self.created_ms)


def project_deal(
    record_id: str,
    record: Record,
    stage_maps: StageMaps,
    identities: Identities,
    reopen_grace: timedelta = DEFAULT_REOPEN_GRACE,
) -> DealTimeline:
    """The timeline of one folded deal. Pure: equal records and reference data, equal timelines."""
    value = record.value
    grace_ms = reopen_grace // timedelta(milliseconds=1)
    spans, pushes, changed_ms, unmapped = _spans(record_id, record, stage_maps, identities)
    stays = _stays(spans, grace_ms)
    status = spans[-1].status if spans else OPEN
    currency = value("currency")
    closed_ms = _instant_ms(value("closed_at"))
    said = record.latest("next_step")
    return DealTimeline(
        deal_id=record_id,
        name=value("name"),
        deal_type=value("type"),
        account=value("account"),
        currency=currency,
        spans=spans,
        stays=stays,
        status=status,
        won=_won(record, spans, stays, currency, closed_ms, identities) if status == WON else None,
        lost=_lost(record, spans, currency, closed_ms, identities) if status == LOST else None,
        created_ms=_instant_ms(value("created_at")),
        closed_ms=closed_ms,
        known_since_ms=spans[0].start_ms if spans else None,
        changed_ms=changed_ms,
        pushes=pushes[0],
        pushes_in_stage=pushes[1],
        deleted=value("deleted") is True,
        test=value("test") is True,
        merged_into=value("merged_into"),
        probability=_decimal(value("probability")),
        category=value("forecast_category"),
        next_step=value("next_step"),
        next_step_ms=_instant_ms(value("next_step_at")),
        next_step_said_ms=None if said is None else int(said.sequence[:15]),
        unmapped=unmapped,
    )


def _statements(record: Record) -> tuple[list[tuple[int, int, Any]], bool]:
    """Every statement of the tracked fields in source time, and whether a status was ever stated.

    Statements of one field stay in rank order, so that of equal instants the last one holds.
    """
    said: list[tuple[int, int, Any]] = []
    history = record.history
    for index, name in enumerate(_FIELDS):
        if kept := history.get(name):
            said += [(int(s.sequence[:15]), index, s.value) for s in kept]
    said.sort(key=_by_ms)
    stated = any(s.value is not None for s in record.timeline("status"))
    return said, stated


def _spans(
    record_id: str, record: Record, stage_maps: StageMaps, identities: Identities
) -> tuple[tuple[Span, ...], tuple[int, int], int | None, tuple[str, ...]]:
    """One sweep over the statements: spans, pushes (ever, in stage), last change, unmapped."""
    said, status_stated = _statements(record)
    prefix = map_prefix(record_id)
    drafts: list[tuple[int, _Held]] = []
    unmapped: set[str] = set()
    state: list[Any] = [None] * len(_FIELDS)
    held: _Held | None = None
    rule: StageRule | None = None
    place: tuple[str | None, str] = (None, DEFAULT_PIPELINE)
    entered_ms: int | None = None
    pushes = pushes_in_stage = 0
    changed_ms: int | None = None
    index, count = 0, len(said)
    while index < count:
        at_ms = said[index][0]
        before = (state[_STAGE], state[_AMOUNT], state[_CLOSE_DATE])
        placed = False
        while index < count and said[index][0] == at_ms:
            _, field, value = said[index]
            state[field] = parse_decimal(value) if field == _AMOUNT and value else value
            placed = placed or field in _PLACE
            index += 1
        stage, stated, owner, amount, close_date, pipeline = state
        pipeline = pipeline or DEFAULT_PIPELINE
        if placed:
            if (stage, pipeline) != place:
                place = (stage, pipeline)
                entered_ms = None if stage is None else at_ms
                pushes_in_stage = 0
            rule = None
            if stage is not None:
                rule = stage_maps.rule(f"{prefix}{pipeline}", stage, at_ms)
                if rule is None and not status_stated:
                    unmapped.add(f"{pipeline}/{stage}")
        status = stated or OPEN if status_stated else OPEN if rule is None else rule.status
        if (stage, amount, close_date) != before:
            changed_ms = at_ms
            if status == OPEN and _later(before[2], close_date):
                pushes, pushes_in_stage = pushes + 1, pushes_in_stage + 1
        now = (stage, status, owner, amount, close_date, pipeline, rule, entered_ms)
        if now != held:
            held = now
            drafts.append((at_ms, now))
    counted = (pushes, pushes_in_stage)
    return _closed_up(drafts, identities), counted, changed_ms, tuple(sorted(unmapped))


def _later(before: str | None, after: str | None) -> bool:
    """Whether a close date moved to a later day; texts of one width compare as days do."""
    return before is not None and after is not None and after > before


def _closed_up(drafts: list[tuple[int, _Held]], identities: Identities) -> tuple[Span, ...]:
    """Each span up to the next one's beginning, its owner as a person."""
    spans = []
    end_ms: int | None = None
    for start_ms, held in reversed(drafts):
        stage, status, owner, amount, close_date, pipeline, rule, entered_ms = held
        spans.append(
            Span(
                start_ms,
                end_ms,
                stage,
                status,
                None if owner is None else identities.person(owner, start_ms),
                amount,
                None if close_date is None else date.fromisoformat(close_date),
                pipeline,
                rule,
                entered_ms,
            )
        )
        end_ms = start_ms
    spans.reverse()
    return tuple(spans)


def _stays(spans: Sequence[Span], grace_ms: int) -> tuple[Stay, ...]:
    stays: list[Stay] = []
    for span in spans:
        if span.status != WON:
            continue
        if stays:
            last = stays[-1]
            if last.end_ms is not None and span.start_ms - last.end_ms <= grace_ms:
                stays[-1] = Stay(last.start_ms, span.end_ms)
                continue
        stays.append(Stay(span.start_ms, span.end_ms))
    return tuple(stays)


def _won(  # noqa: PLR0913, PLR0917 - the pieces of one projection
    record: Record,
    spans: Sequence[Span],
    stays: Sequence[Stay],
    currency: str | None,
    closed_ms: int | None,
    identities: Identities,
) -> Won:
    began_ms = stays[-1].start_ms
    instant_ms = closed_ms if closed_ms is not None and closed_ms >= began_ms else began_ms
    return Won(
        instant_ms=instant_ms,
        stay_began_ms=began_ms,
        amount=spans[-1].amount,
        currency=currency,
        owner=owner_at(record, instant_ms, identities),
        splits=shares_at(record, "splits", instant_ms, identities),
        overlays=shares_at(record, "overlays", instant_ms, identities),
    )


def _lost(
    record: Record,
    spans: Sequence[Span],
    currency: str | None,
    closed_ms: int | None,
    identities: Identities,
) -> Lost:
    first = len(spans) - 1
    while first and spans[first - 1].status == LOST:
        first -= 1
    began_ms = spans[first].start_ms
    amount = spans[first - 1].amount if first else None
    instant_ms = closed_ms if closed_ms is not None and closed_ms >= began_ms else began_ms
    return Lost(
        instant_ms=instant_ms,
        amount=spans[first].amount if amount is None else amount,
        currency=currency,
        owner=owner_at(record, instant_ms, identities),
        reason=record.value("lost_reason"),
    )


def owner_at(record: Record, at_ms: int, identities: Identities) -> str | None:
    """The owner in force at an instant; none by then: the first stated after."""
    owner: str | None = None
    for said in record.history.get("owner", ()):
        said_ms = int(said.sequence[:15])
        if said_ms > at_ms and owner is not None:
            break
        owner = said.value
        if said_ms > at_ms and owner is not None:
            break
    return None if owner is None else identities.person(owner, at_ms)


def shares_at(
    record: Record, name: str, at_ms: int, identities: Identities
) -> Mapping[str, Fraction]:
    """The shares of a list in force at an instant; nothing said by then: as first stated after."""
    prefix = name + ":"
    listed = {
        field.removeprefix(prefix): kept
        for field, kept in record.history.items()
        if field.startswith(prefix) and kept
    }
    if not listed:
        return {}
    first = min(kept[0].sequence for kept in listed.values())
    until = max(f"{at_ms:015d}~", first[:15] + "~")
    return exact_shares(_members(listed, until), identities, at_ms)


def _members(listed: Mapping[str, list[Statement]], until: str) -> dict[str, str]:
    """As `Record.members`, of lists picked out before."""
    held = {}
    for member, kept in listed.items():
        for said in reversed(kept):
            if said.sequence <= until:
                held[member] = said
                break
    whole = held.pop(WHOLE_LIST, None)
    return {
        member: said.value
        for member, said in held.items()
        if said.value is not None
        and (whole is None or (said.sequence, said.revision) >= (whole.sequence, whole.revision))
    }


def exact_shares(
    members: Mapping[str, str], identities: Identities, at_ms: int
) -> dict[str, Fraction]:
    """Person → share, sorted by person; a person known by two ids has the sum of both.

    Only whole-number weights: each divided by their sum. Otherwise as stated, so the sum may miss
    1. A share of nothing is left out.
    """
    stated = {member: parse_share(text) for member, text in members.items()}
    if stated and all(text.strip().isdigit() for text in members.values()):
        total = sum(stated.values(), Fraction(0))
        stated = {m: w / total for m, w in stated.items()} if total else {}
    shares: dict[str, Fraction] = {}
    for member, share in stated.items():
        if share:
            person = identities.person(member, at_ms)
            shares[person] = shares.get(person, Fraction(0)) + share
    return dict(sorted(shares.items()))


def resolve_redirects(edges: Mapping[str, tuple[str, str]]) -> Mapping[str, str]:
    """The survivor of every merged id, through chains.

    edges: id → (the id it was merged into, the statement's sequence). In a cycle the oldest
    redirect (of equal sequences, the smaller id's) is ignored, so that exactly one id survives.
    Ids that survive are not in the result.
    """
    kept = dict(edges)
    settled: set[str] = set()
    for start in sorted(edges):
        path: list[str] = []
        place = start
        while place in kept and place not in settled and place not in path:
            path.append(place)
            place = kept[place][0]
        if place in path:
            cycle = path[path.index(place) :]
            del kept[min(cycle, key=lambda member: (kept[member][1], member))]
        settled.update(path)
    return {merged: _end(merged, kept) for merged in kept}


def _end(place: str, kept: Mapping[str, tuple[str, str]]) -> str:
    while place in kept:
        place = kept[place][0]
    return place


def merge_edges(records: Iterable[tuple[str, Record]]) -> dict[str, tuple[str, str]]:
    """The redirects that records state, for `resolve_redirects`."""
    edges = {}
    for record_id, record in records:
        said = record.latest("merged_into")
        if said is not None and said.value is not None:
            edges[record_id] = (said.value, said.sequence)
    return edges


def _decimal(value: object) -> Decimal | None:
    return None if value is None else parse_decimal(value)


def _instant_ms(value: str | None) -> int | None:
    return None if value is None else to_epoch_ms(parse_instant(value))
