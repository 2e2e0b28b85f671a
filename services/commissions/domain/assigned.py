"""Assignments by payee: who is on a plan is asked for every deal, whoever else is on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import cached_property

from services.commissions.domain.plan import Assignment


class Assigned(tuple[Assignment, ...]):  # noqa: SLOT001 - keeps an index of itself
    """Assignments, in any order, that are found by payee."""

    @cached_property
    def _by_payee(self) -> dict[str, list[Assignment]]:
        found: dict[str, list[Assignment]] = {}
        for assignment in self:
            found.setdefault(assignment.payee, []).append(assignment)
        return found

    def of(self, payee: str) -> Sequence[Assignment]:
        """Those of one payee, in the same order."""
        return self._by_payee.get(payee, ())

    def has(self, payee: str, plan_id: str, day: date) -> bool:
        """Whether a payee is on a plan on a day."""
        return any(a.plan_id == plan_id and day in a.days for a in self.of(payee))

    def anybody(self, plan_id: str, day: date) -> bool:
        """Whether anybody is on a plan on a day."""
        return any(a.plan_id == plan_id and day in a.days for a in self)
