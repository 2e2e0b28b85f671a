"""Files of statements: harmless in a spreadsheet, exact, and the same bytes each time."""

from __future__ import annotations

import csv
import io
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook
from pypdf import PdfReader

from services.commissions.domain.lines import LineKind
from services.commissions.shown import named
from services.commissions.statement_files.render import (
    MAX_LINES,
    MEDIA_TYPES,
    FileFormat,
    file_name,
    file_of,
    format_wanted,
)
from services.commissions.statement_files.sheet import ONE_SEAT, SECTIONS, sheet_of
from services.commissions.statement_files.workbook import is_exact, xlsx_of
from shared.errors import Refused
from shared.money import to_text

FILES = [form for form in FileFormat if form is not FileFormat.JSON]


def line(number: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - fields
    return {
        "key": f"deal:d{number}/p/new/ana",
        "kind": "credit",
        "component": "new",
        "plan_version": "0" * 64,
        "deal": f"d{number}",
        "day": "2025-01-10",
        "credited": "100.5",
        "amount": f"{number}.05",
        **changes,
    }


def document(*lines: dict[str, Any], **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - fields
    return {
        "payee": "ana",
        "plan": "p",
        "period": "2025-01",
        "start": "2025-01-01",
        "end": "2025-02-01",
        "currency": "USD",
        "lines": list(lines),
        "attainment": [],
        "own": "10",
        "difference": "0",
        "corrects": [],
        "landed_before": "0",
        "carry_in": "0",
        "taken": "0",
        "carry_out": "0",
        "payable": "10",
        "payout": {"currency": "USD", "amount": "10", "rate": None},
        "held": [],
        "exceptions": [],
        "held_pay": "0",
        "draw": None,
        "hash": "f" * 64,
        **changes,
    }


FULL = document(
    line(1),
    line(2, kind="release", key="release:deal:d2/p/new/ana/cash", why="100 received so far"),
    line(3, kind="clawback", key="clawback:deal:d3/p/new/ana", amount="-3", why="Cancelled"),
    line(4, kind="adjustment", key="adjustment:a1", component=None, deal=None, day=None,
         credited=None, why="12 added, asked by cas, approved by fin: a promise"),
    attainment=[{"component": "new", "measure": "2025-Q1", "quota": "1000", "credited": "833.3",
                 "attainment": "0.8333"}],
    corrects=[{"period": "2024-12", "line": "deal:x/p/new/ana", "fixed": "5", "recomputed": "7.5"}],
    landed_before="1",
    draw={"amount": "400", "advance": "10", "recovered": "0", "balance_in": "5",
          "balance_out": "15"},
    held=[{"deal": "w", "amount": "9", "currency": "EUR"}],
    exceptions=[{"kind": "rate", "deal": "w", "component": "new", "payee": "ana",
                 "day": "2025-01-03", "message": "load a rate"}],
    one_seat=True,
    state="closed",
    closed_with="2025-01",
)  # fmt: skip


@pytest.mark.parametrize("form", FILES)
async def test_the_same_statement_gives_the_same_bytes(form: FileFormat) -> None:
    first = await file_of(FULL, form)
    time.sleep(1.1)  # noqa: ASYNC251 - a file dated by the clock would differ by now
    assert await file_of(FULL, form) == first


async def test_everything_of_a_statement_is_in_each_file() -> None:
    sheet = sheet_of(FULL)
    assert [section.title for section in SECTIONS if section.rows(sheet)] == [
        section.title for section in SECTIONS
    ]
    table = list(csv.DictReader(io.StringIO((await file_of(FULL, FileFormat.CSV)).decode())))
    said = {row["why"] for row in table}
    book = load_workbook(io.BytesIO(await file_of(FULL, FileFormat.XLSX)))
    cells = {str(cell.value) for page in book for row in page.iter_rows() for cell in row}
    pages = PdfReader(io.BytesIO(await file_of(FULL, FileFormat.PDF))).pages
    paper = " ".join(" ".join(page.extract_text() for page in pages).split())
    for text in ("100 received so far", "Cancelled", "load a rate", ONE_SEAT):
        assert text in said
        assert text in cells
        assert text in paper
    for number in ("7.5", "83.33", "400", "833.3", "-3"):
        assert number in {row[name] for row in table for name in row}
        assert number in cells
        assert number in paper
    changes = next(s for s in SECTIONS if s.title == "Since the last statement").rows(sheet)
    assert [row[4] for row in changes] == [
        Decimal("2.05"), Decimal(-3), Decimal("4.05"), Decimal("2.5"), Decimal(-1)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1+1", "@x", "\t=1", " =1"])
async def test_no_text_is_a_formula(name: str) -> None:
    nasty = document(line(1, deal=name, component=name, why=name, kind="hold"))
    found = list(csv.DictReader(io.StringIO((await file_of(nasty, FileFormat.CSV)).decode())))
    assert next(r["deal"] for r in found if r["section"] == "line") == f"'{name}"
    page = load_workbook(io.BytesIO(await file_of(nasty, FileFormat.XLSX)))["Lines"]
    cell = page.cell(2, 3)
    assert (cell.data_type, cell.value, cell.quotePrefix) == ("s", name, 1)


async def test_markup_of_the_typesetter_is_text() -> None:
    nasty = document(line(1, deal="#panic[*x*] $ \\ // <y>"))
    paper = PdfReader(io.BytesIO(await file_of(nasty, FileFormat.PDF))).pages[0].extract_text()
    assert "#panic[*x*]" in paper


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**20), 10**20), st.integers(0, 10))
def test_an_amount_is_a_number_only_where_none_of_its_digits_is_lost(
    units: int, decimals: int
) -> None:
    amount = Decimal(units).scaleb(-decimals)
    digits = len(to_text(abs(amount)).replace(".", "").lstrip("0"))
    assert is_exact(amount) == (digits <= 15)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-(10**17), 10**17), min_size=1, max_size=40))
def test_amounts_come_back_from_a_workbook_to_the_last_digit(units: list[int]) -> None:
    amounts = [Decimal(unit).scaleb(-3) for unit in units]
    lines = [line(n, amount=to_text(amount)) for n, amount in enumerate(amounts)]
    book = load_workbook(io.BytesIO(xlsx_of(sheet_of(document(*lines)))))
    found = [Decimal(str(row[5].value)) for row in book["Lines"].iter_rows(min_row=2)]
    assert found == amounts


@pytest.mark.parametrize(
    ("accept", "asked", "wanted"),
    [
        ("", None, "json"),
        ("*/*", None, "json"),
        ("text/html,*/*;q=0.8", None, "json"),
        ("text/csv", None, "csv"),
        ("application/pdf, application/json;q=0.5", None, "pdf"),
        ("application/*", None, "json"),
        ("text/*", None, "csv"),
        (MEDIA_TYPES[FileFormat.XLSX], None, "xlsx"),
        ("text/csv", FileFormat.PDF, "pdf"),
        ("application/json;q=0, application/*;q=0.2", None, "xlsx"),
    ],
)
def test_the_form_is_chosen_by_name_or_by_what_is_accepted(
    accept: str, asked: FileFormat | None, wanted: str
) -> None:
    assert format_wanted(accept, asked) == wanted


async def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(Refused, match="application/pdf"):
        format_wanted("image/png", None)
    long = document(*(line(n) for n in range(MAX_LINES[FileFormat.PDF] + 1)))
    with pytest.raises(Refused, match="JSON or CSV"):
        await file_of(long, FileFormat.PDF)


def test_a_file_name_is_harmless() -> None:
    of = document(payee='crm:main:"../é"', plan="a\nb")
    assert file_name(of, FileFormat.PDF) == "statement-crm_main_.._-a_b-2025-01.pdf"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("deal:hub:1:a~2/p/new/ana", (LineKind.CREDIT, "new", "hub:1:a")),
        ("invoice:i1/p/new/ana", (LineKind.CREDIT, "new", None)),
        ("release:deal:a/p/new/ana/pay:1", (LineKind.RELEASE, "new", "a")),
        ("component_cap:new/2025-01/2025-01/abc", (LineKind.COMPONENT_CAP, "new", None)),
        ("floor:new/2025-01", (LineKind.FLOOR, "new", None)),
        ("adjustment:a1", (LineKind.ADJUSTMENT, None, None)),
        ("plan_cap:p/2025-01", (LineKind.PLAN_CAP, None, None)),
    ],
)
def test_a_line_is_named_by_its_key(key: str, said: tuple[object, ...]) -> None:
    assert named(key, "p") == said
