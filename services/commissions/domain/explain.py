"""Explanations: each amount as a tree of data, enough to compute it again, and one sentence.

Trees are JSON values; every number is decimal text. They are built when somebody asks, from the
numbers the lines kept, so that rating does not pay for them. Node kinds, fields and arithmetic are
written down in docs/domain/explanation.md; what a line that is no credit's own stands on is with
its kind (caps.py, floor.py, gate.py, release.py, clawback.py, draw.py, spiff.py).
"""

from __future__ import annotations

import hashlib
import json

from services.commissions.domain.credit_rows import rate_as_row
from services.commissions.domain.explain_credit import Tree, explain_credit
from services.commissions.domain.lines import Line, LineKind
from services.commissions.domain.plan import PlanVersion
from services.commissions.domain.rating import Rater
from services.commissions.domain.statement import Statement
from shared.money import minor_unit_exponent, to_text

__all__ = ["Tree", "explain_line", "explain_statement", "sealed"]


def explain_statement(statement: Statement, rater: Rater) -> Tree:
    """A statement as a tree: its lines, the carried difference, and how it became the payable."""
    return sealed({
        "payee": statement.payee,
        "plan": statement.plan_id,
        "period": statement.period.label,
        "currency": statement.currency,
        "lines": [explain_line(line, rater) for line in statement.lines],
        "own": to_text(statement.own),
        "held_pay": to_text(statement.held_pay),
        "difference": _difference(statement),
        "carry_in": to_text(statement.carry_in),
        "taken": to_text(statement.taken),
        "max_recovery": to_text(statement.max_recovery),
        "carry_out": to_text(statement.carry_out),
        "draw": None if statement.draw is None else statement.draw.tree(),
        "payable": to_text(statement.payable),
        "payout": _payout(statement),
        "rounding_mode": statement.rounding_mode,
        "recomputed": statement.closed,
        "hash": statement.hash,
        "sentence": _statement_sentence(statement),
    })  # fmt: skip


def explain_line(line: Line, rater: Rater) -> Tree:
    """One line as a tree, from the events to the amount."""
    version = rater.version_of(line)
    tree: Tree = {
        "key": line.key,
        "kind": line.kind.value,
        "component": line.component_id,
        "plan_version": line.version_hash,
        "statement": line.statement.label,
        "deal": line.deal_id,
        "currency": version.currency,
        "amount": to_text(line.amount),
        "rounding": _rounding(version),
    }
    if line.kind is LineKind.CREDIT and line.credit is not None:
        return sealed(tree | explain_credit(line, line.credit, rater, version))
    if line.basis is None:
        return sealed(tree)
    if line.credit is not None:
        tree["events"] = list(line.credit.source_ids)
    said = line.basis.sentence(line.amount, version.currency)
    return sealed(tree | {**line.basis.tree(), "sentence": said})


def sealed(tree: Tree) -> Tree:
    """The tree with a digest of all it says, so that no number can change unseen."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return tree | {"digest": hashlib.sha256(text.encode()).hexdigest()}


def _rounding(version: PlanVersion) -> Tree:
    return {
        "mode": version.rounding.mode,
        "at": version.rounding.at.value,
        "decimals": minor_unit_exponent(version.currency),
    }


def _difference(statement: Statement) -> Tree:
    return {
        "amount": to_text(statement.difference),
        "landed_before": to_text(statement.landed),
        "corrects": [
            {
                "period": correction.period,
                "line": correction.line_key,
                "fixed": to_text(correction.fixed),
                "recomputed": to_text(correction.recomputed),
                "amount": to_text(correction.amount),
            }
            for correction in statement.corrections
        ],
    }


def _payout(statement: Statement) -> Tree:
    payout = statement.payout
    return {
        "currency": payout.currency,
        "rate": rate_as_row(payout.rate) if payout.rate else None,
        "amount": None if payout.amount is None else to_text(payout.amount),
    }


def _statement_sentence(statement: Statement) -> str:
    currency = statement.currency
    said = f"{statement.period.label}: {to_text(statement.own)} {currency} earned"
    if statement.held_pay:
        said += f" ({to_text(statement.held_pay)} more on hold)"
    if statement.difference:
        said += f", {to_text(statement.difference)} carried over from closed periods"
    if statement.carry_in:
        said += f", {to_text(statement.carry_in)} still open from before"
    if statement.draw is not None:
        said += (
            f", {to_text(statement.draw.advance)} advanced by the draw and "
            f"{to_text(statement.draw.recovered)} recovered"
        )
    said += f"; {to_text(statement.payable)} {currency} payable"
    if statement.payout.currency != currency and statement.payout.amount is not None:
        said += f", paid as {to_text(statement.payout.amount)} {statement.payout.currency}"
    return said + "."
