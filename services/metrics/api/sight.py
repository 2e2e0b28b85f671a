"""What a caller sees, and of whom a request speaks: every route answers from the same world."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from fastapi import Request

from services.metrics.lookups import Lookups, World
from services.metrics.reading import Scope, scope_of
from shared.errors import InvalidValue, Refused
from shared.http.auth import Principal, Role
from shared.org.calendar import FiscalCalendar, Period
from shared.org.people import Org
from shared.org.visibility import AllPeople, Visible, visible_filter, visible_people
from shared.runtime.ticks import service_now

if TYPE_CHECKING:
    from shared.db.pool import Connection

PEOPLE = (Role.REP, Role.MANAGER, Role.COMP_ADMIN, Role.FINANCE, Role.AUDITOR, Role.ADMIN)


@dataclass(frozen=True, slots=True)
class Sight:
    """The world as of now, and whom of it the caller sees."""

    world: World
    now: datetime
    visible: Visible

    @property
    def org(self) -> Org:
        """People and teams."""
        return self.world.org

    @property
    def calendar(self) -> FiscalCalendar:
        """The organisation's calendar."""
        return self.world.org.calendar

    @property
    def today(self) -> date:
        """The day of `now` in the organisation's zone."""
        return self.calendar.day_of(self.now)

    @property
    def people(self) -> list[str] | None:
        """As SQL filters by it: None for everybody."""
        return visible_filter(self.visible)

    @property
    def teams(self) -> list[str]:
        """Teams of which the caller sees everybody."""
        return [team for team in self.org.team_ids if self._sees_team(team)]

    def _sees_team(self, team: str) -> bool:
        if isinstance(self.visible, AllPeople):
            return True
        members = self.org.members(team, self.today)
        return bool(members) and members <= self.visible

    def check(self, *, rep: str | None = None, team: str | None = None) -> None:
        """Refuses (404) a person or team that the caller may not see, as if there were none."""
        if rep is not None and rep not in self.visible:
            raise not_found("There is no such person, or they are not yours to see.")
        if team is not None and not self._sees_team(team):
            raise not_found("There is no such team, or it is not yours to see.")

    def scope(self, period: Period, *, rep: str | None, team: str | None) -> Scope:
        """Whose numbers a request asks for, once that is permitted."""
        if rep is not None and team is not None:
            raise InvalidValue("ask for a rep or for a team, not both", pointer="#query/team")
        self.check(rep=rep, team=team)
        return scope_of(self.org, period, today=self.today, rep=rep, team=team, visible=self.people)


async def sight_of(request: Request, principal: Principal, tx: Connection) -> Sight:
    """What `principal` sees as of today."""
    state = request.app.state
    lookups: Lookups = state.lookups
    world = await lookups.current(tx)
    now = await service_now(tx, clock=state.parts.settings.clock)
    visible = visible_people(
        principal.roles,
        principal.person_id,
        world.org,
        world.org.calendar.day_of(now),
        principal.scopes,
    )
    return Sight(world, now, visible)


def not_found(message: str) -> Refused:
    """404, also for what exists and is not the caller's to see."""
    return Refused("not-found", message, status=404)
