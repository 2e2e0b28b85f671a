"""A statement as an XLSX workbook: a worksheet a section."""

from __future__ import annotations

import io
from datetime import UTC, datetime, time
from decimal import Decimal

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from services.commissions.statement_files.sheet import SECTIONS, Cell, Entry, Section, Sheet
from shared.money import to_text

EXACT_DIGITS = 15
"""Decimal digits that a workbook's binary numbers carry without loss; longer ones are text."""

_FORMULA_START = ("=", "+", "-", "@", "\t", "\r", "\n")
_WIDTHS = {"name": 34, "why": 70, "deal": 26, "component": 18, "kind": 16}
_OPTIONS = {
    "in_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}


def xlsx_of(sheet: Sheet) -> bytes:
    """The workbook's bytes. Texts are never formulas, whatever they begin with."""
    target = io.BytesIO()
    with xlsxwriter.Workbook(target, _OPTIONS) as book:
        dated = datetime.combine(sheet.dated, time(), UTC).replace(tzinfo=None)
        book.set_properties({"title": sheet.title, "created": dated})
        formats = _Formats(book)
        _front(book.add_worksheet("Statement"), sheet, formats)
        for section in SECTIONS:
            rows = section.rows(sheet)
            if rows:
                _fill(book.add_worksheet(section.title), section, rows, formats)
    return target.getvalue()


class _Formats:
    """The few cell formats of a workbook; one for each number of decimals."""

    def __init__(self, book: xlsxwriter.Workbook) -> None:
        self._book = book
        self.heading = book.add_format({"bold": True, "bottom": 1})
        self.title = book.add_format({"bold": True, "font_size": 14})
        self.quoted = book.add_format({"quote_prefix": True})
        self._numbers: dict[int, Format] = {}

    def number(self, places: int) -> Format:
        """Numbers with so many decimals, none of them hidden."""
        if places not in self._numbers:
            pattern = "#,##0" + ("." + "0" * places if places else "")
            self._numbers[places] = self._book.add_format({"num_format": pattern})
        return self._numbers[places]


def _front(page: Worksheet, sheet: Sheet, formats: _Formats) -> None:
    page.set_column(0, 0, _WIDTHS["name"])
    page.set_column(1, 1, _WIDTHS["why"])
    page.write_string(0, 0, sheet.title, formats.title)
    row = 1
    for row, (name, said) in enumerate(sheet.facts, 1):
        page.write_string(row, 0, name)
        _put(page, row, 1, said, formats)
    for place, note in enumerate(sheet.notes, row + 2):
        page.write_string(place, 0, note)


def _fill(
    page: Worksheet, section: Section, rows: list[tuple[Cell, ...]], formats: _Formats
) -> None:
    for column, (name, heading) in enumerate(section.columns):
        page.set_column(column, column, _WIDTHS.get(name, 14))
        page.write_string(0, column, heading, formats.heading)
    page.freeze_panes(1, 0)
    for place, row in enumerate(rows, 1):
        for column, value in enumerate(row):
            _put(page, place, column, value, formats)


def _put(page: Worksheet, row: int, column: int, value: Cell, formats: _Formats) -> None:
    if value is None:
        return
    if isinstance(value, str):
        starts = value.lstrip(" ").startswith(_FORMULA_START)
        page.write_string(row, column, value, formats.quoted if starts else None)
    elif is_exact(value):
        page.write_number(row, column, float(value), formats.number(_places(value)))
    else:
        page.write_string(row, column, to_text(value))


def is_exact(value: Decimal) -> bool:
    """Whether a workbook's number holds every digit of `value`."""
    digits = to_text(value).lstrip("-").replace(".", "").lstrip("0")
    return len(digits) <= EXACT_DIGITS and Decimal(repr(float(value))) == value


def _places(value: Decimal) -> int:
    _, _, decimals = to_text(value).partition(".")
    return max(2, len(decimals)) if decimals else 2


__all__ = ["EXACT_DIGITS", "Entry", "is_exact", "xlsx_of"]
