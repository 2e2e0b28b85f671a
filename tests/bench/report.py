"""The results of a run: written as JSON for machines, as a table for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench-results.json"
COLUMNS = ("name", "value", "unit", "against", "ratio")
DIGITS = 4
"""Significant digits: more would say more than a shared machine can know."""


@dataclass(frozen=True, slots=True)
class Result:
    """One measured figure.

    against: what it is held against, with the value measured in the same run; None for a floor.
    ratio: value ÷ that value; None where there is none.
    """

    name: str
    value: float
    unit: str
    against: str | None = None
    ratio: float | None = None


def compared(name: str, value: float, unit: str, floor: Result) -> Result:
    """A figure beside a `floor` of the same unit. Raises ValueError for another one or for zero."""
    if floor.unit != unit or not floor.value:
        msg = f"{name} in {unit} cannot be held against {floor.value} {floor.unit}"
        raise ValueError(msg)
    against = f"{floor.name}: {shown(floor.value)} {floor.unit}"
    return Result(name, value, unit, against, value / floor.value)


def shown(value: float) -> str:
    """A number with four significant digits, thousands separated."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{DIGITS}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (DIGITS - 1) else f"{rounded:g}"


def write(results: Sequence[Result], path: Path = RESULTS) -> None:
    """The results as a JSON list, replaced whole."""
    rows = [_rounded(result) for result in results]
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---:|---|---|---:|"]
    for result in results:
        ratio = "" if result.ratio is None else shown(result.ratio)
        lines.append(
            f"| {result.name} | {shown(result.value)} | {result.unit} "
            f"| {result.against or ''} | {ratio} |"
        )
    return "\n".join(lines)


def _rounded(result: Result) -> dict[str, object]:
    row = asdict(result)
    for name in ("value", "ratio"):
        if row[name] is not None:
            row[name] = float(f"{row[name]:.{DIGITS}g}")
    return row
