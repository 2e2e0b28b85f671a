"""Who may see whose numbers: one function, applied everywhere as a filter.

A list, a count, an export and a search that all filter by `visible_people` show the same world.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Final, TypeAlias

from shared.org.people import Org

SEES_EVERYBODY: Final = frozenset({"admin", "auditor", "comp_admin", "finance"})
"""Roles whose work is about everybody. An auditor reads all and changes nothing."""

REP: Final = "rep"
MANAGER: Final = "manager"
SERVICE: Final = "service"
SCOPE_ALL_PEOPLE: Final = "people:all"
"""The scope with which a machine reads everybody's numbers; without it, nobody's."""


class AllPeople:
    """Everybody, people not yet known included."""

    def __contains__(self, person: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "AllPeople()"


EVERYBODY: Final = AllPeople()

Visible: TypeAlias = "AllPeople | frozenset[str]"


def visible_people(
    principal_roles: Collection[str],
    principal_person: str | None,
    org: Org,
    today: date,
    scopes: Collection[str] = (),
) -> Visible:
    """The people whose numbers a principal may see, by everything its roles give it together.

    rep: themselves. manager: themselves and their reporting line as of `today`, past periods
    included. comp_admin, finance, auditor, admin: everybody. service: by scope. Any other role, and
    a rep or manager without a person: nobody.
    """
    if not SEES_EVERYBODY.isdisjoint(principal_roles):
        return EVERYBODY
    if SERVICE in principal_roles and SCOPE_ALL_PEOPLE in scopes:
        return EVERYBODY
    if not principal_person:
        return frozenset()
    seen: frozenset[str] = frozenset()
    if REP in principal_roles or MANAGER in principal_roles:
        seen |= {principal_person}
    if MANAGER in principal_roles:
        seen |= org.reports(principal_person, today)
    return seen


def visible_filter(visible: Visible) -> list[str] | None:
    """`visible` as one SQL parameter: None lets everything through, a list only its members.

    Use as `($1::text[] IS NULL OR person = ANY($1))`. An empty list lets nothing through.
    """
    return None if isinstance(visible, AllPeople) else sorted(visible)
