"""What people do between the stages: calls, meetings, mails; and the leads that deals come from."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

from tests.simulator.history import Activity, Deal, Lead, Said
from tests.simulator.people import LEAVER, Rep, Staff
from tests.simulator.reference import LOST, WON
from tests.simulator.worktime import HOUR_MS, ORG_ZONE, work_clock

SYSTEM = "salesdesk:acme"
MINUTE_MS = 60_000

KINDS = ("call", "call", "call", "email", "email", "email", "meeting", "meeting", "demo")
CALL_OUTCOMES = ("connected", "connected", "no answer", "left voicemail")
MEETING_KINDS = frozenset({"meeting", "demo"})
SOURCES = ("website", "event", "referral", "outbound", "partner")
PER_STAGE = 1.5
"""Activities of one rep on one deal between two moves, on average."""

PROSPECTING_PER_DAY = 1.1
"""Activities of one rep on a working day that belong to no deal, at scale 1."""

LEADS_PER_DEAL = 1.3
DELETED_EVERY = 97


@dataclass(slots=True)
class Log:
    """Writes activities and leads, numbering them."""

    rng: Random
    staff: Staff
    year: int
    begins_ms: int
    activities: list[Activity] = field(default_factory=list)
    leads: list[Lead] = field(default_factory=list)

    def work_on(self, deal: Deal) -> None:
        """Activities of whoever owns the deal, between its moves while it is open."""
        moves, owners = _moves(deal)
        by_identity = {rep.identity: rep for rep in self.staff.reps}
        starts = [at_ms for at_ms, _ in owners]
        for before, after in pairwise(moves):
            for _ in range(_count(self.rng, PER_STAGE)):
                at_ms = self._working_instant(before, after)
                if at_ms is None:
                    continue
                identity = owners[max(bisect_right(starts, at_ms) - 1, 0)][1]
                self._act(by_identity[identity], at_ms, deal.id)

    def prospect(self, scale: float, ends_ms: int) -> None:
        """Activities without a deal until `ends_ms`, some of them internal."""
        for rep in self.staff.reps:
            clock = work_clock(self.year, rep.zone)
            last_ms = self.staff.leaves_ms if rep.person == LEAVER else ends_ms
            for start_ms in clock.starts_ms:
                if not self.begins_ms <= start_ms < last_ms:
                    continue
                for _ in range(_count(self.rng, PROSPECTING_PER_DAY * scale)):
                    at_ms = start_ms + self.rng.randrange(8 * HOUR_MS)
                    self._act(rep, at_ms, None, internal=self.rng.random() < 0.15)

    def leads_of(self, deals: list[Deal]) -> None:
        """Leads: some became these deals, the others were disqualified or still wait."""
        for deal in deals:
            created = next(c.at_ms for c in deal.changes if c.field == "created_at")
            owner = next(str(c.value) for c in deal.changes if c.field == "owner")
            for number in range(_count(self.rng, LEADS_PER_DEAL)):
                converted = deal.id if number == 0 else None
                self._lead(owner, created, converted)

    def _lead(self, owner: str, before_ms: int, deal: str | None) -> None:
        rng = self.rng
        came_ms = before_ms - rng.randrange(24, 240) * HOUR_MS
        touched_ms = came_ms + rng.randrange(10 * MINUTE_MS, 20 * HOUR_MS)
        said = [
            Said(
                came_ms,
                {
                    "owner": owner,
                    "status": "new",
                    "source": rng.choice(SOURCES),
                    "created_at": came_ms,
                },
            ),
            Said(touched_ms, {"status": "working", "first_touch_at": touched_ms}),
        ]
        if deal is not None:
            said.append(Said(before_ms, {"status": "converted", "converted_to_deal": deal}))
        elif rng.random() < 0.6:
            said.append(Said(before_ms, {"status": "disqualified"}))
        self.leads.append(Lead(f"{SYSTEM}:L{len(self.leads) + 1}", said))

    def _working_instant(self, before: int, after: int) -> int | None:
        """An instant in between, within somebody's working hours."""
        clock = work_clock(self.year, ORG_ZONE)
        at_ms = clock.later(before + int(self.rng.random() * (after - before)), 0.01)
        return at_ms if before < at_ms < after else None

    def _act(self, rep: Rep, at_ms: int, deal: str | None, *, internal: bool = False) -> None:
        rng = self.rng
        kind = "meeting" if internal else rng.choice(KINDS)
        fields: dict[str, Any] = {"kind": kind, "owner": rep.identity, "internal": internal}
        if deal is not None:
            fields["deal"] = deal
        if kind in MEETING_KINDS:
            said = self._meeting(rep, at_ms, fields)
        else:
            fields |= {"direction": "in" if rng.random() < 0.3 else "out", "completed_at": at_ms}
            if kind == "call":
                fields["outcome"] = rng.choice(CALL_OUTCOMES)
                fields["duration_s"] = rng.randrange(20, 1800)
            said = [Said(at_ms + rng.randrange(1000, 10 * MINUTE_MS), fields)]
        if len(self.activities) % DELETED_EVERY == DELETED_EVERY - 1:
            said.append(Said(said[-1].at_ms + HOUR_MS, {"deleted": True}))
        self.activities.append(Activity(f"{SYSTEM}:{len(self.activities) + 1}", said))

    def _meeting(self, rep: Rep, at_ms: int, fields: dict[str, Any]) -> list[Said]:
        """Planned some days before; then held, called off, or never reported."""
        rng = self.rng
        guests = [
            other.person
            for other in self.staff.reps
            if other.team == rep.team and other.person not in {rep.person, LEAVER}
        ]
        attending = rng.sample(guests, k=2 if fields["internal"] else rng.choice((0, 0, 0, 1, 2)))
        fields["participants"] = dict.fromkeys([rep.person, *sorted(attending)], True)
        fields["due_at"] = at_ms
        said = [Said(at_ms - rng.randrange(4, 96) * HOUR_MS, fields)]
        fate = rng.random()
        if fate < 0.85:
            held = {"completed_at": at_ms, "outcome": "held", "duration_s": 1800}
            said.append(Said(at_ms + rng.randrange(MINUTE_MS, 90 * MINUTE_MS), held))
        elif fate < 0.95:
            said.append(Said(at_ms - rng.randrange(1, 4) * HOUR_MS, {"cancelled": True}))
        return said


def _count(rng: Random, mean: float) -> int:
    """A whole number with that mean, at most twice it and one more."""
    drawn = rng.random() * 2 * mean
    return int(drawn) + (rng.random() < drawn % 1)


def _moves(deal: Deal) -> tuple[list[int], list[tuple[int, str]]]:
    """The instants of stage changes until the deal first ends, and (instant, owner) pairs."""
    moves: list[int] = []
    owners: list[tuple[int, str]] = []
    ended = False
    for change in deal.changes:
        if change.field == "owner":
            owners.append((change.at_ms, str(change.value)))
        elif change.field in {"stage", "deleted", "merged_into"} and not ended:
            moves.append(change.at_ms)
            ended = change.field != "stage" or change.value in {WON, LOST}
    return moves, owners
