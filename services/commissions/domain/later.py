"""Lines dated in a later fiscal year than the credit behind them: releases and clawbacks.

A credit is rated with everything that follows from it in the sheet of its own year. What falls
into a later year is handed on finished, with its explanation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from services.commissions.domain.lines import Line, LineKind
from services.commissions.domain.periods import PeriodKind, period_of
from shared.money import quantise, to_text


@dataclass(frozen=True, slots=True)
class FinishedBasis:
    """The explanation of a line as it was made, in words and numbers."""

    numbers: Mapping[str, object]
    said: str
    to_held: Decimal

    def tree(self) -> Mapping[str, object]:
        """The numbers that give the amount again."""
        return self.numbers

    def sentence(self, amount: Decimal, currency: str) -> str:  # noqa: ARG002 - as Basis
        """What happened."""
        return self.said


def line_as_row(line: Line, currency: str) -> dict[str, object]:
    """A line with its explanation, as JSON values."""
    basis = line.basis
    return {
        "key": line.key,
        "kind": line.kind.value,
        "component": line.component_id,
        "version": line.version_hash,
        "start": line.statement.start.isoformat(),
        "period": line.statement.kind.value,
        "deal": line.deal_id,
        "amount": to_text(line.amount),
        "held": to_text(basis.to_held if basis else Decimal(0)),
        "tree": dict(basis.tree()) if basis else {},
        "sentence": basis.sentence(line.amount, currency) if basis else "",
    }


def line_from_row(row: Mapping[str, object], fiscal_start_month: int) -> Line:
    """The inverse of line_as_row."""
    tree, deal = row["tree"], row["deal"]
    amount = quantise(Decimal(str(row["amount"])))
    start, kind = date.fromisoformat(str(row["start"])), PeriodKind(str(row["period"]))
    return Line(
        key=str(row["key"]),
        kind=LineKind(str(row["kind"])),
        component_id=str(row["component"]),
        version_hash=str(row["version"]),
        statement=period_of(start, kind, fiscal_start_month),
        measure=None,
        amount=amount,
        exact=amount,
        basis=FinishedBasis(
            tree if isinstance(tree, Mapping) else {},
            str(row["sentence"]),
            quantise(Decimal(str(row["held"]))),
        ),
        deal=None if deal is None else str(deal),
    )
