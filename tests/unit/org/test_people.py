from __future__ import annotations

from datetime import date

from shared.org.people import Membership, Org
from tests.support.facts import T0, fact, folded, org

JAN, FEB, MAR = date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)


def moved() -> Org:
    """Ana moves from north to south in February, under another manager."""
    ana = folded(
        [
            fact(
                "person",
                "ana",
                T0,
                {
                    "effective_from": "2025-01-01",
                    "manager": "mia",
                    "name": "Ana",
                    "teams": {"north": True},
                },
            ),
            fact(
                "person",
                "ana",
                T0,
                {
                    "effective_from": "2026-02-01",
                    "manager": "noa",
                    "teams": {"north": False, "south": True},
                },
            ),
        ]
    )
    boss = {
        name: folded([fact("person", name, T0, {"effective_from": "2025-01-01", "manager": above})])
        for name, above in (("mia", "zoe"), ("noa", "zoe"), ("zoe", ""))
    }
    teams = {
        name: folded([fact("team", name, T0, {"effective_from": "2025-01-01", "parent": "all"})])
        for name in ("north", "south")
    }
    return Org.build({"ana": ana, **boss}, teams, {})


def test_managers_and_teams_are_those_of_the_day() -> None:
    company = moved()
    assert company.manager_of("ana", date(2026, 1, 31)) == "mia"
    assert company.manager_of("ana", FEB) == "noa"
    assert company.manager_of("zoe", FEB) is None
    assert company.team_of("ana", JAN) == "north"
    assert company.teams_of("ana", FEB) == ("south",)
    person = company.person("ana", FEB)
    assert person is not None
    assert (person.name, person.active) == ("Ana", True)
    assert company.person("nobody", FEB) is None


def test_a_team_has_the_members_of_the_teams_below_it() -> None:
    company = moved()
    assert company.members("all", JAN) == {"ana"}
    assert company.members("north", FEB) == frozenset()
    assert company.memberships("north", JAN, MAR) == (Membership("ana", JAN, FEB),)
    assert company.memberships("all", JAN, MAR) == (Membership("ana", JAN, MAR),)


def test_reports_are_direct_or_all_and_never_the_manager() -> None:
    company = moved()
    assert company.reports("zoe", FEB) == {"ana", "mia", "noa"}
    assert company.reports("zoe", FEB, transitive=False) == {"mia", "noa"}
    loop = org({"a": {"manager": "b"}, "b": {"manager": "a"}})
    assert loop.reports("a", FEB) == {"b"}


def test_a_value_stated_within_a_day_belongs_to_that_day() -> None:
    joined = folded([fact("person", "ana", T0, {"teams": {"north": True}})])
    company = Org.build({"ana": joined}, {}, {})
    assert company.members("north", T0.date()) == {"ana"}
    assert company.members("north", date(2026, 1, 4)) == frozenset()


def test_two_people_who_claim_one_identity_are_listed() -> None:
    claimed = {"identities": {"crm:t:9": True}}
    company = org({"ben": claimed, "ana": claimed})
    assert company.identities.person("crm:t:9", 0) == "ana"
    assert company.identities.conflicts == ("crm:t:9",)
