"""Statements as files, as proofs, and as they were shown on past days."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from openpyxl import load_workbook
from pypdf import PdfReader

from shared.clock import to_text
from shared.http.auth import Role
from shared.statement_checker import ALL_FOLLOWS, REFUSED, check, verify
from tests.integration.commissions.system import (
    System,
    deal,
    flat_plan,
    rows,
    running,
    won,
)

MakeDatabase = Callable[[], Awaitable[str]]
PREFIX = "crm:main:"
JANUARY = "/v1/statements/ana/flat/2025-01"
FEBRUARY = "/v1/statements/ana/flat/2025-02"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


async def read(system: System, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401
    async with system.client(Role.REP, person="ana") as ana:
        return await ana.get(path, **options)


async def begin(system: System) -> None:
    component = {**flat_plan()["components"][0], "quota": {"measure": "new", "period": "month"}}
    assert (await system.put_plan(flat_plan(components=[component]))).status_code == 201
    sent = {"payee": "ana", "plan": "flat", "from_": "2025-01-01", "quota": {"new": "4000"}}
    assert (await system.assign("ana-flat", **sent)).status_code == 201
    await system.send(
        [
            won(f"{PREFIX}=1+1", "2025-01-10T10:00:00Z", "1000.05", "ana"),
            won(f"{PREFIX}b", "2025-01-11T10:00:00Z", "2000", "ana"),
            won(f"{PREFIX}c", "2025-02-03T10:00:00Z", "700", "ana"),
        ]
    )
    await system.drain()


async def recorded(system: System) -> datetime:
    """An instant after everything that is recorded by now, by the database's clock."""
    found = await rows(system, "SELECT clock_timestamp() AS now")
    instant: datetime = found[0]["now"]
    return instant.astimezone(UTC)


async def test_each_form_has_the_same_numbers_and_the_same_bytes_again(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await begin(system)
        assert (await system.close("2025-01")).status_code == 200
        await system.send([deal(f"{PREFIX}b", "2025-02-01T10:00:00Z", amount="1500")])
        await system.drain()
        for path in (JANUARY, FEBRUARY):
            shown = (await read(system, path)).json()
            files = {
                form: await read(system, path, params={"format": form})
                for form in ("csv", "xlsx", "pdf")
            }
            for form, answer in files.items():
                assert answer.status_code == 200, answer.text
                period = shown["period"]
                assert (
                    f'"statement-ana-flat-{period}.{form}"'
                    in (answer.headers["content-disposition"])
                )
                again = await read(system, path, headers={"Accept": answer.headers["content-type"]})
                assert again.content == answer.content, form
            _same_csv(shown, files["csv"].text)
            _same_xlsx(shown, files["xlsx"].content)
            _same_pdf(shown, files["pdf"].content)
        assert shown["difference"] == "-50"
        refused = await read(system, JANUARY, headers={"Accept": "image/png"})
        assert refused.status_code == 406
        browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
        assert (await read(system, JANUARY, headers={"Accept": browser})).json()["own"] == "300.01"
        await _proofs(system, tmp_path)


def _same_csv(shown: dict[str, Any], text: str) -> None:
    found = list(csv.DictReader(io.StringIO(text)))
    lines = [row for row in found if row["section"] == "line"]
    assert [row["amount"] for row in lines] == [line["amount"] for line in shown["lines"]]
    totals = {row["name"]: row["amount"] for row in found if row["section"] == "total"}
    assert totals["Payable"] == shown["payable"]
    assert totals["Earned in the period"] == shown["own"]
    reached = [row["attainment"] for row in found if row["section"] == "attainment"]
    assert [Decimal(text) for text in reached] == [
        Decimal(entry["attainment"]) * 100 for entry in shown["attainment"]
    ]
    corrected = [row["recomputed"] for row in found if row["section"] == "correction"]
    assert corrected == [entry["recomputed"] for entry in shown["corrects"]]


def _same_xlsx(shown: dict[str, Any], content: bytes) -> None:
    book = load_workbook(io.BytesIO(content))
    lines = list(book["Lines"].iter_rows(min_row=2))
    amounts = [Decimal(str(row[5].value)) for row in lines]
    assert amounts == [Decimal(line["amount"]) for line in shown["lines"]]
    assert {row[5].data_type for row in lines} <= {"n"}
    assert [row[2].value for row in lines] == [line["deal"] for line in shown["lines"]]
    totals = {row[0].value: row[1].value for row in book["Totals"].iter_rows(min_row=2)}
    assert Decimal(str(totals["Payable"])) == Decimal(shown["payable"])
    cells = [cell for page in book for row in page.iter_rows() for cell in row]
    assert all(cell.data_type in {"s", "n"} for cell in cells), "no formulas"


def _same_pdf(shown: dict[str, Any], content: bytes) -> None:
    text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)
    for amount in [shown["payable"], shown["own"], *(line["amount"] for line in shown["lines"])]:
        assert amount in text
    assert shown["hash"] in text.replace("\n", "")
    for entry in shown["corrects"]:
        assert entry["recomputed"] in text


async def _proofs(system: System, folder: Path) -> None:
    """Open and closed statements check out, and one changed number does not."""
    for name, path in (("closed", JANUARY), ("open", FEBRUARY)):
        answer = await read(system, f"{path}/proof")
        assert answer.status_code == 200, answer.text
        file = folder / f"{name}.json"
        file.write_bytes(answer.content)
        assert check(answer.json()) == []
        assert verify([file]) == ALL_FOLLOWS
        changed = answer.json()
        changed["statement"]["payable"] = str(Decimal(changed["statement"]["payable"]) + 1)
        file.write_text(json.dumps(changed))
        assert verify([file]) == REFUSED
    shown = (await read(system, JANUARY)).json()
    proof = (await read(system, f"{JANUARY}/proof")).json()
    assert proof["statement"] == shown
    async with system.client(Role.REP, person="ben") as other:
        assert (await other.get(f"{JANUARY}/proof")).status_code == 404


async def test_every_past_moment_reads_as_it_was(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """A late event, a close, another late event, a reopening, a close: each moment as it was."""
    url = await database_factory()
    why = {"reason": "a deal was booked to the wrong month"}
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        moments: dict[str, datetime] = {"nothing": await recorded(system)}
        seen: dict[str, dict[str, Any]] = {}

        async def mark(name: str) -> None:
            await system.drain()
            seen[name] = (await read(system, JANUARY)).json()
            moments[name] = await recorded(system)

        await begin(system)
        await mark("open")
        await system.send([won(f"{PREFIX}late", "2025-01-20T10:00:00Z", "500", "ana")])
        await mark("late")
        assert (await system.close("2025-01")).status_code == 200
        await mark("closed")
        await system.send([deal(f"{PREFIX}b", "2025-02-01T10:00:00Z", deleted=True)])
        await mark("after")
        for person, what in (("fin-a", "reopen"), ("fin-b", "reopen/confirm")):
            async with system.client(Role.FINANCE, person=person) as finance:
                sent = why if what == "reopen" else None
                answer = await finance.post(f"/v1/periods/2025-01/{what}", json=sent)
                assert answer.status_code == 200, answer.text
        await mark("reopened")
        assert (await system.close("2025-01")).status_code == 200
        await mark("closed again")

        sources = {
            "open": "ledger",
            "late": "ledger",
            "closed": "close",
            "after": "close",
            "reopened": "ledger",
            "closed again": "close",
        }
        totals = {name: seen[name]["own"] for name in sources}
        assert list(totals.values()) == ["300.01", "350.01", "350.01", "350.01", "150.01", "150.01"]
        for name, source in sources.items():
            answer = await read(system, JANUARY, params={"as_of": to_text(moments[name])})
            assert answer.status_code == 200, (name, answer.text)
            found = answer.json()
            assert found["as_shown"]["source"] == source, name
            for figure in ("own", "payable", "held_pay", "difference", "carry_out"):
                assert found[figure] == seen[name][figure], (name, figure)
            wanted = sorted(_line(line) for line in seen[name]["lines"])
            assert sorted(_line(line) for line in found["lines"]) == wanted, name
            if source == "close":
                assert {**found, "as_shown": None} == {**seen[name], "as_shown": None}
            paper = {"as_of": to_text(moments[name]), "format": "pdf"}
            assert (await read(system, JANUARY, params=paper)).content.startswith(b"%PDF")
        assert seen["closed"] == seen["after"]
        await _refusals(system, moments)


def _line(line: dict[str, Any]) -> tuple[str, ...]:
    return tuple(line[name] for name in ("key", "kind", "component", "deal", "amount"))


async def _refusals(system: System, moments: dict[str, datetime]) -> None:
    early = await read(system, JANUARY, params={"as_of": to_text(moments["nothing"])})
    assert (early.status_code, early.json()["type"].rpartition(":")[2]) == (404, "not-posted-yet")
    assert "first posting" in early.json()["detail"]
    then = to_text(moments["open"])
    async with system.client(Role.REP, person="ben") as other:
        hidden = await other.get(JANUARY, params={"as_of": then})
        assert (hidden.status_code, hidden.json()["type"].rpartition(":")[2]) == (404, "not-found")
    never = await read(system, "/v1/statements/ana/flat/2024-01", params={"as_of": then})
    assert never.status_code == 404
    for params in (
        {"as_of": "2999-01-01T00:00:00Z"},
        {"as_of": then, "view": "recomputed"},
        {"as_of": "yesterday"},
    ):
        assert (await read(system, JANUARY, params=params)).status_code == 422


async def test_a_draw_balance_and_a_carry_read_as_they_were(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        draw = {"amount": "400", "recoverable": True, "from": "2025-01", "periods": 2}
        assert (await system.put_plan(flat_plan(draw=draw))).status_code == 201
        await system.assign("ana-flat", payee="ana", plan="flat", from_="2025-01-01")
        await system.send(
            [
                won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana"),
                won(f"{PREFIX}b", "2025-02-10T10:00:00Z", "6000", "ana"),
            ]
        )
        await system.drain()
        shown = (await read(system, FEBRUARY)).json()
        moment = await recorded(system)
        await system.send([deal(f"{PREFIX}a", "2025-02-01T10:00:00Z", amount="2000")])
        await system.drain()
        past = (await read(system, FEBRUARY, params={"as_of": to_text(moment)})).json()
        assert past["draw"]["balance_in"] == shown["draw"]["balance_in"] == "300"
        assert past["draw"]["balance_out"] == shown["draw"]["balance_out"]
        assert past["payable"] == shown["payable"]
        proof = (await read(system, f"{FEBRUARY}/proof")).json()
        assert check(proof) == []


async def test_a_replay_on_an_empty_database_gives_the_same_hashes(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """The same facts and decisions, the facts the other way round and twice: the same proofs."""
    told = [
        won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000.05", "ana"),
        deal(f"{PREFIX}a", "2025-01-12T10:00:00Z", splits={"ana": "2/3", "ben": "1/3"}),
        won(f"{PREFIX}b", "2025-01-11T10:00:00Z", "2000", "ana"),
        won(f"{PREFIX}c", "2025-02-03T10:00:00Z", "700", "ana"),
    ]
    late = [deal(f"{PREFIX}b", "2025-02-01T10:00:00Z", amount="1500")]
    proofs: list[list[dict[str, Any]]] = []
    for number, (before, after) in enumerate([(told, late), ([*told, *told][::-1], late * 2)]):
        url = await database_factory()
        async with running(url, kafka_bootstrap, f"{topic_prefix}{number}.") as system:
            assert (await system.put_plan(flat_plan())).status_code == 201
            for payee in ("ana", "ben"):
                await system.assign(f"{payee}-flat", payee=payee, plan="flat", from_="2025-01-01")
            await system.send(before)
            assert (await system.close("2025-01")).status_code == 200
            await system.send(after)
            await system.drain()
            found = [(await read(system, f"{path}/proof")).json() for path in (JANUARY, FEBRUARY)]
            proofs.append(found)
    assert [proof["statement"]["hash"] for proof in proofs[0]] == [
        proof["statement"]["hash"] for proof in proofs[1]
    ]
    assert [proof["digest"] for proof in proofs[0]] == [proof["digest"] for proof in proofs[1]]
    assert all(check(proof) == [] for proof in proofs[1])
