"""Which faults a run injects, in which order: decided by the seed before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from random import Random

from tests.chaos.matrix import FENCING, Group, Kind, ServerKind, Spot, spots

FENCE_SHARE = 0.1
"""Of all faults, so many pause a worker that holds records, beyond what the matrix asks for."""

SERVER_SHARE = 0.05
FEW = 3
CONSUMING = (Group.METRICS, Group.COMMISSIONS)


@dataclass(frozen=True, slots=True)
class Plan:
    """The faults of a run.

    lanes: one sequence a group, struck one after the other, beside the other groups' lanes.
    servers: what befalls the servers meanwhile, evenly spread.
    """

    lanes: Mapping[Group, Sequence[Spot]]
    servers: Sequence[ServerKind]

    @property
    def total(self) -> int:
        """How many faults there are."""
        return sum(len(lane) for lane in self.lanes.values()) + len(self.servers)

    @property
    def spots(self) -> list[Spot]:
        """All that strikes at failpoints."""
        return list(chain.from_iterable(self.lanes.values()))


def full_plan(seed: int, faults: int) -> Plan:
    """Every possible pair at least once, then further ones until there are `faults`."""
    rng = Random(f"chaos/{seed}")
    servers = max(4, round(faults * SERVER_SHARE))
    chosen = _cover(rng, {(s.failpoint, s.kind): [] for s in spots()})
    fencing = [Spot(group, name, Kind.STOP) for group in CONSUMING for name in FENCING]
    chosen += islice(cycle(fencing), round(faults * FENCE_SHARE))
    rest = [s for s in spots() if s.group is not Group.CLOSING and s not in set(chosen)]
    rng.shuffle(rest)
    missing = max(0, faults - servers - len(chosen))
    chosen += islice(cycle(rest), missing)
    return _in_lanes(rng, chosen, servers)


def quick_plan(seed: int) -> Plan:
    """Every failpoint killed once, every other kind a few times, each server once."""
    rng = Random(f"chaos/{seed}")
    chosen = _cover(rng, {(s.failpoint, s.kind): [] for s in spots() if s.kind is Kind.KILL})
    chosen += [Spot(group, "consume.polled", Kind.STOP) for group in CONSUMING]
    for kind in (Kind.CUT, Kind.COMMIT_LOST, Kind.CANCEL):
        everywhere = [s for s in spots() if s.kind is kind and s.group in CONSUMING]
        chosen += rng.sample(everywhere, FEW)
    return _in_lanes(rng, chosen, len(ServerKind))


def _cover(rng: Random, wanted: dict[tuple[str, Kind], list[Spot]]) -> list[Spot]:
    """One spot for each wanted pair, the groups sharing the work evenly."""
    for spot in spots():
        if (spot.failpoint, spot.kind) in wanted:
            wanted[spot.failpoint, spot.kind].append(spot)
    load = dict.fromkeys(Group, 0)
    chosen = []
    for candidates in sorted(wanted.values(), key=len):
        least = min(load[spot.group] for spot in candidates)
        spot = rng.choice([spot for spot in candidates if load[spot.group] == least])
        load[spot.group] += 1
        chosen.append(spot)
    return chosen


def _in_lanes(rng: Random, chosen: Sequence[Spot], servers: int) -> Plan:
    lanes: dict[Group, list[Spot]] = {group: [] for group in Group}
    for spot in chosen:
        lanes[spot.group].append(spot)
    for lane in lanes.values():
        rng.shuffle(lane)
    # A close whose COMMIT went through is over: what makes it fail comes first.
    lanes[Group.CLOSING].sort(key=lambda spot: spot.kind is Kind.COMMIT_LOST)
    kinds = list(islice(cycle(ServerKind), servers))
    rng.shuffle(kinds)
    return Plan(lanes, kinds)
