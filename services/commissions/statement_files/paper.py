"""A statement as PDF, set by typst with the fonts that it carries: the same on every machine."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import msgspec
import typst

from services.commissions.statement_files.sheet import SECTIONS, Cell, Section, Sheet
from shared.money import to_text

_TEMPLATE = Path(__file__).with_name("statement.typ")
_NUMBERS = frozenset({"quota", "credited", "attainment", "fixed", "recomputed", "amount"})
_WIDE = frozenset({"name", "why", "deal"})
_FAR_PAST = 0
"""Seconds since 1970 of what typst may call today; nothing in the template asks."""


def pdf_of(sheet: Sheet) -> bytes:
    """The PDF's bytes. Works without a network, and looks at no font of the machine."""
    told = {
        "title": sheet.title,
        "footer": " · ".join(said for _, said in sheet.facts[:3]),
        "facts": [list(fact) for fact in sheet.facts],
        "notes": list(sheet.notes),
        "sections": [
            _section(section, rows) for section in SECTIONS if (rows := section.rows(sheet))
        ],
    }
    compiler = typst.Compiler(
        _template(), font_paths=_fonts(), sys_inputs={"sheet": msgspec.json.encode(told).decode()}
    )
    made = compiler.compile(format="pdf", timestamp=_FAR_PAST)
    if not isinstance(made, bytes):
        msg = "typst gives the bytes of one PDF"
        raise TypeError(msg)
    return made


@lru_cache(maxsize=1)
def _template() -> bytes:
    return _TEMPLATE.read_bytes()


@lru_cache(maxsize=1)
def _fonts() -> typst.Fonts:
    return typst.Fonts(include_system_fonts=False)


def _section(section: Section, rows: list[tuple[Cell, ...]]) -> dict[str, object]:
    return {
        "title": section.title,
        "columns": [
            {"heading": heading, "number": name in _NUMBERS, "wide": name in _WIDE}
            for name, heading in section.columns
        ],
        "rows": [[_cell(value) for value in row] for row in rows],
    }


def _cell(value: Cell) -> str:
    if isinstance(value, Decimal):
        return to_text(value)
    return value or ""
