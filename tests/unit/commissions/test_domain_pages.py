"""The figures on the pages of docs/domain are those of the golden cases that they link to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.unit.commissions.history import EVERYTHING, golden_cases

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "golden" / "commissions"
SECTION = re.compile(r"^## (?P<title>.*?)\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(../../tests/golden/commissions/(G\d\d-[a-z-]+\.yaml)\)")
FIGURE = re.compile(r"\*\*(-?[0-9]+\.[0-9]{2})\*\*")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def _numbers(expected: object) -> Iterator[Decimal]:
    if isinstance(expected, dict | list):
        for inner in expected.values() if isinstance(expected, dict) else expected:
            yield from _numbers(inner)
    elif isinstance(expected, str) and NUMBER.fullmatch(expected):
        yield Decimal(expected)


def _expected() -> dict[str, set[Decimal]]:
    found: dict[str, set[Decimal]] = {}
    for name, _, case in golden_cases(EVERYTHING):
        wanted = (step["expect"] for step in case["steps"] if "expect" in step)
        found.setdefault(name[: len("G00")], set()).update(n for w in wanted for n in _numbers(w))
    return found


EXPECTED = _expected()


def _sections() -> list[tuple[str, str]]:
    return [
        (f"{page.stem}: {found['title']}", found["text"])
        for page in sorted((ROOT / "docs" / "domain").glob("*.md"))
        for found in SECTION.finditer(page.read_text())
        if LINK.search(found["text"])
    ]


SECTIONS = _sections()


def test_every_golden_case_has_its_page() -> None:
    linked = {name for _, text in SECTIONS for name in LINK.findall(text)}
    assert linked == {path.name for path in CASES.glob("G*.yaml")}


@pytest.mark.parametrize("text", [s[1] for s in SECTIONS], ids=[s[0] for s in SECTIONS])
def test_a_page_says_what_the_golden_case_says(text: str) -> None:
    expected = {n for name in LINK.findall(text) for n in EXPECTED[name[: len("G00")]]}
    figures = [Decimal(figure) for figure in FIGURE.findall(text)]
    assert figures, "a worked example has figures in bold"
    assert set(figures) <= expected
