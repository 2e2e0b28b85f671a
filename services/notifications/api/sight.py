"""What a caller sees of alerts and deliveries: every route filters by the same answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request

from services.notifications.store import people as people_store
from shared.clock import WallClock
from shared.http.auth import Principal, Role
from shared.org.visibility import (
    SCOPE_ALL_PEOPLE,
    AllPeople,
    Visible,
    visible_filter,
    visible_people,
)

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from shared.org.people import Org

NO_RECIPIENT = ""
"""A recipient key that no delivery has."""


@dataclass(frozen=True, slots=True)
class Sight:
    """people: owners whose alerts show, None for all. teams: teams whose own alerts show.

    recipient: the key whose deliveries show, None for everybody's.
    """

    people: list[str] | None
    teams: list[str]
    recipient: str | None


async def sight_of(request: Request, principal: Principal, tx: Connection) -> Sight:
    """What `principal` sees as of today."""
    version = await people_store.people_version(tx)
    directory = await request.app.state.directories.at(tx, version)
    org: Org = directory.org
    today = WallClock().now().astimezone(org.zone).date()
    visible = visible_people(principal.roles, principal.person_id, org, today, principal.scopes)
    machine = Role.SERVICE in principal.roles and SCOPE_ALL_PEOPLE in principal.scopes
    everything = machine or not principal.roles.isdisjoint({Role.ADMIN, Role.AUDITOR})
    own = f"person/{principal.person_id}" if principal.person_id else NO_RECIPIENT
    return Sight(
        people=visible_filter(visible),
        teams=[t for t in org.team_ids if _sees_whole(visible, org.members(t, today))],
        recipient=None if everything else own,
    )


def _sees_whole(visible: Visible, members: frozenset[str]) -> bool:
    """A team's own alert is about all of its members together."""
    return isinstance(visible, AllPeople) or (bool(members) and members <= visible)
