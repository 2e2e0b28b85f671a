"""The fold gives the same record for any order and any repetition of the same facts."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.clock import to_text
from shared.events.envelope import Envelope, encode_data, sequence_of
from shared.facts.fact import Fact, read_fact
from shared.facts.record import Record, canonical, decode_record, encode_record

START = datetime(2025, 1, 1, tzinfo=UTC)
SHARES = st.one_of(st.none(), st.sampled_from(["1/3", "50%", "2"]))
PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "stage": st.sampled_from(["new", "won", None]),
        "amount": st.sampled_from(["10", "20.5", None]),
        "owner": st.sampled_from(["ana", "bob"]),
        "splits": st.dictionaries(st.sampled_from(["ana", "bob", "cy"]), SHARES, max_size=3),
        "name": st.sampled_from(["A", "B", None]),
        "complete": st.just(["splits"]),
    },
)


@st.composite
def facts(draw: st.DrawFn) -> list[Fact]:
    """Facts of one deal, with equal instants, equal ids and several revisions among them."""
    said = []
    for number in range(draw(st.integers(1, 8))):
        at = START + timedelta(minutes=draw(st.integers(0, 3)))
        arrived = at + timedelta(minutes=draw(st.integers(0, 5)))
        patch: dict[str, Any] = draw(PATCHES)
        said.append(
            read_fact(
                Envelope(
                    id=f"e{draw(st.integers(0, number))}",
                    source="/crm/acme/main/test",
                    type="attain.deal.v1",
                    subject="deal/acme:main:1",
                    time=to_text(at),
                    recordedtime=to_text(arrived),
                    sequence=sequence_of(at, draw(st.integers(0, 1))),
                    revision=draw(st.integers(0, 1)),
                    data=encode_data(patch),
                )
            )
        )
    return said


def folded(said: list[Fact]) -> Record:
    """All of them, in the given order."""
    record = Record()
    for fact in said:
        record.fold(fact)
    return record


@given(st.data())
@settings(max_examples=300)
def test_any_order_and_repetition_gives_the_same_record(data: st.DataObject) -> None:
    """Commutative, associative and idempotent, also through its stored text."""
    said = data.draw(facts())
    shuffled = data.draw(st.permutations(said + data.draw(st.lists(st.sampled_from(said)))))
    split = data.draw(st.integers(0, len(shuffled)))
    record = decode_record(encode_record(folded(shuffled[:split])))
    for fact in shuffled[split:]:
        record.fold(fact)
    assert canonical(record) == canonical(folded(said))
    assert record.members("splits") == folded(said).members("splits")


@given(facts())
@settings(max_examples=300)
def test_fold_says_truly_whether_it_changed_anything(said: list[Fact]) -> None:
    """The store leaves out what did not change, so a wrong "no" would depend on order."""
    record = Record()
    for fact in said + said:
        before = canonical(record)
        changed = record.fold(fact)
        assert changed == (canonical(record) != before)


@given(facts())
def test_latest_wins_per_field(said: list[Fact]) -> None:
    """The value is that of the greatest (sequence, revision) that states the field."""
    record = folded(said)
    for name in ("stage", "amount", "owner", "name"):
        stated = [fact for fact in said if name in fact.fields]
        if stated:
            top = max((fact.sequence, fact.revision) for fact in stated)
            values = {f.fields[name] for f in stated if (f.sequence, f.revision) == top}
            assert record.value(name) in values


def test_the_generator_reaches_what_matters() -> None:
    """Coverage of the generator itself: ties, repeats and tombstones all occur."""
    seen: Counter[str] = Counter()

    @given(facts())
    @settings(max_examples=200, database=None)
    def look(said: list[Fact]) -> None:
        sequences = [fact.sequence for fact in said]
        seen["tie"] += len(set(sequences)) < len(sequences)
        seen["revision"] += any(fact.revision for fact in said)
        seen["tombstone"] += any(
            name.startswith("splits:") and value is None
            for fact in said
            for name, value in fact.fields.items()
        )
        seen["whole list"] += any("splits:*" in fact.fields for fact in said)

    look()
    assert all(seen[what] >= 5 for what in ("tie", "revision", "tombstone", "whole list")), seen
