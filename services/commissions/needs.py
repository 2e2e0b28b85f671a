"""What a plan asks for besides deals and invoices: nobody else pays for reading it."""

from __future__ import annotations

from services.commissions.domain.people import reads_people
from services.commissions.domain.plan import Plan, PlanVersion
from services.commissions.domain.terms import CreditOn

PAYMENTS = "payments"
"""Money received, for credits or for releases."""
ACTIVITIES = "activities"
"""Completed activities."""
PEOPLE = "people"
"""Managers, or fields of the payee."""
UNCREDITED = "uncredited"
"""Periods have pay or a standing without any credit: floors, draws, carried excess."""


def kpi_need(kpi: str) -> str:
    """That a gate asks for a KPI."""
    return f"kpi:{kpi}"


def budget_need(component_id: str) -> str:
    """That a component shares a budget among all payees."""
    return f"budget:{component_id}"


def needs_of(version: PlanVersion) -> frozenset[str]:
    """Everything one version asks for."""
    found = set()
    if version.draw is not None or (version.cap is not None and version.cap.carry):
        found.add(UNCREDITED)
    if reads_people(Plan(version.id, (version,))):
        found.add(PEOPLE)
    for component in version.components:
        if component.floor is not None or (component.cap is not None and component.cap.carry):
            found.add(UNCREDITED)
        if component.release is not None or component.credit.on is CreditOn.PAYMENT_RECEIVED:
            found.add(PAYMENTS)
        if component.credit.on is CreditOn.ACTIVITY_COMPLETED:
            found.add(ACTIVITIES)
        if component.gate is not None:
            found.add(kpi_need(component.gate.kpi))
        if component.pays is not None and component.pays.budget is not None:
            found.add(budget_need(component.id))
    return frozenset(found)


def budgets_in(needs: frozenset[str]) -> list[str]:
    """The components that share a budget, sorted."""
    return _named(budget_need(""), needs)


def kpis_in(needs: frozenset[str]) -> list[str]:
    """The KPIs that gates ask for, sorted."""
    return _named(kpi_need(""), needs)


def _named(prefix: str, needs: frozenset[str]) -> list[str]:
    return sorted(need.removeprefix(prefix) for need in needs if need.startswith(prefix))
