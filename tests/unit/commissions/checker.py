"""Statements of tests go through the checker that is handed out."""

from __future__ import annotations

from typing import Any

from shared.statement_checker import check_statement as findings_of


def check_statement(tree: dict[str, Any]) -> None:
    """Raise AssertionError unless every amount of the tree follows from what it stands on."""
    assert findings_of(tree) == []
