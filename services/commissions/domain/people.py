"""What a plan may ask of people: who manages whom on a credit's day, and fields of the payee."""

from __future__ import annotations

from dataclasses import replace

from services.commissions.domain.conditions import reads_components, reads_payee
from services.commissions.domain.credit import CreditEvent
from services.commissions.domain.plan import Plan
from services.commissions.domain.terms import CreditTo
from shared.org.people import Org


def reads_people(plan: Plan) -> bool:
    """Whether any version credits managers, or asks of the payee; otherwise events need no people.

    A condition on other components may ask of the payee too.
    """
    return any(
        component.credit.to is CreditTo.MANAGER
        or (
            component.credit.when is not None
            and (reads_payee(component.credit.when) or reads_components(component.credit.when))
        )
        for version in plan.versions
        for component in version.components
    )


def with_people(event: CreditEvent, org: Org) -> CreditEvent:
    """The event with managers and fields of everybody it may credit, on its day in the org's zone.

    Managers themselves are included, since a condition may ask of them as payees.
    """
    day = event.instant.astimezone(org.zone).date()
    members = {member for member, _ in (*event.splits, *event.overlays)}
    members |= {event.owner} if event.owner is not None else set()
    managers = {
        member: manager
        for member in sorted(members)
        if (manager := org.manager_of(member, day)) is not None
    }
    people: dict[str, dict[str, object]] = {}
    for member in sorted({*members, *managers.values()}):
        person = org.person(member, day)
        if person is not None:
            stated = {
                "name": person.name,
                "role": person.role,
                "manager": person.manager,
                "currency": person.currency,
            }
            people[member] = {name: value for name, value in stated.items() if value is not None}
    return replace(event, managers=tuple(managers.items()), people=people)
