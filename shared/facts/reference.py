"""Reference data that gives a deal its meaning: stage maps, and who is who in the sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, tzinfo
from decimal import Decimal

import msgspec

from shared.events.records import Stage
from shared.facts.dated import Dated
from shared.facts.record import Record
from shared.money import parse_decimal

DEFAULT_PIPELINE = "default"
"""The pipeline of a deal whose source states none."""

OPEN, WON, LOST = "open", "won", "lost"


class StageRule(msgspec.Struct, frozen=True, gc=False):
    """What one stage means. probability: 0 to 1, None when unknown.

    exempt: stage age says nothing about a stalled deal (legal, procurement).
    """

    stage: str
    order: int
    status: str
    probability: Decimal | None
    category: str | None
    name: str
    qualified: bool
    exempt: bool
    stalled_after_days: int | None


class StageMaps:
    """The stage maps of every pipeline, each dated. Immutable once built."""

    __slots__ = ("_maps",)

    def __init__(self, maps: Mapping[str, Dated[Mapping[str, StageRule]]]) -> None:
        self._maps = maps

    @classmethod
    def build(cls, records: Mapping[str, Record], zone: tzinfo = UTC) -> StageMaps:
        """From folded `stage_map` records by id (`<provider>:<tenant>:<pipeline>`).

        zone: the organisation's, in which a day in `effective_from` begins.
        """
        maps = {}
        for map_id, record in records.items():
            versions = [(since, _rules(value)) for since, value in record.dated("stages")]
            if versions:
                maps[map_id] = Dated(versions, zone)
        return cls(maps)

    def rule(self, map_id: str, stage: str, at_ms: int) -> StageRule | None:
        """What `stage` means by the map in force; before the first map, by the first.

        None when the pipeline has no map or the map has no such stage.
        """
        dated = self._maps.get(map_id)
        if dated is None:
            return None
        rules = dated.at_or_first(at_ms)
        return None if rules is None else rules.get(stage)


def _rules(value: object) -> Mapping[str, StageRule]:
    stages = msgspec.convert(value, dict[str, Stage])
    return {
        stage: StageRule(
            stage=stage,
            order=said.order,
            status=said.status,
            probability=None if said.probability is None else parse_decimal(said.probability),
            category=said.category,
            name=said.name or stage,
            qualified=said.qualified,
            exempt=said.exempt,
            stalled_after_days=said.stalled_after_days,
        )
        for stage, said in stages.items()
    }


def map_prefix(deal_id: str) -> str:
    """`hubspot:4821:` of `hubspot:4821:307`: what a pipeline's map id begins with."""
    parts = deal_id.split(":", 2)[:-1]
    return ":".join(parts) + ":" if parts else ""


class Identities:
    """Which person stands behind an id of a source system. Immutable once built."""

    __slots__ = ("_dated", "_fixed", "_people", "conflicts")

    def __init__(
        self,
        people: Iterable[str] = (),
        identities: Mapping[str, Iterable[tuple[str, str]]] | None = None,
        zone: tzinfo = UTC,
        conflicts: Iterable[str] = (),
    ) -> None:
        """identities: source identity → (effective_from, person id or "" for nobody)."""
        self._people = frozenset(people)
        self._fixed: dict[str, str] = {}
        self._dated: dict[str, Dated[str]] = {}
        self.conflicts = tuple(sorted(conflicts))
        for identity, versions in (identities or {}).items():
            known = list(versions)
            if len(known) == 1:
                self._fixed[identity] = known[0][1]
            else:
                self._dated[identity] = Dated(known, zone)

    @classmethod
    def build(cls, people: Mapping[str, Record], zone: tzinfo = UTC) -> Identities:
        """From folded `person` records by person id.

        An identity that two people claim from the same day on stands for the smaller person id
        and is listed in `conflicts`.
        """
        claims: dict[str, dict[str, str]] = {}
        conflicts: set[str] = set()
        for person in sorted(people):
            for identity, since, holds in people[person].dated_members("identities"):
                said = claims.setdefault(identity, {})
                if holds is not True:
                    said.setdefault(since, "")
                elif said.get(since):
                    conflicts.add(identity)
                else:
                    said[since] = person
        return cls(people, {i: said.items() for i, said in claims.items()}, zone, conflicts)

    def person(self, member: str, at_ms: int) -> str:
        """The person behind `member` at an instant; before the first statement, by the first.

        A person id stands for itself, and so does an id that nobody claims.
        """
        if member in self._people:
            return member
        person = self._fixed.get(member)
        if person is None and (dated := self._dated.get(member)) is not None:
            person = dated.at_or_first(at_ms)
        return person or member

    def is_person(self, member: str) -> bool:
        """Whether `member` is the id of a known person."""
        return member in self._people
