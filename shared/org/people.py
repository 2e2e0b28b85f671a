"""People and teams, as they were on any day.

A day's value is the last one that began before the end of that day in the organisation's zone:
what holds from a day holds all of it, and somebody who joined at ten belongs to that day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, tzinfo
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from shared.facts.dated import Dated, end_of_day_ms
from shared.facts.record import Record
from shared.facts.reference import Identities
from shared.org.calendar import FiscalCalendar

ORG_CALENDAR = "org"
"""The id of the calendar record that is the organisation's own."""

_DAYS_KEPT = 1024
"""Days whose reporting lines and teams are kept ready: three years of daily reads."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of ours on one day. manager: a person id, None for nobody. teams: sorted ids."""

    id: str
    name: str
    email: str | None
    role: str | None
    manager: str | None
    teams: tuple[str, ...]
    time_zone: str | None
    locale: str | None
    currency: str | None
    active: bool
    hired_on: date | None


@dataclass(frozen=True, slots=True)
class Team:
    """A team on one day. parent: the team above; manager: who leads it."""

    id: str
    name: str
    parent: str | None
    manager: str | None


@dataclass(frozen=True, slots=True)
class Membership:
    """A person's time in a team or its sub-teams, within [start_day, end_day)."""

    person: str
    start_day: date
    end_day: date


@dataclass(frozen=True, slots=True)
class _Day:
    """Who reports to whom and who is in which team on one day."""

    manager: Mapping[str, str]
    reports: Mapping[str, tuple[str, ...]]
    parent: Mapping[str, str]
    direct_members: Mapping[str, tuple[str, ...]]
    sub_teams: Mapping[str, tuple[str, ...]]


_PERSON_FIELDS = (
    "name",
    "email",
    "role",
    "manager",
    "timezone",
    "locale",
    "currency",
    "active",
    "hired_on",
)
_TEAM_FIELDS = ("name", "parent", "manager")


class Org:
    """Everything known of people, teams and calendars. Immutable once built.

    zone: the organisation's, from `calendar/org`; UTC while it states none.
    """

    def __init__(
        self,
        people: Mapping[str, Mapping[str, Dated[object]]],
        memberships: Mapping[str, Mapping[str, Dated[bool]]],
        teams: Mapping[str, Mapping[str, Dated[object]]],
        calendar: FiscalCalendar,
        identities: Identities,
    ) -> None:
        """memberships: person → team → whether in it. Use `build`."""
        self._people = people
        self._memberships = memberships
        self._teams = teams
        self.calendar = calendar
        self.identities = identities
        self._day = lru_cache(maxsize=_DAYS_KEPT)(self._resolve)

    @classmethod
    def build(
        cls,
        people: Mapping[str, Record],
        teams: Mapping[str, Record],
        calendars: Mapping[str, Record],
    ) -> Org:
        """From folded person, team and calendar records by record id."""
        calendar = FiscalCalendar.build(calendars, ORG_CALENDAR)
        zone = calendar.zone
        return cls(
            people={p: _fields(r, _PERSON_FIELDS, zone) for p, r in sorted(people.items())},
            memberships={p: _members(r, zone) for p, r in people.items()},
            teams={t: _fields(r, _TEAM_FIELDS, zone) for t, r in sorted(teams.items())},
            calendar=calendar,
            identities=Identities.build(people, zone),
        )

    @property
    def zone(self) -> ZoneInfo:
        """The organisation's time zone."""
        return self.calendar.zone

    @property
    def person_ids(self) -> tuple[str, ...]:
        """Every person ever stated, sorted."""
        return tuple(self._people)

    @property
    def team_ids(self) -> tuple[str, ...]:
        """Every team ever stated, sorted."""
        return tuple(self._teams)

    def person(self, person: str, day: date) -> Person | None:
        """A person's values on `day`; None for somebody unknown. Never stated active: active."""
        fields = self._people.get(person)
        if fields is None:
            return None
        at_ms = end_of_day_ms(day, self.zone)
        hired_on = _text(fields, "hired_on", at_ms)
        active = fields.get("active")
        return Person(
            id=person,
            name=_text(fields, "name", at_ms) or person,
            email=_text(fields, "email", at_ms),
            role=_text(fields, "role", at_ms),
            manager=_text(fields, "manager", at_ms),
            teams=self.teams_of(person, day),
            time_zone=_text(fields, "timezone", at_ms),
            locale=_text(fields, "locale", at_ms),
            currency=_text(fields, "currency", at_ms),
            active=active is None or active.at(at_ms) is not False,
            hired_on=None if hired_on is None else date.fromisoformat(hired_on),
        )

    def team(self, team: str, day: date) -> Team | None:
        """A team's values on `day`; None for one unknown."""
        fields = self._teams.get(team)
        if fields is None:
            return None
        at_ms = end_of_day_ms(day, self.zone)
        return Team(
            id=team,
            name=_text(fields, "name", at_ms) or team,
            parent=_text(fields, "parent", at_ms),
            manager=_text(fields, "manager", at_ms),
        )

    def manager_of(self, person: str, day: date) -> str | None:
        """Whom a person reports to; None for nobody, or nobody stated by then."""
        return self._day(day).manager.get(person)

    def teams_of(self, person: str, day: date) -> tuple[str, ...]:
        """The teams a person is directly in, sorted."""
        at_ms = end_of_day_ms(day, self.zone)
        said = self._memberships.get(person, {})
        return tuple(sorted(team for team, dated in said.items() if dated.at(at_ms) is True))

    def team_of(self, person: str, day: date) -> str | None:
        """The first of a person's teams, for things that have one team only."""
        teams = self.teams_of(person, day)
        return teams[0] if teams else None

    def members(self, team: str, day: date) -> frozenset[str]:
        """The people in a team or in any team below it."""
        at = self._day(day)
        below = _reachable(team, at.sub_teams) | {team}
        return frozenset(p for t in below for p in at.direct_members.get(t, ()))

    def reports(self, manager: str, day: date, *, transitive: bool = True) -> frozenset[str]:
        """Who reports to a manager, directly or through others; never the manager."""
        lines = self._day(day).reports
        if not transitive:
            return frozenset(lines.get(manager, ())) - {manager}
        return frozenset(_reachable(manager, lines)) - {manager}

    def managers(self, day: date) -> frozenset[str]:
        """Everybody to whom somebody reports on `day`."""
        return frozenset(self._day(day).reports)

    def memberships(self, team: str, start_day: date, end_day: date) -> tuple[Membership, ...]:
        """Who was in a team or below it when, within [start_day, end_day); runs are joined."""
        borders = sorted(
            {start_day, end_day, *(d for d in self._change_days() if start_day < d < end_day)}
        )
        open_runs: dict[str, date] = {}
        found: list[Membership] = []
        for first, _ in pairwise(borders):
            present = self.members(team, first)
            gone = sorted(set(open_runs) - present)
            found.extend(Membership(person, open_runs.pop(person), first) for person in gone)
            for person in present:
                open_runs.setdefault(person, first)
        found.extend(Membership(p, since, end_day) for p, since in sorted(open_runs.items()))
        return tuple(found)

    def _change_days(self) -> frozenset[date]:
        """Days on which somebody joined or left a team, or a team moved."""
        dated: list[Dated[bool] | Dated[object]] = [
            d for said in self._memberships.values() for d in said.values()
        ]
        dated += [fields["parent"] for fields in self._teams.values() if "parent" in fields]
        return frozenset(self.calendar.day_of_ms(ms) for d in dated for ms, _ in d.changes())

    def _resolve(self, day: date) -> _Day:
        at_ms = end_of_day_ms(day, self.zone)
        manager: dict[str, str] = {}
        members: list[tuple[str, str]] = []
        for person, fields in self._people.items():
            if above := _text(fields, "manager", at_ms):
                manager[person] = above
            said = self._memberships.get(person, {})
            members += [(team, person) for team, dated in said.items() if dated.at(at_ms) is True]
        parent = {
            team: above
            for team, fields in self._teams.items()
            if (above := _text(fields, "parent", at_ms))
        }
        return _Day(
            manager=manager,
            reports=_grouped((above, person) for person, above in manager.items()),
            parent=parent,
            direct_members=_grouped(members),
            sub_teams=_grouped((above, team) for team, above in parent.items()),
        )


def _fields(
    record: Record, names: Iterable[str], zone: tzinfo = UTC
) -> Mapping[str, Dated[object]]:
    found: dict[str, Dated[object]] = {}
    for name in names:
        versions = list(record.dated(name))
        if versions:
            found[name] = Dated(versions, zone)
    return found


def _members(record: Record, zone: tzinfo) -> Mapping[str, Dated[bool]]:
    said: dict[str, list[tuple[str, bool]]] = {}
    for team, since, is_in in record.dated_members("teams"):
        said.setdefault(team, []).append((since, is_in is True))
    return {team: Dated(versions, zone) for team, versions in said.items()}


def _text(fields: Mapping[str, Dated[object]], name: str, at_ms: int) -> str | None:
    """A dated text in force; an empty one means nobody and nothing."""
    dated = fields.get(name)
    value = None if dated is None else dated.at(at_ms)
    return value if isinstance(value, str) and value else None


def _grouped(pairs: Iterable[tuple[str, str]]) -> Mapping[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for key, member in pairs:
        groups.setdefault(key, []).append(member)
    return {key: tuple(sorted(found)) for key, found in groups.items()}


def _reachable(start: str, edges: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Everything below `start`; a cycle is walked once."""
    found: set[str] = set()
    waiting = list(edges.get(start, ()))
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting.extend(edges.get(place, ()))
    return found
