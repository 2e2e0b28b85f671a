"""A statement: lines, caps and rounding of a whole statement, carried difference, payout.

The order is fixed: lines and component caps come rounded; then rounding where the plan rounds the
statement, plan cap, carried difference, and last the payout currency, converted once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain

from services.commissions.domain.closes import Correction, FixedStatement, Settled
from services.commissions.domain.credits import Credit, CreditException
from services.commissions.domain.exchange import RateRow
from services.commissions.domain.periods import Period
from services.commissions.domain.plan import PlanVersion, RoundAt
from services.commissions.domain.rates import ZERO
from services.commissions.domain.rating import Line, LineKind, credit_order, over_cap
from shared.money import EXACT, exact_sum, round_to_minor, to_text

_KIND_ORDER = {kind: place for place, kind in enumerate(LineKind)}


@dataclass(frozen=True, slots=True)
class Payout:
    """The payable in the currency it is paid in; no amount while its rate is missing."""

    currency: str
    amount: Decimal | None
    rate: RateRow | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """What one payee earns under one plan in one period.

    own: sum of `lines`. difference: carried from closed periods: the sum of `corrections` less
    `landed`, what earlier closes have already fixed of them.
    held: credits that cannot be rated yet; they are in no total.
    fixed: what the close fixed, for a closed period; everything else is as of today.
    """

    payee: str
    plan_id: str
    period: Period
    currency: str
    lines: tuple[Line, ...]
    own: Decimal
    difference: Decimal
    corrections: tuple[Correction, ...]
    landed: Decimal
    carry_in: Decimal
    carry_out: Decimal
    taken: Decimal
    payable: Decimal
    payout: Payout
    held: tuple[Credit, ...]
    exceptions: tuple[CreditException, ...]
    hash: str
    fixed: FixedStatement | None = None

    @property
    def closed(self) -> bool:
        """Whether the period is closed for this payee."""
        return self.fixed is not None


def whole_statement_lines(
    lines: Sequence[Line], period: Period, version: PlanVersion, capped_before: Decimal
) -> list[Line]:
    """The rounding and plan-cap lines of one statement.

    capped_before: what earlier statements of the plan cap's scope summed to, before that cap.
    """
    extra: list[Line] = []
    total = exact_sum(line.amount for line in lines)
    if version.rounding.at is RoundAt.STATEMENT:
        exact = exact_sum(line.exact for line in lines)
        rounded = round_to_minor(exact, version.currency, version.rounding.mode)
        if rounded != total:
            extra.append(_whole(LineKind.ROUNDING, period, version, ZERO, exact, rounded - total))
        total = rounded
    if version.cap is not None:
        after = EXACT.add(capped_before, total)
        taken = over_cap(capped_before, after, version.cap.amount)
        if taken:
            line = _whole(LineKind.PLAN_CAP, period, version, capped_before, after, taken)
            line.cap = version.cap
            extra.append(line)
    return extra


def _whole(  # noqa: PLR0913, PLR0917 - a line's numbers
    kind: LineKind,
    period: Period,
    version: PlanVersion,
    before: Decimal,
    after: Decimal,
    amount: Decimal,
) -> Line:
    return Line(
        key=f"{kind}:{version.id}/{period.label}",
        kind=kind,
        component_id="",
        version_hash=version.hash,
        statement=period,
        measure=None,
        amount=amount,
        exact=amount,
        before=before,
        after=after,
    )


def in_statement_order(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Lines by component, then in order of earning, each cap after what it limits."""

    def place(line: Line) -> tuple[object, ...]:
        whole = line.component_id == ""
        if line.kind in {LineKind.CREDIT, LineKind.DEAL_CAP} and line.credit is not None:
            inner: tuple[object, ...] = (0, *credit_order(line.credit))
        else:
            inner = (1, line.key)
        return (whole, line.component_id, inner, _KIND_ORDER[line.kind], line.key)

    return tuple(sorted(lines, key=place))


def statement_hash(
    lines: Iterable[Line], difference: Decimal, carry_in: Decimal, settled: Settled, payout: Payout
) -> str:
    """SHA-256 over the canonical lines and totals: a replay of all events gives the same."""
    rows = sorted(f"{line.key}\t{line.version_hash}\t{to_text(line.amount)}" for line in lines)
    paid = "held" if payout.amount is None else to_text(payout.amount)
    totals = [
        f"difference\t{to_text(difference)}",
        f"carry\t{to_text(carry_in)}\t{to_text(settled.carry_out)}",
        f"payable\t{to_text(settled.payable)}\t{paid}\t{payout.currency}",
    ]
    return hashlib.sha256("\n".join(chain(rows, totals)).encode()).hexdigest()


def line_amounts(lines: Iterable[Line]) -> Mapping[str, Decimal]:
    """Key → amount, what a close fixes."""
    return {line.key: line.amount for line in lines}


def fixed_by(statement: Statement) -> FixedStatement:
    """What closing `statement` as it stands fixes."""
    return FixedStatement(
        period=statement.period,
        lines=line_amounts(statement.lines),
        difference=statement.difference,
        carry_in=statement.carry_in,
        carry_out=statement.carry_out,
        payable=statement.payable,
        hash=statement.hash,
    )
