"""Statements as rows: figures to filter by, and the document that readers are given."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from services.commissions.domain.draw import DrawStanding
from services.commissions.domain.lines import Line, LineKind
from services.commissions.domain.rates import ZERO
from services.commissions.domain.statement import Statement
from services.commissions.store import AccountKey, StatementWrite, canonical_json
from shared.money import to_text


def statement_write(account: AccountKey, statement: Statement) -> StatementWrite:
    """The row of a statement."""
    return StatementWrite(
        account=account,
        period=statement.period.label,
        start_day=statement.period.start,
        end_day=statement.period.end,
        currency=statement.currency,
        own=statement.own,
        difference=statement.difference,
        carry_out=statement.carry_out,
        payable=statement.payable,
        payout_currency=statement.payout.currency,
        payout_amount=statement.payout.amount,
        hash=statement.hash,
        waiting=bool(statement.exceptions),
        document=canonical_json(_document(statement)),
        held_pay=statement.held_pay,
        draw_balance=_draw_balance(statement),
    )


def _draw_balance(statement: Statement) -> Decimal:
    """What a recoverable draw still has to get back after the period; of a closed one, as fixed."""
    if statement.fixed is not None:
        return statement.fixed.draw_out
    return statement.draw.balance_out if statement.draw is not None else ZERO


def _document(statement: Statement) -> dict[str, object]:
    """A statement as JSON values, without explanations: those are made when somebody asks."""
    payout = statement.payout
    return {
        "payee": statement.payee,
        "plan": statement.plan_id,
        "period": statement.period.label,
        "start": statement.period.start.isoformat(),
        "end": statement.period.end.isoformat(),
        "currency": statement.currency,
        "lines": [_line(line, statement.currency) for line in statement.lines],
        "attainment": attainment_of(statement.lines),
        "own": to_text(statement.own),
        "difference": to_text(statement.difference),
        "corrects": [
            {
                "period": c.period,
                "line": c.line_key,
                "fixed": to_text(c.fixed),
                "recomputed": to_text(c.recomputed),
            }
            for c in statement.corrections
        ],
        "landed_before": to_text(statement.landed),
        "carry_in": to_text(statement.carry_in),
        "taken": to_text(statement.taken),
        "carry_out": to_text(statement.carry_out),
        "payable": to_text(statement.payable),
        "payout": {
            "currency": payout.currency,
            "amount": None if payout.amount is None else to_text(payout.amount),
            "rate": None if payout.rate is None else to_text(payout.rate.rate),
        },
        "held": [
            {"deal": c.deal_id, "amount": to_text(c.original), "currency": c.currency}
            for c in statement.held
        ],
        "exceptions": [
            {
                "kind": e.kind.value,
                "deal": e.deal_id or None,
                "component": e.component_id or None,
                "payee": e.payee,
                "day": e.day.isoformat(),
                "message": e.message,
            }
            for e in statement.exceptions
        ],
        "held_pay": to_text(statement.held_pay),
        "draw": None if statement.draw is None else _draw(statement.draw),
        "hash": statement.hash,
    }


def _draw(draw: DrawStanding) -> dict[str, str]:
    return {
        "amount": to_text(draw.amount),
        "advance": to_text(draw.advance),
        "recovered": to_text(draw.recovered),
        "balance_in": to_text(draw.balance_in),
        "balance_out": to_text(draw.balance_out),
    }


def attainment_of(lines: Iterable[Line]) -> list[dict[str, str]]:
    """What each measure with a quota had reached with the last of these credit lines.

    attainment: credited ÷ quota, to 4 decimals (a hundredth of a percent), half to even.
    """
    found: dict[tuple[str, str], Line] = {}
    for line in lines:
        if line.kind is LineKind.CREDIT and line.measure is not None and line.quota is not None:
            found[line.component_id, line.measure.label] = line
    return [
        {
            "component": component,
            "measure": measure,
            "quota": to_text(line.quota or ZERO),
            "credited": to_text(line.after),
            "attainment": to_text(_ratio(line.after, line.quota or ZERO)),
        }
        for (component, measure), line in found.items()
    ]


def _ratio(credited: Decimal, quota: Decimal) -> Decimal:
    ten_thousandths = round(Fraction(credited) / Fraction(quota) * 10_000)
    return Decimal(ten_thousandths).scaleb(-4)


def _line(line: Line, currency: str) -> dict[str, object]:
    credit = line.credit
    shown: dict[str, object] = {
        "key": line.key,
        "kind": line.kind.value,
        "component": line.component_id or None,
        "plan_version": line.version_hash,
        "deal": line.deal_id,
        "day": None if credit is None else credit.day.isoformat(),
        "credited": None
        if credit is None or credit.converted is None
        else to_text(credit.converted),
        "amount": to_text(line.amount),
    }
    if line.basis is not None:
        shown["why"] = line.basis.sentence(line.amount, currency)
    return shown
