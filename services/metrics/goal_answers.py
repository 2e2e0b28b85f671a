"""The KPI behind a goal or a standard: its value now, and those of like people before."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from services.metrics.answers import Book, Question, answer
from services.metrics.domain.goals import Feasibility, feasibility, windows_before
from services.metrics.domain.kpis import KpiValue
from services.metrics.lookups import World
from services.metrics.reading import scope_of
from services.metrics.settings import MetricsSettings
from services.metrics.stated_rows import Goal
from shared.org.calendar import Period
from shared.org.people import Org

if TYPE_CHECKING:
    from shared.db.pool import Connection

MAX_LIKE_PEOPLE = 50
"""Of a larger role the first by id: a share of two hundred people-periods is sure enough."""


class Answers:
    """KPIs as of now, in one transaction."""

    def __init__(
        self, tx: Connection, world: World, book: Book, settings: MetricsSettings, now_ms: int
    ) -> None:
        self._tx = tx
        self._world = world
        self._book = book
        self._settings = settings
        self._now_ms = now_ms

    @property
    def _today(self) -> date:
        return self._world.org.calendar.day_of_ms(self._now_ms)

    async def value(
        self, kpi: str, period: Period, *, person: str | None = None, team: str | None = None
    ) -> KpiValue:
        """A KPI of a person, a team or the organisation for a period."""
        scope = scope_of(
            self._world.org, period, today=self._today, rep=person, team=team, visible=None
        )
        question = Question(
            tx=self._tx,
            world=self._world,
            scope=scope,
            period=period,
            now_ms=self._now_ms,
            touched_days=self._settings.touched_days,
            hygiene=self._settings.hygiene,
        )
        return await answer(question, kpi, self._book)

    async def of_goal(self, goal: Goal) -> KpiValue:
        """What the goal is measured by, so far."""
        period = _window(goal.start_day, goal.end_day)
        return await self.value(goal.kpi, period, person=goal.person, team=goal.team)

    async def feasibility(self, goal: Goal) -> Feasibility | None:
        """How often like people reached it; None for a team's goal, or a KPI of the present.

        A KPI that is no sum of a period (open pipeline, ages) says nothing of the past.
        """
        kpi = self._book.registry.in_force(goal.kpi, goal.start_day)
        if goal.person is None or not kpi.trend:
            return None
        role = _role(self._world.org, goal.person, min(goal.start_day, self._today))
        values: dict[str, list[Decimal | None]] = {}
        for start, end in windows_before(goal.start_day, goal.end_day, self._today):
            window = _window(start, end)
            for person in like_people(self._world.org, role, window):
                found = await self.value(goal.kpi, window, person=person)
                values.setdefault(person, []).append(found.value)
        return feasibility(values, goal.direction, goal.target)


def like_people(org: Org, role: str | None, period: Period) -> list[str]:
    """People of a role who were there from the first to the last day of a period."""
    found = []
    for person in org.person_ids:
        first, last = org.person(person, period.start_day), org.person(person, period.last_day)
        if first is None or last is None or not (first.active and last.active):
            continue
        hired = first.hired_on or last.hired_on
        if last.role == role and (hired is None or hired <= period.start_day):
            found.append(person)
    return found[:MAX_LIKE_PEOPLE]


def _role(org: Org, person: str, day: date) -> str | None:
    known = org.person(person, day)
    return None if known is None else known.role


def _window(start: date, end: date) -> Period:
    return Period(f"{start.isoformat()}..{end.isoformat()}", start, end)
