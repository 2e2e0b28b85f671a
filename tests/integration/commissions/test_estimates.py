"""Estimates: what they foretell is what the deal then pays, cash and settled figures included."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx

from shared.clock import parse_instant, to_text
from shared.http.auth import Role
from tests.integration.commissions.system import System, deal, fact, flat_plan, running, won

MakeDatabase = Callable[[], Awaitable[str]]
OPEN, OTHER = "crm:main:open", "crm:main:other"
AT = "2025-01-20T10:00:00Z"


def held_plan() -> dict[str, Any]:
    """A tenth of each deal, 40 % of it at booking and the rest as cash comes in."""
    (component,) = flat_plan()["components"]
    release = [{"at": "booking", "share": "40%"}, {"at": "payment", "share": "60%"}]
    return flat_plan(components=[{**component, "release": release}])


async def estimate(system: System, **deal_: str) -> dict[str, Any]:
    async with system.client(Role.REP, person="ana") as ana:
        answer: httpx.Response = await ana.post("/v1/estimates", json={"deal": deal_})
    assert answer.is_success, answer.text
    (found,) = answer.json()["estimates"]
    return dict(found)


async def test_an_estimate_knows_what_has_been_paid_already(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        assert (await system.put_plan(held_plan())).is_success
        assert (await system.assign("ana", payee="ana", plan="flat", from_="2025-01-01")).is_success
        paid = {
            "amount": "500",
            "currency": "USD",
            "received_at": to_text(parse_instant(AT)),
            "deal": OPEN,
        }
        opened: dict[str, Any] = {
            "owner": "ana",
            "amount": "1000",
            "currency": "USD",
            "status": "open",
        }
        await system.send(
            [
                won(OTHER, "2025-01-05T10:00:00Z", "2000", "ana"),
                deal(OPEN, "2025-01-06T10:00:00Z", **opened),
                fact("payment", "crm:main:p1", AT, paid),
            ]
        )
        await system.drain()
        found = await estimate(system, id=OPEN, closed_at=AT)
        # 40 of 100 at booking, and of the other 60 half, as half of the deal is paid.
        assert (found["before"], found["after"], found["delta"]) == ("80", "150", "70")
        settled = await estimate(system, amount="1000", currency="USD", owner="ana", closed_at=AT)
        assert (settled["before"], settled["delta"]) == ("80", "40")
        changed = await estimate(system, id=OTHER, amount="3000", closed_at=AT)
        assert (changed["before"], changed["after"]) == ("0", "120")

        await system.send([won(OPEN, AT, "1000", "ana")])
        await system.drain()
        statement = await system.statement("ana", "flat", "2025-01")
        assert Decimal(statement["own"]) == 150
        again = await estimate(system, id=OPEN, closed_at=AT)
        assert (again["before"], again["after"]) == ("80", "150")
        assert again["payable_after"] == statement["payable"]
