"""A record: what is known of one thing, folded from its facts.

`fold` is commutative, associative and idempotent: any order and any repetition of the same facts
gives the same record. It keeps for each field the statement with the greatest (sequence, revision,
value), and for fields whose past counts every statement. Whatever summarises belongs to the
projection: in the fold it would make the result depend on order.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shared.facts.fact import WHOLE_LIST, Fact

_value_encoder = msgspec.json.Encoder(order="sorted")


class Statement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing said about one field. recorded_ms: the least arrival time of that event."""

    sequence: str
    revision: int
    value: Any
    event_id: str
    recorded_ms: int

    @property
    def rank(self) -> tuple[str, int, bytes]:
        """The order of statements about one field; null is the least value."""
        value = b"" if self.value is None else _value_encoder.encode(self.value)
        return (self.sequence, self.revision, value)


class Record(msgspec.Struct):
    """A folded record. fields: the latest statement of each; history: all, in rank order.

    A field is in one of the two, by its kind's `history`.
    """

    fields: dict[str, Statement] = {}
    history: dict[str, list[Statement]] = {}

    def fold(self, fact: Fact) -> bool:
        """Take in what `fact` says. Returns whether that changed anything but recording times."""
        changed = False
        for name, value in fact.fields.items():
            said = Statement(fact.sequence, fact.revision, value, fact.event_id, fact.recorded_ms)
            if base_name(name) in fact.kind.history:
                changed |= self._keep(name, said)
            else:
                changed |= self._replace(name, said)
        return changed

    def _replace(self, name: str, said: Statement) -> bool:
        known = self.fields.get(name)
        if known is None or said.sequence > known.sequence:
            self.fields[name] = said
            return True
        if said.sequence < known.sequence:
            return False
        if said.rank > known.rank:
            self.fields[name] = said
            return True
        if said.rank == known.rank:
            self.fields[name] = _earliest(known, said)
            return self.fields[name].event_id != known.event_id
        return False

    def _keep(self, name: str, said: Statement) -> bool:
        kept = self.history.setdefault(name, [])
        if not kept or said.sequence > kept[-1].sequence:
            kept.append(said)
            return True
        place = bisect_left(kept, said.rank, key=_rank)
        if place < len(kept) and kept[place].rank == said.rank:
            known = kept[place]
            kept[place] = _earliest(known, said)
            return kept[place].event_id != known.event_id
        insort(kept, said, key=_rank)
        return True

    def latest(self, name: str) -> Statement | None:
        """The greatest statement about a field, or None when nothing was said."""
        if (said := self.fields.get(name)) is not None:
            return said
        kept = self.history.get(name)
        return kept[-1] if kept else None

    def value(self, name: str) -> Any:  # noqa: ANN401 - a JSON value, as the model allows
        """The field's latest value; None when cleared or never stated."""
        said = self.latest(name)
        return None if said is None else said.value

    def timeline(self, name: str) -> list[Statement]:
        """The statements that held, one a sequence: of equal sequences the greatest rank."""
        held: list[Statement] = []
        for said in self.history.get(name, ()):
            if held and held[-1].sequence == said.sequence:
                held[-1] = said
            else:
                held.append(said)
        return held

    def members(self, name: str, *, until: str | None = None) -> dict[str, Any]:
        """The members of a list and their values, by statements of sequence <= `until` if given.

        A member counts when its latest statement is no tombstone and not older than the latest
        statement that the list was complete.
        """
        whole = self._member_statement(f"{name}:{WHOLE_LIST}", until)
        result: dict[str, Any] = {}
        prefix = name + ":"
        for field in sorted({*self.fields, *self.history}):
            member = field.removeprefix(prefix)
            if member is field or not field.startswith(prefix) or member == WHOLE_LIST:
                continue
            said = self._member_statement(field, until)
            if said is None or said.value is None:
                continue
            if whole is None or (said.sequence, said.revision) >= (whole.sequence, whole.revision):
                result[member] = said.value
        return result

    def _member_statement(self, field: str, until: str | None) -> Statement | None:
        if until is None:
            return self.latest(field)
        found = None
        for said in self.history.get(field, ()):
            if said.sequence > until:
                break
            found = said
        return found

    def dated(self, name: str) -> Iterator[tuple[str, Any]]:
        """(effective_from, value) of a dated field, unordered, without what was retracted."""
        prefix = name + "@"
        for field in (*self.fields, *self.history):
            said = self.latest(field) if field.startswith(prefix) else None
            if said is not None and said.value is not None:
                yield field[len(prefix) :], said.value

    def dated_members(self, name: str) -> Iterator[tuple[str, str, Any]]:
        """(member, effective_from, value) of a dated list, unordered, without retractions."""
        prefix = name + ":"
        for field in (*self.fields, *self.history):
            if field.startswith(prefix) and (said := self.latest(field)) is not None:
                member, _, effective_from = field[len(prefix) :].rpartition("@")
                if said.value is not None:
                    yield member, effective_from, said.value

    def event_ids(self) -> list[str]:
        """The ids of the events this record still rests on, sorted."""
        statements = list(self.fields.values())
        for kept in self.history.values():
            statements.extend(kept)
        return sorted({said.event_id for said in statements})


def fold_all(facts: Mapping[str, list[Fact]], records: dict[str, Record]) -> set[str]:
    """Fold facts by record id into `records` (created where absent); the ids that changed."""
    changed = set()
    for record_id, said in facts.items():
        record = records.setdefault(record_id, Record())
        news = [record.fold(fact) for fact in said]
        if any(news):
            changed.add(record_id)
    return changed


def base_name(field: str) -> str:
    """`splits` of `splits:ana`, `role` of `role@2026-01-01`, `stage` of `stage`."""
    return field.partition(":")[0].partition("@")[0]


def canonical(record: Record) -> dict[str, Any]:
    """The record without recording times: equal for any order and repetition of its facts."""

    def plain(said: Statement) -> list[Any]:
        return [said.sequence, said.revision, said.value, said.event_id]

    return {
        "fields": {name: plain(said) for name, said in sorted(record.fields.items())},
        "history": {
            name: [plain(said) for said in kept] for name, kept in sorted(record.history.items())
        },
    }


def _rank(said: Statement) -> tuple[str, int, bytes]:
    return said.rank


def _earliest(known: Statement, said: Statement) -> Statement:
    """Equal statements of two events: the smaller id and the earlier arrival stand for both."""
    if said.event_id >= known.event_id and said.recorded_ms >= known.recorded_ms:
        return known
    return Statement(
        known.sequence,
        known.revision,
        known.value,
        min(known.event_id, said.event_id),
        min(known.recorded_ms, said.recorded_ms),
    )


_decoder = msgspec.json.Decoder(Record)
_encoder = msgspec.json.Encoder()


def decode_record(document: str | bytes) -> Record:
    """The record stored as JSON."""
    return _decoder.decode(document)


def encode_record(record: Record) -> str:
    """The record as JSON text for a jsonb column."""
    return _encoder.encode(record).decode()
