"""A company's year from one seed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time
from random import Random

from tests.simulator import people, reference
from tests.simulator.activities import Log
from tests.simulator.deals import FATES, FORCED, Life, World
from tests.simulator.history import Activity, Change, Deal, History, Lead, Said
from tests.simulator.people import LEAVER, SUCCESSOR, Staff
from tests.simulator.worktime import (
    DAY_MS,
    HOUR_MS,
    local_ms,
    work_clock,
)

DEALS_AT_SCALE_1 = 1_750
LEAVERS_FATES = frozenset({"handed_over", "split_handed_over"})


def draw(*seed: object) -> Random:
    """A generator of its own for each purpose, so that one draw more moves nothing else."""
    return Random("/".join(map(str, seed)))


@dataclass(slots=True)
class Company:
    """A company and what truly happened to it in `history.year`."""

    seed: int
    scale: float
    history: History

    @classmethod
    def generate(cls, seed: int, scale: float = 1.0, year: int = 2025) -> Company:
        """The year of a company.

        scale: 1 gives more than 50,000 facts, 0.02 about a thousand; quotas scale along.
        """
        staff = people.hire(draw(seed, "people"), year)
        history = History(
            year=year,
            ends_ms=local_ms(date(year + 1, 1, 1), time(0)),
            calendar=reference.calendar(year),
            people=staff.people,
            teams=staff.teams,
            rates=reference.rates(draw(seed, "rates"), year),
            stage_maps=reference.stage_maps(year),
            quotas=reference.quotas(staff, year, scale),
            plans=reference.plans(year, scale),
            assignments=reference.assignments(staff, year),
        )
        company = cls(seed, scale, history)
        company._sell(staff)
        return company

    def _sell(self, staff: Staff) -> None:
        history = self.history
        world = world_of(history.year, staff)
        count = max(len(FORCED) + 1, round(DEALS_AT_SCALE_1 * self.scale))
        log = Log(draw(self.seed, "activities"), staff, history.year, first_instant(history.year))
        lives: list[Deal] = []
        for number in range(count):
            lives.extend(live(self.seed, world, number, count, forced=number < len(FORCED)))
        for deal in lives:
            log.work_on(deal)
        log.leads_of(lives)
        log.prospect(self.scale, history.ends_ms)
        history.deals = [deal for deal in lives if _cut(deal, history.ends_ms)]
        records: list[Activity | Lead] = [*log.activities, *log.leads]
        for record in records:
            record.said = sorted(
                (said for said in record.said if said.at_ms < history.ends_ms), key=_instant
            )
        history.activities = [record for record in log.activities if record.said]
        history.leads = [record for record in log.leads if record.said]

    @property
    def facts(self) -> int:
        """Statements in the history: a deal's changes one by one, an activity's and lead's each."""
        history = self.history
        return (
            sum(len(deal.changes) for deal in history.deals)
            + sum(len(record.said) for record in history.activities)
            + sum(len(record.said) for record in history.leads)
        )


def world_of(year: int, staff: Staff) -> World:
    """The world of a year: nothing is won or lost before its second day."""
    return World(year, staff, local_ms(date(year, 1, 2), time(9)))


def first_instant(year: int) -> int:
    """When the first deals are made: weeks before the year, so that it begins in full swing."""
    return local_ms(date(year - 1, 11, 4), time(9))


def live(seed: int, world: World, number: int, count: int, *, forced: bool) -> list[Deal]:
    """The life of deal `number` of `count`; the same for the same arguments, whatever else is."""
    rng = draw(seed, "deal", number)
    rep = rng.choice(world.staff.reps)
    year = world.year
    first_ms = first_instant(year)
    last_ms = local_ms(date(year, 12, 19), time(17))
    begins_ms = first_ms + int((number + rng.random()) / count * (last_ms - first_ms))
    fate = rng.choices(list(FATES), list(FATES.values()))[0]
    if forced:
        fate = FORCED[number]
        begins_ms = world.opens_ms + rng.randrange(60) * DAY_MS
        if fate in LEAVERS_FATES:
            rep = world.staff.rep(LEAVER)
            begins_ms = world.staff.leaves_ms - 13 * DAY_MS - rng.randrange(8 * HOUR_MS)
        elif rep.person == LEAVER:
            rep = world.staff.rep(SUCCESSOR)
    if rep.person == LEAVER and begins_ms > world.staff.leaves_ms - 5 * DAY_MS:
        rep = world.staff.rep(SUCCESSOR)
    begins_ms = work_clock(year, rep.zone).later(begins_ms, rng.uniform(0.05, 8))
    return Life(rng, world, number, rep, begins_ms).live(fate, forced=forced)


def _cut(deal: Deal, ends_ms: int) -> bool:
    """Forget what would have happened after the year. Whether anything is left."""
    deal.changes = sorted((c for c in deal.changes if c.at_ms < ends_ms), key=_instant)
    return bool(deal.changes)


def _instant(said: Change | Said) -> int:
    return said.at_ms
