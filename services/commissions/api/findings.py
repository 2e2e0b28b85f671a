"""Wire models of what lint finds and what a change moves, shared by plans and proposals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.commissions.domain.lint import Finding
from shared.http.models import DecimalText, WireModel
from shared.money import to_text


class FindingView(WireModel):
    """One thing lint found. severity: refused or warned. pointer: where in the document.

    figure: how much, in `unit`: the plan's currency, `share` (1 is 100 %), `days` or `count`.
    """

    code: str
    severity: str
    pointer: str
    message: str
    figure: DecimalText
    unit: str


class PeriodMoved(WireModel):
    """What all payees of a plan earn in a period, before and after. moved: the sum of |change|."""

    plan: str
    period: str
    currency: str
    before: DecimalText
    after: DecimalText
    difference: DecimalText
    moved: DecimalText
    payees: int


class PayeeMoved(WireModel):
    """What one payee earns under a plan in a period, before and after."""

    payee: str
    plan: str
    period: str
    currency: str
    before: DecimalText
    after: DecimalText
    difference: DecimalText


class Differences(WireModel):
    """What a change makes of pay, in statements that end by `until`; null: in all.

    recalculating: something else was being worked in, and part of it may be that. payees: those
    that change most first; `untold` more are only in the sums.
    """

    until: str | None
    recalculating: bool
    difference: DecimalText
    moved: DecimalText
    periods: list[PeriodMoved]
    payees: list[PayeeMoved]
    untold: int


def finding_rows(found: Iterable[Finding]) -> list[dict[str, str]]:
    """Findings as JSON values."""
    return [
        {
            "code": finding.code,
            "severity": finding.severity.value,
            "pointer": finding.pointer,
            "message": finding.message,
            "figure": to_text(finding.figure),
            "unit": finding.unit,
        }
        for finding in found
    ]


def finding_views(rows: Iterable[Mapping[str, str]]) -> list[FindingView]:
    """The same for an answer."""
    return [FindingView.model_validate(row) for row in rows]


def differences_view(figures: Mapping[str, Any]) -> Differences:
    """Figures of a proposal, or of a draft, without its findings."""
    return Differences.model_validate({k: v for k, v in figures.items() if k != "findings"})
