"""Pay runs: approved by a second person, the same bytes again, and nobody is paid twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest

from shared.http.auth import Role
from tests.integration.commissions.system import System, deal, fact, flat_plan, rows, running, won

MakeDatabase = Callable[[], Awaitable[str]]
PREFIX = "crm:main:"
JANUARY = {"through": "2025-01", "pay_date": "2025-02-05"}


def code(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition(":")[2]


async def ask(  # noqa: PLR0913 - a request, and whose
    system: System,
    method: str,
    path: str,
    body: object = None,
    *,
    person: str = "fin-a",
    role: Role = Role.FINANCE,
) -> httpx.Response:
    async with system.client(role, person=person) as caller:
        return await caller.request(method, f"/v1/payruns/{path}", json=body)


async def approve(system: System, pay_run: str, person: str = "fin-b") -> httpx.Response:
    shown = (await ask(system, "GET", pay_run)).json()
    return await ask(system, "POST", f"{pay_run}/approve", {"hash": shown["hash"]}, person=person)


async def balances(system: System, account: str) -> dict[str, Decimal]:
    found = await rows(
        system,
        "SELECT payee, sum(amount) AS amount FROM posting WHERE account = $1 GROUP BY payee "
        "HAVING sum(amount) <> 0",
        account,
    )
    return {row["payee"]: row["amount"] for row in found}


async def january(system: System) -> None:
    """Ana earned 100, Ben 50, Zoe nothing, and January is closed."""
    assert (await system.put_plan(flat_plan())).status_code == 201
    for payee in ("ana", "ben", "zoe"):
        answer = await system.assign(payee, payee=payee, plan="flat", from_="2025-01-01")
        assert answer.status_code == 201
    await system.send(
        [
            fact("person", "ana", "2025-01-01T00:00:00Z", {"name": "Ana"}),
            won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana"),
            won(f"{PREFIX}b", "2025-01-11T10:00:00Z", "500", "ben"),
        ]
    )
    assert (await system.close("2025-01")).status_code == 200
    await system.drain()


async def test_a_pay_run_from_the_close_to_the_bank_and_back(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await january(system)
        made = await ask(system, "PUT", "jan", JANUARY)
        assert made.status_code == 201, made.text
        assert made.json()["control"] == [{"currency": "USD", "lines": 2, "amount": "150"}]
        assert (await ask(system, "PUT", "jan", JANUARY)).status_code == 200
        assert code(await ask(system, "PUT", "jan", {**JANUARY, "pay_date": "2025-02-06"})) == (
            "pay-run-exists"
        )
        assert code(await ask(system, "PUT", "again", JANUARY)) == "nothing-to-pay"
        assert code(await ask(system, "GET", "jan/file")) == "pay-run-not-approved"
        assert code(await ask(system, "POST", "jan/paid", {"paid_on": "2025-02-05"})) == (
            "pay-run-state"
        )
        assert code(await approve(system, "jan", "fin-a")) == "same-person"
        assert code(await approve(system, "jan", "ana")) == "own-pay"
        stale = await ask(system, "POST", "jan/approve", {"hash": "other"}, person="fin-b")
        assert code(stale) == "pay-run-changed"
        assert (await approve(system, "jan")).json()["state"] == "approved"

        file = await ask(system, "GET", "jan/file")
        assert file.headers["content-type"].startswith("text/csv")
        assert [row.split(",")[2:7] for row in file.text.splitlines()[1:]] == [
            ["ana", "Ana", "flat", "2025-01", "100.00"],
            ["ben", "ben", "flat", "2025-01", "50.00"],
        ]
        assert (await balances(system, "payable")) == {"ana": Decimal(100), "ben": Decimal(50)}
        paid = await ask(system, "POST", "jan/paid", {"paid_on": "2025-02-05"})
        assert (paid.status_code, paid.json()["state"]) == (200, "paid")
        assert (await ask(system, "POST", "jan/paid", {"paid_on": "2025-02-05"})).is_success
        assert await balances(system, "payable") == {}
        assert await balances(system, "paid") == {"ana": Decimal(100), "ben": Decimal(50)}

        # A new name and a corrected deal change neither the file nor the closed statement.
        await system.send(
            [
                fact("person", "ana", "2025-02-01T00:00:00Z", {"name": "Ana Maria"}),
                deal(f"{PREFIX}a", "2025-02-02T00:00:00Z", amount="10"),
            ]
        )
        await system.drain()
        assert (await ask(system, "GET", "jan/file")).content == file.content
        assert code(await ask(system, "PUT", "again", JANUARY)) == "nothing-to-pay"

        gone = {"payee": "ben", "plan": "flat", "period": "2025-01", "reason": "account closed"}
        assert (await ask(system, "POST", "jan/returns", gone)).status_code == 200
        assert (await ask(system, "POST", "jan/returns", gone)).status_code == 404
        assert await balances(system, "payable") == {"ben": Decimal(50)}
        once_more = await ask(system, "PUT", "again", JANUARY)
        assert once_more.json()["control"] == [{"currency": "USD", "lines": 1, "amount": "50"}]
        assert (await ask(system, "GET", "jan/file")).content == file.content
        await the_books_and_the_journal(system)


async def the_books_and_the_journal(system: System) -> None:
    uneven = await rows(
        system,
        "SELECT transaction_id FROM posting GROUP BY transaction_id, currency "
        "HAVING sum(amount) <> 0",
    )
    assert uneven == []
    told = await rows(
        system,
        "SELECT convert_from(key, 'UTF8') AS subject, count(*) AS events FROM outbox "
        "WHERE key LIKE 'payrun/%'::bytea GROUP BY 1 ORDER BY 1",
    )
    assert {row["subject"]: row["events"] for row in told} == {
        "payrun/jan": 3,
        "payrun/jan/ana|flat|2025-01": 2,
        "payrun/jan/ben|flat|2025-01": 3,
        "payrun/again": 1,
        "payrun/again/ben|flat|2025-01": 1,
    }


async def test_of_runs_made_at_once_one_pays(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Eight runs for one month at the same time; then the database refuses what code would not."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await january(system)
        answers = await asyncio.gather(
            *(ask(system, "PUT", f"run-{number}", JANUARY) for number in range(8))
        )
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
        (winner,) = (answer.json()["id"] for answer in answers if answer.is_success)
        pool = system.parts.pool
        with pytest.raises(asyncpg.UniqueViolationError):
            await pool.execute(
                "WITH run AS (INSERT INTO pay_run SELECT 'twice', through, through_day, pay_date, "
                "template, parameters, employees, state, hash, control, made_by, made_at, "
                "approved_by, approved_at, paid_on, one_seat, revision FROM pay_run LIMIT 1) "
                "INSERT INTO pay_run_line SELECT 'twice', payee, plan_id, period, name, "
                "employee_number, amount, currency, plan_amount, plan_currency, statement_hash, "
                "state, reason FROM pay_run_line LIMIT 1"
            )
        for statement in (
            "UPDATE pay_run SET state = 'approved', approved_by = made_by",
            "UPDATE pay_run_line SET state = 'returned'",
        ):
            with pytest.raises(asyncpg.CheckViolationError):
                await pool.execute(statement)
        for statement in ("UPDATE pay_run_line SET amount = 1", "DELETE FROM pay_run_line"):
            with pytest.raises(asyncpg.RestrictViolationError):
                await pool.execute(statement)
        assert (await ask(system, "POST", f"{winner}/cancel")).json()["state"] == "cancelled"
        assert (await ask(system, "PUT", "next", JANUARY)).status_code == 201


async def test_who_may_do_what_and_what_is_refused(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await january(system)
        for role in set(Role) - {Role.FINANCE}:
            made = await ask(system, "PUT", "jan", JANUARY, person="x", role=role)
            assert made.status_code == 403
        for role in (Role.REP, Role.MANAGER, Role.SERVICE):
            assert (await ask(system, "GET", "jan", person="x", role=role)).status_code == 403
        assert code(await ask(system, "PUT", "feb", {**JANUARY, "through": "2025-02"})) == (
            "period-not-closed"
        )
        bad: list[dict[str, Any]] = [
            {**JANUARY, "template": "nonsense"},
            {**JANUARY, "template": "adp-paydata"},
            {**JANUARY, "template": "adp-paydata", "parameters": ADP},
            {**JANUARY, "through": "2025-13"},
            {"through": "2025-01"},
        ]
        for body in bad:
            assert (await ask(system, "PUT", "jan", body)).status_code == 422, body
        adp = {**JANUARY, "template": "adp-paydata", "parameters": ADP, "employees": "adp:ABC"}
        refused = await ask(system, "PUT", "jan", adp)
        assert code(refused) == "employee-number-missing"
        assert "ana, ben" in refused.json()["detail"]
        identities = [("ana", "7"), ("ben", "8")]
        await system.send(
            fact("person", p, "2025-01-02T00:00:00Z", {"identities": {f"adp:ABC:{number}": True}})
            for p, number in identities
        )
        await system.drain()
        assert (await ask(system, "PUT", "jan", adp)).status_code == 201
        await approve(system, "jan")
        assert (await ask(system, "GET", "jan/file")).text.splitlines()[1:] == [
            "ABC,jan,7,COM,100.00",
            "ABC,jan,8,COM,50.00",
        ]


ADP = {"company_code": "ABC", "earnings_code": "COM"}
