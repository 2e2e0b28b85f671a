"""Paging, CSV and preconditions."""

from __future__ import annotations

import base64
import csv
import io

import pytest
from fastapi import FastAPI

from shared.errors import Refused
from shared.http.paging import csv_cell, decode_cursor, encode_cursor, wants_csv
from shared.http.preconditions import check_write, etag, unchanged
from tests.unit.http.conftest import client_of


async def test_pages_join_to_the_whole_list(app: FastAPI) -> None:
    seen: list[str] = []
    async with client_of(app) as client:
        cursor: str | None = None
        while True:
            query = {"limit": "50"} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/v1/lines", params=query)).json()
            seen += [row["name"] for row in page["data"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len((await client.get("/v1/lines")).json()["data"]) == 50
    assert seen == [f"=n{number}" for number in range(120)]


def _raw(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


TAMPERED = [
    "",
    "!!!",
    "é",
    "a" * 2_000,
    _raw(b"null"),
    _raw(b"{}"),
    _raw(b'["n1"]'),
    _raw(b'["n1", "2"]'),
    _raw(b'["n1", true]'),
    _raw(b'["n1", 1.5]'),
    _raw(b'["n1", NaN]'),
    _raw(b'["n1", 9223372036854775808]'),
    _raw(b'["n\\u0000", 1]'),
    _raw(b'["\\ud800", 1]'),
    _raw(b'["n1", 1, 2]'),
    _raw(b"[" * 700),
    _raw(b"\xff\xfe"),
    encode_cursor(["n1", 1])[:-2],
    encode_cursor(["n1", 1]) + "=A",
]


@pytest.mark.parametrize("cursor", TAMPERED)
async def test_a_tampered_cursor_is_refused(app: FastAPI, cursor: str) -> None:
    with pytest.raises(Refused):
        decode_cursor(cursor, (str, int))
    async with client_of(app) as client:
        response = await client.get("/v1/lines", params={"cursor": cursor})
    assert response.status_code == 400
    assert response.json()["type"] == "urn:attain:problem:invalid-cursor"


def test_a_cursor_carries_any_key() -> None:
    for key in [("a", 1), ("ü/~\U0001f600", -(2**62)), ("", 0)]:
        assert decode_cursor(encode_cursor(key), (str, int)) == key


async def test_a_list_as_csv_is_harmless_and_says_where_to_go_on(app: FastAPI) -> None:
    async with client_of(app) as client:
        response = await client.get("/v1/lines?limit=2", headers={"Accept": "text/csv"})
        link = response.headers["link"].partition(">")[0].removeprefix("<")
        second = await client.get(link, headers={"Accept": "text/csv"})
        past = await client.get(
            "/v1/lines",
            params={"cursor": encode_cursor(["z", 500])},
            headers={"Accept": "text/csv"},
        )
    rows = list(csv.reader(io.StringIO(response.text)))
    assert rows == [["name", "amount"], ["'=n0", "-0.5"], ["'=n1", "-1.5"]]
    assert response.headers["content-type"].startswith("text/csv")
    assert second.text.splitlines()[1] == "'=n2,-2.5"
    assert past.text.splitlines() == ["name,amount"]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30 1", "'+49 30 1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        (" =1", "' =1"),
        ("-12.50", "-12.50"),
        ("-", "'-"),
        ("plain", "plain"),
        (None, ""),
        (True, "true"),
        (-5, "-5"),
        ({"a": [1]}, '{"a": [1]}'),
    ],
)
def test_csv_cells(value: object, cell: str) -> None:
    assert csv_cell(value) == cell


@pytest.mark.parametrize(
    ("accept", "csv_wanted"),
    [
        ("text/csv", True),
        ("text/csv;q=0.5, application/json", False),
        ("text/csv, */*;q=0.1", True),
        ("*/*", False),
        ("", False),
        ("text/csv;q=abc", False),
    ],
)
def test_accept(accept: str, *, csv_wanted: bool) -> None:
    assert wants_csv(accept) is csv_wanted


@pytest.mark.parametrize(
    ("current", "if_match", "if_none_match", "status"),
    [
        (None, None, None, None),
        (None, None, "*", None),
        (None, '"1"', None, 412),
        (None, "*", None, 412),
        ('"1"', None, None, 428),
        ('"1"', '"1"', None, None),
        ('"1"', "*", None, None),
        ('"1"', '"0", "1"', None, None),
        ('"1"', '"2"', None, 412),
        ('"1"', 'W/"1"', None, 412),
        ('"1"', None, "*", 412),
    ],
)
def test_a_write_needs_the_version_that_was_read(
    current: str | None, if_match: str | None, if_none_match: str | None, status: int | None
) -> None:
    if status is None:
        check_write(current, if_match=if_match, if_none_match=if_none_match)
        return
    with pytest.raises(Refused) as refusal:
        check_write(current, if_match=if_match, if_none_match=if_none_match)
    assert refusal.value.status == status


def test_unchanged() -> None:
    assert etag(3) == '"3"'
    assert unchanged('"3"', 'W/"3"')
    assert not unchanged('"3"', '"4"')
    assert not unchanged('"3"', None)
