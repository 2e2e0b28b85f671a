"""The results of a run: written as JSON for machines, as a table for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench-results.json"
COLUMNS = ("name", "value", "unit", "against", "ratio")
DIGITS = 4
"""Significant digits: more would say more than a shared machine can know."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should reach. Missing it is shown, and fails nothing.

    sign: `≥` or `≤`. of_ratio: it is the ratio that is held against the limit, not the value.
    """

    sign: Literal["≥", "≤"]
    limit: float
    of_ratio: bool = False

    def __str__(self) -> str:
        """As the table shows it."""
        return f"{'ratio ' if self.of_ratio else ''}{self.sign} {shown(self.limit)}"

    def is_met(self, result: Result) -> bool:
        """Whether a figure reaches it."""
        figure = result.ratio if self.of_ratio else result.value
        if figure is None:
            return False
        return figure >= self.limit if self.sign == "≥" else figure <= self.limit


def at_least(limit: float) -> Goal:
    """A value that should not be below `limit`."""
    return Goal("≥", limit)


def at_most(limit: float) -> Goal:
    """A value that should not be above `limit`."""
    return Goal("≤", limit)


def ratio_at_least(limit: float) -> Goal:
    """A ratio that should not be below `limit`."""
    return Goal("≥", limit, of_ratio=True)


def ratio_at_most(limit: float) -> Goal:
    """A ratio that should not be above `limit`."""
    return Goal("≤", limit, of_ratio=True)


@dataclass(frozen=True, slots=True)
class Result:
    """One measured figure.

    against: what it is held against, with the value measured in the same run; None for a floor.
    ratio: value ÷ that value; None where there is none. goal: shown beside it, not written.
    """

    name: str
    value: float
    unit: str
    against: str | None = None
    ratio: float | None = None
    goal: Goal | None = None


def compared(
    name: str, value: float, unit: str, floor: Result, *, goal: Goal | None = None
) -> Result:
    """A figure beside a `floor` of the same unit. Raises ValueError for another one or for zero."""
    if floor.unit != unit or not floor.value:
        msg = f"{name} in {unit} cannot be held against {floor.value} {floor.unit}"
        raise ValueError(msg)
    against = f"{floor.name}: {shown(floor.value)} {floor.unit}"
    return Result(name, value, unit, against, value / floor.value, goal)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` percent of all do not exceed. Raises ValueError for none."""
    if not values:
        msg = "nothing was measured"
        raise ValueError(msg)
    return sorted(values)[max(0, ceil(len(values) * share / 100) - 1)]


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
    """The results as a Markdown table, each beside its goal and whether it is met."""
    lines = [f"| {' | '.join((*COLUMNS, 'goal', 'met'))} |", "|---|---:|---|---|---:|---|---|"]
    for result in results:
        ratio = "" if result.ratio is None else shown(result.ratio)
        goal, met = "", ""
        if result.goal is not None:
            goal, met = str(result.goal), "yes" if result.goal.is_met(result) else "no"
        lines.append(
            f"| {result.name} | {shown(result.value)} | {result.unit} "
            f"| {result.against or ''} | {ratio} | {goal} | {met} |"
        )
    return "\n".join(lines)


def _rounded(result: Result) -> dict[str, object]:
    row = {name: getattr(result, name) for name in COLUMNS}
    for name in ("value", "ratio"):
        if row[name] is not None:
            row[name] = float(f"{row[name]:.{DIGITS}g}")
    return row
