"""Adjustments, overrides and disputes: two persons, through closes, rebuilds and corrections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from services.commissions.rebuild import rebuild_all
from shared.events.catalogue import COMMISSIONS_JOURNAL
from shared.http.auth import Role
from shared.ids import derived_id
from tests.integration.commissions.system import (
    System,
    deal,
    fact,
    flat_plan,
    rows,
    running,
    won,
)

MakeDatabase = Callable[[], Awaitable[str]]
PREFIX = "crm:main:"
WHY = {"reason": "agreed by phone on Friday"}
ADJUSTMENT = {"payee": "ana", "plan": "flat", "period": "2025-01", "amount": "250", **WHY}
OVERRIDE = {
    "payee": "ana",
    "plan": "flat",
    "component": "new",
    "rate": "5%",
    "from": "2025-01-01",
    "until": "2025-02-10",
    **WHY,
}
LINE = f"deal:{PREFIX}a/flat/new/ana"


def code(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition(":")[2]


class Asker:
    """Somebody who asks; each request with a key of its own."""

    def __init__(self, system: System, role: Role, person: str) -> None:
        self.system, self.role, self.person = system, role, person
        self.asked = 0

    async def get(self, path: str, **params: str) -> httpx.Response:
        async with self.system.client(self.role, person=self.person) as caller:
            return await caller.get(f"/v1/{path}", params=params)

    async def post(self, path: str, body: object = None, key: str = "") -> httpx.Response:
        self.asked += 1
        headers = {"Idempotency-Key": key or f"{self.person}-{self.asked}"}
        async with self.system.client(self.role, person=self.person) as caller:
            return await caller.post(f"/v1/{path}", json=body, headers=headers)

    async def made(self, path: str, body: object) -> str:
        """The id of what is created."""
        answer = await self.post(path, body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])


class People:
    """The company: ana and ben report to mia; fin and fay are of finance."""

    def __init__(self, system: System) -> None:
        self.ana = Asker(system, Role.REP, "ana")
        self.ben = Asker(system, Role.REP, "ben")
        self.mia = Asker(system, Role.MANAGER, "mia")
        self.moe = Asker(system, Role.MANAGER, "moe")
        self.fin = Asker(system, Role.FINANCE, "fin")
        self.fay = Asker(system, Role.FINANCE, "fay")
        self.cora = Asker(system, Role.COMP_ADMIN, "cora")
        self.aud = Asker(system, Role.AUDITOR, "aud")


async def company(system: System, *payees: str) -> People:
    assert (await system.put_plan(flat_plan())).status_code == 201
    for payee in payees:
        answer = await system.assign(f"{payee}-flat", payee=payee, plan="flat", from_="2025-01-01")
        assert answer.status_code == 201
    since = "2025-01-01T00:00:00Z"
    below = {"effective_from": "2024-01-01", "manager": "mia"}
    await system.send([fact("person", person, since, below) for person in ("ana", "ben")])
    await system.send([won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana")])
    await system.drain()
    return People(system)


async def approved(people: People, what: str, body: object) -> str:
    """Asked by mia, approved by fin."""
    identity = await people.mia.made(what, body)
    answer = await people.fin.post(f"{what}/{identity}/approve")
    assert answer.status_code == 200, answer.text
    return identity


def kinds(statement: dict[str, Any]) -> list[tuple[str, str]]:
    return [(line["kind"], line["amount"]) for line in statement["lines"]]


async def test_an_adjustment_from_its_proposal_through_the_close(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        people = await company(system, "ana", "ben", "fin")
        # Who may ask: managers for whom they see, finance and compensation; never a rep.
        assert (await people.ana.post("adjustments", ADJUSTMENT)).status_code == 403
        assert (await people.aud.post("adjustments", ADJUSTMENT)).status_code == 403
        assert (await people.moe.post("adjustments", ADJUSTMENT)).status_code == 404
        for wrong, status in (
            ({"amount": "0"}, 422),
            ({"amount": "0.005"}, 422),
            ({"period": "2025-Q1"}, 422),
            ({"period": "2999-12"}, 422),
            ({"plan": "other"}, 409),
            ({"payee": "zoe"}, 409),
            ({"dispute": "nothing"}, 409),
        ):
            answer = await people.fin.post("adjustments", {**ADJUSTMENT, **wrong})
            assert answer.status_code == status, (wrong, answer.text)
        await _only_a_second_person_decides(people)
        first = await people.mia.post("adjustments", ADJUSTMENT, key="one")
        assert (await people.mia.post("adjustments", ADJUSTMENT, key="one")).json() == first.json()
        identity = first.json()["id"]
        one = f"adjustments/{identity}"
        await system.drain()
        assert (await system.statement("ana", "flat", "2025-01"))["own"] == "100"
        assert (await people.mia.post(f"{one}/approve")).status_code == 403
        done = await people.fin.post(f"{one}/approve")
        assert (done.json()["state"], done.json()["decided_by"]) == ("approved", "fin")
        assert (await people.fin.post(f"{one}/approve")).json() == done.json()
        assert code(await people.mia.post(f"{one}/withdraw")) == "not-proposed"
        await system.drain()
        statement = await system.statement("ana", "flat", "2025-01")
        assert kinds(statement) == [("credit", "100"), ("adjustment", "250")]
        line = (
            await people.ana.get(
                f"statements/ana/flat/2025-01/lines/adjustment:{identity}/explanation"
            )
        ).json()
        assert (line["adjustment"]["asked_by"], line["adjustment"]["approved_by"]) == ("mia", "fin")
        await _each_sees_their_own(people, identity)
        # It survives what changes beside it, a close, and a rebuild.
        lonely = await approved(people, "adjustments", {**ADJUSTMENT, "payee": "ben"})
        await system.send([deal(f"{PREFIX}a", "2025-01-20T10:00:00Z", amount="3000")])
        await system.drain()
        statement = await system.statement("ana", "flat", "2025-01")
        assert kinds(statement) == [("credit", "300"), ("adjustment", "250")]
        before = await system.dump()
        await rebuild_all(system.settings)
        assert await system.dump() == before
        assert (await system.close("2025-01")).status_code == 200
        await system.drain()
        again = await system.statement("ana", "flat", "2025-01", view="recomputed")
        assert again["own"] == "550"
        await system.send([won(f"{PREFIX}b", "2025-02-10T10:00:00Z", "100", "ana")])
        await system.drain()
        february = await system.statement("ana", "flat", "2025-02")
        assert (february["difference"], february["payable"]) == ("0", "10")
        assert (await system.statement("ben", "flat", "2025-01"))["payable"] == "250"
        assert lonely in str(await system.statement("ben", "flat", "2025-01"))
        # What is closed is not adjusted; the refusal names the first open period.
        late = await people.mia.made("adjustments", ADJUSTMENT)
        refused = await people.fin.post(f"adjustments/{late}/approve")
        assert code(refused) == "period-closed"
        assert "2025-02" in refused.json()["detail"]
        await _journal_tells(system, identity)


async def _only_a_second_person_decides(people: People) -> None:
    """And never about own pay; whoever asked may withdraw."""
    mine = await people.fin.made("adjustments", ADJUSTMENT)
    assert code(await people.fin.post(f"adjustments/{mine}/approve")) == "same-person"
    assert code(await people.mia.post(f"adjustments/{mine}/withdraw")) == "asked-by-another"
    assert (await people.fin.post(f"adjustments/{mine}/withdraw")).status_code == 200
    assert code(await people.fay.post(f"adjustments/{mine}/approve")) == "not-proposed"
    own = await people.fay.made("adjustments", {**ADJUSTMENT, "payee": "fin"})
    assert code(await people.fin.post(f"adjustments/{own}/approve")) == "own-pay"
    assert (await people.cora.post(f"adjustments/{own}/reject", WHY)).status_code == 200


async def _each_sees_their_own(people: People, identity: str) -> None:
    assert (await people.ana.get(f"adjustments/{identity}")).json()["amount"] == "250"
    assert (await people.ben.get(f"adjustments/{identity}")).status_code == 404
    assert (await people.ben.get("adjustments")).json()["data"] == []
    shown = (await people.ana.get("adjustments", state="approved")).json()["data"]
    assert [entry["id"] for entry in shown] == [identity]


async def journal(system: System, subject: str, at_least: int) -> list[dict[str, Any]]:
    """What the journal tells of a subject, in order."""
    consumer = AIOKafkaConsumer(
        system.settings.topic_prefix + COMMISSIONS_JOURNAL,
        bootstrap_servers=system.settings.kafka_bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    found: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(30):
            async for record in consumer:
                event = msgspec.json.decode(record.value)
                if event["subject"] == subject:
                    found.append(event["data"])
                if len(found) == at_least:
                    return found
    finally:
        await consumer.stop()
    return found


async def _journal_tells(system: System, identity: str) -> None:
    """Each state whole, and the posting names the event that approved it."""
    subject = f"adjustment/{identity}"
    told = await journal(system, subject, 2)
    assert [(e["state"], e["revision"], e["actor"]) for e in told] == [
        ("proposed", 1, "mia"),
        ("approved", 2, "fin"),
    ]
    assert told[1]["reason"] == WHY["reason"]
    posted = await rows(
        system,
        "SELECT DISTINCT t.event_ids::text AS events FROM posting p "
        "JOIN ledger_transaction t ON t.id = p.transaction_id WHERE p.line_key = $1",
        f"adjustment:{identity}",
    )
    approval = derived_id("attain.adjustment.v1", subject, "2")
    assert [msgspec.json.decode(row["events"]) for row in posted] == [[approval]]


async def test_an_override_survives_corrections_and_expires(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        people = await company(system, "ana", "fin")
        for wrong, status in (
            ({"rate": None}, 422),
            ({"amount": "5"}, 422),
            ({"rate": None, "amount": "5"}, 422),
            ({"until": "2024-12-31"}, 422),
            ({"until": "2035-12-31"}, 422),
            ({"until": None}, 422),
            ({"component": "other"}, 409),
        ):
            answer = await people.fin.post("overrides", {**OVERRIDE, **wrong})
            assert answer.status_code == status, (wrong, answer.text)
        identity = await people.mia.made("overrides", OVERRIDE)
        one = f"overrides/{identity}"
        mine = await people.fin.made("overrides", OVERRIDE)
        assert code(await people.fin.post(f"overrides/{mine}/approve")) == "same-person"
        own = await people.fay.made("overrides", {**OVERRIDE, "payee": "fin"})
        assert code(await people.fin.post(f"overrides/{own}/approve")) == "own-pay"
        assert (await people.fin.post(f"{one}/approve")).status_code == 200
        assert code(await people.fay.post(f"overrides/{mine}/approve")) == "override-overlaps"
        # One of a deal goes before one of the component, so it is no second one.
        of_deal = {**OVERRIDE, "deal": f"{PREFIX}b", "rate": None, "amount": "7"}
        await approved(people, "overrides", of_deal)
        await system.send(
            [
                deal(f"{PREFIX}a", "2025-01-20T10:00:00Z", amount="3000"),
                won(f"{PREFIX}b", "2025-02-10T10:00:00Z", "100", "ana"),
                won(f"{PREFIX}c", "2025-02-11T10:00:00Z", "100", "ana"),
            ]
        )
        await system.drain()
        january = await system.statement("ana", "flat", "2025-01")
        assert kinds(january) == [("credit", "300"), ("override", "-150")]
        february = await system.statement("ana", "flat", "2025-02")
        assert kinds(february) == [("credit", "10"), ("override", "-3"), ("credit", "10")]
        before = await system.dump()
        await rebuild_all(system.settings)
        assert await system.dump() == before
        for left in (mine, own):
            assert (await people.cora.post(f"overrides/{left}/reject", WHY)).status_code == 200
        assert (await system.close("2025-01")).status_code == 200
        await system.drain()
        # It does not begin in what is closed, and does not end there either.
        late = await people.mia.made("overrides", {**OVERRIDE, "deal": f"{PREFIX}c"})
        refused = await people.fin.post(f"overrides/{late}/approve")
        assert (code(refused), "2025-02-01" in refused.json()["detail"]) == ("period-closed", True)
        end = {"until": "2025-01-20", **WHY}
        assert code(await people.mia.post(f"{one}/end", end)) == "period-closed"
        end = {"until": "2025-02-10", **WHY}
        assert code(await people.mia.post(f"{one}/end", end)) == "ends-no-earlier"
        await _ends_earlier(system, people, one)


async def _ends_earlier(system: System, people: People, one: str) -> None:
    """Agreed on by two persons; from then on the plan's own terms hold again."""
    await system.send([won(f"{PREFIX}d", "2025-02-05T10:00:00Z", "100", "ana")])
    await system.drain()
    assert (await system.statement("ana", "flat", "2025-02"))["own"] == "22"
    end = {"until": "2025-01-31", **WHY}
    asked = await people.fin.post(f"{one}/end", end)
    assert asked.json()["ending"]["decided_by"] is None
    assert code(await people.fin.post(f"{one}/approve")) == "same-person"
    assert (await people.fay.post(f"{one}/reject", WHY)).json()["ending"] is None
    assert (await people.mia.post(f"{one}/end", end)).status_code == 200
    ended = await people.fin.post(f"{one}/approve")
    assert (ended.json()["until"], ended.json()["state"]) == ("2025-01-31", "approved")
    await system.drain()
    assert (await system.statement("ana", "flat", "2025-02"))["own"] == "27"
    january = await system.statement("ana", "flat", "2025-01", view="recomputed")
    assert january["own"] == "150"


async def test_a_dispute_keeps_a_period_open_until_it_is_resolved(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        people = await company(system, "ana", "ben", "fin")
        wrong = {"payee": "ana", "plan": "flat", "period": "2025-01", "text": "half is missing"}
        about = {**wrong, "line": LINE}
        assert (await people.ben.post("disputes", about)).status_code == 404
        assert (await people.moe.post("disputes", about)).status_code == 404
        assert (await people.ana.post("disputes", {**about, "line": "none"})).status_code == 404
        raised = await people.ana.post("disputes", about, key="one")
        assert raised.status_code == 201, raised.text
        assert (await people.ana.post("disputes", about, key="one")).json() == raised.json()
        shown = raised.json()
        identity = shown["id"]
        statement = await system.statement("ana", "flat", "2025-01")
        assert (shown["state"], shown["amount"]) == ("open", "100")
        assert shown["statement_hash"] == statement["hash"]
        assert shown["explanation"]["key"] == LINE
        # What it was raised on stays as it was shown.
        await system.send([deal(f"{PREFIX}a", "2025-01-20T10:00:00Z", amount="1500")])
        await system.drain()
        one = f"disputes/{identity}"
        assert (await people.mia.get(one)).json()["explanation"] == shown["explanation"]
        assert (await people.ben.get(one)).status_code == 404
        missing = await people.mia.made("disputes", {**wrong, "deal": f"{PREFIX}x"})
        await _blocks_the_close(system, people, 2)
        await _is_answered(system, people, one)
        await _is_resolved(people, one, identity)
        assert code(await people.fin.post(f"disputes/{missing}/withdraw")) == "raised-by-another"
        assert (await people.mia.post(f"disputes/{missing}/withdraw")).status_code == 200
        await system.drain()
        assert (await system.close("2025-01")).status_code == 200
        await system.drain()
        closed = await system.statement("ana", "flat", "2025-01")
        assert kinds(closed)[0] == ("credit", "150")
        assert closed["own"] == "650"
        again = await system.statement("ana", "flat", "2025-01", view="recomputed")
        assert (again["own"], again["payable"]) == ("650", "650")
        await _after_the_close(system, people, about, closed)


async def _is_resolved(people: People, one: str, identity: str) -> None:
    """By a second person, whose pay it is not, with what it led to."""
    accepted = {"outcome": "accepted", **WHY}
    rejected = {"outcome": "rejected", **WHY}
    assert (await people.mia.post(f"{one}/resolve", rejected)).status_code == 403
    assert (await people.fin.post(f"{one}/resolve", accepted)).status_code == 422
    stray = await approved(people, "adjustments", ADJUSTMENT)
    named = {**accepted, "adjustments": [stray]}
    assert code(await people.fin.post(f"{one}/resolve", named)) == "not-of-this-dispute"
    follows = await people.mia.made("adjustments", {**ADJUSTMENT, "dispute": identity})
    named = {**accepted, "adjustments": [follows]}
    assert code(await people.fin.post(f"{one}/resolve", named)) == "not-of-this-dispute"
    assert (await people.fin.post(f"adjustments/{follows}/approve")).status_code == 200
    resolved = await people.fin.post(f"{one}/resolve", named)
    assert (resolved.json()["state"], resolved.json()["outcome"]) == ("resolved", "accepted")
    assert resolved.json()["adjustments"] == [follows]
    linked = (await people.ana.get("adjustments", dispute=identity)).json()["data"]
    assert [(entry["id"], entry["dispute"]) for entry in linked] == [(follows, identity)]
    assert code(await people.ana.post(f"{one}/comments", {"text": "thanks"})) == (
        "dispute-resolved"
    )


async def _after_the_close(
    system: System, people: People, about: dict[str, Any], closed: dict[str, Any]
) -> None:
    """About what is closed one may go on disputing; it holds up no later close."""
    rejected = {"outcome": "rejected", **WHY}
    after = await people.ana.post("disputes", about)
    assert (after.json()["statement_hash"], after.json()["amount"]) == (closed["hash"], "150")
    assert (await system.close("2025-02")).status_code == 200
    own = await people.fay.made("disputes", {**about, "line": None, "payee": "fin"})
    assert code(await people.fin.post(f"disputes/{own}/resolve", rejected)) == "own-pay"
    assert code(await people.fay.post(f"disputes/{own}/resolve", rejected)) == "same-person"
    assert (await people.cora.post(f"disputes/{own}/resolve", rejected)).status_code == 200


async def _blocks_the_close(system: System, people: People, disputes: int) -> None:
    listed = (await people.fin.get("periods/2025-01/checklist")).json()
    items = [item for item in listed["items"] if item["kind"] == "dispute"]
    assert len(items) == disputes
    assert all("/v1/disputes/" in item["message"] for item in items)
    refused = await system.close("2025-01")
    assert (refused.status_code, code(refused)) == (409, "period-has-open-items")


async def _is_answered(system: System, people: People, one: str) -> None:
    """An answer stops the clock; what the rep says after it starts it again."""
    await system.parts.pool.execute("UPDATE dispute SET due_on = '2025-01-31'")
    late = (await people.ana.get("disputes", overdue="true", state="open")).json()["data"]
    assert len(late) == 2
    assert (await people.aud.post(f"{one}/comments", {"text": "hm..."})).status_code == 403
    answer = await people.fin.post(f"{one}/comments", {"text": "we look into it"})
    assert (answer.json()["state"], answer.json()["overdue"]) == ("answered", False)
    again = (await people.ana.post(f"{one}/comments", {"text": "the split was 50:50"})).json()
    assert again["state"] == "open"
    assert date.fromisoformat(again["due"]) > date.fromisoformat(again["raised_at"][:10])
    assert [(c["person"], c["text"]) for c in again["comments"]] == [
        ("fin", "we look into it"),
        ("ana", "the split was 50:50"),
    ]
    assert len((await people.fin.get("disputes", overdue="true")).json()["data"]) == 1


SELF_APPROVED = (
    "UPDATE {table} SET state = 'approved', decided_by = asked_by, decided_at = now() "
    "WHERE {table}_id = $1"
)
OWN_PAY = (
    "UPDATE {table} SET state = 'approved', decided_by = payee, decided_at = now() "
    "WHERE {table}_id = $1"
)


async def test_the_database_itself_refuses_a_maker_who_checks(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        people = await company(system, "ana")
        pool = system.parts.pool
        for table, body in (("adjustment", ADJUSTMENT), ("override", OVERRIDE)):
            identity = await people.mia.made(f"{table}s", body)
            for statement in (SELF_APPROVED, OWN_PAY):
                with pytest.raises(asyncpg.CheckViolationError):
                    await pool.execute(statement.format(table=table), identity)
            assert (await people.fin.post(f"{table}s/{identity}/approve")).status_code == 200
            for statement in (
                f"UPDATE {table} SET amount = 9 WHERE {table}_id = $1",  # noqa: S608 - constants
                f"UPDATE {table} SET state = 'withdrawn' WHERE {table}_id = $1",  # noqa: S608 - constants
                f"DELETE FROM {table} WHERE {table}_id = $1",  # noqa: S608 - constants
            ):
                with pytest.raises(asyncpg.RestrictViolationError):
                    await pool.execute(statement, identity)
        with pytest.raises(asyncpg.CheckViolationError):
            await pool.execute(
                "UPDATE override SET ending_last_day = '2025-01-05', ending_reason = 'x', "
                "ending_asked_by = 'mia', ending_decided_by = 'mia'"
            )
        wrong = {"payee": "ana", "plan": "flat", "period": "2025-01", "text": "half is missing"}
        await people.ana.made("disputes", wrong)
        for person in ("ana", "mia"):
            with pytest.raises(asyncpg.CheckViolationError):
                await pool.execute(
                    "UPDATE dispute SET state = 'resolved', outcome = 'rejected', "
                    "raised_by = 'mia', resolved_by = $1, resolved_at = now()",
                    person,
                )
        assert Decimal(250) == await pool.fetchval("SELECT amount FROM adjustment")


async def test_one_seat_may_do_both_and_says_so(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix, one_seat=True) as system:
        people = await company(system, "ana", "fin")
        identity = await people.fin.made("adjustments", {**ADJUSTMENT, "payee": "fin"})
        done = (await people.fin.post(f"adjustments/{identity}/approve")).json()
        assert (done["state"], done["one_seat"]) == ("approved", True)
