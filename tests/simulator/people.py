"""Who works at Acme: 24 reps in three teams, their managers, and the people who run pay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time
from random import Random

from tests.simulator.history import Person, Team
from tests.simulator.worktime import ORG_ZONE, local_ms

PROVIDER = "hubspot"
PORTAL = "4821"
TENANT = f"{PROVIDER}:{PORTAL}"
FIRST_OWNER_ID = 55_120_001

EMEA = "acme-emea"
EMEA_ZONE = "Europe/Berlin"
TEAM_NAMES = {"acme-east": "East", "acme-west": "West", EMEA: "EMEA"}
VP = "acme-vera"

REP_NAMES = (
    *("Ana Abreu", "Ben Okafor", "Cleo Winters", "Dan Ito", "Eva Lindqvist", "Finn Byrne"),
    *("Gita Rao", "Hugo Reyes", "Ida Novak", "Jon Park", "Kira Boone", "Leo Sandoval"),
    *("Mia Chen", "Noah Adeyemi", "Olga Hart", "Paul Dube", "Quinn Becker", "Rosa Conti"),
    *("Sven Dahl", "Tess Moreau", "Udo Krantz", "Vito Serra", "Wanda Kral", "Yara Haddad"),
)
MANAGER_NAMES = ("Marta Quill", "Niko Ferro", "Petra Vogel")

LEAVER = "acme-hugo"
SUCCESSOR = "acme-gita"
KEY_ACCOUNT_REP = "acme-leo"


@dataclass(frozen=True, slots=True)
class Rep:
    """A rep as the generator needs one. strength: 1 is average; it moves odds and sizes."""

    person: str
    identity: str
    team: str
    zone: str
    strength: float


@dataclass(frozen=True, slots=True)
class Staff:
    """Everybody. leaves_ms: when the leaver's last working day ends."""

    people: list[Person]
    teams: list[Team]
    reps: list[Rep]
    leaves_ms: int

    def rep(self, person: str) -> Rep:
        """The rep with that person id."""
        return next(rep for rep in self.reps if rep.person == person)


def hire(rng: Random, year: int) -> Staff:
    """The company's people. One rep leaves in June, one reports to the VP from September."""
    since = f"{year - 1}-01-01"
    people = [
        _person(VP, "Vera Stahl", "vp", None, (), None),
        _person("acme-cora", "Cora Mills", "comp_admin", None, ((since, VP),), None),
        _person("acme-fred", "Fred Nolan", "finance", None, ((since, VP),), None),
    ]
    teams, reps = [], []
    per_team = len(REP_NAMES) // len(TEAM_NAMES)
    for index, (team, manager_name) in enumerate(zip(TEAM_NAMES, MANAGER_NAMES, strict=True)):
        boss = _id(manager_name)
        teams.append(Team(team, TEAM_NAMES[team], boss))
        people.append(_person(boss, manager_name, "manager", team, ((since, VP),), None))
        for place in range(index * per_team, (index + 1) * per_team):
            name = REP_NAMES[place]
            identity = f"{TENANT}:{FIRST_OWNER_ID + place}"
            reports: tuple[tuple[str, str], ...] = ((since, boss),)
            if _id(name) == KEY_ACCOUNT_REP:
                reports = (*reports, (f"{year}-09-01", VP))
            left_on = f"{year}-07-01" if _id(name) == LEAVER else None
            people.append(_person(_id(name), name, "rep", team, reports, identity, left_on))
            strength = round(rng.uniform(0.65, 1.45), 2)
            reps.append(Rep(_id(name), identity, team, _zone(team), strength))
    leaves_ms = local_ms(date(year, 6, 30), time(17))
    return Staff(people, teams, reps, leaves_ms)


def _id(name: str) -> str:
    return "acme-" + name.split(maxsplit=1)[0].lower()


def _zone(team: str | None) -> str:
    return EMEA_ZONE if team == EMEA else ORG_ZONE


def _person(  # noqa: PLR0913, PLR0917 - a row of a table
    person: str,
    name: str,
    role: str,
    team: str | None,
    reports: tuple[tuple[str, str], ...],
    identity: str | None,
    left_on: str | None = None,
) -> Person:
    email = f"{name.lower().replace(' ', '.')}@acme.example"
    currency = "EUR" if team == EMEA else "USD"
    return Person(
        person, name, email, role, team, reports, identity, _zone(team), currency, left_on
    )
