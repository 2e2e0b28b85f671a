"""What a drawn story holds, read off the story itself: its generator's reach is asserted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.histories import REFERENCE_KINDS, Batch, Said, Story, of_a_root

SHARES: Mapping[str, float] = {
    "three linked records": 0.5,
    "merge": 0.4,
    "cycle of merges": 0.05,
    "merge taken back": 0.1,
    "delete": 0.3,
    "restore": 0.15,
    "late fact": 0.4,
    "tie": 0.1,
    "reference change between batches": 0.3,
    "whole splits": 0.15,
    "repeated in another batch": 0.4,
    "four batches": 0.9,
}
"""The least share of a run's stories in which each must happen, or the run shows nothing."""

SHARES_OF_FEW: Mapping[str, float] = {
    name: share / 2 for name, share in SHARES.items() if share >= 0.3
}
"""What the few stories that a database is given must hold; the rare is for runs of many."""


@dataclass(slots=True)
class Coverage:
    """Counts what happens in the stories of a run."""

    stories: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    def add(self, story: Story, *more: str) -> None:
        """Count one story; `more` names what a test saw come of it."""
        self.stories += 1
        self.seen.update(happenings(story) | set(more))

    def require(self, shares: Mapping[str, float]) -> None:
        """Raise AssertionError when something happens too seldom."""
        assert self.stories, "no story was told"
        found = {name: self.seen[name] / self.stories for name in shares}
        rare = {name: share for name, share in found.items() if share < shares[name]}
        assert not rare, f"of {self.stories} stories, too few have {rare}"


def happenings(story: Story) -> set[str]:
    """What happens in a story, read off what is told and not off how it was drawn."""
    said = [s for batch in story.told for s in batch if isinstance(s, Said)]
    found = {
        name
        for name, happens in (
            ("three linked records", _greatest_family(said) >= 3),
            ("merge taken back", _turns(said, "merged_into", None)),
            ("delete", any(s.fields.get("deleted") is True for s in said)),
            ("restore", _turns(said, "deleted", False)),
            ("tie", _ties(said)),
            ("whole splits", any(len(s.fields.get("splits", ())) > 1 for s in said)),
            ("late fact", any(_late(story.told))),
            ("reference change between batches", _reference_between(story.told)),
            ("repeated in another batch", _repeated(story.again)),
            ("four batches", min(len(story.told), len(story.again)) >= 4),
        )
        if happens
    }
    edges = {(s.record, s.fields["merged_into"]) for s in said if s.fields.get("merged_into")}
    if edges:
        found.add("merge")
    if any((b, a) in edges for a, b in edges):
        found.add("cycle of merges")
    return found


def _greatest_family(said: Iterable[Said]) -> int:
    """How many records the greatest group has that merges and references link."""
    families: dict[str, set[str]] = {}
    for one in said:
        for name in ("merged_into", "deal", "account"):
            if (target := one.fields.get(name)) is not None:
                family = families.get(one.record, {one.record}) | families.get(target, {target})
                families.update(dict.fromkeys(family, family))
    return max(map(len, families.values()), default=0)


def _turns(said: Sequence[Said], name: str, to: object) -> bool:
    """Whether a record's field is stated otherwise and later becomes `to`."""
    return any(
        name in later.fields
        and later.fields[name] is to
        and one.fields.get(name)
        and (one.kind, one.record) == (later.kind, later.record)
        and one.sequence < later.sequence
        for later in said
        for one in said
    )


def _ties(said: Iterable[Said]) -> bool:
    """Whether two values of one field are stated with one sequence."""
    known: dict[tuple[object, ...], object] = {}
    return any(
        known.setdefault((s.kind, s.record, s.sequence, name), value) != value
        for s in said
        for name, value in s.fields.items()
    )


def _late(batches: Sequence[Batch]) -> Iterator[bool]:
    """For each fact, whether an earlier batch knew something later of its record."""
    newest: dict[tuple[str, str], tuple[int, int]] = {}
    for batch in batches:
        said = [step for step in batch if isinstance(step, Said)]
        for one in said:
            yield newest.get((one.kind, one.record), (-1, 0)) > one.sequence
        for one in said:
            key = (one.kind, one.record)
            newest[key] = max(newest.get(key, one.sequence), one.sequence)


def _reference_between(batches: Sequence[Batch]) -> bool:
    """Whether reference data changes after deals were settled, with more of them to come."""
    roots = [any(map(of_a_root, batch)) for batch in batches]
    return any(
        any(roots[:place])
        and any(roots[place + 1 :])
        and any(isinstance(s, Said) and s.kind in REFERENCE_KINDS for s in batch)
        for place, batch in enumerate(batches)
    )


def _repeated(batches: Sequence[Batch]) -> bool:
    """Whether the same fact comes in two batches."""
    homes: dict[str, int] = {}
    return any(
        homes.setdefault(repr(step), place) != place
        for place, batch in enumerate(batches)
        for step in batch
    )


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """`section: key` of everything in which two dumps differ; of lists, the whole section."""
    found = []
    for section in sorted({*one, *other}):
        mine, theirs = one.get(section), other.get(section)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            keys = [key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key)]
            found += sorted(f"{section}: {key}" for key in keys)
        elif mine != theirs:
            found.append(section)
    return found
