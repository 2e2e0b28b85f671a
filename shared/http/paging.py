"""Keyset paging: stable under inserts, one index range a page; and any list as CSV.

A handler asks for `page.fetch` rows after `page.after(...)`, in the order of the key, and gives
them to `page_of`.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from shared.errors import Refused

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
MAX_CURSOR_CHARACTERS = 1_024

KeyPart = str | int
T = TypeVar("T", bound=BaseModel)
Row = TypeVar("Row")

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r", "\n")


class Page(BaseModel, Generic[T]):
    """A part of a list. `next_cursor` is null on the last page."""

    model_config = ConfigDict(frozen=True)

    data: list[T]
    next_cursor: str | None = Field(
        default=None, description="send it as `cursor` for the next page; null at the end"
    )


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a list is asked for. `limit` is 1 to 500."""

    limit: int
    cursor: str | None

    @property
    def fetch(self) -> int:
        """Rows to read: one more than asked, which tells whether there is a next page."""
        return self.limit + 1

    def after(self, *kinds: type[str | int]) -> tuple[KeyPart, ...] | None:
        """The key of the last row seen, of these types; None on the first page.

        Raises Refused (400) for a cursor that this list did not make.
        """
        if self.cursor is None:
            return None
        return decode_cursor(self.cursor, kinds)


def _page_request(
    limit: Annotated[
        int, Query(ge=1, le=MAX_LIMIT, description="rows in one page")
    ] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
) -> PageRequest:
    return PageRequest(limit, cursor)


Paging = Annotated[PageRequest, Depends(_page_request)]
"""FastAPI parameter: `page: Paging`."""


def encode_cursor(key: Sequence[KeyPart]) -> str:
    """Opaque text for a row's key."""
    packed = json.dumps(list(key), separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode_cursor(text: str, kinds: Sequence[type]) -> tuple[KeyPart, ...]:
    """The key in a cursor; raises Refused (400) unless it has exactly these types."""
    try:
        if len(text) > MAX_CURSOR_CHARACTERS:
            raise ValueError  # noqa: TRY301 - one refusal for every way to be wrong
        packed = base64.b64decode(
            text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
        )
        key = json.loads(packed)
    except (ValueError, binascii.Error, RecursionError):
        raise _bad_cursor() from None
    if not isinstance(key, list) or [type(part) for part in key] != list(kinds):
        raise _bad_cursor()
    # A PostgreSQL text cannot hold NUL, nor a bigint more than 63 bits.
    if any("\x00" in part if isinstance(part, str) else abs(part) >= 2**63 for part in key):
        raise _bad_cursor()
    if any(isinstance(part, str) and not part.isprintable() for part in key):
        raise _bad_cursor()
    return tuple(key)


def page_of(
    rows: Sequence[Row],
    page: PageRequest,
    *,
    key: Callable[[Row], Sequence[KeyPart]],
    show: Callable[[Row], T],
) -> Page[T]:
    """The page of `rows`, which were read with `page.fetch` as their limit."""
    visible = rows[: page.limit]
    more = len(rows) > page.limit
    return Page[T](
        data=[show(row) for row in visible],
        next_cursor=encode_cursor(key(visible[-1])) if more else None,
    )


def listed(request: Request, page: Page[T], model: type[T]) -> Page[T] | Response:
    """The page as the caller wants it: JSON, or CSV by `Accept: text/csv`.

    `model` names the columns, also of an empty page. In CSV the next page is in the Link header.
    Declare `response_model=Page[Model]` on the route.
    """
    if not wants_csv(request.headers.get("accept", "")):
        return page
    columns = [field.alias or name for name, field in model.model_fields.items()]
    rows = (item.model_dump(mode="json", by_alias=True) for item in page.data)
    headers = {}
    if page.next_cursor is not None:
        following = request.url.include_query_params(cursor=page.next_cursor)
        headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    return csv_response(columns, rows, headers=headers)


def wants_csv(accept: str) -> bool:
    """Whether an Accept header prefers text/csv to JSON."""
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
    return weights.get("text/csv", 0.0) > max(
        weights.get("application/json", 0.0), weights.get("application/*", 0.0)
    )


def csv_response(
    columns: Sequence[str],
    rows: Iterable[Mapping[str, object]],
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Rows as RFC 4180 CSV in UTF-8, harmless to open in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(csv_cell(column) for column in columns)
    for row in rows:
        writer.writerow(csv_cell(row.get(column)) for column in columns)
    return Response(
        text.getvalue(),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"Content-Disposition": "attachment", **(headers or {})},
    )


def csv_cell(value: object) -> str:
    """One cell. A text that a spreadsheet would run as a formula gets an apostrophe in front.

    Plain numbers keep their minus sign. Nested values are JSON text.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if text.lstrip(" ").startswith(_FORMULA_START) and not _NUMBER.fullmatch(text):
        return "'" + text
    return text


def _bad_cursor() -> Refused:
    msg = "Send a next_cursor of this list as it came, or none for the first page."
    return Refused("invalid-cursor", msg, status=400)
