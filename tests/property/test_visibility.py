"""Nobody sees more than their roles give them, whatever the reporting lines look like."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.org.people import Org
from shared.org.visibility import (
    EVERYBODY,
    MANAGER,
    REP,
    SCOPE_ALL_PEOPLE,
    SEES_EVERYBODY,
    SERVICE,
    visible_filter,
    visible_people,
)
from tests.support.facts import T0, fact, folded

IDS = list("abcdefgh")
FIRST = date(2026, 1, 1)
DAYS = st.integers(0, 5).map(lambda n: FIRST + timedelta(days=n))
LINES = st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from([*IDS, ""]), DAYS), max_size=20)
NARROW = st.sets(st.sampled_from([REP, MANAGER, SERVICE, "guest"]))
ROLES = st.one_of(
    NARROW, NARROW, st.builds(set.union, NARROW, st.sets(st.sampled_from(sorted(SEES_EVERYBODY))))
)


def company(lines: list[tuple[str, str, date]]) -> Org:
    facts = {person: [fact("person", person, T0, {"name": person})] for person in IDS}
    for person, manager, day in lines:
        said = {"effective_from": day.isoformat(), "manager": manager}
        facts[person].append(fact("person", person, T0, said))
    return Org.build({person: folded(said) for person, said in facts.items()}, {}, {})


def above(lines: list[tuple[str, str, date]], person: str, today: date) -> set[str]:
    """Everybody above a person, walked upwards from the statements themselves."""
    found: set[str] = set()
    place = person
    while True:
        stated = [(day, manager) for who, manager, day in lines if who == place and day <= today]
        latest = max((day for day, _ in stated), default=None)
        # Of one day's statements of equal order the greater value holds, as in every fold.
        manager = max((m for day, m in stated if day == latest), default="")
        if not manager or manager in found:
            return found
        found.add(manager)
        place = manager


@given(LINES, ROLES, st.sampled_from([*IDS, None]), DAYS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_everybody_sees_exactly_what_their_roles_give(
    lines: list[tuple[str, str, date]],
    roles: set[str],
    person: str | None,
    today: date,
    scoped: bool,  # noqa: FBT001 - drawn
) -> None:
    org = company(lines)
    scopes = {SCOPE_ALL_PEOPLE} if scoped else set()
    visible = visible_people(roles, person, org, today, scopes)
    if roles & SEES_EVERYBODY or (SERVICE in roles and scoped):
        assert visible is EVERYBODY
        assert visible_filter(visible) is None
        return
    expected = set()
    if person is not None and roles & {REP, MANAGER}:
        expected.add(person)
    if person is not None and MANAGER in roles:
        expected |= {other for other in IDS if person in above(lines, other, today)}
    assert visible_filter(visible) == sorted(expected)


@given(LINES, st.sampled_from(IDS), DAYS)
@settings(max_examples=100, deadline=None)
def test_a_manager_sees_all_that_the_managers_below_see(
    lines: list[tuple[str, str, date]], person: str, today: date
) -> None:
    org = company(lines)
    visible = visible_people({MANAGER}, person, org, today)
    assert person in visible
    for report in org.reports(person, today):
        seen_below = visible_filter(visible_people({MANAGER}, report, org, today))
        assert seen_below is not None
        assert set(seen_below) <= set(visible_filter(visible) or [])
