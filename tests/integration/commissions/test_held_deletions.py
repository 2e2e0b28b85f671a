"""Deals that vanish after a close: nothing moves until two persons have decided."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import httpx
import pytest

from services.commissions import rebuild
from services.commissions.dump import Dump, differences
from services.commissions.rebuild import rebuild_all
from shared.events.envelope import Envelope
from shared.http.auth import Role
from tests.integration.commissions.system import (
    System,
    deal,
    fact,
    flat_plan,
    rows,
    running,
    won,
)
from tests.integration.commissions.test_close import code, on_flat_plan

MakeDatabase = Callable[[], Awaitable[str]]
PREFIX = "crm:main:"
WHY = "the customer never signed"
INVOICED = {
    "id": "billed",
    "kind": "commission",
    "credit": {"on": "invoice.issued", "to": "owner"},
    "rates": {"method": "flat", "rate": "1%"},
}


def gone(name: str, at: str = "2025-02-03T10:00:00Z", *, deleted: bool = True) -> Envelope:
    return deal(f"{PREFIX}{name}", at, deleted=deleted)


def merged(name: str, into: str | None, at: str = "2025-02-03T10:00:00Z") -> Envelope:
    return deal(f"{PREFIX}{name}", at, merged_into=into and f"{PREFIX}{into}")


def invoice(name: str, of: str, at: str, amount: str) -> Envelope:
    stated = {"deal": f"{PREFIX}{of}", "issued_at": at, "amount": amount, "currency": "USD"}
    return fact("invoice", f"{PREFIX}{name}", at, {**stated, "status": "open"})


async def ask(system: System, person: str, name: str, wanted: str) -> httpx.Response:
    async with system.client(Role.FINANCE, person=person) as finance:
        return await finance.post(
            f"/v1/held-deletions/{PREFIX}{name}/decision",
            json={"decision": wanted, "reason": WHY},
        )


async def confirm(system: System, person: str, name: str) -> httpx.Response:
    async with system.client(Role.FINANCE, person=person) as finance:
        return await finance.post(f"/v1/held-deletions/{PREFIX}{name}/decision/confirm")


async def decide(system: System, name: str, wanted: str) -> None:
    assert (await ask(system, "fin-a", name, wanted)).status_code == 200
    confirmed = await confirm(system, "fin-b", name)
    assert confirmed.status_code == 200, confirmed.text
    await system.drain()


async def listed(system: System, **params: str) -> dict[str, str]:
    async with system.client(Role.AUDITOR) as auditor:
        found = (await auditor.get("/v1/held-deletions", params=params)).json()["data"]
    return {row["deal"].removeprefix(PREFIX): row["state"] for row in found}


async def figures(system: System, period: str = "2025-02") -> tuple[str, str]:
    """Ana's own pay and carried difference of a period; nothing where there is no statement."""
    async with system.client(Role.AUDITOR) as auditor:
        answer = await auditor.get(f"/v1/statements/ana/flat/{period}")
    if answer.status_code == 404:
        return "0", "0"
    found: dict[str, Any] = answer.json()
    return found["own"], found["difference"]


async def rebuilt(system: System) -> None:
    """A rebuild comes to the same."""
    before = await system.dump()
    report = await rebuild_all(system.settings)
    assert list(report.differing) == []
    assert report.posted == 0
    assert differences(await system.dump(), before) == []


async def with_january(system: System) -> None:
    """January closed: ana was paid a tenth of 1 000 and of 2 000."""
    components = [flat_plan()["components"][0], INVOICED]
    await on_flat_plan(system, "ana", "ben", "fin-c", components=components)
    await system.send(
        [
            won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana"),
            won(f"{PREFIX}b", "2025-01-11T10:00:00Z", "2000", "ana"),
        ]
    )
    assert (await system.close("2025-01")).status_code == 200
    await system.drain()


async def test_a_deletion_after_a_close_moves_nothing_until_it_is_decided(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Open: it counts, and keeps the next close open. Reversed: the difference is carried."""
    async with running(await database_factory(), kafka_bootstrap, topic_prefix) as system:
        await with_january(system)
        shown = await system.statement("ana", "flat", "2025-01")
        await system.send(
            [
                invoice("k", "b", "2025-02-02T10:00:00.000Z", "100000"),
                gone("b"),
                # What only open periods credited is simply taken away.
                won(f"{PREFIX}open", "2025-02-01T10:00:00Z", "700", "ana"),
                gone("open"),
                won(f"{PREFIX}stays", "2025-02-05T10:00:00Z", "5000", "ana"),
            ]
        )
        await system.drain()
        assert await figures(system) == ("500", "0")
        assert await listed(system) == {"b": "open"}
        refused = await system.close("2025-02")
        assert code(refused) == "period-has-open-items"
        assert [error["pointer"] for error in refused.json()["errors"]] == [
            f"#deleted_after_close/{PREFIX}b"
        ]
        assert f"/v1/held-deletions/{PREFIX}b" in refused.json()["errors"][0]["detail"]
        await rebuilt(system)
        await decide(system, "b", "reverse")
        assert await figures(system) == ("500", "-200")
        assert await listed(system) == {"b": "reverse"}
        assert await system.statement("ana", "flat", "2025-01") == shown
        await rebuilt(system)
        assert (await system.close("2025-02")).status_code == 200
        await system.drain()
        assert await figures(system, "2025-03") == ("0", "0")


async def test_what_is_kept_stays(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Also when its period is opened again, until it is decided otherwise."""
    async with running(await database_factory(), kafka_bootstrap, topic_prefix) as system:
        await with_january(system)
        await system.send([gone("b")])
        await system.drain()
        await decide(system, "b", "keep")
        assert (await figures(system), await listed(system)) == (("0", "0"), {"b": "keep"})
        async with system.client(Role.FINANCE, person="fin-a") as finance:
            january = "/v1/periods/2025-01/reopen"
            assert (await finance.post(january, json={"reason": WHY})).status_code == 200
        async with system.client(Role.FINANCE, person="fin-b") as finance:
            assert (await finance.post(f"{january}/confirm")).status_code == 200
        await system.drain()
        assert await figures(system, "2025-01") == ("300", "0")
        assert (await system.close("2025-01")).status_code == 200
        await decide(system, "b", "reverse")
        await rebuilt(system)
        await system.send([won(f"{PREFIX}c", "2025-02-11T10:00:00Z", "9000", "ana")])
        await system.drain()
        assert await figures(system) == ("900", "-200")


async def test_an_open_one_goes_with_its_period_when_that_is_opened_again(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """In an open period a deleted deal counts for nothing, and nobody has to decide anything."""
    async with running(await database_factory(), kafka_bootstrap, topic_prefix) as system:
        await with_january(system)
        await system.send([gone("b")])
        await system.drain()
        async with system.client(Role.FINANCE, person="fin-a") as finance:
            january = "/v1/periods/2025-01/reopen"
            assert (await finance.post(january, json={"reason": WHY})).status_code == 200
        async with system.client(Role.FINANCE, person="fin-b") as finance:
            assert (await finance.post(f"{january}/confirm")).status_code == 200
        await system.drain()
        assert (await figures(system, "2025-01"), await listed(system)) == (("100", "0"), {})
        await rebuilt(system)


async def test_a_deal_that_comes_back_ends_what_was_decided(
    database_factory: MakeDatabase,
    kafka_bootstrap: str,
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(await database_factory(), kafka_bootstrap, topic_prefix) as system:
        await with_january(system)
        await system.send([gone("b")])
        await system.drain()
        await decide(system, "b", "reverse")
        await system.send([gone("b", "2025-02-04T10:00:00Z", deleted=False)])
        await system.drain()
        assert (await figures(system), await listed(system)) == (("0", "0"), {})
        assert code(await ask(system, "fin-a", "b", "reverse")) == "nothing-to-decide"
        # Deleted again it has to be decided again.
        await system.send([gone("b", "2025-02-05T10:00:00Z")])
        await system.drain()
        assert (await figures(system), await listed(system)) == (("0", "0"), {"b": "open"})
        await rebuilt(system)
        told = await rows(
            system,
            "SELECT convert_from(value, 'UTF8')::json -> 'data' ->> 'state' AS state FROM outbox "
            "WHERE convert_from(key, 'UTF8') LIKE 'held_deletion/%' ORDER BY id",
        )
        assert [row["state"] for row in told] == ["asked", "confirmed", "superseded"]
        async with system.client(Role.FINANCE) as finance:
            detail = (await finance.get(f"/v1/held-deletions/{PREFIX}b")).json()
        assert [c["amount"] for c in detail["credits"]] == ["2000"]
        assert detail["decisions"][0]["superseded_at"] == "2025-02-04T10:00:00.000Z"
        # A rebuild sees it come back once more, and ends nothing that was decided since.
        await decide(system, "b", "reverse")
        monkeypatch.setattr(rebuild, "BATCH_RECORDS", 1)
        await rebuilt(system)
        assert await listed(system) == {"b": "reverse"}


async def test_two_persons_decide(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """In the code, and in the database."""
    async with running(await database_factory(), kafka_bootstrap, topic_prefix) as system:
        await on_flat_plan(system, "ana", "fin-c")
        await system.send([won(f"{PREFIX}c", "2025-01-10T10:00:00Z", "1000", "fin-c")])
        assert (await system.close("2025-01")).status_code == 200
        await system.drain()
        assert code(await ask(system, "fin-a", "c", "reverse")) == "nothing-to-decide"
        await system.send([gone("c")])
        await system.drain()
        assert code(await confirm(system, "fin-b", "c")) == "decision-not-asked"
        assert (await ask(system, "fin-a", "c", "reverse")).status_code == 200
        assert code(await confirm(system, "fin-a", "c")) == "same-person"
        assert code(await confirm(system, "fin-c", "c")) == "own-pay"
        # Somebody else wants it otherwise before it is confirmed: the latest wish counts.
        assert (await ask(system, "fin-b", "c", "keep")).json()["number"] == 1
        assert code(await confirm(system, "fin-b", "c")) == "same-person"
        assert (await confirm(system, "fin-a", "c")).json()["decision"] == "keep"
        await system.drain()
        assert code(await ask(system, "fin-a", "c", "keep")) == "decided-already"
        async with system.client(Role.AUDITOR) as auditor:
            assert (await auditor.get("/v1/held-deletions/nothing")).status_code == 404
        pool = system.parts.pool
        with pytest.raises(asyncpg.CheckViolationError):
            await pool.execute("UPDATE held_deletion SET confirmed_by = asked_by")
        with pytest.raises(asyncpg.RestrictViolationError):
            await pool.execute("DELETE FROM held_deletion")


async def test_a_merge_after_a_close_counts_as_a_deletion_and_pays_nothing_twice(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Not an invoice, not a win that the surviving deal takes over, whatever is decided."""
    async with running(await database_factory(), kafka_bootstrap, topic_prefix) as system:
        components = [flat_plan()["components"][0], INVOICED]
        await on_flat_plan(system, "ana", components=components)
        await system.send(
            [
                won(f"{PREFIX}b", "2025-01-11T10:00:00Z", "2000", "ana"),
                invoice("i", "b", "2025-01-12T10:00:00.000Z", "1500"),
                deal(f"{PREFIX}s", "2025-01-02T10:00:00Z", owner="ana", status="open"),
            ]
        )
        assert (await system.close("2025-01")).status_code == 200
        await system.send(
            [
                merged("b", "s"),
                # What the CRM does with a merge: the survivor takes over the win, and its date.
                won(f"{PREFIX}s", "2025-01-11T10:00:00Z", "2000", "ana", name="merged"),
                deal(f"{PREFIX}s", "2025-02-03T10:00:00Z", status="won"),
                invoice("j", "b", "2025-02-04T10:00:00.000Z", "1000"),
            ]
        )
        await system.drain()
        assert await listed(system) == {"b": "open"}
        # The late invoice is the survivor's, in an open period.
        assert await figures(system) == ("10", "0")
        await rebuilt(system)
        await decide(system, "b", "keep")
        assert await figures(system) == ("10", "0")
        await decide(system, "b", "reverse")
        # What the merged deal gives up is the survivor's now: win and invoice.
        assert await figures(system) == ("10", "0")
        await rebuilt(system)
        await system.send([merged("b", None, "2025-02-05T10:00:00Z")])
        await system.drain()
        # Apart again they are two wins, the survivor's a late one.
        assert (await figures(system), await listed(system)) == (("10", "200"), {})
        await rebuilt(system)


async def dump_of(
    system_of: Callable[[], Awaitable[Any]], late: Sequence[Envelope], wait: int
) -> Dump:
    """The books after late facts in one order; after `wait` of them all is settled for once."""
    async with await system_of() as system:
        await on_flat_plan(
            system, "ana", "ben", components=[flat_plan()["components"][0], INVOICED]
        )
        await system.send(
            [
                won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana"),
                won(f"{PREFIX}b", "2025-01-11T10:00:00Z", "2000", "ana"),
                invoice("i", "b", "2025-01-12T10:00:00.000Z", "1500"),
            ]
        )
        assert (await system.close("2025-01")).status_code == 200
        await system.send(late[:wait])
        await system.drain()
        await system.send(late[wait:])
        await system.drain()
        dump: Dump = await system.dump()
    return dump


LATE = (
    gone("a"),
    deal(f"{PREFIX}a", "2025-02-04T10:00:00Z", amount="1234"),
    merged("b", "new"),
    won(f"{PREFIX}new", "2025-01-20T10:00:00Z", "2000", "ben"),
    deal(f"{PREFIX}b", "2025-02-04T10:00:00Z", owner="ben", amount="1900"),
    won(f"{PREFIX}never", "2025-01-25T10:00:00Z", "9999", "ana"),
    gone("never"),
)


async def test_the_order_of_facts_after_a_close_changes_nothing(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """A late correction and a deletion, a win that nobody closed and its deletion, a merge."""
    numbers = itertools.count()

    async def system() -> Any:  # noqa: ANN401 - the context manager of a running system
        return running(await database_factory(), kafka_bootstrap, f"{topic_prefix}{next(numbers)}.")

    first = await dump_of(system, LATE, len(LATE))
    kinds = [entry["kind"] for entry in first["exceptions"].values()]
    assert kinds == ["deleted_after_close"] * 2
    for order, wait in ((LATE[::-1], 3), ((*LATE[3:], *LATE[:3]), 2)):
        assert differences(await dump_of(system, order, wait), first) == []


async def test_a_book_handed_over_after_a_close_moves_nothing(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Credit belongs to the owner at the credit instant; and erasing names takes nothing back."""
    async with running(await database_factory(), kafka_bootstrap, topic_prefix) as system:
        await with_january(system)
        ledger = await rows(system, "SELECT count(*) FROM posting")
        before = await system.dump()
        await system.send(
            [
                *(
                    deal(f"{PREFIX}{name}", "2025-02-20T10:00:00Z", owner="ben", name=None)
                    for name in "ab"
                ),
                fact("person", "ana", "2025-02-21T10:00:00Z", {"name": None, "email": None}),
            ]
        )
        await system.drain()
        found = await system.dump()
        moved = [place for place in differences(found, before) if not place.startswith("records:")]
        assert moved == []
        assert await rows(system, "SELECT count(*) FROM posting") == ledger
        # A win after the hand-over is the new owner's.
        await system.send([won(f"{PREFIX}z", "2025-02-25T10:00:00Z", "500", "ben")])
        await system.drain()
        assert (await system.statement("ben", "flat", "2025-02"))["own"] == "50"
