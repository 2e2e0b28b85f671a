"""Which file a caller wants, and making it without keeping others waiting."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import lru_cache

from services.commissions.statement_files.comma import csv_of
from services.commissions.statement_files.paper import pdf_of
from services.commissions.statement_files.sheet import Document, Sheet, sheet_of
from services.commissions.statement_files.workbook import xlsx_of
from shared.errors import Refused


class FileFormat(StrEnum):
    """What a statement can be read as."""

    JSON = "json"
    CSV = "csv"
    XLSX = "xlsx"
    PDF = "pdf"


MEDIA_TYPES = {
    FileFormat.JSON: "application/json",
    FileFormat.CSV: "text/csv",
    FileFormat.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    FileFormat.PDF: "application/pdf",
}
MAX_LINES = {FileFormat.CSV: 200_000, FileFormat.XLSX: 50_000, FileFormat.PDF: 5_000}
"""Longer statements are refused in that form: a PDF takes 0.8 s of a core for 1,000 lines."""

AT_ONCE = 2
"""Files that a process makes at the same time; more wait for their turn."""

_MAKERS: dict[FileFormat, Callable[[Sheet], bytes]] = {
    FileFormat.CSV: csv_of,
    FileFormat.XLSX: xlsx_of,
    FileFormat.PDF: pdf_of,
}
_SAFE = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


def format_wanted(accept: str, asked: FileFormat | None) -> FileFormat:
    """The form asked for by name, or the one that an Accept header likes best; JSON where equal.

    Raises Refused (406) when the header admits none of them.
    """
    if asked is not None:
        return asked
    if not accept.strip():
        return FileFormat.JSON
    weights = _weights(accept)
    found = {form: _weight(media, weights) for form, media in MEDIA_TYPES.items()}
    best = max(found, key=lambda form: found[form])
    if found[best] <= 0:
        msg = f"a statement can be had as {', '.join(MEDIA_TYPES.values())}"
        raise Refused("not-acceptable", msg, status=406)
    return best


def _weights(accept: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        weights[media] = quality
    return weights


def _weight(media: str, weights: dict[str, float]) -> float:
    anything = f"{media.partition('/')[0]}/*"
    return next((weights[name] for name in (media, anything, "*/*") if name in weights), 0.0)


async def file_of(document: Document, form: FileFormat) -> bytes:
    """A statement's document as a file, made in a thread. Raises Refused (406) when too long."""
    sheet = sheet_of(document)
    limit = MAX_LINES[form]
    if sheet.line_count > limit:
        msg = f"the statement has {sheet.line_count} lines; as {form} it may have {limit}"
        raise Refused("statement-too-long", f"{msg}; read it as JSON or CSV", status=406)
    return await asyncio.get_running_loop().run_in_executor(_workers(), _MAKERS[form], sheet)


@lru_cache(maxsize=1)
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, "statement-files")


def file_name(document: Document, form: FileFormat) -> str:
    """A harmless name for a statement's file: ASCII letters, digits, dots and dashes."""
    parts = (document["payee"], document["plan"], document["period"])
    return "-".join(["statement", *(_SAFE.sub("_", part) for part in parts)]) + f".{form}"
