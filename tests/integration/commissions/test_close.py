"""Closing: two persons, nothing open, nothing lost, and a closed statement never changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest

from shared.http.auth import Role
from tests.integration.commissions.system import (
    System,
    deal,
    fact,
    flat_plan,
    quota_event,
    rows,
    running,
    won,
)

MakeDatabase = Callable[[], Awaitable[str]]
PREFIX = "crm:main:"


SELF_APPROVED = (
    "UPDATE period SET state = 'approved', approved_by = submitted_by, approved_at = now(), "
    "approved_hash = '' WHERE period = '2025-02'"
)
JUST_OPENED = (
    "UPDATE period SET state = 'open', submitted_by = NULL, submitted_at = NULL, "
    "approved_by = NULL, approved_at = NULL, approved_hash = NULL, closed_by = NULL, "
    "closed_at = NULL WHERE period = '2025-01'"
)
SELF_MADE = (
    "INSERT INTO period (period, start_day, end_day, state, submitted_by, submitted_at, "
    "approved_by, approved_at, approved_hash, closed_by, closed_at, revision) VALUES ('2025-03', "
    "'2025-03-01', '2025-04-01', 'closed', 'a', now(), 'a', now(), '', 'a', now(), 1)"
)


async def on_flat_plan(system: System, *payees: str, **changes: Any) -> None:  # noqa: ANN401
    assert (await system.put_plan(flat_plan(**changes))).status_code == 201
    for payee in payees:
        answer = await system.assign(f"{payee}-flat", payee=payee, plan="flat", from_="2025-01-01")
        assert answer.status_code == 201


async def post(
    system: System, person: str, period: str, what: str, body: object = None
) -> httpx.Response:
    async with system.client(Role.FINANCE, person=person) as finance:
        return await finance.post(f"/v1/periods/{period}/{what}", json=body)


async def figures(system: System, period: str) -> dict[str, str]:
    """What an approver says they saw."""
    async with system.client(Role.FINANCE, person="fin-b") as finance:
        return {"hash": (await finance.get(f"/v1/periods/{period}/checklist")).json()["hash"]}


def code(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition(":")[2]


async def test_late_events_leave_the_closed_statement_and_land_in_one_line(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await on_flat_plan(system, "ana", "ben")
        await system.send(
            [
                won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana"),
                won(f"{PREFIX}b", "2025-01-11T10:00:00Z", "2000", "ana"),
                won(f"{PREFIX}c", "2025-01-12T10:00:00Z", "500", "ben"),
            ]
        )
        # No draining: the close itself waits for facts on their way.
        closed = await system.close("2025-01")
        assert closed.status_code == 200, closed.text
        assert closed.json()["state"] == "closed"
        await system.drain()
        async with system.client(Role.AUDITOR) as auditor:
            paths = [
                "/v1/statements/ana/flat/2025-01",
                "/v1/statements/ana/flat/2025-01/explanation",
                "/v1/statements/ben/flat/2025-01",
            ]
            before = [(await auditor.get(path)).content for path in paths]
            await system.send(
                [
                    deal(f"{PREFIX}a", "2025-02-01T10:00:00Z", amount="400"),
                    deal(f"{PREFIX}b", "2025-02-01T11:00:00Z", amount="0"),
                    won(f"{PREFIX}late", "2025-01-20T10:00:00Z", "700", "ana"),
                    won(f"{PREFIX}next", "2025-02-05T10:00:00Z", "5000", "ana"),
                ]
            )
            await system.drain()
            assert [(await auditor.get(path)).content for path in paths] == before
            february = (await auditor.get("/v1/statements/ana/flat/2025-02")).json()
        assert february["own"] == "500"
        # 1 000 became 400, 2 000 nothing, 700 came: a tenth of -600 - 2 000 + 700.
        assert february["difference"] == "-190"
        assert february["payable"] == "310"
        assert {(c["period"], c["fixed"], c["recomputed"]) for c in february["corrects"]} == {
            ("2025-01", "100", "40"),
            ("2025-01", "200", "0"),
            ("2025-01", "0", "70"),
        }
        again = await system.statement("ana", "flat", "2025-01", view="recomputed")
        assert (again["own"], again["payable"]) == ("110", "300")
        posted = await rows(
            system,
            "SELECT period, sum(amount) AS amount FROM posting WHERE payee = 'ana' "
            "AND account = 'payable' GROUP BY period ORDER BY period",
        )
        assert [tuple(row) for row in posted] == [
            ("2025-01", Decimal(300)),
            ("2025-02", Decimal(310)),
        ]
        # The next close fixes the difference; nothing is left of it afterwards.
        assert (await system.close("2025-02")).status_code == 200
        await system.send([won(f"{PREFIX}m", "2025-03-05T10:00:00Z", "100", "ana")])
        await system.drain()
        march = await system.statement("ana", "flat", "2025-03")
        assert (march["difference"], march["payable"]) == ("0", "10")


async def test_a_difference_crosses_into_the_next_fiscal_year(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await on_flat_plan(system, "ana")
        await system.send(
            [
                won(f"{PREFIX}a", "2024-11-10T10:00:00Z", "999", "ana"),
                won(f"{PREFIX}b", "2025-12-11T10:00:00Z", "2000", "ana"),
            ]
        )
        assert (await system.close("2025-12")).status_code == 200
        await system.send([deal(f"{PREFIX}b", "2025-12-20T10:00:00Z", amount="1500")])
        await system.drain()
        january = await system.statement("ana", "flat", "2026-01")
        assert (january["difference"], january["carry_out"], january["payable"]) == (
            "-50",
            "-50",
            "0",
        )
        await system.send([won(f"{PREFIX}c", "2026-02-11T10:00:00Z", "3000", "ana")])
        await system.drain()
        february = await system.statement("ana", "flat", "2026-02")
        assert (february["carry_in"], february["payable"]) == ("-50", "250")


async def test_two_persons_close_a_period(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Who may do what: in the code, and as a constraint of the database itself."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await on_flat_plan(system, "ana", "fin-c")
        await system.send(
            [
                won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana"),
                won(f"{PREFIX}b", "2025-01-10T10:00:00Z", "1000", "fin-c"),
            ]
        )
        await system.drain()
        assert code(await post(system, "fin-b", "2025-01", "close")) == "period-not-submitted"
        for role in set(Role) - {Role.FINANCE}:
            async with system.client(role, person="x") as other:
                for what in ("submit", "close"):
                    assert (await other.post(f"/v1/periods/2025-01/{what}")).status_code == 403
        async with system.client(Role.FINANCE) as machine:
            assert (await machine.post("/v1/periods/2025-01/submit")).status_code == 403
        assert (await post(system, "fin-a", "2025-01", "submit")).json()["state"] == "reviewing"
        assert (await post(system, "fin-a", "2025-01", "submit")).status_code == 200
        assert code(await post(system, "fin-a", "2025-01", "close")) == "same-person"
        assert code(await post(system, "fin-c", "2025-01", "close")) == "own-pay"
        assert code(await post(system, "fin-b", "2025-02", "close")) == "period-not-submitted"
        assert (await post(system, "fin-a", "2025-02", "submit")).status_code == 200
        assert code(await post(system, "fin-b", "2025-02", "close")) == "earlier-period-open"
        assert (await post(system, "fin-b", "2025-01", "close")).status_code == 200
        assert code(await post(system, "fin-b", "2025-01", "close")) == "period-closed"
        assert code(await post(system, "fin-a", "2025-01", "submit")) == "period-closed"
        assert code(await post(system, "fin-a", "2999-01", "submit")) == "period-not-over"
        assert (await post(system, "fin-a", "2025-99", "submit")).status_code == 422
        pool = system.parts.pool
        for statement in (
            SELF_APPROVED,
            SELF_MADE,
            "UPDATE period SET state = 'closed' WHERE period = '2025-02'",
        ):
            with pytest.raises(asyncpg.CheckViolationError):
                await pool.execute(statement)
        for statement in (
            "UPDATE period SET closed_by = 'x' WHERE period = '2025-01'",
            "DELETE FROM period WHERE period = '2025-01'",
            "UPDATE closed_until SET day = '2024-01-01'",
            "DELETE FROM closed_until",
        ):
            with pytest.raises(asyncpg.RestrictViolationError):
                await pool.execute(statement)


async def test_what_was_approved_is_what_is_closed(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """An approval is of figures: others are neither approved nor closed by it."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await on_flat_plan(system, "ana", "fin-c")
        await system.send([won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana")])
        await system.drain()
        seen = await figures(system, "2025-01")
        assert code(await post(system, "fin-b", "2025-01", "approve", seen)) == (
            "period-not-submitted"
        )
        assert (await post(system, "fin-a", "2025-01", "submit")).status_code == 200
        await system.send([won(f"{PREFIX}c", "2025-01-10T10:00:00Z", "1000", "fin-c")])
        await system.drain()
        assert code(await post(system, "fin-b", "2025-01", "approve", seen)) == "period-changed"
        seen = await figures(system, "2025-01")
        assert code(await post(system, "fin-a", "2025-01", "approve", seen)) == "same-person"
        assert code(await post(system, "fin-c", "2025-01", "approve", seen)) == "own-pay"
        approved = await post(system, "fin-b", "2025-01", "approve", seen)
        assert (approved.json()["state"], approved.json()["approved_by"]) == ("approved", "fin-b")
        await system.send([won(f"{PREFIX}b", "2025-01-20T10:00:00Z", "500", "ana")])
        await system.drain()
        assert code(await post(system, "fin-b", "2025-01", "close")) == "period-changed"
        # Submitted by somebody else it has to be approved anew.
        assert (await post(system, "fin-d", "2025-01", "submit")).json()["approved_by"] is None
        seen = await figures(system, "2025-01")
        assert (await post(system, "fin-b", "2025-01", "approve", seen)).status_code == 200
        # What two persons agreed on, whoever of finance may carry out.
        closed = await post(system, "fin-d", "2025-01", "close")
        assert (closed.status_code, closed.json()["closed_by"]) == (200, "fin-d"), closed.text
        assert (await system.statement("ana", "flat", "2025-01"))["own"] == "150"


async def test_the_last_close_can_be_opened_again_by_two_persons(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """The correction lands where it belongs; what had been shown stays readable."""
    url = await database_factory()
    why = {"reason": "a deal was booked to the wrong month"}
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await on_flat_plan(system, "ana", "fin-c")
        await system.send(
            [
                won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana"),
                won(f"{PREFIX}c", "2025-02-10T10:00:00Z", "500", "fin-c"),
            ]
        )
        for period in ("2025-01", "2025-02"):
            assert (await system.close(period)).status_code == 200
        await system.send([deal(f"{PREFIX}a", "2025-03-01T10:00:00Z", amount="400")])
        await system.drain()
        confirm = "reopen/confirm"
        assert code(await post(system, "fin-b", "2025-02", confirm)) == "reopening-not-asked"
        assert code(await post(system, "fin-a", "2025-01", "reopen", why)) == "later-period-closed"
        assert code(await post(system, "fin-a", "2025-03", "reopen", why)) == "period-not-closed"
        assert (await post(system, "fin-a", "2025-02", "reopen", {"reason": ""})).status_code == 422
        assert (await post(system, "fin-a", "2025-02", "reopen", why)).json()["state"] == "closed"
        assert code(await post(system, "fin-a", "2025-02", confirm)) == "same-person"
        assert code(await post(system, "fin-c", "2025-02", confirm)) == "own-pay"
        for period in ("2025-02", "2025-01"):
            assert (await post(system, "fin-a", period, "reopen", why)).status_code == 200
            opened = await post(system, "fin-b", period, confirm)
            assert (opened.status_code, opened.json()["state"]) == (200, "open"), opened.text
        await system.drain()
        january = await system.statement("ana", "flat", "2025-01")
        assert (january["state"], january["own"], january["payable"]) == ("open", "40", "40")
        february = await system.statement("fin-c", "flat", "2025-02")
        assert (february["state"], february["difference"]) == ("open", "0")
        posted = await rows(
            system,
            "SELECT period, sum(amount) AS amount FROM posting WHERE account = 'payable' "
            "AND payee = 'ana' GROUP BY period HAVING sum(amount) <> 0 ORDER BY period",
        )
        assert [tuple(row) for row in posted] == [("2025-01", Decimal(40))]
        assert (await system.close("2025-01")).status_code == 200
        async with system.client(Role.REP, person="ana") as ana:
            found = (await ana.get("/v1/statements/ana/flat/2025-01/versions")).json()
        assert [(v["statement"]["own"], v["reopened_at"] is None) for v in found] == [
            ("100", False),
            ("40", True),
        ]
        async with system.client(Role.REP, person="fin-c") as other:
            assert (await other.get("/v1/statements/ana/flat/2025-01/versions")).json() == []


async def test_what_is_paid_is_not_opened_again(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await on_flat_plan(system, "ana")
        await system.send([won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana")])
        assert (await system.close("2025-01")).status_code == 200
        await system.drain()
        async with system.client(Role.FINANCE, person="fin-a") as finance:
            run = {"through": "2025-01", "pay_date": "2025-02-05"}
            assert (await finance.put("/v1/payruns/jan", json=run)).status_code == 201
            why = {"reason": "a mistake"}
            refused = await finance.post("/v1/periods/2025-01/reopen", json=why)
            assert code(refused) == "period-paid"
            assert (await finance.post("/v1/payruns/jan/cancel")).status_code == 200
            assert (await finance.post("/v1/periods/2025-01/reopen", json=why)).status_code == 200
        pool = system.parts.pool
        for statement in (
            JUST_OPENED,
            "DELETE FROM fixed_statement",
            "UPDATE closed_until SET day = '0001-01-01'",
        ):
            with pytest.raises(asyncpg.RestrictViolationError):
                await pool.execute(statement)
        with pytest.raises(asyncpg.CheckViolationError):
            await pool.execute("UPDATE reopening SET confirmed_by = asked_by, confirmed_at = now()")


async def test_one_person_alone_may_close_and_it_shows(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, one_seat=True) as system:
        await on_flat_plan(system, "solo")
        await system.send([won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "solo")])
        assert (await post(system, "solo", "2025-01", "submit")).status_code == 200
        closed = await post(system, "solo", "2025-01", "close")
        assert (closed.status_code, closed.json()["one_seat"]) == (200, True)
        assert (await system.statement("solo", "flat", "2025-01"))["one_seat"] is True


async def test_the_database_keeps_the_books(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Straight in SQL: no posting to a closed period, none uneven, none changed or removed."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await on_flat_plan(system, "ana")
        await system.send([won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana")])
        assert (await system.close("2025-01")).status_code == 200

        async def book(period_end: date, *amounts: str) -> None:
            async with system.parts.pool.acquire() as tx, tx.transaction():
                await tx.execute(
                    "INSERT INTO ledger_transaction (id, payee, plan_id, number, actor, plan_hash, "
                    "event_ids) VALUES ('t', 'ana', 'flat', 99, 'me', '', '[]')"
                )
                if amounts:
                    await tx.execute(
                        "INSERT INTO posting SELECT 't', n, 'earned', 'ana', 'flat', 'x', $1, $1, "
                        "'k', 'USD', a FROM unnest($2::numeric[]) WITH ORDINALITY AS u(a, n)",
                        period_end,
                        [Decimal(amount) for amount in amounts],
                    )

        with pytest.raises(asyncpg.RestrictViolationError, match="is closed"):
            await book(date(2025, 2, 1), "5", "-5")
        for amounts in (("5", "-4"), ("NaN", "-5"), ("Infinity", "-Infinity"), ("0", "0"), ()):
            with pytest.raises(asyncpg.CheckViolationError):
                await book(date(2025, 3, 1), *amounts)
        for table in ("posting", "ledger_transaction", "fixed_statement", "plan_version"):
            for statement in (f"TRUNCATE {table} CASCADE", "DELETE FROM " + table):  # noqa: S608 - fixed
                with pytest.raises(asyncpg.RestrictViolationError):
                    await system.parts.pool.execute(statement)
        with pytest.raises(asyncpg.RestrictViolationError):
            await system.parts.pool.execute("UPDATE posting SET amount = 1")
        with pytest.raises(asyncpg.RestrictViolationError):
            await system.parts.pool.execute("UPDATE fixed_statement SET payable = 1")


async def test_a_close_is_refused_while_something_is_open(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Each open matter is listed with what to do; once it is done, the period closes."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        await on_flat_plan(system, "ana", fx={"credit": {"table": "plan", "date": "credit"}})
        at = "2025-01-10T10:00:00Z"
        await system.send(
            [
                won(f"{PREFIX}rate", at, "10", "ana", currency="EUR"),
                won(f"{PREFIX}owner", at, "10", None),
                won(f"{PREFIX}splits", at, "10", "ana", splits={"ana": "99%"}),
                won(f"{PREFIX}nobody", at, "10", "zoe"),
                won(f"{PREFIX}later", "2025-02-10T10:00:00Z", "10", "zoe"),
            ]
        )
        await system.send_raw("crm.deals", f"deal/{PREFIX}bad", b"{not json")
        await system.drain()
        refused = await system.close("2025-01")
        assert (refused.status_code, code(refused)) == (409, "period-has-open-items")
        kinds = {
            ("rate", f"{PREFIX}rate"),
            ("owner", f"{PREFIX}owner"),
            ("splits", f"{PREFIX}splits"),
            ("unassigned", f"{PREFIX}nobody"),
            ("dead_letter", f"{PREFIX}bad"),
        }
        assert {error["pointer"] for error in refused.json()["errors"]} == {
            f"#{kind}/{subject}" for kind, subject in kinds
        }
        async with system.client(Role.FINANCE) as finance:
            listed = (await finance.get("/v1/periods/2025-01/checklist")).json()
        assert not listed["ready"]
        assert {(item["kind"], item["deal"]) for item in listed["items"]} == kinds
        assert all(len(item["message"]) > 20 for item in listed["items"])
        row = {"table": "plan", "from": "EUR", "to": "USD", "day": "2025-01-01", "rate": "1.1"}
        await system.send(
            [
                fact("rate", "plan:EUR:USD:2025-01-01", at, row),
                deal(f"{PREFIX}owner", "2025-01-11T10:00:00Z", owner="ana"),
                deal(f"{PREFIX}splits", "2025-01-10T10:00:00Z", 9, splits={"ana": "100%"}),
            ]
        )
        assert (
            await system.assign("zoe-flat", payee="zoe", plan="flat", from_="2025-01-01")
        ).status_code == 201
        async with system.client(Role.ADMIN, person="root") as admin:
            letters = (await admin.get("/v1/dead-letters")).json()["data"]
            path = f"/v1/dead-letters/{letters[0]['id']}/discard"
            assert (await admin.post(path, json={"reason": "no"})).status_code == 422
            assert (await admin.post(path, json={"reason": "a broken test"})).status_code == 204
            assert (await admin.post(path, json={"reason": "a broken test"})).status_code == 409
        closed = await post(system, "fin-b", "2025-01", "close")
        assert closed.status_code == 200, closed.text
        assert (await system.statement("ana", "flat", "2025-01"))["own"] == "3.1"


async def test_a_close_waits_for_the_consumer_and_says_so(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Facts that are in the log and not yet read keep a period open."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, close_wait_s=1.0) as system:
        await on_flat_plan(system, "ana")
        await system.drain()
        for worker in system.workers:
            await worker.end()
        system.workers.clear()
        await system.send([won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana")])
        await system.send([quota_event("q", 1, QUOTA)])
        answer = await system.close("2025-01")
        assert (answer.status_code, code(answer)) == (503, "close-not-ready")
        assert answer.headers["retry-after"]
        await asyncio.sleep(0)


QUOTA = {
    "person": "ana",
    "measure": "bookings",
    "period": "2025-01",
    "start": "2025-01-01",
    "end": "2025-02-01",
    "amount": "1",
}
