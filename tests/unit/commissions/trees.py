"""Explanations to be checked: of the golden cases, of generated plans, and of agreed terms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from services.commissions.domain.explain import explain_statement, sealed
from services.commissions.domain.sheet import Sheet
from services.commissions.statement_rows import statement_write
from services.commissions.store import AccountKey
from tests.unit.commissions.history import EVERYTHING, World, arrivals, golden_cases

Tree = dict[str, Any]


def proofs_of(sheet: Sheet) -> Iterator[Tree]:
    """The proofs of a sheet's open statements, as they are handed out."""
    for statement in sheet.statements:
        if not statement.closed:
            account = AccountKey(statement.payee, statement.plan_id)
            yield json.loads(
                json.dumps(
                    sealed({
                        "format": "attain.statement-proof.v1",
                        "statement": json.loads(statement_write(account, statement).document),
                        "explanation": explain_statement(statement, sheet.rater),
                    })
                )
            )  # fmt: skip


def golden_proofs() -> list[Tree]:
    """Of every open statement that a golden case looks at, each once."""
    found: dict[str, Tree] = {}
    for _, documents, case in golden_cases(EVERYTHING):
        world = World.of(documents, case)
        for step in next(iter(arrivals(case))):
            if "expect" not in step:
                world.arrive(step)
                continue
            for sheet in world.sheets():
                found |= {proof["digest"]: proof for proof in proofs_of(sheet)}
    return list(found.values())
