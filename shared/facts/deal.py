"""A deal as it was and is: the timeline that every projection of a deal starts from.

`project_deal` turns a folded record into half-open intervals of source time, the stays in won, and
the credit. One rule for bookings and for pay: a deal counts only while it is in won, at the credit
instant of that stay, with the owner and splits in force then, and with its latest amount.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from operator import attrgetter, itemgetter
from typing import Any, TypeAlias

import msgspec

from shared.events.envelope import MS_DIGITS
from shared.facts.fact import WHOLE_LIST, instant_ms
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
from shared.facts.timeline import DealTimeline, Lost, Span, Stay, Won
from shared.money import parse_decimal, parse_share

__all__ = [
    "DEFAULT_REOPEN_GRACE",
    "DealTimeline",
    "Lost",
    "Span",
    "Stay",
    "Won",
    "closing_before",
    "exact_shares",
    "merge_edges",
    "owner_at",
    "project_deal",
    "resolve_redirects",
    "shares_at",
]

DEFAULT_REOPEN_GRACE = timedelta(hours=24)
"""Leaving won and coming back within this is one stay."""

_STAGE, _STATUS, _OWNER, _AMOUNT, _CLOSE_DATE, _PIPELINE = range(6)
_FIELDS = ("stage", "status", "owner", "amount", "close_date", "pipeline")
_PLACE = frozenset((_STAGE, _PIPELINE))
_by_ms = itemgetter(0)
_by_sequence = attrgetter("sequence")

_Held: TypeAlias = (
    "tuple[str | None, str, str | None, Decimal | None, str | None, str, StageRule | None, "
    "int | None]"
)
"""What holds from an instant on: a span without its borders, as the source states it."""


def project_deal(
    record_id: str,
    record: Record,
    stage_maps: StageMaps,
    identities: Identities,
    reopen_grace: timedelta = DEFAULT_REOPEN_GRACE,
) -> DealTimeline:
    """The timeline of one folded deal. Pure: equal records and reference data, equal timelines."""
    fields, latest = record.fields, record.latest

    def value(name: str) -> Any:  # noqa: ANN401 - a JSON value, as the model allows
        said = fields.get(name) or latest(name)
        return None if said is None else said.value

    spans, pushes, changed_ms, unmapped = _spans(record_id, record, stage_maps, identities)
    stays = _stays(spans, _grace_ms(reopen_grace))
    status = spans[-1].status if spans else OPEN
    currency = value("currency")
    closed_ms = _instant_ms(value("closed_at"))
    said = latest("next_step")
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
        next_step_said_ms=None if said is None else int(said.sequence[:MS_DIGITS]),
        unmapped=unmapped,
    )


def _statements(record: Record) -> tuple[list[tuple[str, int, Any]], bool]:
    """Every statement of the tracked fields in source time, and whether a status was ever stated.

    Statements of one field stay in rank order, so that of equal instants the last one holds.
    """
    said: list[tuple[str, int, Any]] = []
    history = record.history
    for index, name in enumerate(_FIELDS):
        if kept := history.get(name):
            said += [(s.sequence[:MS_DIGITS], index, s.value) for s in kept]
    said.sort(key=_by_ms)
    return said, _status_stated(record)


def _status_stated(record: Record) -> bool:
    return "status" in record.history and any(
        s.value is not None for s in record.timeline("status")
    )


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
        at = said[index][0]
        at_ms = int(at)
        before = (state[_STAGE], state[_AMOUNT], state[_CLOSE_DATE])
        placed = False
        while index < count and said[index][0] == at:
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


def closing_before(  # noqa: PLR0913, PLR0917 - what a projection takes, and the instant
    record: Record,
    deal: DealTimeline,
    end_ms: int,
    stage_maps: StageMaps,
    identities: Identities,
    reopen_grace: timedelta = DEFAULT_REOPEN_GRACE,
) -> tuple[Won | None, Lost | None]:
    """The credit or the loss of a deal as it stood just before `end_ms`, where a span of it ends.

    By what had been said until then, as if the record were projected without the later statements;
    a `closed_at` that lies later was not yet. deal: the record's timeline, whose spans are reused.
    """
    until = _said_before(record, end_ms)
    if _status_stated(record) != _status_stated(until):
        # Stages decided then, and do not any more: the spans are other ones.
        then = project_deal(deal.deal_id, until, stage_maps, identities, reopen_grace)
        return then.won, then.lost
    spans = [span for span in deal.spans if span.start_ms < end_ms]
    if not spans:
        return None, None
    last = spans[-1] = msgspec.structs.replace(spans[-1], end_ms=None)
    closed_ms = deal.closed_ms if deal.closed_ms is not None and deal.closed_ms < end_ms else None
    if last.status == WON:
        stays = _stays(spans, _grace_ms(reopen_grace))
        return _won(until, spans, stays, deal.currency, closed_ms, identities), None
    if last.status == LOST:
        return None, _lost(until, spans, deal.currency, closed_ms, identities)
    return None, None


def _said_before(record: Record, end_ms: int) -> Record:
    """The record without what was said of fields with a history at `end_ms` or later."""
    limit = f"{end_ms:015d}"
    history = {}
    for name, kept in record.history.items():
        if kept and kept[-1].sequence < limit:
            history[name] = kept
        elif before := kept[: bisect_left(kept, limit, key=_by_sequence)]:
            history[name] = before
    fields = record.fields
    closed_at = record.value("closed_at")
    if closed_at is not None and instant_ms(closed_at) >= end_ms:
        fields = {name: said for name, said in fields.items() if name != "closed_at"}
    return Record(fields=fields, history=history)


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
        said_ms = int(said.sequence[:MS_DIGITS])
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


def _grace_ms(reopen_grace: timedelta) -> int:
    return reopen_grace // timedelta(milliseconds=1)


def _decimal(value: object) -> Decimal | None:
    return None if value is None else parse_decimal(value)


def _instant_ms(value: str | None) -> int | None:
    return None if value is None else instant_ms(value)
