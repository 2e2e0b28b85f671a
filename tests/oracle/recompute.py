"""Everything at once, as of an instant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from tests.oracle.commissions import Statement, statements
from tests.oracle.deals import DealView, view
from tests.oracle.kpis import Closed, Pipeline, activities, closed_deals, pipeline
from tests.oracle.stalled import StalledDeal, StalledRule, stalled
from tests.simulator.history import History


@dataclass(frozen=True, slots=True)
class OracleResult:
    """What should come out.

    closed: by (scope, quarter `2025-Q1`); a scope is `org`, a team id or a person id.
    pipeline: by scope, all open deals. activities: by (scope, kind, day). statements: by (payee,
    month `2025-03`). deals: by id, those that exist by then.
    """

    as_of_ms: int
    deals: dict[str, DealView]
    closed: dict[tuple[str, str], Closed]
    pipeline: dict[str, Pipeline]
    activities: dict[tuple[str, str, date], int]
    stalled: list[StalledDeal]
    statements: dict[tuple[str, str], Statement]


def recompute(
    history: History, as_of_ms: int | None = None, *, rule: StalledRule | None = None
) -> OracleResult:
    """The KPIs and pay that follow from all that had happened at `as_of_ms` (None: the end)."""
    as_of_ms = history.ends_ms if as_of_ms is None else as_of_ms
    views = [view(deal, history, as_of_ms) for deal in history.deals]
    known = [deal for deal in views if deal.changes]
    return OracleResult(
        as_of_ms=as_of_ms,
        deals={deal.id: deal for deal in known},
        closed=closed_deals(history, known),
        pipeline=pipeline(history, known, as_of_ms),
        activities=activities(history, as_of_ms),
        stalled=stalled(history, known, as_of_ms, rule or StalledRule()),
        statements=statements(history, known),
    )
