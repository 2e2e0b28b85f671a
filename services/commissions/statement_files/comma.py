"""A statement as CSV: one table, a row an entry, for machines and spreadsheets."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from decimal import Decimal

from services.commissions.statement_files.sheet import Cell, Entry, Sheet
from shared.http.paging import csv_cell
from shared.money import to_text

COLUMNS = tuple(field.name for field in fields(Entry))


def csv_of(sheet: Sheet) -> bytes:
    """RFC 4180 in UTF-8. `section` says what a row is; facts and notes come first."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for name, said in sheet.facts:
        writer.writerow(_row(Entry("fact", name, why=said)))
    for note in sheet.notes:
        writer.writerow(_row(Entry("note", why=note)))
    writer.writerows(_row(entry) for entry in sheet.entries)
    return text.getvalue().encode()


def _row(entry: Entry) -> list[str]:
    return [_cell(getattr(entry, name)) for name in COLUMNS]


def _cell(value: Cell) -> str:
    return to_text(value) if isinstance(value, Decimal) else csv_cell(value)
