"""Long arrays as statement parameters: PostgreSQL's own text form, made at the speed of JSON.

asyncpg writes an array element by element, and looks at the type of each: tables of many columns
spent more time there than in the database. Pass `array_text(column)` for `$1::text::bigint[]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

_encode = msgspec.json.Encoder(decimal_format="string").encode
_ESCAPE = re.compile(r"\\(u[0-9a-f]{4}|.)")
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def array_text(column: Sequence[object]) -> str:
    """A one-dimensional array of texts, whole numbers, decimals, dates and None (NULL).

    A JSON list of scalars is an array literal but for its brackets, and but for control
    characters, which PostgreSQL takes as they are and JSON escapes with a letter.
    """
    body = _encode(column)[1:-1].decode()
    if "\\" in body:
        body = _ESCAPE.sub(_plain, body)
    return "{" + body + "}"


def columns_of(rows: Iterable[Sequence[object]]) -> list[str]:
    """The columns of rows of one width, each as an array's text."""
    return [array_text(column) for column in zip(*rows, strict=True)]


def _plain(escape: re.Match[str]) -> str:
    said = escape[1]
    if len(said) > 1:
        return chr(int(said[1:], 16))
    return _CONTROLS.get(said, escape[0])
