"""Arrays as text: PostgreSQL reads back what was written, whatever characters there are."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import asyncpg
import pytest

from shared.db.arrays import array_text, columns_of

ODD = [
    "",
    "NULL",
    "null",
    None,
    '"',
    "\\",
    "\\n",
    '\\"',
    "{a,b}",
    " a b ",
    "'",
    "é€😀\u2028",
    "".join(map(chr, range(1, 128))),
    "\\" * 7 + "u0041",
]


async def test_texts_come_back_as_they_were(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        assert await connection.fetchval("SELECT $1::text::text[]", array_text(ODD)) == ODD
        assert await connection.fetchval("SELECT $1::text::text[]", array_text([])) == []
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("bigint", [0, -1, 2**63 - 1, -(2**63), None]),
        ("numeric", [Decimal("1E+3"), Decimal("-0.0000000001"), Decimal("12.50"), None]),
        ("date", [date(1, 1, 1), date(2026, 2, 28), date(9999, 12, 31), None]),
        ("timestamptz", [datetime(1970, 1, 1, tzinfo=UTC), None]),
    ],
)
async def test_other_values_too(postgres_url: str, kind: str, column: list[object]) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        found = await connection.fetchval(f"SELECT $1::text::{kind}[]", array_text(column))
        assert found == column
        if kind == "numeric":
            assert [str(n) for n in found[1:3]] == ["-1E-10", "12.50"]
    finally:
        await connection.close()


async def test_rows_become_columns(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        rows = await connection.fetch(
            "SELECT * FROM unnest($1::text::text[], $2::text::bigint[])",
            *columns_of([("a\n", 1), (None, 2)]),
        )
        assert [tuple(row) for row in rows] == [("a\n", 1), (None, 2)]
    finally:
        await connection.close()
