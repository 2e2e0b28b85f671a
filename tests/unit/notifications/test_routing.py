"""Who hears an alert."""

from __future__ import annotations

from datetime import date

from services.notifications.domain.routing import ChannelKind, RouteReason, line_manager, route
from tests.unit.notifications.builders import a_signal, people

DAY = date(2026, 6, 3)
FALLBACK = {ChannelKind.SLACK: "C0OPS"}


def heard(company: object, **signal: str | None) -> list[tuple[str, RouteReason]]:
    """Keys and reasons of those who hear a signal in `company`."""
    found = route(a_signal(**signal), DAY, company, FALLBACK)  # type: ignore[arg-type]
    return [(recipient.key, recipient.reason) for recipient in found]


def test_the_owners_manager_hears() -> None:
    assert heard(people({"rep-1": "boss"})) == [("person/boss", RouteReason.MANAGER)]


def test_the_line_of_the_day_counts() -> None:
    company = people(manager_of=lambda _person, day: "old" if day < DAY else "new")
    assert heard(company) == [("person/new", RouteReason.MANAGER)]
    before = route(a_signal(), date(2026, 6, 2), company, FALLBACK)
    assert [recipient.key for recipient in before] == ["person/old"]


def test_a_manager_who_left_is_passed_over_for_theirs() -> None:
    company = people({"rep-1": "boss", "boss": "head"}, left=frozenset({"boss"}))
    assert heard(company) == [("person/head", RouteReason.MANAGER)]


def test_a_one_seat_company_tells_the_person() -> None:
    assert heard(people(sole="rep-1")) == [("person/rep-1", RouteReason.OWN)]


def test_without_a_manager_the_teams_manager_hears() -> None:
    company = people(team_managers={"team-north": "lead"})
    assert heard(company) == [("person/lead", RouteReason.TEAM_MANAGER)]
    assert heard(company, person=None) == [("person/lead", RouteReason.TEAM_MANAGER)]


def test_without_anybody_the_fallback_hears() -> None:
    assert heard(people(), team=None) == [("fallback", RouteReason.FALLBACK)]
    assert heard(people({"rep-1": "boss"}, unreachable=frozenset({"boss"}))) == [
        ("fallback", RouteReason.FALLBACK)
    ]


def test_without_a_fallback_nobody_is_found() -> None:
    assert route(a_signal(), DAY, people(), {}) == ()


def test_a_cycle_of_managers_ends() -> None:
    company = people({"rep-1": "a", "a": "b", "b": "rep-1"}, left=frozenset({"a", "b"}))
    assert line_manager("rep-1", DAY, company) is None
    assert line_manager("self", DAY, people({"self": "self"})) is None
